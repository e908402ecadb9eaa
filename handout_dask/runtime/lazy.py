"""Lazy: a mapping whose values are fetched when they are looked up. Knows no Dask."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any


class Lazy(Mapping[Hashable, Any]):
    """By the ids of a run's functions; ``run`` has a graph."""

    def __init__(self, run: Any, get: Callable[[Hashable], Any]) -> None:
        self._run, self._get = run, get

    def __getitem__(self, id: Hashable) -> Any:
        return self._get(id)

    def __iter__(self) -> Iterator[Hashable]:
        return (function.id for function in self._run.graph)

    def __contains__(self, id: object) -> bool:
        return id in self._run.graph

    def __len__(self) -> int:
        return len(self._run.graph)

    def __repr__(self) -> str:
        return f"<{len(self)} results of {self._run!r}>"

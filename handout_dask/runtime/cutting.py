"""Cutting: elements of results that other nodes read, as tasks of their own."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from dask._task_spec import Task, TaskRef

from handout_dask.function import Function
from handout_dask.graph import Links
from handout_dask.runtime.calling import Cut
from handout_dask.runtime.runner import cut

CUT_PAYS = 5.0  # MB that needn't travel, for which an element is cut out just in case


def cut_pays(producer: Function, index: Any) -> bool:
    """Whether much more would travel than an element, should its reader move."""
    size = producer.alternatives[0].output_size
    if not isinstance(size, Mapping):
        return False
    whole = sum(size.values())
    return isinstance(index, Hashable) and whole - size.get(index, 0.0) > CUT_PAYS


class Cutter:
    """Collects the elements that are cut out of results, each once."""

    def __init__(
        self, links: Links, keys: Sequence[Hashable], prefix: str, crosses: bool
    ) -> None:
        self._links, self._keys, self._prefix = links, keys, prefix
        self._crosses = crosses
        self._numbers: dict[Any, int] = {}
        self._wanted: list[tuple[int, Any, list[int]]] = []
        self.producers: set[int] = set()

    def key(self, u: int, index: Any, frozen: Any, reader: int) -> tuple[str, int]:
        try:
            number = self._numbers.setdefault(
                (u, type(index), index), len(self._wanted)
            )
        except TypeError:  # a slice, a list: not hashable, so not shared
            number = len(self._wanted)
        if number == len(self._wanted):
            self._wanted.append((u, frozen, []))
            self.producers.add(u)
        self._wanted[number][2].append(reader)
        return (self._prefix, number)

    def tasks(self) -> Iterable[tuple[int, Task]]:
        functions = self._links.functions
        for number, (u, index, readers) in enumerate(self._wanted):
            names = ", ".join(repr(functions[i].id) for i in readers[:3])
            more = f" and {len(readers) - 3} more" if len(readers) > 3 else ""
            many = "functions" if len(readers) > 1 else "function"
            producer = repr(functions[u].id)
            spec = Cut(producer, f"{many} {names}{more}", index, self._crosses)
            key = (self._prefix, number)
            yield u, Task(key, cut, spec, TaskRef(self._keys[u]))

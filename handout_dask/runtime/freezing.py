"""Freezing: code, literals and indexes as bytes, as they travel. Knows no graph.

What can't be pickled is refused at once, with the function that it belongs to.
"""

from __future__ import annotations

from typing import Any

from distributed.protocol import pickle

from handout_dask.errors import GraphError
from handout_dask.function import Function
from handout_dask.runtime.calling import Frozen


class Freezer:
    """Pickles code once for all functions that share it; errors name the function."""

    def __init__(self) -> None:
        self._codes: dict[int, bytes] = {}

    def code(self, function: Function, code: Any) -> bytes:
        if code is None:
            raise GraphError(
                f"function {function.id!r} has no code to run; give it code=..., or "
                "replay the workflow"
            )
        frozen = self._codes.get(id(code))
        if frozen is None:
            frozen = self._codes[id(code)] = self._dumps(function, code, "code")
        return frozen

    def literals(self, function: Function) -> bytes | None:
        if not function.extra_args and not function.kwargs:
            return None
        both = (function.extra_args, function.kwargs or {})
        return self._dumps(function, both, "extra_args or kwargs")

    def index(self, function: Function, index: Any) -> Any:
        if index is None or type(index) in (str, bytes, int, float, bool):
            return index
        return Frozen(self._dumps(function, index, f"index {index!r}"))

    @staticmethod
    def _dumps(function: Function, value: Any, what: str) -> bytes:
        try:
            return bytes(pickle.dumps(value))
        except Exception as error:
            raise GraphError(
                f"function {function.id!r}: its {what} can't be pickled, so it can't "
                f"travel to a node: {type(error).__name__}: {error}"
            ) from error

"""What an outline without the user's objects knows of its functions, as Functions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, SupportsIndex, overload

import numpy as np

from handout_dask.costs import Cost, parse_cost
from handout_dask.function import Function, WithFunction, with_function


class StandIns(Sequence[Function]):
    """What an unpickled outline knows of its functions, as Functions without code.

    Each is made when it is first looked at: with its label as id, those of what it
    reads as args, its name, its costs and its pin.

    Parameters
    ----------
    outline : Outline
        Whose functions they stand for.
    """

    def __init__(self, outline: Any) -> None:  # an Outline, which is made of this
        self._outline = outline
        self._made: dict[int, Function] = {}

    def __len__(self) -> int:
        return int(self._outline.n)

    @overload
    def __getitem__(self, i: SupportsIndex) -> Function: ...
    @overload
    def __getitem__(self, i: slice) -> tuple[Function, ...]: ...
    def __getitem__(self, i: SupportsIndex | slice) -> Function | tuple[Function, ...]:
        if isinstance(i, slice):
            return tuple(self[k] for k in range(*i.indices(len(self))))
        i = range(len(self))[i]  # raises as a list does
        made = self._made.get(i)
        if made is None:
            made = self._made[i] = self._make(i)
        return made

    def _make(self, i: int) -> Function:
        o = self._outline
        options = range(o.option_ptr[i], o.option_ptr[i + 1])
        node: str | WithFunction | None = o.pins.get(i)
        if node is None and o.group[i] >= 0 and self._leaders[o.group[i]] != i:
            node = with_function(o.labels[self._leaders[o.group[i]]])
        return Function(
            o.labels[i],
            [o.labels[u] for u in o.pred_of[o.pred_ptr[i] : o.pred_ptr[i + 1]]],
            cost=[self._cost(i, option) for option in options],
            node=node,
            name=o.names[o.name[i]],
        )

    @cached_property
    def _leaders(self) -> list[int]:
        """Of each group the function that the others are with: the pinned, or any."""
        o = self._outline
        out = [-1] * (int(o.group.max(initial=-1)) + 1)
        for i in (*o.pins, *np.flatnonzero(o.group >= 0).tolist()):
            if o.group[i] >= 0 and out[o.group[i]] < 0:
                out[o.group[i]] = i
        return out

    def _cost(self, i: int, option: int) -> Cost:
        o = self._outline
        c = int(o.option_class[option])
        flat = dict(o.classes[c])
        if not o.option_guessed[option]:
            time = "gpu_time" if o.by_gpu[c] else "cpu_time"
            flat[time] = float(o.option_work[option]) * 1e3
        if not np.isnan(o.output_mb[i]):
            flat["output_size"] = float(o.output_mb[i])
        return parse_cost(flat, f"function {o.labels[i]!r}")

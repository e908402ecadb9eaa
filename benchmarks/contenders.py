"""The allocators that a benchmark compares, by column, and those it can't make."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import handout_dask as hd
from handout_dask.allocators.warming import load

Wanted = tuple[str, str, dict[str, Any]]  # column, name of the allocator, parameters


def contenders(
    wanted: Iterable[Wanted],
) -> tuple[dict[str, Any], dict[str, str]]:
    """Allocators by column; and for those that can't be made, why."""
    made: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for column, name, parameters in wanted:
        try:
            made[column] = hd.allocator(name, **parameters)
        except hd.AllocationError as error:
            skipped[column] = str(error)
    return made, skipped


def contender(name: str, **parameters: Any) -> Wanted:
    """An allocator in a column of its own name."""
    return name, name, parameters


def with_budgets(
    name: str, budgets: Iterable[float], **parameters: Any
) -> list[Wanted]:
    """An allocator's columns, one for each time budget [s]."""
    return [
        (f"{name} {seconds:g}s", name, {"time_budget": seconds, **parameters})
        for seconds in budgets
    ]


def warm_up(allocators: Iterable[Any]) -> None:
    """Load kernels, and let each plan something: peers load at their first call."""
    load()
    functions = [hd.Function(i, [i - 1] if i % 20 else []) for i in range(400)]
    nodes = [hd.Node(f"n{j}") for j in range(32)]
    problem = hd.Problem(hd.Graph(functions), hd.Cluster(nodes))
    for allocator in allocators:
        # One made for another problem may refuse this one.
        with suppress(hd.AllocationError):
            allocator.allocate(problem)

"""Allocators: pure strategies over one placing engine; their protocol and their table.

An allocator is any object with ``allocate(problem) -> Plan``. Packages add theirs by
the entry-point group ``handout_dask.allocators``: a class, or a function making one.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

from handout_dask.errors import AllocationError
from handout_dask.plans import Plan
from handout_dask.problem import Problem

GROUP = "handout_dask.allocators"
TABLE = {
    "first-available": "first_available:FirstAvailable",
    "load-balanced": "load_balanced:LoadBalanced",
    "time": "makespan:Time",
    "cost": "cost:Cost",
    "objective": "objective:Objective",
    "throughput": "throughput:Throughput",
    "packing": "packing:Packing",
    "locality": "locality:Locality",
    "ml": "ml:ML",
    "iot": "iot:IoT",
    "data": "data:Data",
}


@runtime_checkable
class Allocator(Protocol):
    """What places functions on nodes."""

    def allocate(self, problem: Problem) -> Plan:
        """A plan for the whole problem."""
        ...


def allocator(name: str, **parameters: Any) -> Allocator:
    """The allocator of this name, with these parameters.

    Parameters
    ----------
    name : str
        One of the library's (the keys of ``TABLE``), or of an installed package's
        entry-point group ``handout_dask.allocators``.
    **parameters
        Fields of the strategy.

    Raises
    ------
    AllocationError
        If there is none of this name, or it knows no such parameter.
    """
    if name in TABLE:
        module, _, attribute = TABLE[name].partition(":")
        make = getattr(import_module(f"handout_dask.allocators.{module}"), attribute)
    else:
        found = {entry.name: entry for entry in entry_points(group=GROUP)}
        if name not in found:
            known = ", ".join([*TABLE, *found])
            raise AllocationError(f"there is no allocator {name!r}; known: {known}")
        make = found[name].load()
    try:
        made: Allocator = make(**parameters)
    except TypeError as error:
        raise AllocationError(f"allocator {name!r}: {error}") from error
    return made


def get_allocator(chosen: str | Allocator) -> Allocator:
    """The allocator itself, whether given by name or as an object."""
    if isinstance(chosen, str):
        return allocator(chosen)
    if isinstance(chosen, type) or not isinstance(chosen, Allocator):
        raise AllocationError(
            f"{chosen!r} is no allocator: it needs a method allocate(problem) -> Plan"
        )
    return chosen

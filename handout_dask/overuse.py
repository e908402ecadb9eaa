"""Overuse: which functions took more memory than they declared. Pure: Spans in."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from handout_dask.events import FAILED, Span
from handout_dask.plans import Plan
from handout_dask.printable import printable

TOLERANCE = 0.1  # of what is declared
SPARE = 10.0  # [MB] beyond; what an allocator keeps is not the function's fault


@dataclass(frozen=True, slots=True)
class Overuse:
    """A function that took more memory than it declared.

    Attributes
    ----------
    function : hashable
        Its id.
    name : str
        What history learns it under.
    node : str
        Where it took most.
    declared, measured : float [MB]
        What it declared, and the most that it held.
    exact : bool
        Whether it ran in a process of its own; else the figure is an estimate, of a
        time when it ran alone in its process.
    """

    function: Hashable
    name: str
    node: str
    declared: float
    measured: float
    exact: bool

    def __str__(self) -> str:
        about = "" if self.exact else "about "
        who = printable(repr(self.function), 80)
        return (
            f"function {who} on node {self.node!r} took {about}"
            f"{self.measured:.4g} MB of memory, but declared {self.declared:g} MB"
        )


def declared_memory(plan: Plan, i: int, again: bool = False) -> float | None:
    """The megabytes that function i of a plan declares as it was planned to run.

    When it runs again it may be as any of its alternatives: the most of them.
    """
    alternatives = plan.problem.functions[i].alternatives
    some = alternatives if again else [alternatives[int(plan.option[i])]]
    declared = [dict(cost.demand).get("memory") for cost in some]
    known = [mb for mb in declared if mb is not None]
    return max(known) if len(known) == len(declared) else None


def overuses(plan: Plan, spans: Iterable[Span]) -> tuple[Overuse, ...]:
    """What took more than it declared, most megabytes beyond first.

    Parameters
    ----------
    plan : Plan
        What ran.
    spans : iterable of Span
        Attempts. Estimates count if the function ran alone; 10 % and 10 MB are
        tolerated, but for what was ended for it.
    """
    found: dict[int, Overuse] = {}
    for span in spans:
        if span.peak_mb is None or not (span.peak_exact or span.peak_alone):
            continue
        i = plan.problem.where[span.function]
        declared = declared_memory(plan, i, span.attempt > 1)
        if declared is None:
            continue
        allowed = declared * (1 + TOLERANCE) + SPARE
        if span.outcome == FAILED:
            allowed = declared
        if span.peak_mb > allowed and (
            i not in found or span.peak_mb > found[i].measured
        ):
            name = plan.problem.functions[i].name
            found[i] = Overuse(
                span.function, name, span.node, declared, span.peak_mb, span.peak_exact
            )
    return tuple(sorted(found.values(), key=lambda x: x.declared - x.measured))


def worst_of_each_name(found: Iterable[Overuse]) -> dict[str, tuple[Overuse, int]]:
    """By name the worst, and how many there are."""
    out: dict[str, tuple[Overuse, int]] = {}
    for overuse in found:
        worst, count = out.get(overuse.name, (overuse, 0))
        beyond = overuse.measured - overuse.declared
        if beyond > worst.measured - worst.declared:
            worst = overuse
        out[overuse.name] = worst, count + 1
    return out

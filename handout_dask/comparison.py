"""FunctionReport and NodeReport: of one function or node, planned against measured.

Folded from a Plan and Spans; pure, and knows nothing of the run as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from handout_dask.errors import GraphError
from handout_dask.events import DONE, Hold, Span
from handout_dask.node import Cluster
from handout_dask.overuse import declared_memory
from handout_dask.plans import Plan

USED = (  # fields of a Span and of a FunctionReport
    "cpu_seconds",
    "peak_mb",
    "peak_exact",
    "peak_alone",
    "bytes_in",
    "nbytes",
    "gpu_peak_mb",
    "gpu_seconds",
)


@dataclass(frozen=True, slots=True)
class FunctionReport:
    """One function, planned against measured.

    Attributes
    ----------
    function : hashable
        Its id.
    planned_node, planned_start, planned_end : str, float [s], float [s]
        What the plan says.
    node, start, end : str, float [s], float [s], or None
        Its last attempt; None if it never began.
    attempts : int
        How often it began.
    failures : int
        How many attempts did not deliver.
    outcome : {"done", "failed", "lost"} or None
        Of the last attempt.
    error : str or None
        What went wrong then.
    declared_mb : float or None [MB]
        Memory that it declares.
    cpu_seconds, peak_mb, peak_exact, peak_alone, bytes_in, nbytes, gpu_peak_mb,
    gpu_seconds
        What the last attempt used, as in Span; None where it was not measured.
    """

    function: Hashable
    planned_node: str
    planned_start: float
    planned_end: float
    node: str | None
    start: float | None
    end: float | None
    attempts: int
    failures: int
    outcome: str | None
    error: str | None
    declared_mb: float | None = None
    cpu_seconds: float | None = None
    peak_mb: float | None = None
    peak_exact: bool = False
    peak_alone: bool = False
    bytes_in: int | None = None
    nbytes: int | None = None
    gpu_peak_mb: float | None = None
    gpu_seconds: float | None = None

    @property
    def planned_duration(self) -> float:
        """Seconds that it should take."""
        return self.planned_end - self.planned_start

    @property
    def duration(self) -> float | None:
        """Seconds that it took; None unless it is done."""
        if self.outcome != DONE or self.start is None or self.end is None:
            return None
        return self.end - self.start

    @property
    def ratio(self) -> float | None:
        """How many times longer than planned it took; None unless both are known."""
        if self.duration is None or self.planned_duration <= 0:
            return None
        return self.duration / self.planned_duration

    @property
    def lateness(self) -> float | None:
        """Seconds that it ended after its planned end; below 0 is early."""
        done = self.outcome == DONE and self.end is not None
        return self.end - self.planned_end if done else None  # type: ignore[operator]

    @property
    def moved(self) -> bool:
        """Whether it ran elsewhere than planned."""
        return self.node is not None and self.node != self.planned_node

    def as_dict(self) -> dict[str, Any]:
        """The fields and what follows from them, ready for JSON."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields["function"] = json_id(self.function)
        more = {name: getattr(self, name) for name in ("ratio", "lateness", "moved")}
        return fields | more


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One node, planned against measured.

    Attributes
    ----------
    node : str
        Its name.
    planned_functions, functions : int
        How many the plan gives it, and whose last attempt it ran.
    planned_busy, busy : float [s]
        Seconds of functions, summed over slots; of every attempt.
    ratio : float or None
        Geometric mean of how much longer than planned its functions took, of those
        that ran where they were planned; None if none did.
    failures : int
        Attempts on it that did not deliver.
    """

    node: str
    planned_functions: int
    functions: int
    planned_busy: float
    busy: float
    ratio: float | None
    failures: int

    def as_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def fold_functions(plan: Plan, spans: Iterable[Span]) -> Iterator[FunctionReport]:
    """What became of each function, in the order of the plan's problem.

    Raises
    ------
    GraphError
        If a span is of a function that the plan doesn't have.
    """
    attempts = _attempts(plan, spans)
    names = [node.name for node in plan.problem.nodes]
    columns = (plan.node.tolist(), plan.start.tolist(), plan.end.tolist())
    rows = zip(plan.problem.functions, *columns, attempts, strict=True)
    for i, (function, j, start, end, mine) in enumerate(rows):
        last = mine[-1] if mine else None
        yield FunctionReport(
            function.id,
            names[j],
            start,
            end,
            None if last is None else last.node,
            None if last is None else float(last.start),
            None if last is None else float(last.end),
            len(mine),
            sum(span.outcome != DONE for span in mine),
            None if last is None else last.outcome,
            None if last is None else last.error,
            declared_memory(plan, i),
            *(() if last is None else (getattr(last, name) for name in USED)),
        )


def fold_nodes(
    plan: Plan, functions: Sequence[FunctionReport], spans: Sequence[Span]
) -> Iterator[NodeReport]:
    """What became of the plan's nodes, then of others that ran something."""
    names = [node.name for node in plan.problem.nodes]
    others = {span.node: None for span in spans if span.node not in {*names}}
    planned: dict[str | None, list[FunctionReport]] = {}
    ran: dict[str | None, list[FunctionReport]] = {}
    there: dict[str, list[Span]] = {}
    for row in functions:
        planned.setdefault(row.planned_node, []).append(row)
        ran.setdefault(row.node, []).append(row)
    for span in spans:
        there.setdefault(span.node, []).append(span)
    for name in [*names, *others]:
        mine = there.get(name, ())
        yield NodeReport(
            name,
            len(planned.get(name, ())),
            len(ran.get(name, ())),
            math.fsum(row.planned_duration for row in planned.get(name, ())),
            math.fsum(span.end - span.start for span in mine),
            mean_ratio(ran.get(name, ())),
            sum(span.outcome != DONE for span in mine),
        )


def held_money(cluster: Cluster, holds: Iterable[Hold]) -> float:
    """Money for the time that nodes were held, each hold rounded up to the quantum."""
    money = 0.0
    for hold in holds:
        seconds = hold.end - hold.start
        if cluster.quantum:
            seconds = math.ceil(seconds / cluster.quantum - 1e-9) * cluster.quantum
        if hold.node in cluster.index:
            money += seconds * cluster[hold.node].price / 3600.0
    return money


def mean_ratio(rows: Iterable[FunctionReport]) -> float | None:
    """Geometric mean of the ratios of those that ran where they were planned."""
    ratios = [row.ratio for row in rows if row.ratio and not row.moved]
    if not ratios:
        return None
    return math.exp(math.fsum(map(math.log, ratios)) / len(ratios))


def json_id(id: Hashable) -> str | int | float:
    """An id as JSON takes it: itself, or its text."""
    if type(id) in (str, int) or (type(id) is float and math.isfinite(id)):
        return id  # type: ignore[return-value]
    return repr(id)


def _attempts(plan: Plan, spans: Iterable[Span]) -> list[list[Span]]:
    """The attempts of each of n functions, the last one last."""
    out: list[list[Span]] = [[] for _ in plan.problem.functions]
    where = plan.problem.where
    for span in spans:
        i = where.get(span.function)
        if i is None:
            raise GraphError(f"function {span.function!r} ran, but is not in {plan!r}")
        out[i].append(span)
    for mine in out:
        mine.sort(key=lambda span: (span.attempt, span.end))
    return out

"""Report: what was planned against what happened, folded from a Plan and Spans.

Pure: knows no clock, no Dask and not whether the spans were simulated or real.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handout_dask.billing import bill
from handout_dask.comparison import (
    FunctionReport,
    NodeReport,
    fold_functions,
    fold_nodes,
    held_money,
    json_id,
    mean_ratio,
)
from handout_dask.events import DONE, Hold, Span
from handout_dask.node import Cluster, Node
from handout_dask.overuse import Overuse, overuses
from handout_dask.plans import Plan
from handout_dask.printable import padded, printable
from handout_dask.shown import Visualized

MOST = 10  # functions that deviate most, and nodes, that are told


@dataclass(frozen=True, eq=False)
class Report(Visualized):
    """What became of a plan. Made by `Report.of`; its str() is for reading.

    Attributes
    ----------
    plan : Plan
        What was to be done; n functions.
    spans : tuple of Span
        Every attempt.
    functions : tuple of FunctionReport
        In the order of the plan's problem.
    nodes : tuple of NodeReport
        The plan's nodes, then others that ran something.
    makespan, planned_makespan : float [s]
        Until the run ended, or else the last attempt; and as planned.
    money, planned_money : float
        By the cluster's billing, of every attempt; and as planned.
    unpriced : tuple of str
        Nodes whose price is not known, which `money` leaves out.
    replans : tuple of (float [s], str)
        When, and why, what had not begun was planned anew.
    holds : tuple of Hold
        When nodes were held that start and end by plan, until the run ended. Where
        nodes are billed as they are held, `money` is that of these; without any, that
        of each node from first to last use.
    overuse : tuple of Overuse
        Functions that took more memory than they declared, most beyond first.
    held_money, whole_money : float
        For those holds; and had all nodes of the plan been held until the run ended.

    Examples
    --------
    >>> import handout_dask as hd
    >>> from handout_dask.events import Span
    >>> a, b = hd.Function("a", cost={"cpu_time": 1000}), hd.Function("b", ["a"])
    >>> plan = hd.plan(hd.Graph([a, b]), [hd.Node("n0")])
    >>> report = Report.of(plan, [Span("a", "n0", 0, 2), Span("b", "n0", 2, 3)])
    >>> print(report)
    makespan 3 s, planned 2 s (1.500 of it); money 0, planned 0
    2 of 2 functions done, 0 moved, 0 attempts failed, 0 replans
    node             functions (planned)    busy (planned) [s]   ratio  failures
    n0                             2 (2)                 3 (2)   1.414         0
    function              node (planned)    took (planned) [s]   ratio  late [s]
    a                                 n0                 2 (1)   2.000         1
    b                                 n0                 1 (1)   1.000         1
    >>> report["a"].lateness, report["b"].ratio
    (1.0, 1.0)
    """

    plan: Plan
    spans: tuple[Span, ...]
    functions: tuple[FunctionReport, ...]
    nodes: tuple[NodeReport, ...]
    makespan: float
    planned_makespan: float
    money: float
    planned_money: float
    unpriced: tuple[str, ...]
    replans: tuple[tuple[float, str], ...]
    holds: tuple[Hold, ...] = ()
    held_money: float = 0.0
    whole_money: float = 0.0
    overuse: tuple[Overuse, ...] = ()

    @staticmethod
    def of(
        plan: Plan,
        spans: Iterable[Span],
        *,
        replans: Iterable[tuple[float, str]] = (),
        holds: Iterable[Hold] = (),
        ended: float | None = None,
        nodes: Iterable[Node] = (),
    ) -> Report:
        """Fold what happened, and compare it with the plan.

        Parameters
        ----------
        plan : Plan
            The one that the run began with.
        spans : iterable of Span
            Every attempt of the plan's functions, in any order; none of those that
            never began.
        replans : iterable of (float [s], str)
            When and why it was planned anew.
        holds : iterable of Hold
            When nodes were held; what is after the end of the run is not counted.
        ended : float, optional
            When the run ended [s]; default: when the last attempt did.
        nodes : iterable of Node
            Others than the plan's, that have joined, for their prices.

        Returns
        -------
        Report

        Raises
        ------
        GraphError
            If a span is of a function that the plan doesn't have.
        """
        spans = tuple(spans)
        functions = tuple(fold_functions(plan, spans))
        known = plan.problem.cluster
        joined = [node for node in nodes if node.name not in known.index]
        cluster = Cluster(
            [*known.nodes, *joined], billing=known.billing, quantum=known.quantum
        )
        paid = [span for span in spans if span.node in cluster.index]
        where = np.array([cluster.index[span.node] for span in paid], dtype=np.int64)
        start = np.array([span.start for span in paid], dtype=float)
        end = np.array([span.end for span in paid], dtype=float)
        last = max((span.end for span in spans), default=0.0)
        makespan = float(last if ended is None else ended)
        held = tuple(
            Hold(hold.node, hold.start, min(hold.end, makespan))
            for hold in holds
            if hold.start < makespan
        )
        paid_for = bill(cluster, where, start, end)
        by_holds = held_money(cluster, held)
        whole = [Hold(node.name, 0.0, makespan) for node in known.nodes]
        return Report(
            plan,
            spans,
            functions,
            tuple(fold_nodes(plan, functions, spans)),
            makespan,
            plan.makespan,
            by_holds if held and cluster.billing == "held" else paid_for,
            plan.money,
            tuple(sorted({span.node for span in spans} - {*cluster.index})),
            tuple((float(when), str(why)) for when, why in replans),
            held,
            by_holds,
            held_money(cluster, whole),
            overuses(plan, spans),
        )

    def __getitem__(self, id: Hashable) -> FunctionReport:
        return self.functions[self.plan.problem.where[id]]

    def __len__(self) -> int:
        return len(self.functions)

    def __iter__(self) -> Iterator[FunctionReport]:
        return iter(self.functions)

    @property
    def ratio(self) -> float | None:
        """Measured over planned makespan; None if nothing was planned to take time."""
        planned = self.planned_makespan
        return self.makespan / planned if planned > 0 else None

    @property
    def duration_ratio(self) -> float | None:
        """Geometric mean of how much longer than planned functions took.

        Of those that ran where they were planned, for elsewhere they may take another
        time; None if none did.
        """
        return mean_ratio(self.functions)

    @property
    def done(self) -> int:
        """How many functions delivered with their last attempt."""
        return sum(row.outcome == DONE for row in self.functions)

    @property
    def moved(self) -> int:
        """How many functions ran elsewhere than planned."""
        return sum(row.moved for row in self.functions)

    @property
    def failures(self) -> int:
        """How many attempts did not deliver."""
        return sum(row.failures for row in self.functions)

    @property
    def retries(self) -> int:
        """How many attempts there were beyond the first of each function."""
        return sum(max(row.attempts - 1, 0) for row in self.functions)

    def deviating(self, most: int = MOST) -> tuple[FunctionReport, ...]:
        """The functions whose run times differ most from the planned [s], most first.

        Lateness is inherited along a graph, so it doesn't tell whose fault it is.
        """
        done = [row for row in self.functions if row.duration is not None]
        done.sort(key=_deviation, reverse=True)
        return tuple(done[:most])

    def write(self, path: Any) -> None:
        """Write the report to a file: as its name ends, ``.html``, ``.json`` or text.

        A page needs no network: drawings that one can zoom, and tables.
        """
        if str(path).endswith(".html"):
            from handout_dask.dashboard.pagefile import write_report

            write_report(self, path)
            return
        as_json = str(path).endswith(".json")
        text = json.dumps(self.as_dict(), indent=1) if as_json else str(self)
        Path(path).write_text(text + "\n")

    def as_dict(self) -> dict[str, Any]:
        """The whole report, ready for JSON; what is not known is None."""
        names = ["makespan", "planned_makespan", "ratio", "money", "planned_money"]
        names += ["duration_ratio", "done", "moved", "failures", "retries"]
        return {
            **{name: getattr(self, name) for name in names},
            "allocator": self.plan.allocator,
            "planning_time": self.plan.planning_time,
            "unpriced": [*self.unpriced],
            "replans": [{"when": when, "why": why} for when, why in self.replans],
            "held_money": self.held_money if self.holds else None,
            "whole_money": self.whole_money,
            "holds": [
                {"node": x.node, "start": x.start, "end": x.end} for x in self.holds
            ],
            "overuse": [
                {**asdict(x), "function": json_id(x.function)} for x in self.overuse
            ],
            "nodes": [row.as_dict() for row in self.nodes],
            "functions": [row.as_dict() for row in self.functions],
        }

    def __str__(self) -> str:
        return "\n".join(line.rstrip() for line in self._lines())

    def _lines(self) -> Iterator[str]:
        share = "" if self.ratio is None else f" ({self.ratio:.3f} of it)"
        without = printable(", ".join(self.unpriced), 200)
        yield (
            f"makespan {self.makespan:.6g} s, planned {self.planned_makespan:.6g} s"
            f"{share}; money {self.money:.6g}, planned {self.planned_money:.6g}"
            + f", without {without}"
            * bool(without)
        )
        yield (
            f"{self.done} of {len(self)} functions done, {self.moved} moved, "
            f"{self.failures} attempts failed, {len(self.replans)} replans"
        )
        if self.holds:
            seconds = sum(hold.end - hold.start for hold in self.holds)
            yield (
                f"nodes held for {seconds:.6g} s in all, money {self.held_money:.6g}; "
                f"all held all the time {self.whole_money:.6g}"
            )
        yield from map(str, self.overuse[:MOST])
        if len(self.overuse) > MOST:
            yield f"... and {len(self.overuse) - MOST} more that took too much memory"
        yield _line("node", "functions (planned)", "busy (planned) [s]", "failures")
        rows = self.nodes
        if len(rows) > MOST:
            rows = tuple(
                sorted(rows, key=lambda row: -abs(row.busy - row.planned_busy))
            )
        for node in rows[:MOST]:
            count = f"{node.functions} ({node.planned_functions})"
            busy = f"{node.busy:.6g} ({node.planned_busy:.6g})"
            yield _line(node.node, count, busy, node.failures, _text(node.ratio))
        if len(rows) > MOST:
            yield f"... and {len(rows) - MOST} more nodes that deviate less"
        far = self.deviating()
        used = any(row.peak_mb is not None for row in far)
        if far:
            head = _line("function", "node (planned)", "took (planned) [s]", "late [s]")
            yield head + (_used("CPU [s]", "peak (declared) [MB]") if used else "")
        for row in far:
            where = printable(row.node, 40)
            where += f" ({printable(row.planned_node, 40)})" * row.moved
            took = f"{row.duration:.6g} ({row.planned_duration:.6g})"
            late = f"{row.lateness:.4g}"
            line = _line(row.function, where, took, late, _text(row.ratio))
            yield line + (_used_by(row) if used else "")

    def __repr__(self) -> str:
        return f"<Report: {'; '.join([*self._lines()][:2])}>"


def _line(name: Any, where: str, took: str, last: Any, ratio: str = "ratio") -> str:
    first = padded(printable(name, 40), 16)
    return f"{first} {padded(where, 19, True)} {took:>21} {ratio:>7} {last!s:>9}"


def _used(cpu: str, peak: str) -> str:
    return f" {cpu:>8} {peak:>20}"


def _used_by(row: FunctionReport) -> str:
    if row.peak_mb is None:
        return ""
    about = "" if row.peak_exact else "~"
    declared = "" if row.declared_mb is None else f" ({row.declared_mb:.4g})"
    cpu = "" if row.cpu_seconds is None else f"{row.cpu_seconds:.4g}"
    return _used(cpu, f"{about}{row.peak_mb:.4g}{declared}")


def _text(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.3f}"


def _deviation(row: FunctionReport) -> float:
    return abs((row.duration or 0.0) - row.planned_duration)

"""Picture: all that there is to see of one run, as columns. Pure: no Dask, no clock.

Pages, notebooks and reports draw it. It knows neither where it comes from nor what
draws it; all its text is bounded, but none of it is escaped: that is who draws's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from handout_dask.costs import UNIT_NAMES
from handout_dask.events import OUTCOMES, Span
from handout_dask.plans import Plan
from handout_dask.printable import natural
from handout_dask.problem import Problem
from handout_dask.report import Report
from handout_dask.samples import Samples, steps
from handout_dask.spanlog import MOST_ERROR, SpanLog, Spans, short

LATEST = 200  # failures that are told

STATES = (
    "waiting", "ready", "sent", "running", "again", "done", "failed", "blocked",
    "cancelled",
)  # fmt: skip
WAITING, READY, SENT, RUNNING, AGAIN, DONE, FAILED, BLOCKED, CANCELLED = range(9)
MEANINGS = {
    "waiting": "waits for its inputs",
    "ready": "has its inputs, and waits for its node",
    "sent": "is on its node, and runs next",
    "running": "runs",
    "again": "did not deliver, and will be tried again",
    "done": "done",
    "failed": "failed",
    "blocked": "can't run, for a function that it reads failed",
    "cancelled": "was cancelled",
}
UNITS = {"cpu": "cores", "gpus": "devices", "slots": "functions", **UNIT_NAMES}


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that did not deliver.

    Attributes
    ----------
    function, node : str
        Their labels.
    when : float [s]
        When it ended, since the run began.
    attempt : int
        1 for the first.
    outcome : {"failed", "lost"}
        Whether it raised, or went down with its node.
    cause : str
        What went wrong.
    final : bool
        Whether no other attempt followed, or will.
    """

    function: str
    node: str
    when: float
    attempt: int
    outcome: str
    cause: str
    final: bool


@dataclass(frozen=True, eq=False)
class Picture:
    """One run, or a plan that was not run, as it is to be seen.

    n functions in topological order, m nodes, e edges, c classes, r resources.

    Attributes
    ----------
    name, title, allocator : str
        The run's token, the graph's name, and who planned; "" is none.
    status : {"planned", "pending", "running", "done", "failed", "cancelled"}
        How it stands.
    now : float [s]
        The time of the picture since the run began; its end if it has ended.
    makespan, expected : float [s]
        As planned, and as it is expected now.
    labels : tuple of n str
        The functions' ids.
    groups, group : tuple of str, (n,) int
        Names of functions, each once, and which one each bears.
    nodes : tuple of m str
        Nodes of the plan, n2 before n10, then those that can't run any of it, then
        others that have joined.
    slots, price : (m,) float
        Functions at once, and price per hour; nan is not known.
    node, start, end : (n,) int, (n,) float [s], (n,) float [s]
        As planned.
    source, target, mb : (e,) int, (e,) int, (e,) float [MB]
        Who is read, by whom, and how much.
    critical : (n,) bool
        Who is on the critical path of the plan.
    state, where : (n,) int, (n,) int
        Index into `STATES`; on which node it is, was, or shall be.
    begun : dict of int to float [s]
        When what runs now began.
    spans : Spans
        Attempts that have ended.
    resources : tuple of r str
        What functions hold; `UNITS` has its units.
    need, holds : (n,) int, (c, r) float
        The class of each function, and what those hold while they run.
    capacity : (m, r) float
        What nodes have; inf is unlimited.
    declared_mb, output_mb : (n,) float [MB]
        Memory that is declared, and size of the result; nan is unknown.
    money, planned_money : float
        Up to now, and as planned.
    unpriced : tuple of str
        Nodes whose price is not known, which `money` leaves out.
    replans : tuple of (float [s], str)
        When and why what had not begun was planned again.
    samples : Samples or None
        What was seen of nodes meanwhile; None if nobody looked.
    """

    name: str
    title: str
    allocator: str
    status: str
    now: float
    makespan: float
    expected: float
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    group: np.ndarray
    nodes: tuple[str, ...]
    slots: np.ndarray
    price: np.ndarray
    node: np.ndarray
    start: np.ndarray
    end: np.ndarray
    source: np.ndarray
    target: np.ndarray
    mb: np.ndarray
    critical: np.ndarray
    state: np.ndarray
    where: np.ndarray
    begun: Mapping[int, float]
    spans: Spans
    resources: tuple[str, ...]
    need: np.ndarray
    holds: np.ndarray
    capacity: np.ndarray
    declared_mb: np.ndarray
    output_mb: np.ndarray
    money: float = 0.0
    planned_money: float = 0.0
    unpriced: tuple[str, ...] = ()
    replans: tuple[tuple[float, str], ...] = ()
    samples: Samples | None = None

    # ------------------------------------------------------------------- making
    @staticmethod
    def of_plan(
        plan: Plan, name: str = "", *, bounds: bool = True, order: bool = True
    ) -> Picture:
        """What there is to see of a plan: nothing has happened yet.

        Without `bounds` nobody is said to be on the critical path, which takes long to
        find where there are many functions; without `order` nodes stand as the plan has
        them.
        """
        problem = plan.problem
        turn = _turn(problem) if order else [*range(len(problem.nodes))]
        outline, nodes = problem.outline, [problem.nodes[j] for j in turn]
        place = np.argsort(np.array(turn, dtype=np.int64))
        n, node = len(plan.node), place[plan.node]
        critical = np.zeros(n, dtype=bool)
        if bounds:
            critical[plan.precedence.critical()] = True
        chosen = problem.option_ptr[:-1] + plan.option
        need = problem.option_class[chosen]
        resources, holds = outline.demand
        return Picture(
            name=short(name),
            title=short(outline.title or ""),
            allocator=short(plan.allocator, MOST_ERROR),
            status="planned",
            now=0.0,
            makespan=plan.makespan,
            expected=plan.makespan,
            labels=tuple(map(short, outline.labels)),
            groups=tuple(map(short, outline.names)),
            group=outline.name,
            nodes=tuple(short(node.name) for node in nodes),
            slots=np.array([node.capacity("slots") for node in nodes], dtype=float),
            price=np.array([node.price for node in nodes], dtype=float),
            node=node,
            start=plan.start,
            end=plan.end,
            source=problem.pred_of,
            target=np.repeat(np.arange(n), np.diff(problem.pred_ptr)),
            mb=problem.pred_mb,
            critical=critical,
            state=np.zeros(n, dtype=np.uint8),
            where=node,
            begun={},
            spans=SpanLog().spans(),
            resources=resources,
            need=need,
            holds=holds,
            capacity=np.array(
                [[node.capacity(r) for r in resources] for node in nodes], dtype=float
            ).reshape(len(nodes), len(resources)),
            declared_mb=memory_of(resources, holds)[need],
            output_mb=outline.output_mb,
            planned_money=plan.money,
        )

    @staticmethod
    def of_report(report: Report, status: str = "", name: str = "") -> Picture:
        """What there is to see of what became of a plan.

        Parameters
        ----------
        report : Report
            What happened up to now.
        status : str, optional
            As `Run.status` says; default: as the report tells.
        name : str, optional
            Of the run.
        """
        base = Picture.of_plan(report.plan, name)
        problem = report.plan.problem
        index = {problem.nodes[j].name: k for k, j in enumerate(_turn(problem))}
        for span in report.spans:
            index.setdefault(span.node, len(index))
        base = base.with_nodes(tuple(map(short, index)))
        log, where = SpanLog(), problem.where
        for span in report.spans:
            _add_span(log, where[span.function], index[span.node], span)
        spans = log.spans()
        base = replace(
            base,
            status=status or ("failed" if report.done < len(report) else "done"),
            now=report.makespan,
            expected=report.makespan,
            spans=spans,
            money=report.money,
            unpriced=tuple(map(short, report.unpriced)),
            replans=tuple((when, short(why)) for when, why in report.replans),
        )
        return replace(base, state=_states(base), where=_last_nodes(base))

    def with_nodes(self, names: tuple[str, ...]) -> Picture:
        """The same with more nodes behind its own, of which nothing is known."""
        more = len(names) - len(self.nodes)
        unknown = np.full(more, np.nan)
        room = np.full((more, len(self.resources)), np.nan)
        return replace(
            self,
            nodes=names,
            slots=np.concatenate([self.slots, unknown]),
            price=np.concatenate([self.price, unknown]),
            capacity=np.concatenate([self.capacity, room]),
        )

    # ------------------------------------------------------------------ reading
    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many functions are in which of `STATES`."""
        found = np.bincount(self.state, minlength=len(STATES))
        return dict(zip(STATES, found.tolist(), strict=True))

    @property
    def is_over(self) -> bool:
        """Whether it is a run that has ended."""
        return self.status in ("done", "failed", "cancelled")

    @property
    def late(self) -> float:
        """By how much [s] it ends, or is expected to end, after its plan."""
        return self.expected - self.makespan

    @cached_property
    def retries(self) -> int:
        """How many attempts there were beyond the first of each function."""
        began = np.count_nonzero(np.bincount(self.spans.function))
        return len(self.spans) - int(began)

    @cached_property
    def failed_attempts(self) -> int:
        """How many attempts did not deliver."""
        return int((self.spans.outcome != 0).sum())

    @cached_property
    def failures(self) -> tuple[Failure, ...]:
        """The latest attempts that did not deliver, latest first."""
        spans = self.spans
        last = np.zeros(len(self), dtype=np.int64)
        last[spans.function] = np.arange(len(spans))
        out = []
        for k in np.flatnonzero(spans.outcome != 0)[::-1][:LATEST].tolist():
            i = int(spans.function[k])
            outcome = OUTCOMES[int(spans.outcome[k])]
            node = self.nodes[int(spans.node[k])]
            over = int(self.state[i]) in (FAILED, BLOCKED, CANCELLED)
            out.append(
                Failure(
                    self.labels[i], node, float(spans.end[k]), int(spans.attempt[k]),
                    outcome, spans.errors.get(k, f"node {node} was lost"),
                    over and int(last[i]) == k,
                )
            )  # fmt: skip
        return tuple(out)

    def claimed(self, resource: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """``{node: (times [s], amounts)}``: what attempts held, by what they declare.

        From each time on the amount is held, until the next one.
        """
        r, out = self.resources.index(resource), {}
        held = self.holds[self.need[self.spans.function], r]
        for j, name in enumerate(self.nodes):
            mine = (self.spans.node == j) & (held > 0)
            if mine.any():
                times = self.spans.start[mine], self.spans.end[mine]
                out[name] = steps(*times, held[mine])
        return out


def _turn(problem: Problem) -> list[int]:
    """Indexes of nodes in the order in which they are shown; as of live runs."""
    most = np.max(problem.rate, axis=0, initial=0.0)
    idle = np.equal(np.asarray(most)[problem.kind], 0.0).tolist()
    names = [natural(node.name) for node in problem.nodes]
    return sorted(range(len(names)), key=lambda j: (idle[j], names[j]))


def memory_of(resources: tuple[str, ...], holds: np.ndarray) -> np.ndarray:
    """(c,) [MB]: the memory that each class declares; nan is none."""
    if "memory" not in resources:
        return np.full(len(holds), np.nan)
    declared = holds[:, resources.index("memory")]
    return np.where(declared > 0, declared, np.nan)


def _add_span(log: SpanLog, function: int, node: int, span: Span) -> None:
    log.add(
        function, node, span.start, span.end, span.attempt, span.outcome, span.error,
        cpu_seconds=span.cpu_seconds, peak_mb=span.peak_mb, nbytes=span.nbytes,
        bytes_in=span.bytes_in,
    )  # fmt: skip


def _states(picture: Picture) -> np.ndarray:
    """(n,) how functions stand by their last attempts, which all have ended."""
    spans = picture.spans
    state = np.full(len(picture), WAITING, dtype=np.uint8)
    after = AGAIN if picture.status in ("pending", "running") else FAILED
    state[spans.function] = np.where(spans.outcome == 0, DONE, after)
    if picture.is_over:
        rest = BLOCKED if picture.status == "failed" else CANCELLED
        state[state == WAITING] = rest
    return state


def _last_nodes(picture: Picture) -> np.ndarray:
    """(n,) where functions ran last, or were planned to."""
    where = picture.node.copy()
    where[picture.spans.function] = picture.spans.node
    return where

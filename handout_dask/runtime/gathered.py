"""Gathered: tasks of ordinary Dask graphs as a run to be planned, and its plan.

Reads states of tasks; changes nothing on the scheduler.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from dask.utils import key_split

from handout_dask.allocators.makespan import Time
from handout_dask.books import RunBook
from handout_dask.costs import NO_COST, Cost, parse_cost
from handout_dask.errors import CostError, UnsatisfiableError
from handout_dask.held import Held
from handout_dask.history import History
from handout_dask.lacks import refusal_text
from handout_dask.learned import with_learned
from handout_dask.node import Cluster, Node
from handout_dask.outline import Outline
from handout_dask.plans import allocate
from handout_dask.problem import Problem
from handout_dask.runspec import RunSpec
from handout_dask.runtime.lower import Lowered
from handout_dask.runtime.optimising import HANDOUT
from handout_dask.runtime.records import LiveRun
from handout_dask.runtime.submission import Turn, run_spec

NOVEL = 10.0  # ms; of what nothing is known, so that no time is spent on a fine plan
LEAST_INPUT = 0.1  # MB; of smaller results it does not matter where they lie
FROM_AFAR = 8  # of functions that a foreign task waits for, how many are looked at

INPUT = parse_cost({"cpu_time": 0, "cpu": 0}, "an input")


@dataclass
class Batch:
    """n tasks that are planned together, in topological order; the first are inputs.

    Attributes
    ----------
    keys : list
        Dask's; those of inputs, which are results at hand, are none.
    costs, names : list
        Of each: its cost, and what its duration is learned under.
    preds : list of sets of int
        Which of the others each waits for.
    sizes : list of float
        Of each input its MB.
    pins : dict of int to str
        The node where each input lies.
    outside : set of int
        Who waits, at first or second hand, for tasks that are not of the batch.
    """

    keys: list[Any] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    preds: list[set[int]] = field(default_factory=list)
    pins: dict[int, str] = field(default_factory=dict)
    outside: set[int] = field(default_factory=set)

    @property
    def free(self) -> bool:
        """Whether no task asks for anything, so that any node will do."""
        return all(cost.key == NO_COST.key for cost in self.costs[len(self.pins) :])


class AdoptedRun(LiveRun):
    """A run of ordinary tasks; nobody waits for its records.

    Attributes
    ----------
    outside : set of int
        As of the batch, as long as they are not ready.
    free : bool
        Whether any node will do for all of them.
    """

    def __init__(self, spec: RunSpec, book: RunBook, owner: str, batch: Batch) -> None:
        super().__init__(spec, book, owner, batch.keys)
        self.keys_left = -1  # never 0: it ends with its last function
        self.outside, self.free = set(batch.outside), batch.free
        self.inputs = len(batch.pins)
        self.yield_outside()

    def message(self) -> None:
        """Nothing to tell, but on pages."""
        self.see()
        self._records, self.replans = [], []

    def yield_outside(self) -> None:
        """Let nothing wait for functions whose inputs come from elsewhere.

        Else one that is ready could stand behind one that waits for a task of Dask's,
        which waits for the first. The plan knows nothing of such tasks.
        """
        for i in self.outside:
            self.book.latest[i] = float("inf")

    def arrived(self, i: int, now: float) -> None:
        """A function has all that it waited for."""
        if i in self.outside:
            self.outside.discard(i)
            self.book.latest[i] = now - self.since


def cost_of(task: Any) -> Cost:
    """What a task was annotated with; of alternatives the first, whose code it has.

    Raises
    ------
    CostError
        If somebody annotated it by hand, with what makes no sense.
    """
    given = (task.annotations or {}).get(HANDOUT) or {}
    if not isinstance(given, Mapping):
        raise CostError(
            f"task {task.key!r} is annotated with {HANDOUT}={given!r}; hd.cost makes "
            "such annotations"
        )
    entries = given.get("cost") or {}
    if isinstance(entries, list | tuple):
        entries = entries[0]
    return parse_cost(entries, f"task {task.key!r}")


def gather(
    tasks: Iterable[Any], costs: Sequence[Cost], where: Mapping[str, str]
) -> Batch:
    """The batch of tasks that wait, with the results at hand that they read.

    Parameters
    ----------
    tasks : iterable of TaskState
        None twice.
    costs : sequence of Cost
        Of each.
    where : mapping
        Names of nodes by the addresses of workers.
    """
    cost = dict(zip(tasks, costs, strict=True))
    batch, number = Batch(), {}
    for task in cost:
        for read in task.dependencies:
            node = _lies_on(read, where) if read not in number else None
            if node is not None:
                number[read] = i = len(batch.keys)
                batch.pins[i] = node
                size = {"output_size": read.nbytes / 1e6}
                batch.costs.append(parse_cost({**INPUT, **size}, "an input"))
                batch.keys.append((f"handout-input-{uuid.uuid4().hex}", i))
                batch.names.append("handout-input")
                batch.preds.append(set())
    afar: dict[Any, set[int]] = {}
    for task in _in_order(cost):
        own = cost.get(task)
        before: set[int] = set()
        foreign = False
        for read in task.dependencies:
            if read in number:
                before.add(number[read])
                foreign |= number[read] in batch.outside
            elif read.state != "memory":
                before |= afar.get(read, set())
                foreign = True
        if own is None:
            afar[task] = set(sorted(before)[-FROM_AFAR:])
            continue
        number[task] = i = len(batch.keys)
        batch.keys.append(task.key)
        batch.costs.append(own)
        named = (task.annotations or {}).get(HANDOUT) or {}
        batch.names.append(str(named.get("name") or key_split(task.key)))
        batch.preds.append(before)
        if foreign:
            batch.outside.add(i)
    return batch


def _lies_on(task: Any, where: Mapping[str, str]) -> str | None:
    """The only node on which a result lies that is worth not to be moved."""
    if task.state != "memory" or len(task.who_has) != 1:
        return None
    if task.nbytes < LEAST_INPUT * 1e6:
        return None
    return where.get(next(iter(task.who_has)).address)


def _in_order(tasks: Iterable[Any]) -> list[Any]:
    """Tasks, and those unfinished that they wait for, in topological order."""
    out: dict[Any, None] = {}
    seen: set[Any] = set()
    for first in tasks:
        stack = [(first, False)]
        while stack:
            task, is_left = stack.pop()
            if is_left:
                out[task] = None
            elif task not in seen:
                seen.add(task)
                stack.append((task, True))
                stack.extend(
                    (read, False)
                    for read in task.dependencies
                    if read not in seen and read.state != "memory"
                )
    return list(out)


def plan_batch(
    batch: Batch,
    priority: int,
    allocator: Any,
    fixed: bool,
    cluster: Cluster,
    held: Sequence[Held],
    history: History,
    cost: float = 0.0,
) -> tuple[RunSpec | None, dict[Any, UnsatisfiableError]]:
    """The plan of a batch as the dispatcher takes it; or why some can run nowhere.

    Parameters
    ----------
    batch : Batch
        What is to run.
    priority : int
        Of the run.
    allocator : Allocator
        Who decides.
    fixed : bool
        Whether functions keep their nodes where they can when planned again.
    cluster : Cluster
        The nodes that are there.
    held : sequence of Held
        What is taken of them.
    history : History
        Knows what functions take.
    cost : float
        Seconds that each takes besides.
    """
    labels = [str(key) for key in batch.keys]
    outline = Outline.of_tasks(
        labels, batch.names, batch.costs, batch.preds, batch.pins, NOVEL
    )
    problem = Problem(outline, cluster, held=held)
    refused: dict[Any, UnsatisfiableError] = {}
    for i in np.flatnonzero(~problem.able).tolist():
        why = problem.refusals(i)
        nodes = [node.name for node in cluster.nodes]
        text = refusal_text([labels[i]], None, nodes, why)
        refused[batch.keys[i]] = UnsatisfiableError(text, {labels[i]: why})
    if refused:
        return None, refused
    plan = allocate(with_learned(problem, history, cost), allocator)
    spec = run_spec(
        plan,
        Lowered(None, (), (), frozenset()),
        f"0{uuid.uuid4().hex[:15]}",
        Turn(priority, 1.0),
        fixed=fixed,
        eager=not getattr(allocator, "waits", True),
    )
    return spec, {}


def warm() -> None:
    """Compile what planning needs, before somebody waits for it."""
    batch = Batch(["a", "b"], [NO_COST] * 2, ["a", "b"], [set(), {0}])
    nodes = Cluster([Node("n0", {"cpu": 1}), Node("n1", {"cpu": 1})])
    plan_batch(batch, 0, Time(), False, nodes, [], History())

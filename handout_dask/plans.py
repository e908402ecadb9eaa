"""Plan: which node runs what, and when; `check_plan`, which every plan has to pass.

Knows the Problem that it solves; not who made it, and nothing of Dask.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter
from typing import Any

import numpy as np

from handout_dask.billing import bill
from handout_dask.copies import with_copies
from handout_dask.errors import AllocationError, GraphError
from handout_dask.graph import Graph
from handout_dask.node import Cluster, Node
from handout_dask.problem import Problem
from handout_dask.provenance import count_provenance, counts_text, provenance_of
from handout_dask.rules import MOST, broken_rules, cannot_run
from handout_dask.shown import Visualized
from handout_dask.slack import Precedence, Step, precedence


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and when one function runs.

    ``start`` and ``end`` are seconds from the beginning; ``option`` is the number of
    the cost alternative that runs.
    """

    function: Hashable
    node: str
    start: float
    end: float
    option: int = 0


@dataclass(frozen=True, eq=False)
class Plan(Visualized):
    """A node, a start and an end for every function of a problem.

    Attributes
    ----------
    problem : Problem
        What it solves; n functions in topological order.
    node : (n,) int
        Index of the node of each function.
    option : (n,) int
        The cost alternative that runs.
    start, end : (n,) float
        Seconds from the beginning.
    allocator : str
        Who made it, with parameters.
    planning_time : float
        Seconds that making it took.
    """

    problem: Problem
    node: np.ndarray
    option: np.ndarray
    start: np.ndarray
    end: np.ndarray
    allocator: str = ""
    planning_time: float = 0.0

    def __post_init__(self) -> None:
        """Make arrays of what a user's allocator may give as lists.

        Raises
        ------
        AllocationError
            If nodes or alternatives aren't whole numbers, or times aren't numbers.
        """
        for what in ("node", "option", "start", "end"):
            array = np.asarray(getattr(self, what))
            wanted = np.int64 if what in ("node", "option") else np.float64
            if array.size and not np.can_cast(array.dtype, wanted, "same_kind"):
                raise AllocationError(f"a plan's {what} is {array.dtype}, not {wanted}")
            object.__setattr__(self, what, array.astype(wanted, copy=False))

    @staticmethod
    def from_assignment(
        problem: Problem,
        nodes: Mapping[Hashable, str],
        order: Iterable[Hashable] | None = None,
    ) -> Plan:
        """The plan in which each function runs on its given node as early as it can.

        Parameters
        ----------
        problem : Problem
            What is to be solved.
        nodes : mapping
            From the id of every function to a node's name.
        order : iterable of ids, optional
            In which order functions of one node start (where dependencies allow);
            default: topological. Functions that are not named follow those that are.

        Raises
        ------
        AllocationError
            If an id or a node is missing or unknown, or a function can't run there.
        """
        from handout_dask.allocators.engine import node_order, place

        assigned = np.empty(len(problem.functions), dtype=np.int64)
        for i, function in enumerate(problem.functions):
            name = nodes.get(function.id)
            if name is None:
                raise AllocationError(
                    f"function {function.id!r} is assigned to no node"
                )
            j = problem.cluster.index.get(name)
            if j is None:
                known = ", ".join(node.name for node in problem.nodes[:10])
                raise AllocationError(
                    f"function {function.id!r} is assigned to node {name!r}; there are "
                    f"{known}"
                )
            if not np.isfinite(problem.time(i, j)):
                raise AllocationError(cannot_run(problem, i, j))
            assigned[i] = j
        for id in nodes:
            if id not in problem.where:
                raise AllocationError(f"the plan assigns unknown function {id!r}")
        key = np.arange(len(problem.functions), dtype=float)
        if order is not None:
            key += len(key)
            for place_, id in enumerate(order):
                if id not in problem.where:
                    raise AllocationError(f"the order names unknown function {id!r}")
                key[problem.where[id]] = place_
            key = node_order(problem, key, assigned)
        return place(
            problem, key=key, assigned=assigned, in_order=True, allocator="assignment"
        )

    @property
    def makespan(self) -> float:
        """Seconds until the last function ends."""
        return float(self.end.max(initial=0.0))

    @property
    def transferred(self) -> float:
        """MB that cross between nodes, each edge for itself."""
        reader = np.repeat(np.arange(len(self.node)), np.diff(self.problem.pred_ptr))
        away = self.node[self.problem.pred_of] != self.node[reader]
        return float(self.problem.pred_mb[away].sum())

    @property
    def money(self) -> float:
        """What the plan costs by the cluster's billing model."""
        return bill(self.problem.cluster, self.node, self.start, self.end)

    @property
    def guessed(self) -> np.ndarray:
        """(n,) bool: whose run time is a guess."""
        chosen = self.problem.option_ptr[:-1] + self.option
        out: np.ndarray = self.problem.option_guessed[chosen]
        return out

    def provenance(self, id: Hashable) -> dict[str, str]:
        """Where its ``time``, ``memory`` and ``size`` are from: each "declared",
        "learned" (from what was observed) or "guessed".
        """
        return provenance_of(self.problem, self.option, self.problem.where[id])

    @cached_property
    def estimates(self) -> dict[str, dict[str, int]]:
        """How many functions have their time, memory and size from where."""
        return count_provenance(self.problem, self.option)

    @cached_property
    def precedence(self) -> Precedence:
        """What each function waits for: inputs, and room on its node."""
        return precedence(self.problem, self.node, self.option, self.start, self.end)

    @property
    def slack(self) -> np.ndarray:
        """(n,) [s]: by how much the end of each function can slip.

        The makespan doesn't grow if one function ends later by that much, each keeps
        its node and its run time, and takes room after the same functions as planned.
        """
        return self.precedence.slack

    @property
    def critical_steps(self) -> tuple[Step, ...]:
        """A chain of functions that makes the makespan, first to last.

        Each is bound by the one before it, and its ``because`` says how. The chain
        begins after 0 only where something held, or nothing, binds its first.
        """
        bound = self.precedence
        return tuple(bound.step(i) for i in bound.critical())

    @property
    def critical_path(self) -> tuple[Hashable, ...]:
        """The ids of `critical_steps`."""
        functions = self.problem.functions
        return tuple(functions[i].id for i in self.precedence.critical())

    def explain(self, id: Hashable) -> Any:
        """Why a function runs where and when it does, as data and, by str(), as text.

        Returns
        -------
        PlanExplanation
            With what its start is bound by, its slack, what each other node would have
            given, and why the rest refuse it.

        Raises
        ------
        GraphError
            If the plan has no such function.
        """
        from handout_dask.explanation import explain_plan

        return explain_plan(self, id)

    def __getitem__(self, id: Hashable) -> Placement:
        return self._placement(self.problem.where[id])

    def __len__(self) -> int:
        return len(self.node)

    def __iter__(self) -> Iterator[Placement]:
        """Placements by start; functions that start together in topological order."""
        return (self._placement(int(i)) for i in self.order())

    def _placement(self, i: int) -> Placement:
        name = self.problem.nodes[int(self.node[i])].name
        start, end = float(self.start[i]), float(self.end[i])
        id = self.problem.functions[i].id
        return Placement(id, name, start, end, int(self.option[i]))

    def order(self) -> np.ndarray:
        """(n,) int: functions by planned start; a valid order of execution."""
        return np.lexsort((np.arange(len(self.start)), self.start))

    def on(self, node: str) -> tuple[Placement, ...]:
        """What a node runs, in the order in which it starts."""
        j = self.problem.cluster.index[node]
        return tuple(self._placement(int(i)) for i in self.order() if self.node[i] == j)

    def __repr__(self) -> str:
        used = len(np.unique(self.node))
        other = counts_text(self.estimates)
        return (
            f"<Plan of {len(self)} functions on {used} of {len(self.problem.nodes)} "
            f"nodes: makespan {self.makespan:.6g} s, money {self.money:.6g}, "
            f"{self.transferred:.6g} MB moved, by {self.allocator}"
            + (f"; estimates: {other}>" if other else ">")
        )


def plan(
    graph: Graph,
    nodes: Cluster | Iterable[Node],
    allocator: Any = "time",
    network: str = "free",
) -> Plan:
    """Plan a graph on declared nodes, without a cluster.

    Parameters
    ----------
    graph : Graph
        What shall run.
    nodes : Cluster or iterable of Node
        Where it may run.
    allocator : str or Allocator
        Who decides.
    network : {"free", "oneport"}
        How transfers are assumed to behave: free ones don't compete; or each node sends
        one result at a time and receives one, and plans allow for the waiting.

    Returns
    -------
    Plan
        Checked.

    Raises
    ------
    UnsatisfiableError
        If a function fits on no node.
    AllocationError
        If there is no such allocator, or its plan breaks a rule.
    """
    if not isinstance(graph, Graph):
        raise GraphError(f"a plan is made for a Graph, not {type(graph).__name__}")
    if isinstance(nodes, str | bytes | Node) or not isinstance(
        nodes, Cluster | Iterable
    ):
        raise AllocationError(
            f"nodes={nodes!r} must be a Cluster or a list of Nodes; "
            "handout_dask.formats.nodes.read_nodes reads a file"
        )
    cluster = nodes if isinstance(nodes, Cluster) else Cluster(nodes)
    problem = with_copies(Problem(graph, cluster, network=network))
    return allocate(problem, allocator)


def allocate(problem: Problem, allocator: Any) -> Plan:
    """The allocator's plan for a feasible problem, timed and checked."""
    from handout_dask.allocators import get_allocator

    problem.require_feasible()
    begin = perf_counter()
    made = get_allocator(allocator).allocate(problem)
    return _accepted((made,), problem, allocator, begin)[0]


def allocate_all(problem: Problem, allocator: Any) -> tuple[Plan, ...]:
    """The plans of an allocator that gives several, timed together and checked.

    Parameters
    ----------
    problem : Problem
        Feasible, or the error says why not.
    allocator : str or Allocator
        With a method ``plans(problem)``: ``allocator("cost", tradeoff=5)``.

    Returns
    -------
    tuple of Plan
        The fastest first; their ``planning_time`` is that of all of them.
    """
    from handout_dask.allocators import get_allocator

    problem.require_feasible()
    begin = perf_counter()
    chosen = get_allocator(allocator)
    if not callable(getattr(chosen, "plans", None)):
        raise AllocationError(f"allocator {allocator!r} makes one plan, not several")
    made = _accepted(chosen.plans(problem), problem, allocator, begin)  # type: ignore[attr-defined]
    return tuple(sorted(made, key=lambda plan: plan.makespan))


def _accepted(
    plans: Iterable[Plan], problem: Problem, allocator: Any, begin: float
) -> list[Plan]:
    """Plans as an allocator that was called at `begin` made them, each checked."""
    out = []
    for made in plans:
        if not isinstance(made, Plan):
            raise AllocationError(
                f"allocator {allocator!r} returned {type(made).__name__}, not a Plan; "
                "Plan.from_assignment makes one"
            )
        if problem.network == "oneport":
            from handout_dask.allocators.contention import as_played

            made = as_played(made)
        out.append(made)
    took = perf_counter() - begin
    for k, made in enumerate(out):
        check_plan(made, problem)
        name = made.allocator
        if name in ("", "assignment"):
            name = allocator if isinstance(allocator, str) else repr(allocator)
        out[k] = replace(made, problem=problem, planning_time=took, allocator=name)
    return out


def _names(problem: Problem) -> tuple[list[Hashable], list[str]]:
    ids = [function.id for function in problem.functions]
    return ids, [node.name for node in problem.nodes]


def check_plan(plan: Plan, problem: Problem) -> Plan:
    """Return the plan, if it breaks no rule of the problem.

    Checks that every function is placed once, where it can run and where its pin and
    its group say; that it takes no less than its time, starts after its inputs have
    arrived, and that no node ever holds more than it has, with what is held already.

    Raises
    ------
    AllocationError
        That names the first functions that break a rule, and how.
    """
    if plan.problem is not problem and _names(plan.problem) != _names(problem):
        raise AllocationError(
            f"the plan of {plan.allocator or 'the allocator'} is for another problem: "
            "its functions or nodes, or their order, differ"
        )
    faults = broken_rules(problem, plan.node, plan.option, plan.start, plan.end)
    if faults:
        more = f"\n... and {len(faults) - MOST} more" if len(faults) > MOST else ""
        raise AllocationError(
            f"the plan of {plan.allocator or 'the allocator'} breaks "
            f"{len(faults)} rule(s):\n" + "\n".join(faults[:MOST]) + more
        )
    return plan

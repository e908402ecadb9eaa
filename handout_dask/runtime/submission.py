"""What an executor is given, checked, and what it sends to the scheduler. No IO."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, NamedTuple

import dask.config
import numpy as np
from distributed.protocol import pickle

from handout_dask.demands import more_memory
from handout_dask.errors import GraphError, HandoutError
from handout_dask.function import parse_timeout
from handout_dask.node import Cluster, Node
from handout_dask.pins import DEFAULT, OnLost, joint, parse_on_lost
from handout_dask.plans import Plan
from handout_dask.problem import Problem
from handout_dask.retry import RetryPolicy
from handout_dask.runspec import RunSpec
from handout_dask.runtime.lower import CUT, Lowered
from handout_dask.tracker import ResourceTracker

ON_FAILURE = ("finish", "stop", "ignore")

# What an executor that goes on with a run has of the one before.
RESUMED = (
    "allocator", "retry", "on_failure", "on_lost", "max_concurrency", "adaptive",
    "seed", "elastic", "speculative", "enforce_memory", "timeout", "cancel_grace",
    "durable",
)  # fmt: skip
GRACE = 2.0  # s that threads may go on with what was cancelled


def check_settings(on_failure: Any, max_concurrency: Any, retry: Any) -> None:
    """Refuse what an executor can't be told."""
    check_on_failure(on_failure)
    if max_concurrency is not None and (
        not isinstance(max_concurrency, int)
        or isinstance(max_concurrency, bool)
        or max_concurrency < 1
    ):
        raise HandoutError(
            f"max_concurrency={max_concurrency!r} must be an integer above 0"
        )
    if retry is not None and not isinstance(retry, RetryPolicy):
        raise HandoutError(f"retry={retry!r} must be a RetryPolicy")


def check_on_failure(on_failure: Any) -> None:
    """Refuse what is no failure mode."""
    if on_failure not in ON_FAILURE:
        raise HandoutError(f"on_failure={on_failure!r} must be one of {ON_FAILURE}")


def checked_on_lost(value: Any) -> OnLost:
    """What an executor was told of nodes that are gone."""
    return parse_on_lost("the executor", value) or DEFAULT


def checked_timeout(value: Any) -> float | None:
    """Seconds for functions that have no timeout of their own."""
    try:
        return parse_timeout("the executor", value)
    except GraphError as error:
        raise HandoutError(str(error)) from None


def checked_grace(value: Any) -> float | None:
    """Seconds for threads that go on with what was cancelled; None is for ever."""
    if value == "default":
        value = dask.config.get("handout.cancel-grace", GRACE)
    ok = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (ok and 0 <= value < float("inf")):
        raise HandoutError(
            f"cancel_grace={value!r} must be a number of seconds, or None for never"
        )
    return None if value is None else float(value)


class Turn(NamedTuple):
    """When a run is served that competes with others."""

    priority: int
    weight: float

    @classmethod
    def checked(cls, priority: Any, weight: Any) -> Turn:
        """What a user gave, if it makes sense."""
        if not isinstance(priority, int) or isinstance(priority, bool):
            raise HandoutError(f"priority={priority!r} must be an integer")
        if not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise HandoutError(f"weight={weight!r} must be a number above 0")
        return cls(priority, float(weight))


def declared_cluster(nodes: Any) -> Cluster | None:
    """What a user gave as `nodes`: a Cluster, Nodes, or a NODES file."""
    if nodes is None or isinstance(nodes, Cluster):
        return nodes
    if isinstance(nodes, Iterable) and not isinstance(nodes, str | bytes | Mapping):
        listed = list(nodes)
        if not listed:
            raise HandoutError("nodes is empty; give at least one Node, or None")
        if all(isinstance(node, Node) for node in listed):
            return Cluster(listed)
    from handout_dask.formats.nodes import read_nodes

    return read_nodes(nodes)


def pickle_tracker(tracker: ResourceTracker | None) -> bytes | None:
    """A user's tracker as it travels to the scheduler."""
    if tracker is None:
        return None
    if not isinstance(tracker, ResourceTracker):
        raise HandoutError(
            f"{tracker!r} is no ResourceTracker: it needs register, available, "
            "request, release and snapshot"
        )
    try:
        return bytes(pickle.dumps(tracker))
    except Exception as error:
        raise HandoutError(
            f"tracker {tracker!r} can't be pickled, so it can't act on the scheduler: "
            f"{type(error).__name__}: {error}"
        ) from error


def sinks_of(problem: Problem) -> set[int]:
    """The functions whose results no other reads."""
    return set(range(len(problem.functions))) - set(problem.pred_of.tolist())


def kept_of(problem: Problem, keep: Any) -> set[int]:
    """The functions whose results outlive their consumers."""
    if isinstance(keep, str) and keep in ("all", "sinks"):
        return (
            set(range(len(problem.functions))) if keep == "all" else sinks_of(problem)
        )
    if isinstance(keep, str) or not isinstance(keep, Iterable):
        raise GraphError(f"keep={keep!r} must be 'all', 'sinks' or a list of ids")
    out = set()
    for id in keep:
        if not isinstance(id, Hashable) or id not in problem.where:
            raise GraphError(
                f"keep names function {id!r}, which the graph does not have"
            )
        out.add(problem.where[id])
    return out


def retries_of(problem: Problem) -> dict[int, RetryPolicy]:
    """The policies of functions that have their own."""
    policies = ((i, f.retry) for i, f in enumerate(problem.functions))
    return {i: policy for i, policy in policies if policy is not None}


def run_spec(
    plan: Plan, lowered: Lowered, token: str, turn: Turn, **about: Any
) -> RunSpec:
    """What the scheduler has to know of a plan; `about` are more fields of it."""
    problem = plan.problem
    names = [node.name for node in problem.nodes]
    option = problem.option_ptr[:-1] + plan.option
    memory = more_memory(problem, option)
    if problem.outline.declared is not None:  # the books have what was declared
        problem = problem.on(problem.cluster, outline=problem.outline.declared)
    chosen = problem.option_class[option]
    demand = [{"cpu": 1.0, **dict(cost.demand)} for cost in problem.classes]
    able = [
        frozenset(n for j, n in enumerate(names) if row[problem.kind[j]] > 0)
        for row in problem.rate
    ]
    groups: dict[int, list[int]] = {}
    for i, g in enumerate(problem.group.tolist()):
        if g >= 0:
            groups.setdefault(g, []).append(i)
    bound = np.flatnonzero((problem.pin >= 0) | (problem.group >= 0)).tolist()
    said = {i: problem.functions[i].on_lost for i in bound}
    lost = {
        i: policy
        for i in bound
        if (policy := joint(said[k] for k in groups.get(int(problem.group[i]), [i])))
    }
    return RunSpec(
        token=token,
        prefix=[key[0] for key in lowered.keys],
        cut_prefix=f"{CUT}-{token}",
        node=[names[j] for j in plan.node.tolist()],
        rank=_ranks(plan),
        need=chosen.tolist(),
        demand=demand,
        able=able,
        pinned=frozenset(i for i, j in enumerate(problem.pin.tolist()) if j >= 0),
        group={i: tuple(group) for group in groups.values() for i in group},
        start=plan.start.tolist(),
        end=plan.end.tolist(),
        cuts=lowered.cuts,
        memory=memory,
        guessed=plan.guessed.tobytes() if plan.guessed.any() else b"",
        priority=turn.priority,
        weight=turn.weight,
        outline=problem.outline,
        option=plan.option.tolist(),
        lost=lost,
        **about,
    )


def _ranks(plan: Plan) -> list[int]:
    """The place of each function in planned order, none before one that it reads."""
    start, reader = plan.start, _readers(plan.problem)
    if (start[reader] < start[plan.problem.pred_of]).any():  # by less than counts
        start = start.copy()
        for v, u in zip(reader.tolist(), plan.problem.pred_of.tolist(), strict=True):
            start[v] = max(start[v], start[u])  # u is final: readers are in order
    order = np.lexsort((np.arange(len(start)), start))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    out: list[int] = rank.tolist()
    return out


def _readers(problem: Problem) -> np.ndarray:
    """(e,) the function that reads by each edge."""
    return np.repeat(np.arange(len(problem.functions)), np.diff(problem.pred_ptr))


def keepsake_of(plan: Plan, kept: set[int], on_failure: str) -> bytes:
    """What another client needs to show a detached run, with the user's own objects."""
    problem = plan.problem
    arrays = plan.node, plan.option, plan.start, plan.end
    about = plan.allocator, plan.planning_time
    learned = problem.option_work, problem.pred_mb
    what = problem.graph, problem.cluster, learned, arrays, about, kept, on_failure
    return bytes(pickle.dumps(what))


def from_keepsake(data: bytes) -> tuple[Plan, set[int], str]:
    """What `keepsake_of` was made of."""
    graph, cluster, learned, arrays, about, kept, on_failure = pickle.loads(data)
    problem = Problem(graph, cluster)
    work, mb = learned
    return (
        Plan(problem.on(cluster, work=work, mb=mb), *arrays, *about), kept, on_failure
    )  # fmt: skip

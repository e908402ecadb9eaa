"""What an executor is given, checked, and what it sends to the scheduler. No IO."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
from distributed.protocol import pickle

from handout_dask.books import RunSpec
from handout_dask.errors import GraphError, HandoutError
from handout_dask.node import Cluster, Node
from handout_dask.plans import Plan
from handout_dask.problem import Problem
from handout_dask.runtime.lower import CUT, Lowered
from handout_dask.tracker import ResourceTracker


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


def run_spec(plan: Plan, lowered: Lowered, token: str, limit: int | None) -> RunSpec:
    """What the scheduler has to know of a plan."""
    problem = plan.problem
    names = [node.name for node in problem.nodes]
    chosen = problem.option_class[problem.option_ptr[:-1] + plan.option]
    demand = [{"cpu": 1.0, **dict(cost.demand)} for cost in problem.classes]
    able = [
        frozenset(n for j, n in enumerate(names) if row[problem.kind[j]] > 0)
        for row in problem.rate
    ]
    groups: dict[int, list[int]] = {}
    for i, g in enumerate(problem.group.tolist()):
        if g >= 0:
            groups.setdefault(g, []).append(i)
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
        limit=limit,
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

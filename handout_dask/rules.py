"""The rules that every plan keeps: placements and a Problem in, breaches out, as text.

Knows no Plan and not who made it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from handout_dask.node import TOLERANCE
from handout_dask.problem import Problem

MOST = 10  # breaches of one rule that are told


@dataclass(frozen=True, slots=True, eq=False)
class _Placements:
    node: np.ndarray
    option: np.ndarray
    start: np.ndarray
    end: np.ndarray


def broken_rules(
    problem: Problem,
    node: np.ndarray,
    option: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
) -> list[str]:
    """What is wrong with these placements of all functions; [] if nothing is."""
    plan = _Placements(node, option, start, end)
    faults = [*_check_places(plan, problem)]
    if not faults:
        faults = [*_check_edges(plan, problem), *_check_room(plan, problem)]
    return faults


def cannot_run(problem: Problem, i: int, j: int) -> str:
    """Why function i can't run on node j, as text."""
    name = problem.nodes[j].name
    lacks = ", ".join(map(str, problem.explain(i, j)))
    why = lacks or "can by another of its cost alternatives only"
    return f"function {problem.functions[i].id!r} can't run on node {name!r}: it {why}"


def _tell(breaches: np.ndarray, text: Callable[[int], str]) -> Iterator[str]:
    """A text for each breach; past the first few they only count."""
    for k, i in enumerate(np.flatnonzero(breaches).tolist()):
        yield text(i) if k < MOST else ""


def _check_places(plan: _Placements, problem: Problem) -> Iterator[str]:
    n, m = len(problem.functions), len(problem.nodes)
    shapes = {np.shape(x) for x in (plan.node, plan.option, plan.start, plan.end)}
    if shapes != {(n,)}:
        yield f"it has arrays of shapes {sorted(shapes)}; the problem has {n} functions"
        return
    eps = _eps(plan)
    counts = np.diff(problem.option_ptr)
    unknown = (plan.node < 0) | (plan.node >= m)
    unknown |= (plan.option < 0) | (plan.option >= counts)
    ids = [function.id for function in problem.functions]
    yield from _tell(
        unknown,
        lambda i: (
            f"function {ids[i]!r} is on node {plan.node[i]} of {m} "
            f"with alternative {plan.option[i]} of {counts[i]}"
        ),
    )
    if unknown.any():
        return
    chosen = problem.option_ptr[:-1] + plan.option
    rate = problem.rate[problem.option_class[chosen], problem.kind[plan.node]]
    away = (problem.pin != -1) & (problem.pin != plan.node)
    yield from _tell(
        (rate <= 0) | away,
        lambda i: cannot_run(problem, i, int(plan.node[i])),
    )
    work = problem.option_work[chosen]
    least = np.divide(work, rate, out=np.zeros(n), where=rate > 0)
    finite = np.isfinite(plan.start) & np.isfinite(plan.end) & (plan.start >= -eps)
    yield from _tell(
        ~finite | (plan.end - plan.start < least - eps),
        lambda i: (
            f"function {ids[i]!r} takes {least[i]:.6g} s, but runs from "
            f"{plan.start[i]:.6g} to {plan.end[i]:.6g}"
        ),
    )
    _, first, group = np.unique(problem.group, return_index=True, return_inverse=True)
    leader = first[group]
    yield from _tell(
        (problem.group >= 0) & (plan.node != plan.node[leader]),
        lambda i: f"functions {ids[leader[i]]!r} and {ids[i]!r} must share a node",
    )


def _check_edges(plan: _Placements, problem: Problem) -> Iterator[str]:
    reader = np.repeat(np.arange(len(plan.node)), np.diff(problem.pred_ptr))
    u = problem.pred_of
    a, b = plan.node[u], plan.node[reader]
    cluster = problem.cluster
    with np.errstate(divide="ignore", invalid="ignore"):
        moving = cluster.latency[a, b] / 1e3 + problem.pred_mb / cluster.bandwidth[a, b]
    arrival = plan.end[u] + np.where(a == b, 0.0, moving)
    ids = [function.id for function in problem.functions]
    yield from _tell(
        plan.start[reader] < arrival - _eps(plan),
        lambda e: (
            f"function {ids[reader[e]]!r} starts at {plan.start[reader[e]]:.6g} s; "
            f"the result of {ids[u[e]]!r} arrives at {arrival[e]:.6g} s"
        ),
    )


def _check_room(plan: _Placements, problem: Problem) -> Iterator[str]:
    """Sweep over the starts and ends of each node; ends come first at the same time."""
    eps = _eps(plan)
    held_node, held_start, held_end, held_need = problem.held_arrays
    chosen = problem.option_class[problem.option_ptr[:-1] + plan.option]
    node = np.concatenate([plan.node, held_node])
    start = np.concatenate([plan.start, held_start])
    end = np.concatenate([plan.end, held_end])
    need = np.concatenate([problem.need[chosen], held_need])
    who = np.flatnonzero(end - start > 2 * eps)
    times = np.concatenate([start[who], end[who] - eps])
    sign = np.repeat([1.0, -1.0], len(who))
    who = np.tile(who, 2)
    order = np.lexsort((sign, times, node[who]))
    who, times = who[order], times[order]
    change = sign[order][:, None] * need[who]
    ours = who < len(plan.node)
    where = node[who]
    level = _running(change, where)
    room = problem.room[problem.kind[where]]
    over = level > room * (1 + 10 * TOLERANCE) + 1e-9 * np.maximum(
        1, need.max(initial=0)
    )
    # What is held may be more than there is; then nothing else may want of it.
    over &= _running(change * ours[:, None], where) > 1e-9 if not ours.all() else True
    seen = set()
    for e, r in zip(*np.nonzero(over), strict=True):
        if where[e] in seen:
            continue
        seen.add(where[e])
        what = repr(problem.functions[who[e]].id) if ours[e] else "what is held already"
        yield (
            f"node {problem.nodes[where[e]].name!r} holds {level[e, r]:.6g} "
            f"{problem.resources[r]} of {room[e, r]:.6g} at {times[e]:.6g} s, "
            f"when {what} runs"
        )


def _running(change: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Running sums of the rows of each node; rows of a node are together."""
    level = np.cumsum(change, axis=0)
    if len(where):  # every node sums to zero, but for rounding
        begins = np.flatnonzero(np.diff(where, prepend=-1))
        base = np.where(begins[:, None] > 0, level[begins - 1], 0.0)
        level -= np.repeat(base, np.diff(np.append(begins, len(where))), axis=0)
    return level


def _eps(plan: _Placements) -> float:
    """Rounding that is let pass [s]."""
    ends = plan.end[np.isfinite(plan.end)]
    return 1e-9 + 1e-7 * float(ends.max(initial=0.0))

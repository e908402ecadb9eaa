"""Remains: what of a plan has not begun, and where it can still run. Knows no order."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from handout_dask.begun import GONE, Begun
from handout_dask.errors import AllocationError
from handout_dask.node import TOLERANCE
from handout_dask.plans import Plan
from handout_dask.problem import Problem


@dataclass(frozen=True, slots=True, eq=False)
class Remains:
    """What is to be planned of n functions.

    Attributes
    ----------
    problem : Problem
        With nodes as they are for what waits: room that is never given back is not
        there, and who must be where something has begun is pinned there.
    begun : Begun
        What is not to be planned: it has begun or can't run, with ends that are finite.
    waits : (n,) bool
        What is to be planned; it can be.
    node, option : (n,) int
        By the plan; node -1 where it has to be another one.
    """

    problem: Problem
    begun: Begun
    waits: np.ndarray
    node: np.ndarray
    option: np.ndarray


def node_numbers(old: Problem, new: Problem) -> np.ndarray:
    """(m,) int: the number in `new` of each node of `old`; -1 where it is gone."""
    index = new.cluster.index
    return np.array([index.get(x.name, -1) for x in old.nodes], dtype=np.int64)


def carried(plan: Plan, problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """The nodes of a plan, as a problem of the same functions on other nodes has them.

    Parameters
    ----------
    plan : Plan
        n functions.
    problem : Problem
        Made by ``plan.problem.on``.

    Returns
    -------
    node : (n,) int
        By name; -1 where the node is gone or can't run the function any more. Functions
        of one group move together.
    missing : (n,) bool
        Who needs another node.
    """
    number = np.append(node_numbers(plan.problem, problem), -1)
    node, _ = possible(problem, number[np.maximum(plan.node, -1)], plan.option)
    return node, node < 0


def possible(
    problem: Problem, node: np.ndarray, option: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and alternatives (n,) that are allowed; node -1 where none is on its node.

    Who is pinned is on the node of the pin, wherever it was. Functions of one group
    that aren't all on one node have none.
    """
    node = np.where((node >= 0) & (node < len(problem.nodes)), node, -1)
    node = np.where(problem.pin == -1, node, np.maximum(problem.pin, -1))
    option = option.copy()
    at = np.flatnonzero(node >= 0)
    chosen = problem.option_class[problem.option_ptr[at] + option[at]]
    for i in at[problem.rate[chosen, problem.kind[node[at]]] <= 0].tolist():
        option[i], seconds = problem.option(i, int(node[i]))
        if seconds == np.inf:
            node[i] = -1
    bound = np.flatnonzero(problem.group >= 0)
    if len(bound):
        group = problem.group[bound]
        low = np.full(int(group.max()) + 1, len(problem.nodes))
        high = np.full(len(low), -1)
        np.minimum.at(low, group, node[bound])
        np.maximum.at(high, group, node[bound])
        node[bound[(low != high)[group]]] = -1
    return node, option


def remains_of(
    plan: Plan, begun: Begun, now: float, slower: np.ndarray | None = None
) -> Remains:
    """What of a plan is still to be planned.

    Parameters
    ----------
    plan : Plan
        n functions on m nodes; node -1 is none.
    begun : Begun
        What has begun; an end of inf will not come.
    now : float
        Seconds since the beginning.
    slower : (m,) float, optional
        By what factor run times on each node are longer than the problem says.
    """
    has = begun.node != -1
    endless = has & np.isinf(begun.end)
    seen = _as_they_are(plan.problem, begun, endless, slower)
    pin, group = _follow(seen, begun, has)
    seen = _changed(seen, pin=pin, group=group)
    never = ~has & ~seen.able
    if never.any() or endless.any():
        never = ~has & _downstream(seen, never | endless, has)
    node, option = possible(seen, plan.node, plan.option)
    parted = np.unique(group[never])
    for g in parted[parted >= 0].tolist():
        mates = np.flatnonzero(group == g)
        able = mates[~never[mates]]
        if len(able):
            pin[able] = _shared(seen, mates, int(node[mates[0]]))
        group[mates] = -1
    if never.any():
        seen = _changed(seen, pin=pin, group=group)
        node, option = possible(seen, node, option)
    ends = has & ~endless
    return Remains(
        seen,
        Begun(
            np.where(never | (begun.node == GONE), 0, begun.node),
            np.where(has, begun.option, 0),
            np.where(ends, begun.start, now),
            np.where(ends, begun.end, now),
        ),
        ~has & ~never,
        node,
        option,
    )


def _follow(
    problem: Problem, begun: Begun, has: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pins and groups (n,) where the mates of what has begun are pinned to its node."""
    pin, group = problem.pin.copy(), problem.group.copy()
    leads = (begun.node >= 0) & (group >= 0)
    if leads.any():
        node = np.full(int(group.max()) + 1, -1)
        node[group[leads]] = begun.node[leads]
        follows = ~has & (group >= 0) & (node[group] >= 0)
        pin[follows] = node[group[follows]]
        group[follows] = -1
    pin[has] = group[has] = -1
    return pin, group


def _downstream(problem: Problem, first: np.ndarray, but: np.ndarray) -> np.ndarray:
    """(n,) bool: these functions, and what depends on them but not through others."""
    ptr, of = problem.succs_arrays
    out = first.copy()
    new = np.flatnonzero(first).tolist()
    while new:
        i = new.pop()
        for v in of[ptr[i] : ptr[i + 1]].tolist():
            if not out[v] and not but[v]:
                out[v] = True
                new.append(v)
    return out


def _shared(problem: Problem, mates: np.ndarray, known: int) -> int:
    """The node of a group: the known one, or a fast one that can run all of it."""
    if known >= 0:
        return known
    pace = np.full(len(problem.nodes), np.inf)
    for i in mates.tolist():
        classes = problem.option_class[
            problem.option_ptr[i] : problem.option_ptr[i + 1]
        ]
        pace = np.minimum(pace, problem.rate[classes].max(axis=0)[problem.kind])
    return int(pace.argmax())


def _changed(problem: Problem, **values: Any) -> Problem:
    """A copy of a problem of which some attributes are others."""
    out = copy.copy(problem)
    vars(out).pop("able", None)
    vars(out).update(values)
    return out


def _as_they_are(
    problem: Problem, begun: Begun, endless: np.ndarray, slower: np.ndarray | None
) -> Problem:
    """The problem with slower nodes, less the room that nobody will give back."""
    held_node, _, held_end, held_need = held = problem.held_arrays
    forever = np.isinf(held_end)
    if slower is None and not forever.any() and not endless.any():
        return problem
    m = len(problem.nodes)
    pace = np.ones(m) if slower is None else np.asarray(slower, dtype=float)
    if pace.shape != (m,) or not ((pace > 0) & (pace < np.inf)).all():
        raise AllocationError(f"slower must be {m} factors above 0")
    taken = np.zeros((m, len(problem.resources)))
    np.add.at(taken, held_node[forever], held_need[forever])
    runs = np.flatnonzero(endless & (begun.node >= 0))
    chosen = problem.option_class[problem.option_ptr[runs] + begun.option[runs]]
    np.add.at(taken, begun.node[runs], problem.need[chosen])
    rows = np.column_stack([problem.kind, pace, taken])
    _, first, kind = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    old = problem.kind[first]
    room = problem.room[old] - taken[first]
    need = problem.need[:, None, :]
    fits = ((need == 0) | (need <= room + TOLERANCE * problem.room[old])).all(axis=2)
    room[:, 0] = np.maximum(room[:, 0], 1.0)  # where no slot is left nothing fits
    return _changed(
        problem,
        kind=kind.reshape(m),
        kinds=tuple(problem.kinds[k] for k in old.tolist()),
        room=room,
        rate=np.where(fits, problem.rate[:, old] / pace[first], 0.0),
        held_arrays=tuple(x[~forever] for x in held),
    )

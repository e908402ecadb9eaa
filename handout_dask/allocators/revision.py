"""Revision: what has not started of a live run, planned again from its books. Pure.

In between are nodes by name, in the books, and by number, in a Problem.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from handout_dask.allocators.controller import reconsider
from handout_dask.allocators.hurry import hurried
from handout_dask.allocators.latest import latest_starts
from handout_dask.begun import GONE, Begun, expected_end
from handout_dask.books import DONE, READY, SENT, WAITING, RunBook
from handout_dask.demands import with_memory
from handout_dask.held import Held
from handout_dask.node import Cluster
from handout_dask.outline import Outline
from handout_dask.plans import Plan
from handout_dask.problem import Problem

NOT_YET = -1  # in Begun
GAIN = 0.005  # share of the time left that leaving the plan has to save


@dataclass(frozen=True)
class Stand:
    """How far a run is, apart from its books; n functions.

    ``node`` are names; ``state`` is of `books`; ``start`` and ``end`` [s] are as they
    were, or are expected; ``ahead`` are functions that were sent for the next slot.
    """

    node: list[str]
    state: np.ndarray
    start: np.ndarray
    end: np.ndarray
    ahead: frozenset[int]
    now: float


@dataclass(frozen=True)
class Revision:
    """What the rest of a run shall do; lists of n, as in the books.

    ``makespan`` [s] is that of what can run; ``moved`` is how many functions change
    their nodes.
    """

    node: list[str]
    start: list[float]
    end: list[float]
    latest: list[float]
    rank: list[int]
    makespan: float
    moved: int


def stand_of(run: RunBook, now: float, ahead: Sequence[int] = ()) -> Stand:
    """How far a run is now, by the clock."""
    return Stand(
        list(run.node),
        np.frombuffer(bytes(run.state), dtype=np.uint8),
        np.array(run.start),
        np.array(run.end),
        frozenset(ahead),
        now - run.since,
    )


def revise(
    outline: Outline,
    option: np.ndarray,
    stand: Stand,
    cluster: Cluster,
    held: Sequence[Held] = (),
    work: np.ndarray | None = None,
    slower: np.ndarray | None = None,
    fixed: bool = False,
    deadline: float | None = None,
    mb: np.ndarray | None = None,
    memory: np.ndarray | None = None,
    path: str = "compiled",
) -> Revision:
    """Plan again what has not started, or bring the times of its plan up to date.

    Parameters
    ----------
    outline : Outline
        n functions, o cost alternatives.
    option : (n,) int
        The alternative of each function that runs.
    stand : Stand
        How far the run is.
    cluster : Cluster
        m nodes that are there.
    held : sequence of Held
        What other runs hold of them; times from now on.
    work : (o,) float, optional
        Seconds of each alternative at speed 1, as far as was learned.
    slower : (m,) float, optional
        How many times slower than believed each node is at the moment.
    fixed : bool
        Whether functions keep their nodes where they can.
    deadline : float, optional
        Seconds since the run began: with `fixed`, they leave their nodes if that is
        needed to keep it, as cheaply as is found.
    mb : (e,) float, optional
        MB that travel along each edge, as far as was learned.
    memory : (n,) float, optional
        Memory [MB] that functions claim, where that is more than they declare.
    path : {"numpy", "compiled"}
        What computes it; the result is the same.
    """
    later = [
        Held(h.node, h.start + stand.now, h.end + stand.now, h.demand) for h in held
    ]
    every = Problem(outline, cluster).on(cluster, held=later, work=work, mb=mb)
    if memory is not None:
        every = with_memory(every, memory)
    problem, option = _narrowed(every, option), np.zeros_like(option)
    node = np.array([cluster.index.get(name, NOT_YET) for name in stand.node])
    begun = _begun(stand, node, option, _seconds(problem, stand, node, slower))
    ends = np.isfinite(stand.end)
    start, end = np.where(ends, stand.start, np.inf), np.where(ends, stand.end, np.inf)
    plan = Plan(problem, node, option, start, end)

    def made_again(fixed: bool) -> Plan:
        return reconsider(
            plan, begun, stand.now, fixed=fixed, slower=slower, gain=GAIN, path=path
        )

    made = made_again(fixed)
    if fixed and deadline is not None and made.makespan > deadline:
        fresh = made_again(fixed=False)
        made = hurried(made, fresh, begun, stand.now, deadline, node, slower, path)
    waits = begun.node == NOT_YET
    names = [n.name for n in cluster.nodes]
    new = list(stand.node)
    moved = 0
    for i in np.flatnonzero(waits & (made.node >= 0) & (made.node != node)).tolist():
        new[i] = names[made.node[i]]
        moved += 1
    order = np.lexsort((np.arange(len(node)), made.start))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    ends = made.end[np.isfinite(made.end)]
    return Revision(
        new,
        made.start.tolist(),
        made.end.tolist(),
        latest_starts(made, path).tolist(),
        rank.tolist(),
        float(ends.max(initial=0.0)),
        moved,
    )


def _narrowed(problem: Problem, option: np.ndarray) -> Problem:
    """The problem, in which functions have one alternative each: that which runs."""
    chosen = problem.option_ptr[:-1] + option
    out = copy.copy(problem)
    out.option_ptr = np.arange(len(chosen) + 1)
    out.option_work = problem.option_work[chosen]
    out.option_class = problem.option_class[chosen]
    out.option_guessed = problem.option_guessed[chosen]
    return out


def _seconds(
    problem: Problem, stand: Stand, node: np.ndarray, slower: np.ndarray | None
) -> np.ndarray:
    """(n,) [s] that what runs takes in all, as far as is known now; of others any."""
    out, ends = np.zeros(len(node)), np.isfinite(stand.end)
    np.subtract(stand.end, stand.start, out=out, where=ends)
    runs = np.flatnonzero((stand.state == SENT) & (node >= 0))
    at = problem.option_ptr[runs]
    rate = problem.rate[problem.option_class[at], problem.kind[node[runs]]]
    factor = 1.0 if slower is None else slower[node[runs]]
    known = rate > 0
    taken = (problem.option_work[at] * factor)[known] / rate[known]
    out[runs[known]] = taken
    return out


def _begun(
    stand: Stand, node: np.ndarray, option: np.ndarray, seconds: np.ndarray
) -> Begun:
    waits = (stand.state == WAITING) | (stand.state == READY)
    start, end = stand.start.copy(), stand.end.copy()
    running = np.flatnonzero(stand.state == SENT).tolist()
    free: dict[int, float] = {}  # when a slot gets free, by node
    for i in running:
        if i not in stand.ahead:
            end[i] = expected_end(start[i], seconds[i], stand.now)
            free[node[i]] = min(free.get(node[i], np.inf), end[i])
    for i in running:
        if i in stand.ahead:
            start[i] = max(stand.now, free.get(node[i], stand.now))
            end[i] = free[node[i]] = start[i] + seconds[i]
    never = ~waits & (stand.state != SENT) & (stand.state != DONE)
    start[never] = end[never] = 0.0
    at = np.where(waits, NOT_YET, np.where(node < 0, GONE, node))
    return Begun(at, option, start, end)

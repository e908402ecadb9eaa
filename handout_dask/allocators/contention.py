"""Decode for the one-port network: what comes of an order when transfers compete.

A node sends one result at a time and receives one; `oneport` plays it. Knows tables.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from handout_dask.allocators import engine, oneport
from handout_dask.allocators.compiling import at_hand
from handout_dask.allocators.decoder import assess, decode, latest_end
from handout_dask.allocators.kernel import Arrays
from handout_dask.allocators.oneport import play
from handout_dask.plans import Plan
from handout_dask.problem import Problem

ROUNDS, ENOUGH = 30, 4  # plays of a plan in the order of what came of it
SMALL = 40  # functions that are played faster than numba is loaded
LARGE = 20_000  # functions that numba plays faster even if it has to compile


def make_ports(problem: Problem, a: Arrays) -> tuple[Any, ...]:
    """What `decode_ports` works on, besides the tables of an Instance."""
    n = len(a.pred_ptr) - 1
    whole = (np.zeros(n, dtype=np.int64) for _ in range(3))
    times = (np.zeros(n) for _ in range(3))
    mb = a.pred_mb[np.argsort(a.pred_of, kind="stable")]
    position = np.array(problem.graph.links().position, dtype=np.int64)
    work = oneport.workspace(position, a.succ_ptr, a.need, problem.room, a.kind)
    return (
        *whole, *times, a.need, problem.room, a.kind, a.pred_ptr, a.succ_ptr,
        a.succ_of, mb, a.latency, a.slow, work,
    )  # fmt: skip


def decode_ports(
    p: Any, aim: Any, order: Any, rows: Any, begin: Any, taste: Any, limit: Any
) -> Any:
    """As `decode`, with transfers that wait for each other.

    Functions that are free choose as if they did not; times change only if the value
    is not above the limit.
    """
    (rank, node, cls, span, start, end, need, room, kind, pred_ptr, succ_ptr, succ_of,
     succ_mb, latency, slow, work) = p.ports  # fmt: skip
    choosing = False
    for i in range(p.size):
        choosing = choosing or p.functions[i]["free"] == 1
    if choosing:
        decode(p, aim, order, rows, begin, taste, np.inf)
    for position in range(p.size):
        i = order[position]
        o = rows[i]["option"]
        rank[i] = position
        node[i] = rows[i]["node"]
        cls[i] = p.option_class[o]
        span[i] = p.span[o, kind[node[i]]]
    cutoff = latest_end(aim, limit, p.least_money)
    makespan = play(
        rank, node, span, cls, need, room, kind, pred_ptr, succ_ptr, succ_of, succ_mb,
        latency, slow, cutoff, start, end, work,
    )  # fmt: skip
    if makespan == np.inf:
        return np.inf, np.inf, np.inf
    for i in range(p.size):
        rows[i]["start"], rows[i]["end"] = start[i], end[i]
    return assess(p, aim, rows, makespan)


def load(problem: Problem) -> None:
    """Load what plays plans of this problem, if it is compiled for it."""
    n = len(problem.functions)
    if problem.network == "oneport" and n > SMALL and _player(n) is not oneport.play:
        as_played(engine.place(problem))


def _player(n: int) -> Any:
    """What plays a plan of n functions soonest."""
    quick = n > SMALL or oneport.is_compiled()
    if n > LARGE or (quick and at_hand(oneport.compiled())):
        return oneport.compiled()
    return oneport.play


def as_played(plan: Plan, path: str | None = None) -> Plan:
    """The plan with times that the one-port network makes of its order, and keeps.

    A play changes the order of the starts, which is what is played, so it is played
    over and over; taken is the shortest plan whose own play is no longer than it says.
    Where something is held the plan stays as it is, for that can't be played.
    """
    problem, n = plan.problem, len(plan.node)
    if not n or problem.held:
        return plan
    a = engine.arrays(problem)
    (rank, _, cls, span, _, _, *arrays, work) = make_ports(problem, a)
    option = problem.option_ptr[:-1] + plan.option
    cls[:] = problem.option_class[option]
    span[:] = problem.option_work[option] / problem.rate[cls, problem.kind[plan.node]]
    play: Any = oneport.compiled() if path == "compiled" else _player(n)
    known: list[tuple[bool, float, Plan]] = []
    candidate = plan
    for number in range(ROUNDS):
        order = np.lexsort((np.arange(n), candidate.end, candidate.start))
        rank[order] = np.arange(n)
        start, end = np.zeros(n), np.zeros(n)
        makespan = play(rank, plan.node, span, cls, *arrays, np.inf, start, end, work)
        late = makespan > candidate.makespan * (1 + 1e-9)
        if known or not late:  # the first may be timed for another network
            known.append((late, max(candidate.makespan, makespan), candidate))
        settled = number >= ENOUGH and not all(late for late, *_ in known)
        if settled or np.array_equal(start, candidate.start):
            break
        candidate = replace(plan, start=start, end=end)
        known = known or [(True, np.inf, candidate)]
    return min(known, key=lambda entry: entry[:2])[-1]

"""What could be had from an event in mid-run on, had it been known: a bound.

Pure: a run's plan and spans in, a makespan out. Nothing here is measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

import handout_dask as hd
from handout_dask.allocators.effort import Meter
from handout_dask.allocators.engine import place, upward_rank
from handout_dask.allocators.search import QUICK, search
from handout_dask.begun import Begun
from handout_dask.events import DONE, Span
from handout_dask.problem import Problem

EVENTS = ("lost", "joined", "slow")
SLOWER = 4.0  # times, that a node becomes
SECONDS = 0.3  # of search


@dataclass(frozen=True, slots=True)
class Event:
    """What happens to a node, and when.

    Attributes
    ----------
    kind : {"lost", "joined", "slow"}
        Of what kind it is.
    share : float
        Of the planned makespan, after which it happens.
    """

    kind: str
    share: float


def read_event(text: str) -> Event:
    """An event from ``KIND@SHARE``, such as ``lost@0.4``.

    Raises
    ------
    ValueError
        If it is none.
    """
    kind, _, share = text.partition("@")
    if kind not in EVENTS or not 0 < float(share) < 1:
        raise ValueError(f"{text!r}: write lost@0.4, joined@0.4 or slow@0.4")
    return Event(kind, float(share))


def bound(
    plan: hd.Plan, after: hd.Cluster, spans: Iterable[Span], when: float
) -> float:
    """The makespan if what had not begun at an event was planned with all knowledge.

    Parameters
    ----------
    plan : Plan
        That the run began with; its declared costs are exact.
    after : Cluster
        The nodes after the event, with their speeds.
    spans : iterable of Span
        Of the run that met the event.
    when : float
        Of the event [s], on the clock of the spans.

    Returns
    -------
    float
        Seconds from the beginning of the run: the time of the event and what the plan
        takes from there.

    Notes
    -----
    What had ended by then stays ended where it was, what ran on a node that stays ends
    when it really did, and nothing else has begun. A result on a lost node is on the
    node of a reader that had begun elsewhere, if there is one; otherwise it is computed
    again if something is left that reads it, or if none reads it. The rest is planned
    from that time on: by HEFT, by the first plan as far as its nodes are there, and by
    the search of allocator ``time`` from these; the least counts. Inputs travel from
    that time on, or when they are there. Planning takes no time, messages take none.
    """
    problem = Problem(plan.problem.graph, after)
    begun = _begun(problem, spans, when)
    if (begun.node >= 0).all():
        return float(begun.end.max())
    sent = replace(begun, end=np.maximum(begun.end, when))
    plans = [place(problem, key=-upward_rank(problem), begun=sent, now=when)]
    names = [node.name for node in plan.problem.nodes]
    if after.index.keys() >= set(names):
        on = np.array([after.index[names[j]] for j in plan.node.tolist()])
        plans.append(place(problem, key=plan.start, assigned=on, begun=sent, now=when))
    found = search(problem, plans, QUICK, Meter(SECONDS), begun=sent, now=when)
    return min(made.makespan for made in (*plans, found) if made is not None)


def _begun(problem: Problem, spans: Iterable[Span], when: float) -> Begun:
    """What had begun at the event, and is not lost by it."""
    n = len(problem.functions)
    begun = Begun(
        np.full(n, -1, dtype=np.int64), np.zeros(n, np.int64), np.zeros(n), np.zeros(n)
    )
    lost = set()
    for span in sorted(spans, key=lambda span: span.start):
        i = problem.where[span.function]
        if span.start > when or span.outcome != DONE or begun.node[i] >= 0:
            continue
        j = problem.cluster.index.get(span.node, -1)
        if j >= 0:
            begun.node[i], begun.start[i], begun.end[i] = j, span.start, span.end
        elif span.end <= when:
            lost.add(i)
    _keep_copies(problem, begun, lost, when)
    return begun


def _keep_copies(problem: Problem, begun: Begun, lost: set[int], when: float) -> None:
    """Give each lost result a place if a reader has it, or nothing needs it."""
    ptr, of = problem.succs_arrays
    for i in sorted(lost, reverse=True):  # readers first
        readers = of[ptr[i] : ptr[i + 1]]
        there = [int(begun.node[v]) for v in readers if begun.node[v] >= 0]
        needed = not len(readers) or any(begun.node[v] < 0 for v in readers)
        if there or not needed:
            begun.node[i] = there[0] if there else 0
            begun.start[i] = begun.end[i] = when


def after_event(event: Event, declared: hd.Cluster, name: str) -> hd.Cluster:
    """The cluster after an event to a node, of all that are declared."""
    keep = list(declared.nodes)
    if event.kind == "lost":
        keep = [node for node in keep if node.name != name]
    if event.kind == "slow":
        keep = [
            replace(node, speed=node.speed / SLOWER) if node.name == name else node
            for node in keep
        ]
    at = [declared.index[node.name] for node in keep]
    links = np.ix_(at, at)
    return hd.Cluster(keep, declared.bandwidth[links], declared.latency[links])

"""Let a controller change a plan while it is played: the rest, after each end. Pure.

Works on the state of a `player.Player`, as `loss` does; what to change is for the
controller to say.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np

from handout_dask.begun import Begun, expected_end
from handout_dask.plans import Plan
from handout_dask.player import ENDED, RUNS, WAITS, Player

Controller = Callable[[Plan, Begun, float], Plan]


class Steering:
    """Asks a controller, and lets a player follow it."""

    def __init__(self, player: Player, plan: Plan, controller: Controller) -> None:
        self.player, self.plan, self.controller = player, plan, controller
        spans = plan.end - plan.start
        self.seconds: list[float] = spans.tolist()  # as declared, without noise

    def ask(self, now: float) -> None:
        """Some functions have ended now."""
        p = self.player
        if not p.left:
            return
        plan = self.controller(self.plan, self._begun(now), now)
        if plan is self.plan:
            return
        self.plan = plan
        rank = np.empty(len(plan.node), dtype=np.int64)
        rank[np.lexsort((np.arange(len(rank)), plan.end, plan.start))] = range(
            len(rank)
        )
        p.urgency = rank.tolist()
        for queues in (p.planned, p.queue):
            for j in range(len(queues)):
                queues[j] = []
        anew = []
        for i in np.flatnonzero(np.array(p.state) == WAITS).tolist():
            j, option = int(plan.node[i]), int(plan.option[i])
            self.seconds[i] = float(plan.end[i] - plan.start[i])
            if j != p.node[i]:
                anew.append(i)
                self._recall(i)
            p.assign(i, j, option)
            if not p.missing[i] and i not in anew:
                heapq.heappush(p.queue[j], (p.urgency[i], i))
        for i in anew:
            p.missing[i] = p.ptr[i + 1] - p.ptr[i]
            if not p.missing[i]:
                p.enqueue(i)
        edges = [e for i in anew for e in range(p.ptr[i], p.ptr[i + 1])]
        ended = [e for e in edges if p.state[p.producer[e]] == ENDED]
        p.deliver(now, [(e, p.node[p.producer[e]]) for e in ended])
        p.touched.update(range(len(p.queue)))

    def _recall(self, i: int) -> None:
        """Function i goes elsewhere: what has come for it, or is coming, is void."""
        p = self.player
        for e in range(p.ptr[i], p.ptr[i + 1]):
            p.arrived[e] = False
            flight = p.flight[e]
            p.flight[e] = None
            if flight is not None:
                left = tuple(other for other in flight.edges if other != e)
                flight.edges = left
                if not left and not p.oneport:
                    flight.lost = True

    def _begun(self, now: float) -> Begun:
        p, n = self.player, len(self.seconds)
        node, option = np.full(n, -1, dtype=np.int64), self.plan.option
        start, end = np.zeros(n), np.zeros(n)
        for i, state in enumerate(p.state):
            if state == WAITS:
                continue
            node[i], start[i] = p.node[i], p.started[i]
            end[i] = p.started[i] + p.seconds[i]
            if state == RUNS:
                end[i] = expected_end(p.started[i], self.seconds[i], now)
        return Begun(node, option.copy(), start, end)

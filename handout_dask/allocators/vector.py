"""The placing kernel in NumPy, for small problems: loading numba takes 0.5 s.

The same plan as `kernel`, bit for bit: what can be said of all nodes at once is said by
arrays, and the few promising nodes are looked at by plain Python, on lists.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterator, Sequence

import numpy as np

from handout_dask.allocators.kernel import (
    ENDLESS,
    Arrays,
    choices,
    common_nodes,
    precedes,
    score_of,
)
from handout_dask.allocators.timeline import (
    FRONT,
    GAP,
    OPEN,
    SHUT,
    SINCE,
    close,
    stretch,
)

INF = float("inf")
Needs = list[tuple[int, float, float]]  # (resource, amount, least that must be free)


def upward_rank(
    pred_ptr: np.ndarray, pred_of: np.ndarray, pred_mb: np.ndarray, time: np.ndarray,
    latency: float, slow: float,
) -> np.ndarray:  # fmt: skip
    """Seconds from the start of each function to the end of the graph."""
    ptr, of = pred_ptr.tolist(), pred_of.tolist()
    moving = (latency + pred_mb * slow).tolist()
    rank = [0.0] * len(time)  # of each function's longest path after it, until it ends
    times = time.tolist()
    for i in range(len(rank) - 1, -1, -1):
        rank[i] += times[i]
        for e in range(ptr[i], ptr[i + 1]):
            path = moving[e] + rank[i]
            if path > rank[of[e]]:
                rank[of[e]] = path
    return np.array(rank)


class Timeline:
    """The step function of node j, and what column j of the edges says of it."""

    def __init__(
        self, j: int, room: list[float], slack: list[float], edge: np.ndarray
    ) -> None:
        self.j = j
        self.time = [0.0]
        self.free = [room]  # of each segment; replaced, never changed
        self.slack = slack
        self.one = 1.0 - slack[0]  # free slots below which none is
        self.edge = edge
        self.known = 0.0, 0.0, 0.0  # from, to: no longer stretch has a free slot

    def find_start(
        self, ready: float, span: float, need: Needs, until: float
    ) -> tuple[float, int]:
        """The earliest start with room, and its segment; inf if none ends by then."""
        time, free, one = self.time, self.free, self.one
        stop = len(time)
        since, start, gap = self.known
        if not (since <= ready < start and span > gap):
            since = start = ready
            gap = 0.0
        s = begin = bisect_right(time, start) - 1
        shut, found = start, INF  # until when `gap` holds
        while start + span <= until:
            left = free[s]
            s += 1
            for r, _, least in need:
                if left[r] < least:
                    if s < stop:
                        if left[0] < one:
                            at = time[s - 1]
                            if at - shut >= gap:
                                gap = stretch(shut, at)
                            shut = time[s]
                        start, begin = time[s], s
                    break
            else:
                if s >= stop or time[s] >= start + span:
                    found = start
                    break
                continue
            if s >= stop:
                break
        if shut > since:
            self.known = since, shut, gap
            if shut >= self.edge.item(OPEN, self.j):
                self.edge[SINCE, self.j], self.edge[GAP, self.j] = since, gap
        return found, begin

    def take(self, start: float, end: float, need: Needs) -> None:
        """Take what is needed from start to end."""
        if end <= start:
            return
        time, free, one = self.time, self.free, self.one
        first, last = self._cut(start), self._cut(end)
        for s in range(first, last):
            free[s] = left = free[s].copy()
            for r, amount, _ in need:
                left[r] -= amount
            if left[0] < one:
                close(self.edge, self.j, time[s], time[s + 1])
        self._merge(last)
        self._merge(first)
        front = self.edge.item(FRONT, self.j)
        if start > front:
            return
        s = bisect_right(time, front) - 1
        while s < len(time) - 1 and free[s][0] < one:
            s += 1
            self.edge[FRONT, self.j] = time[s]

    def _cut(self, at: float) -> int:
        s = bisect_right(self.time, at) - 1
        if self.time[s] == at:
            return s
        self.time.insert(s + 1, at)
        self.free.insert(s + 1, self.free[s])
        return s + 1

    def _merge(self, s: int) -> None:
        if s == 0:
            return
        for a, b, slack in zip(self.free[s], self.free[s - 1], self.slack, strict=True):
            if a != b and abs(a - b) > slack:
                return
        del self.time[s], self.free[s]


class Placing:
    """The books of one placing: what is where, what each node has left."""

    def __init__(
        self, a: Arrays, weights: tuple[float, ...], price: np.ndarray,
        bias: np.ndarray, in_order: bool, now: float,
    ) -> None:  # fmt: skip
        m, groups = len(a.kind), int(a.group.max(initial=-1)) + 1
        self.a, self.weights, self.price, self.bias = a, weights, price, bias
        self.by_end = weights[0] + weights[2] + weights[3] + weights[5] > 0.0
        self.only_end = weights[0] > 0.0 and not any(weights[1:]) and not len(bias)
        self.in_order = in_order
        self.room = [a.room[k].tolist() for k in a.kind]  # [j][r]
        slack = a.slack.tolist()
        self.need = [needs(row, slack) for row in a.need.tolist()]  # [c]
        self.edge = np.zeros((5, m))
        self.rows = tuple(self.edge)
        self.every = slice(0, m)
        self.lines = [Timeline(j, self.room[j], slack, self.edge) for j in range(m)]
        self.load = np.zeros(m)
        self.floor = np.full(m, now)
        self.chosen = [-1] * groups
        self.able = common_nodes(a)
        self.pin, self.group = a.pin.tolist(), a.group.tolist()
        self.ptr, self.option_ptr = a.pred_ptr.tolist(), a.option_ptr.tolist()
        self.classes, self.work = a.option_class.tolist(), a.option_work.tolist()
        self.rates: dict[int, tuple[np.ndarray, np.ndarray | None]] = {}
        for j, start, end, need in zip(
            *(x.tolist() for x in (a.held_node, a.held_start, a.held_end, a.held_need)),
            strict=True,
        ):
            self.load[j] += min(end - start, ENDLESS) / self.room[j][0]
            self.lines[j].take(start, end, needs(need, slack))

    def nodes_for(self, i: int) -> slice:
        """What pins and groups leave for function i."""
        fixed, group = self.pin[i], self.group[i]
        if group >= 0 and self.chosen[group] >= 0 and self.chosen[group] != fixed:
            fixed = self.chosen[group] if fixed == -1 else -2
        if fixed == -1:
            return self.every
        return slice(max(fixed, 0), max(fixed + 1, 0))

    def arrivals(
        self, i: int, nodes: slice, node: np.ndarray, end: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | float]:
        """Seconds at which the inputs of i are on each node, and MB that move there."""
        a, lo, hi = self.a, self.ptr[i], self.ptr[i + 1]
        ready: np.ndarray = self.floor[nodes]
        away: np.ndarray | float = 0.0
        if hi > lo:
            us, mb = a.pred_of[lo:hi], a.pred_mb[lo:hi, None]
            at = node.take(us)
            moving = a.slow.take(at, 0)  # (preds, m)
            moving *= mb
            moving += a.latency.take(at, 0)
            moving += end.take(us)[:, None]
            ready = np.maximum(moving.max(0)[nodes], ready)
            if self.weights[3] > 0.0:
                here = np.arange(nodes.start, nodes.stop)
                away = np.zeros(len(here))
                for k in range(hi - lo):
                    away += np.where(here != at[k], mb[k], 0.0)
        if self.group[i] >= 0:
            ready = np.where(self.able[self.group[i], nodes], ready, INF)
        return ready, away

    def spans(self, o: int, nodes: slice) -> np.ndarray:
        """Seconds that an alternative takes on each node."""
        c = self.classes[o]
        if c not in self.rates:
            rate = self.a.rate[c, self.a.kind]
            runs = rate > 0
            self.rates[c] = rate, None if runs.all() else runs
        rate, some = self.rates[c]
        if some is None:
            all_run: np.ndarray = self.work[o] / rate[nodes]
            return all_run
        span = np.full(len(rate), INF)
        np.divide(self.work[o], rate, out=span, where=some)
        return span[nodes]

    def bounds(
        self, i: int, nodes: slice, low: np.ndarray, start: np.ndarray,
        span: np.ndarray, away: np.ndarray | float,
    ) -> np.ndarray:  # fmt: skip
        """What the scores can't be below: `score_of`, but for terms of no weight."""
        w_end, w_start, w_money, w_moved, w_load, _ = self.weights
        if self.only_end:
            return w_end * low
        runs = low < INF
        if not runs.all():  # 0 x inf is no number
            low, start, span = (np.where(runs, x, 0.0) for x in (low, start, span))
        rest = w_money * (span * self.price[nodes]) + w_moved * away
        rest = rest + w_load * self.load[nodes]
        wait = self.bias[i, nodes] if len(self.bias) else 0.0
        score = (w_end * (low + wait) + w_start * start) + rest
        return np.where(runs, score, INF)

    def place(
        self, i: int, node: np.ndarray, end: np.ndarray
    ) -> tuple[int, int, float, float]:
        """(node, option, start, end) of function i; node -2 if there is no room."""
        nodes = self.nodes_for(i)
        first = nodes.start
        found = -2, 0, 0.0, INF
        if first == nodes.stop:
            return found
        best_score = INF
        ready, away = self.arrivals(i, nodes, node, end)
        rows = self.rows
        if nodes is not self.every:
            rows = tuple(row[nodes] for row in rows)
        earliest = np.maximum(ready, rows[FRONT])
        late = np.maximum(ready, rows[OPEN])
        shut, gap = rows[SHUT], rows[GAP]
        passed = earliest >= rows[SINCE]
        for o in range(self.option_ptr[i], self.option_ptr[i + 1]):
            span = self.spans(o, nodes)
            tight = (earliest + span > shut) | ((span > gap) & passed)
            start = np.where(tight, late, earliest)
            low = start + span
            bound = self.bounds(i, nodes, low, start, span, away)
            need = self.need[self.classes[o]]
            while True:
                x = int(bound.argmin())
                least = bound.item(x)
                if least > best_score or least == INF:
                    break
                bound[x] = INF
                best, _, _, best_end = found
                if least == best_score and not precedes(
                    self.by_end, low.item(x), first + x, best_end, best
                ):
                    continue
                if self.only_end:  # `look`, without a call
                    line, takes = self.lines[first + x], span.item(x)
                    at, _ = line.find_start(ready.item(x), takes, need, best_end)
                    until = at + takes
                    score = self.weights[0] * until
                else:
                    score, at, until = self.look(
                        i, o, first + x, ready.item(x), span.item(x),
                        away.item(x) if isinstance(away, np.ndarray) else 0.0,
                    )  # fmt: skip
                if at < INF and (
                    score < best_score
                    or (
                        score == best_score
                        and precedes(self.by_end, until, first + x, best_end, best)
                    )
                ):
                    best_score = score
                    found = first + x, o - self.option_ptr[i], at, until
        return found

    def look(
        self,
        i: int,
        o: int,
        j: int,
        ready: float,
        span: float,
        away: float,
    ) -> tuple[float, float, float]:
        """(score, start, end) of alternative o of function i on node j.

        Start is inf if there is no room.
        """
        line, need = self.lines[j], self.need[self.classes[o]]
        at, s = line.find_start(ready, span, need, INF)
        end = at + span
        wait = self.bias.item(i, j) if len(self.bias) else 0.0
        money = span * self.price.item(j)
        score = score_of(self.weights, end, at, wait, money, away, self.load.item(j))
        if self.weights[5] > 0.0:
            left = 0.0
            wants = {r: amount for r, amount, _ in need}
            for r, room in enumerate(self.room[j]):
                if 0.0 < room < INF:
                    left += (line.free[s][r] - wants.get(r, 0.0)) / room
            score += self.weights[5] * left
        return score, at, end

    def settle(
        self, i: int, o: int, j: int, start: float, end: float, since: float
    ) -> None:
        """Enter in all books that function i runs there; its room is taken `since`."""
        if not self.only_end:
            self.load[j] += (end - start) / self.room[j][0]
        self.lines[j].take(since, end, self.need[self.classes[o]])
        if self.in_order:
            self.floor[j] = max(self.floor[j], start)
        if self.group[i] >= 0:
            self.chosen[self.group[i]] = j


def needs(row: Sequence[float], slack: Sequence[float]) -> Needs:
    """What a row of needs asks, without what it does not."""
    pairs = enumerate(zip(row, slack, strict=True))
    return [(r, amount, amount - extra) for r, (amount, extra) in pairs if amount > 0.0]


def place(a: Arrays, order: np.ndarray, in_order: bool, weights: tuple[float, ...],
          price: np.ndarray, bias: np.ndarray, node: np.ndarray, option: np.ndarray,
          start: np.ndarray, end: np.ndarray, now: float) -> None:  # fmt: skip
    """Place all functions that have not begun; as `kernel.place`."""
    books = Placing(a, weights, price, bias, in_order, now)
    first = books.option_ptr
    for i in np.flatnonzero(node >= 0).tolist():
        o, begin = first[i] + option.item(i), start.item(i)
        books.settle(i, o, node.item(i), begin, end.item(i), max(begin, now))
    turns = by_readiness(a, node, end, now) if not len(order) else order.tolist()
    for i in turns:
        found = books.place(i, node, end)
        node[i], option[i], start[i], end[i] = found
        if found[0] < 0:
            return
        j, o, begin, until = found
        books.settle(i, first[i] + o, j, begin, until, begin)


def by_readiness(
    a: Arrays, node: np.ndarray, end: np.ndarray, now: float
) -> Iterator[int]:
    """The functions that have not begun, as they become ready; placed meanwhile."""
    pred_ptr, pred_of = a.pred_ptr.tolist(), a.pred_of.tolist()
    succ_ptr, succ_of = a.succ_ptr.tolist(), a.succ_of.tolist()
    few = choices(a).tolist()

    def when(i: int) -> tuple[float, int, int]:
        preds = pred_of[pred_ptr[i] : pred_ptr[i + 1]]
        return max([now, *(end.item(u) for u in preds)]), few[i], i

    begun = node >= 0
    waits = np.zeros(len(node), dtype=np.int64)
    reader = np.repeat(np.arange(len(node)), np.diff(a.pred_ptr))
    np.add.at(waits, reader, ~begun[a.pred_of])
    missing = waits.tolist()
    heap = [when(i) for i in np.flatnonzero(~begun & (waits == 0)).tolist()]
    heapq.heapify(heap)
    while heap:
        i = heapq.heappop(heap)[2]
        yield i
        for v in succ_of[succ_ptr[i] : succ_ptr[i + 1]]:
            missing[v] -= 1
            if not missing[v]:
                heapq.heappush(heap, when(v))

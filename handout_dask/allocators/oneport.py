"""The one-port decoder: placements and priorities in, what happens out.

`play` is `simulate` with ``order="ready", network="oneport"``, without noise, losses
and holds, for a search that asks very often. Plain Python over numpy arrays, so that
the same source runs as it is and compiled by numba, with the same result. Knows only
arrays.

Node a sends what is first in its outbox: the result whose first reader on the receiver
goes first, a heap of ``rank of the reader << TURN_BITS | turn of the edge``. All edges
from one function to one node are one transfer, named by its first edge, its leader.

Helpers get arrays one by one: compiled, a tuple of them costs a count of references
per array and call, which made all of it more than ten times slower.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from handout_dask.allocators.compiling import compile_kernel
from handout_dask.node import TOLERANCE

TURN_BITS = 32
TURN = (1 << TURN_BITS) - 1
LOCAL, LEADER, FOLLOWER = 0, 1, 2  # an edge on one node, and edges of a transfer
DOUBT = 1 + 1e-9  # rounding may exceed a bound by less


def push(heap: Any, base: Any, size: Any, key: Any) -> None:
    """Add a key to the heap of `size` keys that begins at `base`."""
    at = size
    while at > 0:
        up = (at - 1) >> 1
        above = heap[base + up]
        if above <= key:
            break
        heap[base + at] = above
        at = up
    heap[base + at] = key


def pop(heap: Any, base: Any, size: Any) -> Any:
    """Take the smallest key of the heap of `size` keys that begins at `base`."""
    first = heap[base]
    last = size - 1
    key = heap[base + last]
    at, down = 0, 1
    while down < last:
        below = heap[base + down]
        if down + 1 < last and heap[base + down + 1] < below:
            down += 1
            below = heap[base + down]
        if key <= below:
            break
        heap[base + at] = below
        at = down
        down = 2 * at + 1
    heap[base + at] = key
    return first


def post(when: Any, what: Any, size: Any, time: Any, event: Any) -> None:
    """Add an event at a time to the heap of `size` events."""
    at = size
    while at > 0:
        up = (at - 1) >> 1
        above = when[up]
        if above <= time:
            break
        when[at] = above
        what[at] = what[up]
        at = up
    when[at] = time
    what[at] = event


def drop(when: Any, what: Any, size: Any) -> None:
    """Take the earliest event out of the heap of `size` events."""
    last = size - 1
    time, event = when[last], what[last]
    at, down = 0, 1
    while down < last:
        below = when[down]
        if down + 1 < last and when[down + 1] < below:
            down += 1
            below = when[down]
        if time <= below:
            break
        when[at] = below
        what[at] = what[down]
        at = down
        down = 2 * at + 1
    when[at] = time
    what[at] = event


def touch(j: Any, is_touched: Any, touched: Any, touched_n: Any) -> Any:
    """Note that node j may start something; returns how many nodes may."""
    if is_touched[j]:
        return touched_n
    is_touched[j] = True
    touched[touched_n] = j
    return touched_n + 1


def has_room(need: Any, free: Any, slack: Any, c: Any, j: Any) -> Any:
    """Whether a function of class c fits on node j now."""
    for r in range(need.shape[1]):
        if need[c, r] > 0.0 and need[c, r] > free[j, r] + slack[r]:
            return False
    return True


def lay_out(rank: Any, node: Any, span: Any, pred_ptr: Any, succ_ptr: Any, succ_of: Any,
            succ_mb: Any, latency: Any, slow: Any, missing: Any, tail: Any,
            by_rank: Any, role: Any, follower: Any, seconds: Any, sent: Any,
            to_run: Any, to_send: Any, to_get: Any, outbox_at: Any, outbox_n: Any,
            ready_at: Any, ready_n: Any, seen: Any) -> None:  # fmt: skip
    """Find the transfers, what each node has to do, and where its heaps begin.

    Of a transfer, its leader says the ``seconds`` that it takes and the rank of its
    first reader (``sent``); the other edges are a list from ``follower[leader]`` on.
    """
    n, m = len(node), len(to_run)
    for j in range(m):
        to_run[j] = to_send[j] = to_get[j] = 0.0
        outbox_n[j] = ready_n[j] = 0
        seen[j] = len(succ_of)  # the last leader to node j
    for u in range(n - 1, -1, -1):
        a = node[u]
        by_rank[rank[u]] = u
        missing[u] = pred_ptr[u + 1] - pred_ptr[u]
        to_run[a] += span[u]
        ready_n[a] += 1
        longest = 0.0
        stop = succ_ptr[u + 1]
        for e in range(succ_ptr[u], stop):
            v = succ_of[e]
            b = node[v]
            path = tail[v]
            if a == b:
                role[e] = LOCAL
            else:
                travel = latency[a, b] + succ_mb[e] * slow[a, b]
                path += travel
                leader = seen[b]
                if leader < stop:  # of this function too
                    role[e] = FOLLOWER
                    follower[e] = follower[leader]
                    follower[leader] = e
                    more = max(travel - seconds[leader], 0.0)
                    seconds[leader] = max(seconds[leader], travel)
                    to_send[a] += more
                    to_get[b] += more
                    sent[leader] = min(sent[leader], rank[v])
                else:
                    seen[b] = e
                    role[e] = LEADER
                    follower[e] = -1
                    seconds[e] = travel
                    sent[e] = rank[v]
                    to_send[a] += travel
                    to_get[b] += travel
                    outbox_n[a] += 1
            longest = max(longest, path)
        tail[u] = span[u] + longest
    outbox_end = ready_end = 0
    for j in range(m):
        outbox_at[j], ready_at[j] = outbox_end, ready_end
        outbox_end += outbox_n[j]
        ready_end += ready_n[j]
        outbox_n[j] = ready_n[j] = 0


def play(rank: Any, node: Any, span: Any, cls: Any, need: Any, room: Any, kind: Any,
         pred_ptr: Any, succ_ptr: Any, succ_of: Any, succ_mb: Any, latency: Any,
         slow: Any, cutoff: Any, start: Any, end: Any, work: Any) -> Any:  # fmt: skip
    """Makespan [s] of functions on given nodes; inf if it is beyond `cutoff`.

    Parameters
    ----------
    rank : (n,) int
        A permutation of 0..n - 1: of the functions that can start, the smallest does.
    node : (n,) int
        Where each function runs; it must fit there when the node is empty.
    span : (n,) float
        Seconds that it runs there.
    cls : (n,) int
        Its row in `need`.
    need, room, kind : (c, r), (k, r), (m,)
        As in Problem; the first resource is slots, of which a function needs one.
    pred_ptr, succ_ptr, succ_of : (n + 1,), (n + 1,), (e,) int
        As in Problem; functions are in topological order.
    succ_mb : (e,) float
        MB that travel along the edge to ``succ_of``.
    latency, slow : (m, m) float
        Seconds per transfer, and per MB.
    cutoff : float
        Seconds beyond which the makespan does not matter.
    start, end : (n,) float
        Filled with the seconds at which functions start and end; in part if the
        result is inf.
    work : tuple
        From `workspace` for this problem; not to be shared between threads.

    Notes
    -----
    It gives up as soon as what certainly follows ends beyond the cutoff: the longest
    path behind a function that starts, or what a node has still to run, send or get.
    """
    (slack, turn, edge_at, missing, tail, by_rank, role, follower, seconds, sent,
     outbox, ready, held_back, when, what, free, to_run, to_send, to_get, outbox_at,
     outbox_n, ready_at, ready_n, seen, sending, receiving, head_to, is_touched,
     touched) = work  # fmt: skip
    n, m, r_count = len(node), len(kind), need.shape[1]
    limit = cutoff * DOUBT
    lay_out(rank, node, span, pred_ptr, succ_ptr, succ_of, succ_mb, latency, slow,
            missing, tail, by_rank, role, follower, seconds, sent, to_run, to_send,
            to_get, outbox_at, outbox_n, ready_at, ready_n, seen)  # fmt: skip
    for j in range(m):
        slots = room[kind[j], 0]
        if to_run[j] > limit * slots or to_send[j] > limit or to_get[j] > limit:
            return np.inf
        for r in range(r_count):
            free[j, r] = room[kind[j], r] * (1.0 + TOLERANCE)
        sending[j] = head_to[j] = -1
        receiving[j] = is_touched[j] = False
    touched_n = events = 0
    for i in range(n):
        if missing[i] == 0:
            j = node[i]
            push(ready, ready_at[j], ready_n[j], rank[i])
            ready_n[j] += 1
            touched_n = touch(j, is_touched, touched, touched_n)
    left, now = n, 0.0
    stirred = False  # whether a transfer may be able to start
    while left > 0:
        # Nodes start what they can.
        for k in range(touched_n):
            j = touched[k]
            is_touched[j] = False
            slots, skipped = room[kind[j], 0], 0
            while ready_n[j] > 0 and free[j, 0] >= 1.0:
                key = pop(ready, ready_at[j], ready_n[j])
                ready_n[j] -= 1
                i = by_rank[key]
                if slots == 1.0:  # the node is empty, so it fits
                    free[j, 0] = 0.0
                elif has_room(need, free, slack, cls[i], j):
                    for r in range(r_count):
                        free[j, r] -= need[cls[i], r]
                else:
                    held_back[skipped] = key
                    skipped += 1
                    continue
                rest = limit - now
                if tail[i] > rest or to_run[j] > rest * slots:
                    return np.inf
                to_run[j] -= span[i]
                start[i] = now
                end[i] = now + span[i]
                post(when, what, events, end[i], i)
                events += 1
            for s in range(skipped):
                push(ready, ready_at[j], ready_n[j], held_back[s])
                ready_n[j] += 1
        touched_n = 0

        # Idle ports are matched, senders in the order of the nodes.
        if stirred:
            stirred = False
            for a in range(m):
                b = head_to[a]
                if b < 0 or receiving[b]:
                    continue
                e = edge_at[pop(outbox, outbox_at[a], outbox_n[a]) & TURN]
                outbox_n[a] -= 1
                if to_send[a] > limit - now or to_get[b] > limit - now:
                    return np.inf
                to_send[a] -= seconds[e]
                to_get[b] -= seconds[e]
                sending[a] = e
                receiving[b] = True
                head_to[a] = -1
                post(when, what, events, now + seconds[e], n + a)
                events += 1

        # All that happens at the next instant.
        if events == 0:
            return np.inf  # what is left fits nowhere
        now = when[0]
        if now > cutoff:
            return np.inf
        while events > 0 and when[0] <= now:
            u = what[0]
            drop(when, what, events)
            events -= 1
            if u >= n:  # node a has sent
                a = u - n
                e, sending[a] = sending[a], -1
                j = node[succ_of[e]]
                receiving[j] = False
                stirred = True
                if outbox_n[a] > 0:
                    first = edge_at[outbox[outbox_at[a]] & TURN]
                    head_to[a] = node[succ_of[first]]
                while e >= 0:
                    v = succ_of[e]
                    missing[v] -= 1
                    if missing[v] == 0:
                        push(ready, ready_at[j], ready_n[j], rank[v])
                        ready_n[j] += 1
                        touched_n = touch(j, is_touched, touched, touched_n)
                    e = follower[e]
                continue
            left -= 1
            a = node[u]
            if room[kind[a], 0] == 1.0:
                free[a, 0] = 1.0
            else:
                for r in range(r_count):
                    free[a, r] += need[cls[u], r]
            touched_n = touch(a, is_touched, touched, touched_n)
            for e in range(succ_ptr[u], succ_ptr[u + 1]):
                v = succ_of[e]
                if role[e] == LOCAL:
                    missing[v] -= 1
                    if missing[v] == 0:
                        push(ready, ready_at[a], ready_n[a], rank[v])
                        ready_n[a] += 1
                elif role[e] == LEADER:
                    key = (sent[e] << TURN_BITS) | turn[e]
                    if sending[a] < 0:
                        stirred = True
                        if outbox_n[a] == 0 or key < outbox[outbox_at[a]]:
                            head_to[a] = node[v]
                    push(outbox, outbox_at[a], outbox_n[a], key)
                    outbox_n[a] += 1
    return now


def workspace(position: Any, succ_ptr: Any, need: Any, room: Any,
              kind: Any) -> tuple[Any, ...]:  # fmt: skip
    """What `play` writes on, and what it has to know of a problem beforehand.

    Parameters
    ----------
    position : (n,) int
        Of each function, distinct (``problem.graph.links().position``): of two results
        with one first reader, that of the earlier is sent first.
    succ_ptr, need, room, kind : arrays
        As for `play`.
    """
    n, m = len(position), len(kind)
    degree = np.diff(succ_ptr)
    e = int(degree.sum())
    order = np.argsort(position, kind="stable")
    first = np.zeros(n, dtype=np.int64)  # the turn of the first edge of each function
    first[order] = np.cumsum(degree[order]) - degree[order]
    turn = np.arange(e) + np.repeat(first - succ_ptr[:-1], degree)
    finite = np.where(np.isfinite(room), room, 0.0)
    slack = 1e-15 * np.maximum(finite, 1.0).max(axis=0, initial=1.0)

    def some(dtype: str, *sizes: int) -> list[np.ndarray]:
        return [np.zeros(size, dtype) for size in sizes]

    return (
        slack, turn, np.argsort(turn),
        *some("q", n), *some("d", n), *some("q", n),  # missing, tail, by_rank
        *some("q", e, e), *some("d", e), *some("q", e),  # role ... sent
        *some("q", e, n, n),  # outbox, ready, held_back
        *some("d", n + m), *some("q", n + m),  # when, what
        np.zeros((m, need.shape[1])), *some("d", m, m, m),  # free, to_run ... to_get
        *some("q", m, m, m, m, m),  # outbox_at ... seen
        *some("q", m), *some("?", m), *some("q", m),  # sending, receiving, head_to
        *some("?", m), *some("q", m),  # is_touched, touched
    )  # fmt: skip


HELPERS = (push, pop, post, drop, touch, has_room, lay_out)


@lru_cache(maxsize=1)
def compiled() -> Callable[..., Any]:
    """`play` compiled; the first call ever takes some seconds."""
    return compile_kernel(play, HELPERS)


def is_compiled() -> bool:
    """Whether `compiled` has been called."""
    return compiled.cache_info().currsize > 0

"""Local search over orders and placements by simulated annealing: one kernel.

Plain Python over numpy arrays, run as it is or compiled by numba, with the same result:
the random numbers are its own. A move changes where some functions run, or the place of
one in the order; the decoder tells what it is worth. Knows only arrays.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from handout_dask.allocators.decoder import arrival, decode

# Chances of moves, found on 12 workflow traces with 4 sets of nodes each.
CRITICAL = 0.8  # to begin with a function of the critical path, not with any
SEVERAL = 0.3  # to move several related functions at once,
TOGETHER = 0.5  # ... all to one node, instead of each to where it ends first,
MOST = 6  # ... at most so many,
MANY, RARELY = 36, 0.1  # ... or so many; how often that is
AVOID = 0.2  # ... away from the node of the first
SWAP = 0.3  # to exchange the nodes of two functions
ANYWHERE, NEARBY = 0.4, 0.3  # to move one to any node; to that of a neighbour; else
BEFORE = 0.5  # ... ahead of the one that runs before it; else within the order
ON_TIME = 0.8  # to put a moved one in the order by when its inputs come, not anywhere

EXACT = True  # whether `decode` gives the same for an order after sorting it by starts


PICKED = np.dtype([("function", "i8"), ("node", "i8"), ("option", "i8")], align=True)


class Search(NamedTuple):
    """The state of a search; all are arrays that the kernel changes."""

    order: Any  # (n + h,) the current schedule
    rows: Any  # (n + h,) ROW
    trial_order: Any  # equal to the current one between moves
    trial_rows: Any
    best_order: Any
    best_rows: Any  # the times are not kept
    path: Any  # (n + h,) functions of a critical path
    picked: Any  # (n + h,) PICKED: functions that a move places, and where they were
    taste: Any  # (4,) of those that choose
    values: Any  # (2,) current and best value; inf while no limit is kept
    random: Any  # (1,) int, state of the random numbers


def draw(random: Any) -> Any:
    """A random number above 0 and below 1."""
    # Park, Miller: CACM 31(10), 1988, doi:10.1145/63039.63042, with the factor 48271
    random[0] = random[0] * 48271 % 2147483647
    return random[0] / 2147483647.0


def draw_excess(random: Any) -> Any:
    """A random number of nearly exponential distribution, mean 1.

    Without a logarithm, whose last bit may differ between Python and compiled code.
    """
    root = np.sqrt(np.sqrt(draw(random)))
    return 8.0 * (1.0 - root) / (1.0 + root)


def below(random: Any, count: Any) -> Any:
    """A random whole number from 0 to count - 1."""
    return int(draw(random) * count)


def sort_by_start(p: Any, order: Any, rows: Any) -> None:
    """Put the order right after a move; equal starts keep theirs."""
    for position in range(p.fixed + 1, len(order)):
        i = order[position]
        start = rows[i]["start"]
        q = position - 1
        while q >= p.fixed and rows[order[q]]["start"] > start:
            order[q + 1] = order[q]
            q -= 1
        order[q + 1] = i
    for position in range(len(order)):
        p.functions[order[position]]["place"] = position


def trace(p: Any, order: Any, rows: Any, path: Any, random: Any) -> Any:
    """Find a critical path of the current schedule; returns its length.

    From the function that ends last backwards, each time to what bound its start: the
    input that came last, or the function whose end made room on its node.
    """
    functions, nodes = p.functions, p.nodes
    last = order[p.fixed]
    for j in range(len(nodes)):
        nodes[j]["busy"] = -1  # the function seen last
    for position in range(p.fixed, len(order)):
        i = order[position]
        if rows[i]["end"] > rows[last]["end"]:
            last = i
        j = rows[i]["node"]
        functions[i]["before"] = nodes[j]["busy"]
        nodes[j]["busy"] = i
    length = 0
    i = last
    while i >= 0 and functions[i]["place"] >= p.fixed:
        path[length] = i
        length += 1
        bound, binding, ties = 0.0, -1, 0
        j = rows[i]["node"]
        for e in range(functions[i]["pred"], functions[i + 1]["pred"]):
            u = p.preds[e]["of"]
            at = rows[u]["end"]
            a = rows[u]["node"]
            if a != j:
                at += p.links[a, j]["latency"]
                at += p.preds[e]["mb"] * p.links[a, j]["slow"]
            if at >= bound:
                ties = ties + 1 if at == bound else 1
                if draw(random) * ties < 1.0:
                    binding = u
                bound = at
        u = functions[i]["before"]
        for _ in range(1 if nodes[j]["single"] else 16):
            if u < 0:
                break
            if bound <= rows[u]["end"] <= rows[i]["start"]:
                ties = ties + 1 if rows[u]["end"] == bound else 1
                if draw(random) * ties < 1.0:
                    binding = u
                bound = rows[u]["end"]
            u = functions[u]["before"]
        i = binding
    return length


def pick(p: Any, rows: Any, picked: Any, count: Any, i: Any) -> Any:
    """Add function i, with all that must share its node, to what the move places."""
    f = p.functions
    if f[i]["pinned"] or f[i]["place"] < p.fixed:
        return count
    g = f[i]["group"]
    for q in range(p.members.shape[1] if g >= 0 else 1):
        u = p.members[g, q] if g >= 0 else i
        if u >= 0 and not f[u]["free"]:
            f[u]["free"] = 1
            picked[count]["function"] = u
            picked[count]["node"] = rows[u]["node"]
            picked[count]["option"] = rows[u]["option"]
            count += 1
    return count


def put(
    p: Any, rows: Any, picked: Any, begin: Any, end: Any, j: Any, random: Any
) -> Any:
    """Place what was picked from `begin` to `end` on node j; whether all can run."""
    k = p.nodes[j]["kind"]
    for q in range(begin, end):
        i = picked[q]["function"]
        best = -1
        for o in range(p.functions[i]["option"], p.functions[i + 1]["option"]):
            if p.span[o, k] < np.inf and (
                best < 0 or (p.span[o, k] < p.span[best, k]) == (draw(random) < 0.75)
            ):
                best = o
        if best < 0:
            return False
        rows[i]["node"], rows[i]["option"] = j, best
    return True


def neighbour(p: Any, v: Any, random: Any) -> Any:
    """Any function that v reads, or that reads v; -1 if there is none."""
    first, succ = p.functions[v]["pred"], p.functions[v]["succ"]
    before = p.functions[v + 1]["pred"] - first
    after = p.functions[v + 1]["succ"] - succ
    if before + after == 0:
        return -1
    e = below(random, before + after)
    if e < before:
        return p.preds[first + e]["of"]
    return p.succs[succ + e - before]


def pick_several(
    p: Any, order: Any, rows: Any, picked: Any, v: Any, random: Any
) -> Any:
    """Pick functions around v: near in the order, or in the graph."""
    f = p.functions
    size = 1 + below(random, MANY if draw(random) < RARELY else MOST)
    chance = draw(random)
    count = pick(p, rows, picked, 0, v)
    if chance < 0.33:
        begin = max(p.fixed, f[v]["place"] - size // 2)
        for position in range(begin, min(begin + size, len(order))):
            count = pick(p, rows, picked, count, order[position])
    elif chance < 0.66:
        for e in range(f[v]["pred"], f[v + 1]["pred"]):
            if count < size and draw(random) < 0.7:
                count = pick(p, rows, picked, count, p.preds[e]["of"])
        for e in range(f[v]["succ"], f[v + 1]["succ"]):
            if count < size and draw(random) < 0.7:
                count = pick(p, rows, picked, count, p.succs[e])
    else:
        for _ in range(size - 1):
            v = neighbour(p, v, random)
            if v < 0:
                break
            count = pick(p, rows, picked, count, v)
    return count


def move_one(
    p: Any, order: Any, rows: Any, trial: Any, picked: Any, v: Any, random: Any
) -> Any:
    """Place v on another node, or elsewhere in the order.

    Returns how many are picked and v's new place in the order; that is -1 if there is
    nothing to do.
    """
    f = p.functions
    at = f[v]["place"]
    low, high = p.fixed, len(order) - 1
    for e in range(f[v]["pred"], f[v + 1]["pred"]):
        low = max(low, f[p.preds[e]["of"]]["place"] + 1)
    for e in range(f[v]["succ"], f[v + 1]["succ"]):
        high = min(high, f[p.succs[e]]["place"] - 1)
    j = rows[v]["node"]
    chance = 1.0 if f[v]["pinned"] else draw(random)
    if chance < ANYWHERE:
        j = below(random, len(p.nodes))
    elif chance < ANYWHERE + NEARBY:
        u = neighbour(p, v, random)
        if u >= 0:
            j = rows[u]["node"]
    if j == rows[v]["node"]:
        to = low + below(random, high - low + 1)
        u = f[v]["before"]
        if u >= 0 and f[u]["place"] >= low and draw(random) < BEFORE:
            to = f[u]["place"]
        return 0, to if to != at else -1
    count = pick(p, rows, picked, 0, v)
    if not put(p, trial, picked, 0, count, j, random):
        return count, -1
    if draw(random) >= ON_TIME:
        return count, low + below(random, high - low + 1)
    ready = arrival(p, rows, v, j)
    left, right = low, high + 1
    while left < right:  # the first that starts when v could, or later
        middle = (left + right) // 2
        if rows[order[middle]]["start"] < ready:
            left = middle + 1
        else:
            right = middle
    return count, min(left - 1 if left > at else left, high)


def swap(
    p: Any, order: Any, rows: Any, trial: Any, picked: Any, v: Any, random: Any
) -> Any:
    """Exchange the nodes of v and another; how many are picked, and whether it can."""
    f = p.functions
    total = len(order) - p.fixed
    if draw(random) < 0.5:
        position = below(random, total)
    else:
        reach = 2 * len(p.nodes)
        position = f[v]["place"] - p.fixed + below(random, 2 * reach + 1) - reach
        position = min(max(position, 0), total - 1)
    u = order[p.fixed + position]
    a, b = rows[v]["node"], rows[u]["node"]
    if a == b or f[v]["pinned"] or f[u]["pinned"]:
        return 0, False
    middle = pick(p, rows, picked, 0, v)
    count = pick(p, rows, picked, middle, u)
    possible = put(p, trial, picked, 0, middle, b, random)
    return count, possible and put(p, trial, picked, middle, count, a, random)


def shift(order: Any, to: Any, at: Any, i: Any) -> None:
    """Move function i in the order from position `at` to position `to`."""
    for q in range(at, to, -1):
        order[q] = order[q - 1]
    for q in range(at, to):
        order[q] = order[q + 1]
    order[to] = i


def anneal(p: Any, aim: Any, x: Any, moves: Any, heat: Any) -> Any:
    """Try so many moves, or time the current schedule: value, makespan and money of it.

    Parameters
    ----------
    p, aim, x : Instance, Aim, Search
        `x` goes from state to state.
    moves : int
        How many. With -1 the current schedule is timed by its order instead (which is
        here, and not a kernel of its own, since each takes seconds to compile).
    heat : float
        What a move may worsen the value by in the mean.
    """
    functions, nodes = p.functions, p.nodes
    order, rows, trial_order, trial = x.order, x.rows, x.trial_order, x.trial_rows
    picked, path, random = x.picked, x.path, x.random
    if moves < 0:
        return decode(p, aim, order, rows, 0, x.taste, np.inf)
    total = len(order) - p.fixed
    length = trace(p, order, rows, path, random)
    for _ in range(moves):
        if draw(random) < CRITICAL and length > 0:
            v = path[below(random, length)]
        else:
            v = order[p.fixed + below(random, total)]
        at = to = functions[v]["place"]
        possible, chosen = True, False
        chance = draw(random)
        if chance < SEVERAL:
            count = pick_several(p, order, rows, picked, v, random)
            possible = count > 0
            chosen = possible and draw(random) >= TOGETHER
            if possible and not chosen:
                j = below(random, len(nodes))
                if draw(random) < 0.5:
                    j = rows[picked[below(random, count)]["function"]]["node"]
                possible = put(p, trial, picked, 0, count, j, random)
        elif chance < SEVERAL + (1.0 - SEVERAL) * SWAP:
            count, possible = swap(p, order, rows, trial, picked, v, random)
        else:
            count, to = move_one(p, order, rows, trial, picked, v, random)
            possible = to >= 0
        value = limit = makespan = money = np.inf
        begin = len(order)
        if possible:
            limit = x.values[0] + heat * draw_excess(random)
            if to != at:
                begin = min(at, to)
                shift(trial_order, to, at, v)
            for q in range(count):
                i = picked[q]["function"]
                begin = min(begin, functions[i]["place"])
                functions[i]["free"] = chosen and functions[i]["group"] < 0
            if not EXACT or aim.held:
                begin = 0  # all times may change
            avoided = rows[v]["node"]
            if chosen:
                nodes[avoided]["shut"] = draw(random) < AVOID
            value, makespan, money = decode(
                p, aim, trial_order, trial, begin, x.taste, limit
            )
            nodes[avoided]["shut"] = 0
        for q in range(count):
            functions[picked[q]["function"]]["free"] = 0
        if value < np.inf and value <= limit:
            for q in range(begin, len(order)):
                i = trial_order[q]
                order[q] = i
                rows[i]["node"] = trial[i]["node"]
                rows[i]["option"] = trial[i]["option"]
                rows[i]["start"], rows[i]["end"] = trial[i]["start"], trial[i]["end"]
            sort_by_start(p, order, rows)
            if not EXACT:
                value, makespan, money = decode(p, aim, order, rows, 0, x.taste, np.inf)
            for q in range(
                len(order)
            ):  # in loops, since slices take seconds to compile
                i = order[q]
                trial_order[q] = i
                if not EXACT:
                    trial[i]["start"] = rows[i]["start"]
                    trial[i]["end"] = rows[i]["end"]
            x.values[0] = value
            if value < x.values[1] and makespan <= aim.deadline and money <= aim.budget:
                x.values[1] = value
                for q in range(len(order)):
                    i = order[q]
                    x.best_order[q] = i
                    x.best_rows[i]["node"] = rows[i]["node"]
                    x.best_rows[i]["option"] = rows[i]["option"]
            length = trace(p, order, rows, path, random)
            continue
        for q in range(count):
            i = picked[q]["function"]
            trial[i]["node"] = picked[q]["node"]
            trial[i]["option"] = picked[q]["option"]
        if possible:
            for q in range(begin, len(order)):
                i = order[q]
                trial_order[q] = i
                trial[i]["start"], trial[i]["end"] = rows[i]["start"], rows[i]["end"]
    return x.values[0], np.inf, np.inf  # the latter for the type

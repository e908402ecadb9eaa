"""From an order and placements to times: the decoder that the search calls.

Plain Python over numpy arrays, run as it is or compiled by numba, with the same result.
Functions start in the order of the list on each node, so a list that is sorted by the
starts of a schedule gives that schedule back, or a shorter one. Knows only tables.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

# Tables instead of many arrays: numba copies what a tuple holds at every call.
FUNCTION = np.dtype(
    [
        ("pred", "i8"),  # its first row among the preds; the next one's is its end
        ("succ", "i8"),
        ("option", "i8"),
        ("tail", "f8"),  # [s] at least, from its end to that of the graph
        ("pinned", "i8"),
        ("group", "i8"),  # -1 is none
        ("home", "i8"),  # the node that its inputs are sent to already, or -1
        # what a search notes of it
        ("place", "i8"),  # in the current order
        ("before", "i8"),  # the function ahead of it on its node, or -1
        ("free", "i8"),  # whether it chooses its node itself
        ("latest", "f8"),  # [s] when it can end, so that those behind it can stay
    ],
    align=True,
)
NODE = np.dtype(
    [
        ("kind", "i8"),
        ("single", "i8"),  # one slot, and nothing is held there
        ("price", "f8"),  # per s
        ("shut", "i8"),  # whether functions that choose don't look at it
        # what a decoding notes of it
        ("last", "f8"),  # the last start; with a single slot the last end
        ("busy", "i8"),  # how many functions in `running` may run
        ("first", "f8"),  # first and last use
        ("final", "f8"),
    ],
    align=True,
)
ROW = np.dtype(
    [("node", "i8"), ("option", "i8"), ("start", "f8"), ("end", "f8")], align=True
)
SCOLD = 1000.0  # seconds that free functions give for one beyond their deadline
PRED = np.dtype([("of", "i8"), ("mb", "f8")], align=True)
LINK = np.dtype([("latency", "f8"), ("slow", "f8")], align=True)  # [s], [s/MB]


class Instance(NamedTuple):
    """A problem as the search sees it; n functions, m nodes, k kinds, o options.

    What is held on nodes comes as h functions of its own behind the n of the problem.
    """

    size: int  # n
    fixed: int  # so many at the front of every order have begun, or are held
    now: float  # [s] before which nothing else starts
    least_money: float  # no placement costs less
    functions: Any  # (n + h + 1,) FUNCTION
    nodes: Any  # (m,) NODE
    preds: Any  # (e,) PRED
    succs: Any  # (e,) functions
    links: Any  # (m, m) LINK
    option_class: Any  # (o + h,)
    span: Any  # (o + h, k) [s], inf where it can't run
    need: Any  # (c + h, r)
    room: Any  # (k, r), with tolerance
    running: Any  # (m, q) functions, of which some have ended
    members: Any  # (g, q) functions that share a node; -1 is none
    ports: Any  # what the one-port decoder works on, or ()


class Aim(NamedTuple):
    """What is minimised: weights of makespan, money and MB moved, within limits."""

    time: float  # per s
    money: float
    moved: float  # per MB
    deadline: float  # [s]; each second beyond costs `late`
    late: float
    budget: float  # each unit of money beyond costs `over`
    over: float
    held: bool  # whether nodes are paid from first to last use
    quantum: float  # [s] to which such a hold is rounded up


class Schedule(NamedTuple):
    """Functions in order of their starts, and where and when each runs."""

    order: Any  # (n + h,)
    rows: Any  # (n + h,) ROW


def value_of(aim: Any, makespan: Any, money: Any, moved: Any) -> Any:
    """What is minimised."""
    value = aim.time * makespan + aim.money * money + aim.moved * moved
    if makespan > aim.deadline:
        value += aim.late * (makespan - aim.deadline)
    if money > aim.budget:
        value += aim.over * (money - aim.budget)
    return value


def latest_end(aim: Any, limit: Any, least_money: Any) -> Any:
    """The makespan from which on the value is above the limit, whatever else."""
    left = limit - aim.money * least_money
    if aim.late > 0.0 and left >= aim.time * aim.deadline:
        return (left + aim.late * aim.deadline) / (aim.time + aim.late)
    if aim.time > 0.0:
        return left / aim.time
    return aim.deadline if aim.late > 0.0 else np.inf


def earliest(p: Any, rows: Any, j: Any, c: Any, ready: Any) -> Any:
    """When a function of class c that is ready can start on node j, after the others.

    inf if what is held there does not end.
    """
    t = max(ready, p.nodes[j]["last"])
    k = p.nodes[j]["kind"]
    busy = p.nodes[j]["busy"]
    while True:
        fits = True
        for r in range(p.need.shape[1]):
            need = p.need[c, r]
            if need > 0.0:
                left = p.room[k, r]
                for q in range(busy):
                    i = p.running[j, q]
                    if rows[i]["end"] > t:
                        left -= p.need[p.option_class[rows[i]["option"]], r]
                if need > left:
                    fits = False
                    break
        if fits:
            return t
        after = np.inf
        for q in range(busy):
            end = rows[p.running[j, q]]["end"]
            if t < end < after:
                after = end
        if after == np.inf:
            return np.inf
        t = after


def arrival(p: Any, rows: Any, i: Any, j: Any) -> Any:
    """When all inputs of function i are on node j."""
    ready = p.now
    for e in range(p.functions[i]["pred"], p.functions[i + 1]["pred"]):
        u = p.preds[e]["of"]
        at = rows[u]["end"]
        a = rows[u]["node"]
        if a != j:
            if at < p.now and p.functions[i]["home"] != j:
                at = p.now  # it would be sent only now
            at += p.links[a, j]["latency"] + p.preds[e]["mb"] * p.links[a, j]["slow"]
        if at > ready:
            ready = at
    return ready


def choose(p: Any, rows: Any, taste: Any, i: Any) -> Any:
    """Place function i where it ends first, with a taste for other things too."""
    best = np.inf
    best_node, best_option = rows[i]["node"], rows[i]["option"]
    for j in range(len(p.nodes)):
        if p.nodes[j]["shut"]:
            continue
        ready = -1.0
        for o in range(p.functions[i]["option"], p.functions[i + 1]["option"]):
            span = p.span[o, p.nodes[j]["kind"]]
            if span == np.inf:
                continue
            if ready < 0.0:
                ready = arrival(p, rows, i, j)
            if span == 0.0:
                start = ready  # it takes no room
            elif p.nodes[j]["single"]:
                start = max(ready, p.nodes[j]["last"])
            else:
                start = earliest(p, rows, j, p.option_class[o], ready)
            score = start + span + taste[0] * span * p.nodes[j]["price"]
            if taste[1] > 0.0:
                for e in range(p.functions[i]["pred"], p.functions[i + 1]["pred"]):
                    if rows[p.preds[e]["of"]]["node"] != j:
                        score += taste[1] * p.preds[e]["mb"]
            if taste[2] > 0.0:
                late = start + span + taste[2] * p.functions[i]["tail"] - taste[3]
                score += SCOLD * max(late, 0.0)
            if score < best:
                best, best_node, best_option = score, j, o
    rows[i]["node"], rows[i]["option"] = best_node, best_option


def decode(
    p: Any, aim: Any, order: Any, rows: Any, begin: Any, taste: Any, limit: Any
) -> Any:
    """Time the functions from position `begin` on; returns value, makespan, money.

    Parameters
    ----------
    p, aim : Instance, Aim
        Functions that are free choose their node; the others stay on theirs.
    order, rows
        Of a Schedule. Times before `begin` are right already.
    taste : (4,) float
        Seconds that free ones give for a unit of money, and for an MB that stays; and
        if the third is not 0, a deadline [s], the fourth, that each must leave so many
        times its tail before.
    limit : float
        Above this value give up, and return inf.
    """
    nodes = p.nodes
    for j in range(len(nodes)):
        nodes[j]["last"] = p.now
        nodes[j]["busy"] = 0
    cutoff = latest_end(aim, limit, p.least_money)
    makespan = 0.0
    begin = p.fixed if aim.held else max(begin, p.fixed)
    for position in range(len(order)):
        i = order[position]
        if position >= begin:
            if p.functions[i]["free"]:
                choose(p, rows, taste, i)
            j, o = rows[i]["node"], rows[i]["option"]
            start = arrival(p, rows, i, j)
            span = p.span[o, nodes[j]["kind"]]
            if span == 0.0:
                pass  # it takes no room
            elif nodes[j]["single"]:
                start = max(start, nodes[j]["last"])
            else:
                start = earliest(p, rows, j, p.option_class[o], start)
            end = start + span
            rows[i]["start"], rows[i]["end"] = start, end
            if end + p.functions[i]["tail"] > cutoff:
                return np.inf, np.inf, np.inf
        else:
            j = rows[i]["node"]
            start, end = rows[i]["start"], rows[i]["end"]
        if nodes[j]["single"]:
            if end > start:
                nodes[j]["last"] = max(nodes[j]["last"], end)
        elif end > start:
            occupy(p, rows, i, j, start if position >= p.fixed else p.now)
        if i < p.size:
            makespan = max(makespan, end)
    if aim.held:
        tighten(p, order, rows)
    return assess(p, aim, rows, makespan)


def assess(p: Any, aim: Any, rows: Any, makespan: Any) -> Any:
    """Value, makespan and money of what has been timed."""
    money = moved = 0.0
    nodes = p.nodes
    if aim.held:
        for j in range(len(nodes)):
            nodes[j]["first"], nodes[j]["final"] = np.inf, -np.inf
        for i in range(p.size):
            j = rows[i]["node"]
            nodes[j]["first"] = min(nodes[j]["first"], rows[i]["start"])
            nodes[j]["final"] = max(nodes[j]["final"], rows[i]["end"])
        for j in range(len(nodes)):
            hold = nodes[j]["final"] - nodes[j]["first"]
            if hold > 0.0:
                if aim.quantum > 0.0:
                    hold = np.ceil(hold / aim.quantum - 1e-9) * aim.quantum
                money += hold * nodes[j]["price"]
    elif aim.money > 0.0 or aim.budget < np.inf:
        for i in range(p.size):
            span = rows[i]["end"] - rows[i]["start"]
            money += span * nodes[rows[i]["node"]]["price"]
    if aim.moved > 0.0:
        for i in range(p.size):
            for e in range(p.functions[i]["pred"], p.functions[i + 1]["pred"]):
                if rows[p.preds[e]["of"]]["node"] != rows[i]["node"]:
                    moved += p.preds[e]["mb"]
    return value_of(aim, makespan, money, moved), makespan, money


def tighten(p: Any, order: Any, rows: Any) -> None:
    """Let functions on nodes of one slot start as late as all behind them allow.

    The last of each node stays, so that the time from first to last use shrinks.
    """
    functions, nodes = p.functions, p.nodes
    for j in range(len(nodes)):
        nodes[j]["first"] = np.inf
    for i in range(p.size):
        functions[i]["latest"] = np.inf
    for position in range(len(order) - 1, p.fixed - 1, -1):
        i = order[position]
        j = rows[i]["node"]
        if nodes[j]["single"] and rows[i]["end"] > rows[i]["start"]:
            if nodes[j]["first"] < np.inf:
                end = min(functions[i]["latest"], nodes[j]["first"])
                if end > rows[i]["end"]:
                    span = p.span[rows[i]["option"], nodes[j]["kind"]]
                    rows[i]["start"], rows[i]["end"] = end - span, end
            nodes[j]["first"] = rows[i]["start"]
        for e in range(functions[i]["pred"], functions[i + 1]["pred"]):
            u = p.preds[e]["of"]
            a = rows[u]["node"]
            at = rows[i]["start"]
            if a != j:
                at -= (
                    p.links[a, j]["latency"] + p.preds[e]["mb"] * p.links[a, j]["slow"]
                )
            functions[u]["latest"] = min(functions[u]["latest"], at)


def occupy(p: Any, rows: Any, i: Any, j: Any, start: Any) -> None:
    """Function i runs on node j, on which nothing else starts before it."""
    p.nodes[j]["last"] = start
    kept = 0
    for q in range(p.nodes[j]["busy"]):
        u = p.running[j, q]
        if rows[u]["end"] > start:
            p.running[j, kept] = u
            kept += 1
    if rows[i]["end"] > start:
        p.running[j, kept] = i
        kept += 1
    p.nodes[j]["busy"] = kept

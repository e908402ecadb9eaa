"""What tests of the search share: an independent check, and all plans of tiny problems.

Written from the spec alone: loops over functions and instants; knows no decoder.
"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import strategies as st

from handout_dask import Cluster, Function, Graph, Node, Problem
from handout_dask.problem import Held


def seconds(p, i, o, j):
    """Of alternative o of function i on node j; inf where it can't run."""
    row = p.option_ptr[i] + o
    rate = p.rate[p.option_class[row], p.kind[j]]
    return p.option_work[row] / rate if rate > 0 else math.inf


def arrival(p, node, end, i):
    """When the inputs of function i are on its node."""
    out = 0.0
    for e in range(p.pred_ptr[i], p.pred_ptr[i + 1]):
        u, a, b = p.pred_of[e], node[p.pred_of[e]], node[i]
        moving = 0.0
        if a != b:
            moving = p.cluster.latency[a, b] / 1e3
            moving += p.pred_mb[e] / p.cluster.bandwidth[a, b]
        out = max(out, end[u] + moving)
    return out


def check_slowly(made, begun=None, now=0.0):
    """Assert every rule of a plan, at every instant; what has begun is as it was."""
    p, n = made.problem, len(made.node)
    has = np.zeros(n, dtype=bool) if begun is None else begun.node >= 0
    eps = 1e-9 * (1 + made.makespan)
    busy = [[] for _ in p.nodes]  # (start, end, need, whether it was there before)
    for i in range(n):
        j, o = int(made.node[i]), int(made.option[i])
        start, end = made.start[i], made.end[i]
        assert 0 <= j < len(p.nodes)
        assert p.pin[i] in (-1, j)
        need = p.need[p.option_class[p.option_ptr[i] + o]]
        busy[j].append((start, end, need, bool(has[i])))
        if has[i]:
            kept = begun.node[i], begun.option[i], begun.start[i], begun.end[i]
            assert (j, o, start, end) == kept
            continue
        assert start >= now - eps
        assert abs(end - start - seconds(p, i, o, j)) <= eps
        assert start >= arrival(p, made.node, made.end, i) - eps
    for g in set(p.group[p.group >= 0].tolist()):
        assert len(set(made.node[p.group == g].tolist())) == 1
    for j, start, end, need in zip(*p.held_arrays, strict=True):
        busy[j].append((start, end, need, True))
    for j, rows in enumerate(busy):
        room = p.room[p.kind[j]]
        times = sorted({t for start, end, *_ in rows for t in (start, end)})
        for low, high in itertools.pairwise(times):
            if high - low <= 2 * eps or math.isinf(low):
                continue
            at = low + min((high - low) / 2, 1.0)
            runs = [row for row in rows if row[0] <= at < row[1]]
            level = sum((need for *_, need, _ in runs), np.zeros(len(room)))
            wanted = np.zeros(len(room), dtype=bool)
            for *_, need, there in runs:
                wanted |= (need > 0) & (not there)
            assert (level <= room * (1 + 1e-8) + 1e-8)[wanted].all()


def is_solvable(p):
    """Whether every function, with all that must be with it, can run on some node."""
    for i in range(len(p.functions)):
        mates = [i] if p.group[i] < 0 else np.flatnonzero(p.group == p.group[i])
        nodes = range(len(p.nodes))
        if not any(all(p.time(g, j) < math.inf for g in mates) for j in nodes):
            return False
    return True


def billed(made):
    """Money by the cluster's billing, from the spec."""
    p = made.problem
    money = 0.0
    for j, node in enumerate(p.nodes):
        mine = [i for i in range(len(made.node)) if made.node[i] == j]
        held = sum(made.end[i] - made.start[i] for i in mine)
        if p.cluster.billing == "held" and mine:
            held = max(made.end[i] for i in mine) - min(made.start[i] for i in mine)
            if p.cluster.quantum:
                held = math.ceil(held / p.cluster.quantum - 1e-9) * p.cluster.quantum
        money += held * node.price / 3600
    return money


def moved(made):
    """MB that cross between nodes."""
    p = made.problem
    return sum(
        p.pred_mb[e]
        for i in range(len(made.node))
        for e in range(p.pred_ptr[i], p.pred_ptr[i + 1])
        if made.node[p.pred_of[e]] != made.node[i]
    )


def all_plans(p):
    """(makespan, money, MB moved) of all that can't start earlier, on single slots."""
    n = len(p.functions)
    orders = [
        order
        for order in itertools.permutations(range(n))
        if all(order.index(u) < order.index(i) for i in range(n) for u in p.preds[i])
    ]
    rate = [node.price / 3600 for node in p.nodes]
    out = set()
    for node in itertools.product(range(len(p.nodes)), repeat=n):
        span = [seconds(p, i, 0, j) for i, j in enumerate(node)]
        if math.inf in span:
            continue
        money = sum(t * rate[j] for t, j in zip(span, node, strict=True))
        away = sum(
            p.size(u, i) for i in range(n) for u in p.preds[i] if node[u] != node[i]
        )
        for order in orders:
            end, last = [0.0] * n, [0.0] * len(p.nodes)
            for i in order:
                end[i] = max(arrival(p, node, end, i), last[node[i]]) + span[i]
                last[node[i]] = end[i]
            out.add((max(end), money, away))
    return out


@st.composite
def tiny(draw, zero=True):
    """At most 4 functions on at most 3 nodes of one slot, with prices and watts."""
    pick = st.sampled_from
    nodes = [
        Node(
            f"n{j}", {"ssd": True} if j == 0 or draw(pick([True, False])) else {},
            speed=draw(pick([0.5, 1, 1, 3])), price=draw(pick([1, 2, 5, 30])),
            watts=draw(pick([5, 50])),
        )
        for j in range(draw(st.integers(1, 3)))
    ]  # fmt: skip
    functions = []
    for i in range(draw(st.integers(1, 4))):
        reads = draw(st.lists(st.integers(0, i - 1), max_size=2)) if i else []
        cost = {
            "cpu_time": draw(pick([0, 1000, 2000, 3500] if zero else [1000, 3500])),
            "output_size": draw(pick([0, 5, 20])),
        }
        if draw(pick([False, False, True])):
            cost["ssd"] = True
        functions.append(Function(i, reads, cost=cost))
    links = {"bandwidth": draw(pick([5, 100])), "latency": draw(pick([0, 100]))}
    return Problem(Graph(draw(st.permutations(functions))), Cluster(nodes, **links))


@st.composite
def varied(draw, problems, networks=("free", "oneport"), begins=True):
    """A problem with other prices, billing and network; holds may begin later."""
    p = draw(problems)
    pick = st.sampled_from
    free = draw(pick([False, False, True]))
    nodes = [
        Node(
            node.name, node.capabilities, speed=node.speed, gpu_speed=node.gpu_speed,
            slots=node.slots, watts=draw(pick([0, 5, 90])),
            price=0 if free else draw(pick([0, 1, 2, 30])),
        )
        for node in p.nodes
    ]  # fmt: skip
    skew = np.subtract.outer(np.arange(len(nodes)), np.arange(len(nodes)))
    skew = 2.0 ** (skew % 3) if draw(st.booleans()) else 1.0  # there is not as back
    cluster = Cluster(
        nodes, p.cluster.bandwidth * skew, p.cluster.latency * skew,
        billing=draw(pick(["function", "held"])), quantum=draw(pick([0, 0.1, 60])),
    )  # fmt: skip
    held = [h for h in p.held if begins or h.start <= 0]
    if draw(pick([True, False, False])):  # everywhere, so that none can be avoided
        held += [Held(node.name, 0.0, draw(pick([0.5, 3])), {}) for node in nodes]
    return Problem(p.graph, cluster, held=held, network=draw(pick(networks)))


class Checks:
    """The functions of this file, as tests here can't import from each other."""

    arrival = staticmethod(arrival)
    check_slowly = staticmethod(check_slowly)
    is_solvable = staticmethod(is_solvable)
    billed = staticmethod(billed)
    moved = staticmethod(moved)
    all_plans = staticmethod(all_plans)
    tiny = staticmethod(tiny)
    varied = staticmethod(varied)


@pytest.fixture(scope="session")
def checks():
    """An independent check, and strategies."""
    return Checks

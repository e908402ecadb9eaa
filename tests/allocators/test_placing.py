"""Laws of placing: both paths and a slow reference agree, and what has begun stays."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handout_dask import (
    AllocationError,
    Cluster,
    Function,
    Graph,
    Node,
    Problem,
    UnsatisfiableError,
    check_plan,
)
from handout_dask.allocators import engine, kernel
from handout_dask.allocators.engine import (
    EARLIEST_END,
    EARLIEST_START,
    LEAST_LOAD,
    Begun,
    Weights,
    place,
    topological,
    upward_rank,
)
from handout_dask.problem import Held

PATHS = ["numpy", "compiled"]
MONEY = Weights(money=1)
WEIGHTS = [
    EARLIEST_END,
    EARLIEST_START,
    LEAST_LOAD,
    MONEY,
    Weights(moved=1),
    Weights(leftover=1),
    Weights(end=1, leftover=0.125),
    Weights(end=1, money=50, moved=0.01),
    Weights(end=0.5, start=1, money=1, moved=0.1, load=2, leftover=1),
]
some = settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)


def outcome(plan):
    return [x.tolist() for x in (plan.node, plan.option, plan.start, plan.end)]


# ------------------------------------------- the rule once more, slowly, by definition
class Reference:
    """Places like the engine: every function looks at every node and every time."""

    def __init__(self, p, weights, price, bias, in_order, begun, now, assigned):
        self.p, self.a, self.w, self.now = p, engine.arrays(p, assigned), weights, now
        self.bias, self.in_order = bias, in_order
        self.price = [x.price / 3600 for x in p.nodes] if price is None else price
        self.taken = [[] for _ in p.nodes]  # (start, end, need)
        self.load = [0.0] * len(p.nodes)
        self.floor = [now] * len(p.nodes)
        self.at = {}  # i: (node, option, start, end)
        a = self.a
        for j, start, end, need in zip(*p.held_arrays, strict=True):
            self.taken[j].append((start, end, need))
            self.load[j] += min(end - start, 1e30) / self.room(j)[0]
        if begun is not None:
            for i in np.flatnonzero(begun.node >= 0):
                self.settle(
                    i, int(begun.node[i]), int(begun.option[i]), begun.start[i],
                    begun.end[i],
                )  # fmt: skip
        self.options = [
            range(a.option_ptr[i], a.option_ptr[i + 1]) for i in range(self.n)
        ]

    @property
    def n(self):
        return len(self.p.functions)

    def room(self, j):
        return self.a.room[self.a.kind[j]]

    def settle(self, i, j, option, start, end):
        self.at[i] = j, option, float(start), float(end)
        c = self.a.option_class[self.a.option_ptr[i] + option]
        if end > start:
            self.taken[j].append((start, end, self.a.need[c]))
        self.load[j] += (end - start) / self.room(j)[0]
        if self.in_order:
            self.floor[j] = max(self.floor[j], start)

    def preds(self, i):
        lo, hi = self.a.pred_ptr[i], self.a.pred_ptr[i + 1]
        return list(zip(self.a.pred_of[lo:hi], self.a.pred_mb[lo:hi], strict=True))

    def left(self, j, t):
        level = self.room(j).copy()
        for start, end, need in self.taken[j]:
            if start <= t < end:
                level -= np.where(need > 0, need, 0)
        return level

    def earliest(self, j, ready, span, need):
        def fits(t):
            free, least = self.left(j, t), need - self.a.slack
            return all(least[r] <= free[r] for r in range(len(need)) if need[r] > 0)

        ends = {end for _, end, _ in self.taken[j] if end > ready}
        for t in sorted({ready, *ends}):
            if t == math.inf:
                return t
            begins = [s for s, _, _ in self.taken[j] if t < s < t + span]
            if all(fits(x) for x in (t, *begins)):
                return t
        raise AssertionError

    def rate(self, o, j):
        return self.a.rate[self.a.option_class[o], self.a.kind[j]]

    def allowed(self, i, j):
        if self.a.pin[i] not in (-1, j):
            return False
        if self.a.group[i] < 0:
            return True
        mates = np.flatnonzero(self.a.group == self.a.group[i])
        homes = {self.at[g][0] for g in mates if g in self.at}
        return homes <= {j} and (
            bool(homes)
            or all(any(self.rate(o, j) > 0 for o in self.options[g]) for g in mates)
        )

    def choices(self, i):
        """On how many nodes its alternative of most nodes can run, with its group."""
        if self.a.pin[i] != -1:
            return 1
        nodes = range(len(self.p.nodes))
        most = max(sum(self.rate(o, j) > 0 for j in nodes) for o in self.options[i])
        mates = np.flatnonzero(self.a.group == self.a.group[i])
        shared = [
            j
            for j in nodes
            if all(any(self.rate(o, j) > 0 for o in self.options[g]) for g in mates)
        ]
        return most if self.a.group[i] < 0 else min(most, len(shared))

    def choose(self, i):
        best = None
        by_end = self.w.end or self.w.money or self.w.moved or self.w.leftover
        for j in range(len(self.p.nodes)):
            if not self.allowed(i, j):
                continue
            ready, away = self.floor[j], 0.0
            for u, mb in self.preds(i):
                a, _, _, end = self.at[u]
                ready = max(
                    ready, end + (self.a.latency[a, j] + mb * self.a.slow[a, j])
                )
                away += mb if a != j else 0
            for o in self.options[i]:
                if self.rate(o, j) <= 0:
                    continue
                need = self.a.need[self.a.option_class[o]]
                span = self.a.option_work[o] / self.rate(o, j)
                start = self.earliest(j, ready, span, need)
                if start == math.inf:
                    continue
                end = start + span
                wait = 0 if self.bias is None else self.bias[i, j]
                w = self.w
                rest = w.money * (span * self.price[j]) + w.moved * away
                rest += w.load * self.load[j]
                score = (w.end * (end + wait) + w.start * start) + rest
                if w.leftover:
                    pairs = zip(self.left(j, start) - need, self.room(j), strict=True)
                    score += w.leftover * sum(
                        x / y for x, y in pairs if 0 < y < math.inf
                    )
                key = (score, end, j, o) if by_end else (score, j, end, o)
                if best is None or key < best[0]:
                    best = key, j, o - self.options[i][0], start, end
        return best

    def run(self, key):
        while len(self.at) < self.n:
            ready = [
                i
                for i in range(self.n)
                if i not in self.at and all(u in self.at for u, _ in self.preds(i))
            ]

            def when(i):
                return max([self.now, *(self.at[u][3] for u, _ in self.preds(i))])

            def turn(i):
                return (when(i), self.choices(i), i) if key is None else (key[i], i)

            i = min(ready, key=turn)
            best = self.choose(i)
            if best is None:
                return None
            self.settle(i, *best[1:])
        return [list(x) for x in zip(*(self.at[i] for i in range(self.n)), strict=True)]


def some_begun(data, p):
    """What has begun at a moment of a plan, some of it late; and that moment."""
    plan = place(p, key=-upward_rank(p), path="numpy")
    now = data.draw(st.sampled_from([0.0, *plan.start.tolist(), *plan.end.tolist()]))
    late = data.draw(st.sampled_from([0.0, 0.0, 0.5]))
    has = plan.start < now
    end = np.where(has & (plan.end >= now), plan.end + late, plan.end)
    node = np.where(has, plan.node, -1)
    return plan, Begun(node, plan.option, plan.start, end), now, late


@some
@given(data=st.data())
def test_both_paths_and_the_reference_make_the_same_plan(problems, data):
    p = data.draw(problems)
    n, m = len(p.functions), len(p.nodes)
    draw = data.draw
    try:
        p.require_feasible()
        begun, now = None, draw(st.sampled_from([0.0, 0.02]))
        if n and draw(st.booleans()):
            _, begun, now, _ = some_begun(data, p)
    except (UnsatisfiableError, AllocationError):
        return
    if not n:
        return
    weights = draw(st.sampled_from(WEIGHTS))
    key = draw(st.none() | st.permutations(range(n)).map(np.array))
    ints = st.lists(st.integers(0, 3), min_size=n * m, max_size=n * m)
    bias = draw(st.none() | ints.map(lambda x: np.array(x, float).reshape(n, m) / 100))
    price = draw(st.none() | st.just(np.arange(m)[::-1] / 8))
    in_order = draw(st.booleans())
    args = {"key": key, "weights": weights, "price": price, "bias": bias}
    args |= {"in_order": in_order, "begun": begun, "now": now}
    expected = Reference(p, weights, price, bias, in_order, begun, now, None).run(key)
    for path in PATHS:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if expected is None:
                with pytest.raises(AllocationError, match="finds no room"):
                    place(p, path=path, **args)
                continue
            made = place(p, path=path, **args)
        assert outcome(made) == expected


@some
@given(data=st.data())
def test_what_has_begun_stays_and_the_rest_starts_now_or_later(problems, data):
    p = data.draw(problems)
    try:
        p.require_feasible()
        plan, begun, now, late = some_begun(data, p)
    except (UnsatisfiableError, AllocationError):
        return
    has = begun.node >= 0
    for path in PATHS:
        made = place(p, key=-upward_rank(p), begun=begun, now=now, path=path)
        for what in ("node", "option", "start", "end"):
            kept, given_ = getattr(made, what)[has], getattr(begun, what)[has]
            assert kept.tolist() == given_.tolist()
        assert (made.start[~has] >= now).all()
        if not late:  # late ones may overlap what began behind them
            check_plan(made, p)


def test_all_that_has_begun_is_a_plan_already():
    p = Problem(Graph([Function("a"), Function("b", ["a"])]), Cluster([Node("n0")]))
    plan = place(p)
    begun = Begun(plan.node, plan.option, plan.start, plan.end)
    for key in (None, np.zeros(2)):
        for path in PATHS:
            again = place(p, key=key, begun=begun, now=9.0, path=path)
            assert outcome(again) == outcome(plan)


def test_replanning_at_the_start_is_planning():
    functions = [
        Function(i, [i // 2] if i else [], cost={"cpu_time": 9}) for i in range(30)
    ]
    p = Problem(Graph(functions), Cluster([Node("a"), Node("b", speed=2)]))
    key = -upward_rank(p)
    none = Begun(np.full(30, -1), np.zeros(30), np.zeros(30), np.zeros(30))
    assert outcome(place(p, key=key, begun=none)) == outcome(place(p, key=key))


# ------------------------------------------------------------------------------ weights
def test_money_prefers_the_cheapest_node_and_of_equals_the_earlier_end():
    nodes = [Node("dear", price=9, speed=2), Node("x", price=1), Node("y", price=1)]
    p = Problem(
        Graph([Function(i, cost={"cpu_time": 1000}) for i in range(4)]), Cluster(nodes)
    )
    for path in PATHS:
        made = place(p, key=np.arange(4), weights=MONEY, path=path)
        assert made.node.tolist() == [1, 2, 1, 2]
        watts = np.array([0.0, 1.0, 1.0])
        made = place(p, key=np.arange(4), weights=MONEY, price=watts, path=path)
        assert made.node.tolist() == [0, 0, 0, 0]


def test_moved_keeps_a_function_with_its_inputs():
    functions = [
        Function("a", node="x", cost={"output_size": 5}),
        Function("b", ["a"], cost={"cpu_time": 1000}),
    ]
    nodes = [Node("fast", speed=100), Node("x")]
    p = Problem(Graph(functions), Cluster(nodes))
    for path in PATHS:
        made = place(p, weights=Weights(end=1, moved=1), path=path)
        assert made.node.tolist() == [1, 1]
        assert place(p, path=path).node.tolist() == [1, 0]


def test_leftover_takes_the_tightest_room():
    nodes = [Node("roomy", {"memory": 1000}), Node("tight", {"memory": 100})]
    p = Problem(Graph([Function("a", cost={"memory": 90})]), Cluster(nodes))
    for path in PATHS:
        assert place(p, weights=Weights(leftover=1), path=path).node.tolist() == [1]


def test_a_bias_is_seconds_added_to_the_end():
    p = Problem(Graph([Function("a")]), Cluster([Node("x"), Node("y", speed=0.5)]))
    for path in PATHS:
        for extra, node in [(0.9, 0), (1.1, 1)]:
            made = place(p, bias=np.array([[extra, 0.0]]), path=path)
            assert (made.node.tolist(), made.end.max()) == ([node], node + 1.0)


@pytest.mark.parametrize(
    "wrong", [{}, {"end": -1}, {"end": math.inf}, {"end": math.nan}]
)
def test_weights_that_make_no_score_are_refused(wrong):
    with pytest.raises(AllocationError, match="^Weights.*: weights are finite"):
        Weights(**wrong)


# ---------------------------------------------------------------------- order and rank
@some
@given(data=st.data())
def test_an_order_follows_the_key_as_far_as_predecessors_allow(problems, data):
    p = data.draw(problems)
    n = len(p.functions)
    key = np.array(
        data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)), float
    )
    left, expected = set(range(n)), []
    while left:
        ready = [i for i in left if not left & set(p.preds[i])]
        expected.append(min(ready, key=lambda i: (key[i], i)))
        left.remove(expected[-1])
    for path in PATHS:
        assert topological(p, key, path).tolist() == expected


@settings(deadline=None, max_examples=30)
@given(data=st.data())
@pytest.mark.parametrize("transfer", [True, False])
@pytest.mark.parametrize("by", ["mean", "best", "worst"])
def test_ranks_of_both_paths_are_the_longest_ways_to_the_end(
    problems, by, transfer, data
):
    p = data.draw(problems)
    if not p.functions:
        return
    m = len(p.nodes)
    pick = {"mean": lambda x: sum(x) / len(x), "best": min, "worst": max}[by]
    off = [(a, b) for a in range(m) for b in range(m) if a != b] if transfer else []
    a = engine.arrays(p)
    latency = np.mean([a.latency[x] for x in off]) if off else 0
    slow = np.mean([a.slow[x] for x in off]) if off else 0
    expected = np.zeros(len(p.functions))
    for i in reversed(range(len(p.functions))):
        times = []
        for o in range(a.option_ptr[i], a.option_ptr[i + 1]):
            rates = a.rate[a.option_class[o], a.kind]
            times += (
                [pick([a.option_work[o] / x for x in rates if x > 0])]
                if rates.any()
                else []
            )
        follows = [
            latency + p.size(i, v) * slow + expected[v]
            for v in range(len(p.functions))
            if i in p.preds[v]
        ]
        expected[i] = min(times, default=math.inf) + max(follows, default=0)
    one, two = (upward_rank(p, by, transfer, path) for path in PATHS)
    assert one.tolist() == two.tolist()
    assert one == pytest.approx(expected)


def test_a_rank_by_something_else_is_refused():
    p = Problem(Graph([Function("a")]), Cluster([Node("x")]))
    with pytest.raises(AllocationError, match="upward rank by 'median'"):
        upward_rank(p, "median")


# -------------------------------------------------------------------------------- paths
def test_small_problems_need_no_compiler_and_large_ones_get_it():
    assert kernel.functions(kernel.SMALL + 1)[:2] == kernel.compiled()[:2]
    assert kernel.functions(kernel.SMALL + 1, "numpy")[2] is not kernel.place
    with pytest.raises(AllocationError, match="path 'gpu'"):
        kernel.functions(1, "gpu")


@pytest.mark.parametrize("path", PATHS)
def test_many_segments_make_regions_grow(path):
    cost = [{"cpu_time": 1000 + 7 * i, "memory": 1 + i % 90} for i in range(900)]
    functions = [Function(i, cost=c) for i, c in enumerate(cost)]
    nodes = [Node("n0", {"memory": 100}, slots=3), Node("n1", {"memory": 100}, slots=2)]
    held = [Held("n0", 5.0 * k, 5.0 * k + 1, {"memory": 50}) for k in range(100)]
    p = Problem(Graph(functions), Cluster(nodes), held=held).require_feasible()
    made = place(p, key=-upward_rank(p), path=path)
    check_plan(made, p)
    assert made.end - made.start == pytest.approx([c["cpu_time"] / 1e3 for c in cost])
    if path == "compiled":
        assert outcome(made) == outcome(place(p, key=-upward_rank(p), path="numpy"))


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("seed", range(4))
def test_gaps_of_larger_problems_are_filled_as_by_the_reference(seed, weights):
    rng = np.random.default_rng(seed)
    functions = []
    for i in range(70):
        reads = rng.choice(np.arange(max(0, i - 12), i), min(i, 2), replace=False)
        cost = {
            "cpu_time": int(rng.integers(0, 9)) * 1000,
            "output_size": int(rng.integers(0, 900)),
            "memory": int(rng.choice([0, 30, 60])),
        }
        functions.append(Function(i, reads.tolist() if i % 4 else [], cost=cost))
    nodes = [
        Node(f"n{j}", {"memory": 100}, slots=1 + j % 2, speed=1 + j // 2, price=j)
        for j in range(4)
    ]
    p = Problem(Graph(functions), Cluster(nodes))
    key = -upward_rank(p)
    expected = Reference(p, weights, None, None, False, None, 0.0, None).run(key)
    for path in PATHS:
        assert outcome(place(p, key=key, weights=weights, path=path)) == expected

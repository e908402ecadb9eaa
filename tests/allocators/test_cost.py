"""Laws of `cost`: limits are met or refused, near the least money, and consistent."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from handout_dask import (
    AllocationError,
    Cluster,
    Function,
    Graph,
    Node,
    Problem,
    UnsatisfiableError,
    allocator,
    check_plan,
    plan,
)
from handout_dask.allocators.cost import Cost
from handout_dask.allocators.makespan import Time
from handout_dask.plans import allocate

QUICK = (Phase.explicit, Phase.reuse, Phase.generate)  # to shrink a plan takes minutes
some = settings(
    deadline=None,
    max_examples=25,
    phases=QUICK,
    suppress_health_check=list(HealthCheck),
)
few = settings(some, max_examples=12)
LOOSE = 1 + 1e-9
SECOND = {"cpu_time": 1000}


def rented(seed, n=30, network="free", **billing):
    """Fast nodes are dear; results take about as long to move as functions run."""
    rng = np.random.default_rng(seed)
    functions = []
    for i in range(n):
        reads = rng.choice(np.arange(max(0, i - 6), i), min(i, 2), replace=False)
        cost = {
            "cpu_time": int(rng.integers(1, 9)) * 1000,
            "output_size": int(rng.integers(0, 90)),
        }
        functions.append(Function(i, reads.tolist(), cost=cost))
    rates = [(1, 1), (1, 1.5), (2, 3), (4, 9)]
    nodes = [
        Node(f"n{j}", speed=speed, price=price, watts=100 - 20 * j)
        for j, (speed, price) in enumerate(rates)
    ]
    cluster = Cluster(nodes, bandwidth=50, **billing)
    return Problem(Graph(functions), cluster, network=network)


# -------------------------------------------------------------------------------- laws
@some
@given(data=st.data())
def test_a_deadline_is_met_or_refused(problems, checks, data):
    p = data.draw(checks.varied(problems))
    assume(checks.is_solvable(p))
    factor = data.draw(st.sampled_from([0.2, 0.999, 1.0, 1.3, 5.0]))
    fast = allocate(p, Time(iterations=40)).makespan
    assume(fast > 0)
    try:
        made = allocate(p, Cost(deadline=factor * fast, iterations=40))
    except UnsatisfiableError:
        assert factor <= 1.0
        return
    assert made.makespan <= factor * fast * LOOSE
    check_plan(made, p)
    checks.check_slowly(made)
    assert made.money == pytest.approx(checks.billed(made))


@some
@given(data=st.data())
def test_a_factor_of_the_fastest_can_always_be_kept(problems, checks, data):
    p = data.draw(checks.varied(problems))
    assume(checks.is_solvable(p))
    by = data.draw(st.sampled_from(["money", "energy"]))
    made = allocate(p, Cost(deadline="1x", iterations=40, by=by))
    checks.check_slowly(made)


@some
@given(data=st.data())
def test_a_budget_is_kept_or_refused(problems, checks, data):
    p = data.draw(checks.varied(problems))
    assume(checks.is_solvable(p))
    cheap = allocate(p, Cost(iterations=40))
    assume(cheap.money > 0)
    factor = data.draw(st.sampled_from([0.5, 1.0, 1.3, 5.0]))
    try:
        made = allocate(p, Cost(budget=factor * cheap.money, iterations=40))
    except UnsatisfiableError:
        assert factor < 1
        return
    assert checks.billed(made) <= factor * cheap.money * LOOSE
    checks.check_slowly(made)


@some
@given(data=st.data())
def test_a_trade_off_goes_from_fast_to_cheap(problems, checks, data):
    p = data.draw(checks.varied(problems))
    assume(checks.is_solvable(p))
    number = data.draw(st.integers(2, 4))
    made = Cost(tradeoff=number, iterations=40).plans(p)
    assert 1 <= len(made) <= number
    for each in made:
        check_plan(each, p)
        checks.check_slowly(each)
    for fast, slow in itertools.pairwise(made):
        assert fast.makespan < slow.makespan
        assert fast.money > slow.money


# ------------------------------------------------------------------------ tiny problems
@few
@given(data=st.data())
def test_tiny_problems_cost_what_the_cheapest_plan_in_time_does(checks, data):
    p = data.draw(checks.tiny(zero=False))
    plans = checks.all_plans(p)
    times = sorted({makespan for makespan, *_ in plans})
    deadline = data.draw(st.sampled_from(times))
    best = min(money for makespan, money, _ in plans if makespan <= deadline)
    made = allocate(p, Cost(deadline=deadline * (1 + 1e-9), iterations=2000))
    assert best / LOOSE <= made.money <= best * 1.01
    assert made.makespan <= deadline * (1 + 2e-9)
    # the same from the other side: so much money buys at least that time
    fast = min(time for time, money, _ in plans if money <= made.money * LOOSE)
    back = allocate(p, Cost(budget=made.money, iterations=2000))
    assert fast / LOOSE <= back.makespan <= min(fast * 1.01, made.makespan * LOOSE)
    assert back.money <= made.money * LOOSE


@few
@given(data=st.data())
def test_without_a_limit_the_least_money_is_found_and_less_energy(checks, data):
    p = data.draw(checks.tiny(zero=False))
    money = min(money for _, money, _ in checks.all_plans(p))
    made = allocate(p, Cost(iterations=500))
    assert money / LOOSE <= made.money <= money * 1.001
    energy = 0.0
    for i in range(len(p.functions)):
        energy += min(p.time(i, j) * x.watts for j, x in enumerate(p.nodes))
    saved = allocate(p, Cost(by="energy", iterations=500))
    watts = np.array([x.watts for x in p.nodes])
    assert ((saved.end - saved.start) * watts[saved.node]).sum() == pytest.approx(
        energy
    )


# --------------------------------------------------------------------- larger problems
@pytest.mark.parametrize("network", ["free", "oneport"])
@pytest.mark.parametrize("billing", [{}, {"billing": "held", "quantum": 10}])
def test_more_time_never_costs_more(network, billing, checks):
    p = rented(1, network=network, **billing)
    fast = allocate(p, Time(iterations=3000)).makespan
    bills = []
    for factor in (1.1, 1.5, 2, 4):
        made = allocate(p, Cost(deadline=factor * fast, iterations=6000))
        assert made.makespan <= factor * fast * LOOSE
        assert made.money == pytest.approx(checks.billed(made))
        bills.append(made.money)
    assert all(later <= sooner * 1.05 for sooner, later in itertools.pairwise(bills))
    assert bills[-1] < 0.8 * bills[0]


@pytest.mark.parametrize("quantum", [0, 60, 3600])
def test_what_is_held_is_billed_in_quanta(quantum, checks):
    p = rented(2, billing="held", quantum=quantum)
    made = allocate(p, Cost(deadline="1.5x", iterations=3000))
    assert made.money == pytest.approx(checks.billed(made))
    checks.check_slowly(made)
    fast = allocate(p, Time(iterations=3000))
    assert made.money < 0.9 * fast.money


@pytest.mark.parametrize("effort", [{"iterations": 6000}, {"time_budget": 0.3}])
def test_a_factor_leaves_time_to_save(effort):
    p = rented(3)
    none = allocate(p, Cost(deadline="1.5x", iterations=0))
    made = allocate(p, Cost(deadline="1.5x", **effort))
    assert made.money < 0.95 * none.money


@pytest.mark.parametrize("seed", range(4))
def test_what_time_reaches_is_never_refused(seed):
    for network in ("free", "oneport"):
        p = rented(seed, n=12, network=network)
        fast = allocate(p, Time(iterations=200)).makespan
        made = allocate(p, Cost(deadline=fast, iterations=200))
        assert made.makespan <= fast * LOOSE


def test_a_search_saves_more_the_longer_it_is():
    p = rented(4)
    bills = [
        allocate(p, Cost(deadline="2x", iterations=x)).money for x in (0, 1000, 20_000)
    ]
    assert bills[0] > bills[1] >= bills[2]


def test_a_plan_depends_on_nothing_but_seed_and_number_of_moves():
    p = rented(5)
    made = [allocate(p, Cost(deadline="1.3x", iterations=500, seed=2)) for _ in "ab"]
    assert made[0].start.tolist() == made[1].start.tolist()
    assert made[0].node.tolist() == made[1].node.tolist()


def test_of_equally_cheap_plans_the_faster_is_taken():
    functions = [Function(i, cost=SECOND) for i in range(4)]
    nodes = [Node(f"n{j}", price=2) for j in range(2)]
    made = plan(Graph(functions), nodes, Cost(iterations=200))
    assert made.makespan == 2.0


@pytest.mark.parametrize("by", ["money", "energy"])
def test_where_nothing_costs_there_is_still_a_plan_in_time(by):
    functions = [Function(i, cost=SECOND) for i in range(4)]
    nodes = [Node(f"n{j}") for j in range(2)]
    for limit in ({}, {"deadline": 2}, {"deadline": "1x"}, {"budget": 1}):
        made = plan(Graph(functions), nodes, Cost(iterations=50, by=by, **limit))
        assert (made.makespan, made.money) == (2.0, 0.0)
    p = Problem(Graph(functions), Cluster(nodes))
    assert [x.makespan for x in Cost(tradeoff=3, iterations=50, by=by).plans(p)] == [
        2.0
    ]


def test_functions_of_no_time_cost_nothing():
    functions = [Function(i, cost={"cpu_time": 0}) for i in range(3)]
    p = Problem(Graph(functions), Cluster([Node("x", price=1), Node("y", price=2)]))
    for kind in (Cost(iterations=9), Cost(deadline="1x", iterations=9), Cost(budget=1)):
        made = allocate(p, kind)
        assert (made.makespan, made.money) == (0.0, 0.0)
    assert len(Cost(tradeoff=3, iterations=9).plans(p)) == 1


def test_no_functions_cost_nothing():
    p = Problem(Graph([]), Cluster([Node("x", price=1)]))
    for kind in (Cost(), Cost(deadline="2x"), Cost(deadline=5), Cost(budget=1)):
        assert allocate(p, kind).money == 0.0
    assert [len(x) for x in Cost(tradeoff=3).plans(p)] == [0]


# ----------------------------------------------------------------------------- refusals
def test_a_refusal_says_what_is_reachable():
    functions = [Function("a", cost=SECOND), Function("b", ["a"], cost=SECOND)]
    nodes = [Node("slow", price=3600), Node("fast", speed=2, price=36000)]
    with pytest.raises(UnsatisfiableError) as caught:
        plan(Graph(functions), nodes, Cost(deadline=0.5))
    assert "ends within 0.5 s: the fastest one found takes 1 s" in str(caught.value)
    assert "none can take less than 1 s" in str(caught.value)
    with pytest.raises(UnsatisfiableError) as caught:
        plan(Graph(functions), nodes, Cost(budget=1.5))
    text = "found for 1.5: the cheapest one found costs 2 and takes 2 s"
    assert text in str(caught.value)


@pytest.mark.parametrize("network", ["free", "oneport"])
def test_a_refusal_tells_no_time_that_would_do(network):
    p = rented(6, n=12, network=network)
    fast = allocate(p, Time(iterations=100)).makespan
    for factor in (0.5, 0.8, 0.9):
        try:
            allocate(p, Cost(deadline=factor * fast, iterations=50))
        except UnsatisfiableError as error:
            told = float(str(error).split("found takes ")[1].split(" s,")[0])
            assert told > factor * fast


@pytest.mark.parametrize(
    "wrong",
    [
        {"deadline": 0}, {"deadline": -1}, {"deadline": math.nan},
        {"deadline": math.inf}, {"deadline": True}, {"deadline": "0.9x"},
        {"deadline": "x"}, {"deadline": "nanx"}, {"deadline": "infx"},
        {"deadline": "soon"}, {"deadline": "0 s"}, {"deadline": "0"},
        {"deadline": [5]}, {"deadline": 10**400}, {"deadline": "-1 s"},
        {"deadline": ""},
        {"budget": 0}, {"budget": -1.0}, {"budget": math.nan}, {"budget": "5"},
        {"budget": True}, {"budget": 10**400}, {"tradeoff": 1}, {"tradeoff": 2.0},
        {"tradeoff": True}, {"by": "time"}, {"by": None},
        {"deadline": 5, "budget": 5}, {"deadline": 5, "tradeoff": 5},
        {"budget": 5, "tradeoff": 5},
    ],
)  # fmt: skip
def test_a_limit_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(AllocationError) as caught:
        Cost(**wrong)
    assert next(iter(wrong)) in str(caught.value)
    assert "cpu_time" not in str(caught.value)


def test_a_deadline_may_have_a_unit():
    functions = [Function("a", cost={"cpu_time": "2 min"})]
    for deadline in (120, 120.0, "120 s", "2 min", "1x", "1.5 x", " 2x "):
        cost = allocator("cost", deadline=deadline, iterations=9)
        assert plan(Graph(functions), [Node("x")], cost).makespan == 120.0
    with pytest.raises(UnsatisfiableError):
        plan(Graph(functions), [Node("x")], allocator("cost", deadline="119 s"))


def test_a_trade_off_is_not_one_plan():
    with pytest.raises(AllocationError, match="call plans"):
        plan(Graph([Function(0)]), [Node("x")], Cost(tradeoff=2))


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))]
)
def test_deadline_budget_and_trade_off_are_the_same_search(seed):
    p = rented(seed, n=15)
    curve = Cost(tradeoff=3, iterations=20_000).plans(p)
    assert len(curve) > 2
    for point in curve:
        by_money = Cost(budget=point.money * (1 + 1e-9), iterations=20_000).allocate(p)
        assert by_money.makespan <= 1.15 * point.makespan
        by_time = Cost(
            deadline=point.makespan * (1 + 1e-9), iterations=20_000
        ).allocate(p)
        assert by_time.money <= 1.05 * point.money

"""Laws of a weighted objective: each weight does what it says."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from handout_dask import (
    AllocationError,
    Cluster,
    Function,
    Graph,
    Node,
    Problem,
    check_plan,
    objective,
    plan,
)
from handout_dask.allocators.makespan import Time, list_schedules
from handout_dask.allocators.objective import MEASURES, Objective
from handout_dask.plans import allocate

some = settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
few = settings(some, max_examples=20)


def energy(made):
    watts = np.array([node.watts for node in made.problem.nodes])
    return float(((made.end - made.start) * watts[made.node]).sum())


def measured(made):
    return {
        "makespan": made.makespan, "money": made.money, "energy": energy(made),
        "transfer": made.transferred,
    }  # fmt: skip


def value(made, weights):
    """The weighted sum, relative to HEFT's plan; what is 0 there counts by itself."""
    heft = measured(list_schedules(made.problem)[0])
    mine = measured(made)
    return sum(w * mine[k] / (heft[k] or 1.0) for k, w in weights.items())


def mixed(seed, **billing):
    rng = np.random.default_rng(seed)
    functions = []
    for i in range(24):
        reads = rng.choice(np.arange(max(0, i - 6), i), min(i, 2), replace=False)
        cost = {
            "cpu_time": int(rng.integers(1, 9)) * 1000,
            "output_size": int(rng.integers(1, 90)),
        }
        functions.append(Function(i, reads.tolist(), cost=cost))
    nodes = [
        Node(f"n{j}", speed=[1, 2, 4][j], price=[1, 3, 9][j], watts=[90, 20, 70][j])
        for j in range(3)
    ]
    return Problem(Graph(functions), Cluster(nodes, bandwidth=50, **billing))


weighted = st.dictionaries(
    st.sampled_from(MEASURES), st.sampled_from([0.1, 1, 5]), min_size=1
)


@some
@given(data=st.data())
def test_no_plan_is_worse_than_a_list_schedule(problems, checks, data):
    p = data.draw(checks.varied(problems, networks=["free"]))
    assume(checks.is_solvable(p))
    weights = data.draw(weighted)
    held = p.cluster.billing == "held"
    made = objective(weights, iterations=60)
    if held and {"money", "energy"} <= set(weights):
        with pytest.raises(AllocationError, match="can't be weighed together"):
            allocate(p, made)
        return
    result = allocate(p, made)
    check_plan(result, p)
    checks.check_slowly(result)
    known = min(value(x, weights) for x in list_schedules(p))
    assert value(result, weights) <= known * (1 + 1e-9) + 1e-9


@few
@given(data=st.data())
def test_tiny_problems_get_the_least_sum(checks, data):
    p = data.draw(checks.tiny(zero=False))
    heft = list_schedules(p)[0]
    weights = data.draw(weighted)
    assume("energy" not in weights)
    weights = {"makespan": 0, "money": 0, "transfer": 0, **weights}
    best = min(
        weights["makespan"] * makespan / heft.makespan
        + weights["money"] * money / heft.money
        + weights["transfer"] * moved / (heft.transferred or 1.0)
        for makespan, money, moved in checks.all_plans(p)
    )
    made = allocate(p, objective(weights, iterations=2000))
    assert best - 1e-9 <= value(made, weights) <= best * 1.01 + 1e-9


def test_makespan_alone_is_time():
    for seed in range(4):
        p = mixed(seed)
        time = allocate(p, Time(iterations=3000)).makespan
        made = allocate(p, objective({"makespan": 1}, iterations=3000)).makespan
        assert made == pytest.approx(time, rel=0.03)


@pytest.mark.parametrize("billing", [{}, {"billing": "held", "quantum": 5}])
@pytest.mark.parametrize("name", ["money", "energy", "transfer"])
def test_a_weight_buys_less_of_what_it_is_on(name, billing):
    ratios, times = [], []
    for seed in range(5):
        p = mixed(seed, **billing)
        fast = allocate(p, objective({"makespan": 1}, iterations=3000))
        made = allocate(p, objective({"makespan": 1, name: 3}, iterations=3000))
        ratios.append(measured(made)[name] / measured(fast)[name])
        times.append(made.makespan / fast.makespan)
    assert statistics.mean(ratios) < 0.9
    assert statistics.mean(times) >= 1.0


def test_energy_and_money_by_the_function_go_together():
    p = mixed(0)
    weights = {"money": 1, "energy": 1}
    made = allocate(p, objective(weights, iterations=3000))
    least = 0.0
    heft = measured(list_schedules(p)[0])
    for i in range(len(p.functions)):
        least += min(
            p.time(i, j) * (x.price / 3600 / heft["money"] + x.watts / heft["energy"])
            for j, x in enumerate(p.nodes)
        )
    assert least / (1 + 1e-9) <= value(made, weights) <= least * 1.001


def test_transfers_alone_keep_all_on_one_node():
    made = allocate(mixed(1), objective({"transfer": 1}, iterations=3000))
    assert made.transferred == 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        {}, {"makespan": 0}, {"time": 1}, {"makespan": -1}, {"makespan": math.nan},
        {"makespan": math.inf}, {"makespan": True}, {"makespan": "1"},
        {"makespan": None}, {"makespan": 10**400}, {1: 1}, {None: 1}, "makespan", 5,
        None, [("makespan",)], [1, 2], {"makespan": 1e300, "money": 1e300},
    ],
)  # fmt: skip
def test_weights_that_make_no_sense_are_refused(wrong):
    with pytest.raises(AllocationError) as caught:
        objective(wrong)
    assert any(word in str(caught.value) for word in ("weight", "must be one of"))


def test_weights_are_kept_and_not_shared():
    given_ = {"makespan": 1, "money": 0.2}
    made = objective(given_, iterations=5)
    given_["money"] = 9
    assert made == Objective(iterations=5, weights=(("makespan", 1), ("money", 0.2)))
    assert hash(made) == hash(objective({"makespan": 1, "money": 0.2}, iterations=5))
    assert "('money', 0.2)" in repr(made)
    result = plan(Graph([Function("a")]), [Node("x")], made)
    assert result.allocator == repr(made)


def test_nothing_to_place_is_a_plan():
    p = Problem(Graph([]), Cluster([Node("x")]))
    assert len(allocate(p, objective({"money": 1}))) == 0

"""Laws of the search: two paths, one result; what has begun stays; never worse."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from handout_dask import Cluster, Function, Graph, Node, Problem, check_plan
from handout_dask.allocators.annealing import Annealer
from handout_dask.allocators.contention import as_played
from handout_dask.allocators.decoder import Aim
from handout_dask.allocators.effort import Meter
from handout_dask.allocators.engine import Begun, place, upward_rank
from handout_dask.allocators.instance import is_searchable
from handout_dask.allocators.makespan import Time, list_schedules
from handout_dask.allocators.search import QUICK, search, value_of_plan
from handout_dask.plans import allocate
from handout_dask.problem import Held

some = settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
FAR = math.inf


def outcome(made):
    return [x.tolist() for x in (made.node, made.option, made.start, made.end)]


def aims(p):
    """Time, money, transfers, all of them; with limits that can and can't be kept."""
    held, quantum = p.cluster.billing == "held", p.cluster.quantum

    def aim(time, money, moved, deadline=FAR, late=0.0, budget=FAR, over=0.0):
        return Aim(time, money, moved, deadline, late, budget, over, held, quantum)

    return [
        QUICK,
        aim(0.0001, 1.0, 0.0),
        aim(0.0001, 1.0, 0.0, deadline=0.05, late=3.0),
        aim(1.0, 0.0, 0.0, budget=0.0001, over=900.0),
        aim(1.0, 50.0, 0.2),
        aim(0.0, 0.0, 1.0),
    ]


def problem_and_aim(data, problems, checks):
    p = data.draw(checks.varied(problems))
    assume(p.functions and checks.is_solvable(p) and is_searchable(p))
    plans = list_schedules(p)
    if p.network == "oneport":
        plans = [as_played(x) for x in plans]
    return p, plans, data.draw(st.sampled_from(aims(p)))


@some
@given(data=st.data())
def test_both_paths_find_the_same_bit_for_bit(problems, checks, data):
    p, plans, aim = problem_and_aim(data, problems, checks)
    seed, moves = (
        data.draw(st.integers(0, 99)),
        data.draw(st.sampled_from([1, 40, 150])),
    )
    made = [
        search(p, plans, aim, Meter(moves=moves), seed, path=path)
        for path in ("numpy", "compiled")
    ]
    if None in made:
        assert made == [None, None]
        return
    assert outcome(made[0]) == outcome(made[1])
    check_plan(made[0], p)
    checks.check_slowly(made[0])
    if all((x.end > x.start).all() for x in plans):  # else the decoder may wait longer
        known = min(value_of_plan(aim, x) for x in plans)
        assert value_of_plan(aim, made[0]) <= known * (1 + 1e-9)


@some
@given(data=st.data())
def test_both_paths_walk_the_same_way(problems, checks, data):
    p, plans, aim = problem_and_aim(data, problems, checks)
    walks = []
    for path in ("numpy", "compiled"):
        annealer = Annealer(p, plans[0], aim, 5, path=path)
        annealer.run(Meter(moves=60))
        x = annealer.x
        arrays = x.order, x.rows, x.best_order, x.values, x.random, x.taste
        walks.append(([a.tolist() for a in arrays], annealer.best_value))
    assert walks[0] == walks[1]


@some
@given(data=st.data())
def test_a_seed_and_a_number_of_moves_say_all(problems, checks, data):
    p, plans, aim = problem_and_aim(data, problems, checks)
    first, again = (search(p, plans, aim, Meter(moves=50), 8) for _ in "ab")
    assert (first is None and again is None) or outcome(first) == outcome(again)


# ---------------------------------------------------------------------- what has begun
@some
@given(data=st.data())
def test_what_has_begun_stays_and_the_rest_starts_later(problems, checks, data):
    p = data.draw(checks.varied(problems, networks=["free"]))
    assume(p.functions and checks.is_solvable(p))
    plan = place(p, key=-upward_rank(p))
    now = data.draw(st.sampled_from([0.0, *plan.start.tolist(), *plan.end.tolist()]))
    assume(is_searchable(p, now))
    late = data.draw(st.sampled_from([0.0, 0.0, 0.5]))
    has = plan.start < now
    end = np.where(has & (plan.end >= now), plan.end + late, plan.end)
    begun = Begun(np.where(has, plan.node, -1), plan.option, plan.start, end)
    sent = replace(begun, end=np.maximum(end, now))  # no sooner to another node
    first = place(p, key=-upward_rank(p), begun=sent, now=now)
    first = replace(first, end=np.where(has, end, first.end))
    aim = data.draw(st.sampled_from([aims(p)[0], aims(p)[1], aims(p)[4]]))
    made = [
        search(p, [first], aim, Meter(moves=80), begun=begun, now=now, path=path)
        for path in ("numpy", "compiled")
    ]
    assert outcome(made[0]) == outcome(made[1])
    for what in ("node", "option", "start", "end"):
        kept, given_ = getattr(made[0], what)[has], getattr(begun, what)[has]
        assert kept.tolist() == given_.tolist()
    assert (made[0].start[~has] >= now).all()
    if (first.end > first.start).all():
        assert value_of_plan(aim, made[0]) <= value_of_plan(aim, first) * (1 + 1e-9)
    if not late:  # late ones may overlap what began behind them
        checks.check_slowly(made[0], begun, now)
        check_plan(made[0], p)


def test_a_search_around_what_has_begun_finds_the_better_node():
    functions = [Function(i, cost={"cpu_time": 4000}) for i in range(3)]
    p = Problem(Graph(functions), Cluster([Node("x"), Node("y", speed=2)]))
    nodes, zero = np.array([0, 0, 0]), np.zeros(3, dtype=int)
    begun = Begun(np.array([0, -1, -1]), zero, np.zeros(3), np.array([4.0, 0, 0]))
    first = place(p, assigned=nodes, begun=begun, now=1.0)
    assert first.makespan == 12.0
    made = search(p, [first], QUICK, Meter(moves=100), begun=begun, now=1.0)
    assert outcome(made)[0] == [0, 1, 1]
    assert sorted(made.start.tolist()) == [0.0, 1.0, 3.0]


def test_a_result_is_sent_to_another_node_only_now():
    functions = [
        Function("a", cost={"cpu_time": 1000, "output_size": 10}),
        Function("b", ["a"], cost={"cpu_time": 16_000}),
    ]
    nodes = [Node("x"), Node("y", speed=8)]
    p = Problem(Graph(functions), Cluster(nodes, bandwidth=1, latency=0))
    zero = np.zeros(2, dtype=int)
    begun = Begun(np.array([0, -1]), zero, np.zeros(2), np.array([1.0, 0.0]))
    first = place(p, assigned=zero, begun=begun, now=5.0)
    assert first.makespan == 21.0
    made = search(p, [first], QUICK, Meter(moves=100), begun=begun, now=5.0)
    assert (made["b"].node, made["b"].start, made["b"].end) == ("y", 15.0, 17.0)


def test_nothing_starts_before_now():
    functions = [Function(i, cost={"cpu_time": 1000}) for i in range(4)]
    p = Problem(Graph(functions), Cluster([Node("x"), Node("y", slots=2)]))
    first = place(p, now=5.0)
    made = search(p, [first], QUICK, Meter(moves=100), now=5.0)
    assert sorted(made.start.tolist()) == [5.0, 5.0, 5.0, 6.0]


def test_nothing_is_left_to_search_when_all_has_begun():
    p = Problem(Graph([Function(i) for i in range(3)]), Cluster([Node("x")]))
    plan = place(p)
    begun = Begun(plan.node, plan.option, plan.start, plan.end)
    made = search(p, [plan], QUICK, Meter(moves=50), begun=begun, now=9.0)
    assert outcome(made) == outcome(plan)


# ----------------------------------------------------------------------------- held
def test_what_is_held_from_the_start_is_planned_around():
    functions = [Function(i, cost={"cpu_time": 1000}) for i in range(6)]
    held = [Held("x", 0, 3, {}), Held("x", -1, 5, {}), Held("y", 0, 1, {})]
    cluster = Cluster([Node("x", slots=2), Node("y", speed=2)])
    p = Problem(Graph(functions), cluster, held=held)
    made = allocate(p, Time(iterations=300))
    assert (
        made.makespan == 4.0
    )  # y takes all six after 1 s, x could take one from 3 s on
    assert min(x.start for x in made.on("y")) == 1.0


@pytest.mark.parametrize("network", ["free", "oneport"])
def test_around_what_is_held_later_the_plan_is_that_of_no_search(network, checks):
    cost = {"cpu_time": 900, "output_size": 9}
    functions = [Function(i, [i - 2] if i > 1 else [], cost=cost) for i in range(8)]
    held = [Held("x", 0.5, 3, {}), Held("y", 2, 4, {})]
    cluster = Cluster([Node("x"), Node("y", speed=2)])
    p = Problem(Graph(functions), cluster, held=held, network=network)
    made = allocate(p, Time(iterations=300))
    checks.check_slowly(made)
    assert outcome(made) == outcome(allocate(p, Time(iterations=0)))


def test_what_is_held_for_ever_is_avoided_by_every_aim():
    functions = [Function(i, cost={"cpu_time": 1000}) for i in range(4)]
    nodes = [Node("x", price=1), Node("y", speed=0.5, price=9)]
    for billing in ("function", "held"):
        cluster = Cluster(nodes, billing=billing)
        p = Problem(Graph(functions), cluster, held=[Held("x", 0, FAR, {})])
        for aim in aims(p):
            made = search(p, list_schedules(p), aim, Meter(moves=100))
            assert made is None or made.node.tolist() == [1] * 4


# ---------------------------------------------------------------------------- limits
def test_a_search_that_keeps_no_limit_finds_nothing():
    p = Problem(
        Graph([Function(0, cost={"cpu_time": 4000})]), Cluster([Node("x", price=9)])
    )
    for limit in ({"deadline": 3.0, "late": 9.0}, {"budget": 0.001, "over": 9.0}):
        aim = QUICK._replace(money=0.1, **limit)
        assert search(p, [place(p)], aim, Meter(moves=100)) is None
        assert value_of_plan(aim, place(p)) == FAR


def test_a_search_leaves_a_first_plan_that_keeps_no_limit():
    functions = [Function(i, cost={"cpu_time": 1000}) for i in range(6)]
    cluster = Cluster([Node("cheap", price=1), Node("dear", price=100)])
    p = Problem(Graph(functions), cluster)
    first = place(p, assigned=np.zeros(6, dtype=int))
    aim = Aim(1e-6, 1.0, 0.0, 4.0, 0.1, FAR, 0.0, False, 0.0)
    made = search(p, [first], aim, Meter(moves=600))
    assert (made.makespan, sorted(made.node.tolist())) == (4.0, [0, 0, 0, 0, 1, 1])

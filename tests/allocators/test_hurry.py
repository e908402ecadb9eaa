"""A plan that runs late buys speed back, for as little money as is found."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import handout_dask as hd
from handout_dask.allocators.controller import reconsider
from handout_dask.allocators.engine import place, upward_rank
from handout_dask.allocators.hurry import hurried
from handout_dask.begun import Begun

CHEAP, DEAR = hd.Node("cheap", price=1), hd.Node("dear", speed=4, price=40)


def problem_of(n=8, nodes=(CHEAP, DEAR), **links):
    """n functions of a second that don't depend on each other."""
    functions = [hd.Function(k, cost={"cpu_time": 1000}) for k in range(n)]
    nodes = [replace(node, slots=1) for node in nodes]
    return hd.Problem(hd.Graph(functions), hd.Cluster(nodes, **links))


def on_one(p, name="cheap"):
    return hd.Plan.from_assignment(p, {f.id: name for f in p.functions})


def heft(p):
    return place(p, key=-upward_rank(p))


def begun_at(plan, now, late=1.0):
    """What of a plan has begun at a time, if what runs takes so much longer."""
    end = np.where(
        plan.end > now, plan.start + (plan.end - plan.start) * late, plan.end
    )
    node = np.where(plan.start < now, plan.node, -1)
    return Begun(node, plan.option.copy(), plan.start.copy(), end)


def hurry(plan, begun, now, deadline, **more):
    """(kept, fresh, made), as a live run asks for them."""
    kept = reconsider(plan, begun, now, fixed=True, **more)
    fresh = reconsider(plan, begun, now, **more)
    return kept, fresh, hurried(kept, fresh, begun, now, deadline, plan.node, **more)


def begin(plan, now=0.0):
    return begun_at(plan, now), now


def count(plan, name):
    return len(plan.on(name))


def test_a_plan_in_time_is_kept():
    plan = on_one(problem_of())
    kept, _, made = hurry(plan, *begin(plan), deadline=8.0)
    assert made is kept


@pytest.mark.parametrize("deadline", [7.5, 7.0, 6.0, 3.0])
def test_a_late_plan_buys_as_little_speed_as_it_needs(deadline):
    plan = on_one(problem_of())
    kept, fresh, made = hurry(plan, *begin(plan), deadline)
    assert kept.makespan == pytest.approx(8.0)
    assert made.makespan <= deadline
    # On the dear node as many as the other can't do in time.
    assert count(made, "dear") == 8 - int(deadline)
    assert made.money < fresh.money or deadline < 3.5


def test_a_little_late_is_late_whatever_speed_costs():
    dearest = hd.Node("dear", speed=4, price=40_000)
    plan = on_one(problem_of(nodes=(CHEAP, dearest)))
    _, fresh, made = hurry(plan, *begin(plan), deadline=7.99)
    assert made.makespan <= 7.99
    assert count(made, "dear") == 1
    assert made.money < fresh.money


def test_time_that_is_left_counts_and_what_has_begun_stays():
    plan = on_one(problem_of())
    begun = begun_at(plan, 2.5, late=3.0)  # the third, until 5.0
    kept, _, made = hurry(plan, begun, 2.5, 7.0)
    assert kept.makespan == pytest.approx(10.0)
    assert made.makespan <= 7.0
    has = begun.node >= 0
    assert has.sum() == 3
    assert (made.node[has] == 0).all()
    assert (made.end[has] == begun.end[has]).all()
    assert (made.start[~has] >= 2.5).all()
    assert count(made, "dear") == 3  # between 5 and 7 the other does two of five


def test_a_deadline_that_cannot_be_kept_is_missed_by_as_little_as_found():
    plan = on_one(problem_of())
    kept, fresh, made = hurry(plan, *begin(plan), deadline=1.0)
    assert fresh.makespan == pytest.approx(1.75)
    assert made.makespan == pytest.approx(1.75)
    assert kept.makespan > 1.75


def test_a_slow_node_counts_as_slow():
    plan = on_one(problem_of())
    slower = np.array([2.0, 1.0])
    kept, _, made = hurry(plan, *begin(plan), 8.0, slower=slower)
    assert kept.makespan == pytest.approx(16.0)
    assert made.makespan <= 8.0
    assert count(made, "dear") == 4  # else each would take two seconds


def test_who_bills_by_the_hold_is_hurried_too():
    plan = on_one(problem_of(billing="held", quantum=1.0))
    _, fresh, made = hurry(plan, *begin(plan), deadline=6.0)
    assert made.makespan <= 6.0
    assert made.money <= fresh.money


def test_where_nothing_can_be_searched_the_earliest_is_taken():
    """As where a node on which something ended is gone."""
    plan = on_one(problem_of())
    p = problem_of(nodes=[DEAR, hd.Node("new", speed=2, price=1)])
    begun = begun_at(plan, 2.5)
    node = np.where(plan.end <= 2.5, -2, -1)
    begun = replace(begun, node=node)
    carried = replace(plan, problem=p, node=np.zeros(8, dtype=int))
    kept = reconsider(carried, begun, 2.5, fixed=True)
    fresh = reconsider(carried, begun, 2.5)
    made = hurried(kept, fresh, begun, 2.5, 3.0, carried.node)
    assert made is min(kept, fresh, key=lambda plan: plan.makespan)


@st.composite
def late(draw, checks, problems):
    """(plan, begun, now, deadline) of priced random problems."""
    p = draw(checks.varied(problems, networks=("free",)))
    assume(p.able.all() and len(p.functions))
    plan = heft(p)
    if draw(st.booleans()):  # what is cheapest, rather than early
        plan = hd.allocator("cost", iterations=20).allocate(p)
    now = draw(st.floats(0, 1)) * plan.makespan
    begun = begun_at(plan, now, draw(st.sampled_from([1.0, 1.5])))
    deadline = draw(st.floats(0.3, 1.1)) * plan.makespan + 1e-3
    return plan, begun, now, deadline


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_whatever_is_late_the_rest_keeps_the_rules_and_ends_no_later(
    checks, problems, data
):
    plan, begun, now, deadline = data.draw(late(checks, problems))
    kept, fresh, made = hurry(plan, begun, now, deadline)
    checks.check_slowly(made, begun, now)
    eps = 1e-9 * (1 + kept.makespan)
    if kept.makespan <= deadline:
        assert made is kept
    else:
        first = min(kept.makespan, fresh.makespan)
        assert made.makespan <= max(first, deadline) + eps

"""Laws of a simulation that a controller steers, and of the controller."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import handout_dask as hd
from handout_dask.allocators.controller import reconsider, replan
from handout_dask.allocators.engine import place, upward_rank
from handout_dask.begun import LATER, OVERDUE, Begun, expected_end
from handout_dask.rules import broken_rules
from handout_dask.simulation import noise_factors

MESSY = {"deadline": None, "max_examples": 30}


@st.composite
def problems(draw):
    n = draw(st.integers(1, 12))
    functions = []
    for i in range(n):
        reads = draw(st.sets(st.integers(0, i - 1), max_size=3)) if i else ()
        cost = {
            "cpu_time": draw(st.integers(0, 50)) * 100,
            "output_size": draw(st.sampled_from([0, 5, 50])),
            "memory": draw(st.sampled_from([0, 30, 60])),
        }
        functions.append(hd.Function(i, sorted(reads), cost=cost))
    nodes = [
        hd.Node(f"n{j}", {"memory": 100}, speed=draw(st.sampled_from([1, 2])), slots=s)
        for j, s in enumerate(draw(st.lists(st.integers(1, 2), min_size=1, max_size=3)))
    ]
    return hd.Problem(hd.Graph(functions), hd.Cluster(nodes, bandwidth=10, latency=1))


def heft(problem):
    return place(problem, key=-upward_rank(problem))


def everywhere(plan, begun, now):
    """A controller that moves everything that waits, wherever it can go."""
    waits = begun.node < 0
    m = len(plan.problem.nodes)
    node = np.where(waits, (plan.node + 1) % m, begun.node)
    return hd.Plan(plan.problem, node, plan.option, plan.start, plan.end)


def check_played(problem, spans, factor):
    """Every function ran once, as long as it had to, after what it reads had come."""
    ran = {span.function: span for span in spans}
    assert len(spans) == len(ran) == len(problem.functions)
    index = problem.cluster.index
    for i, function in enumerate(problem.functions):
        span = ran[function.id]
        seconds = problem.time(i, index[span.node]) * factor[i]
        assert span.end - span.start == pytest.approx(seconds, abs=1e-9)
        for u in problem.preds[i]:
            read = ran[problem.functions[u].id]
            travel = problem.transfer(u, i, index[read.node], index[span.node])
            assert span.start >= read.end + travel - 1e-9
    for name in index:
        here = [span for span in spans if span.node == name]
        slots = problem.nodes[index[name]].declared_slots
        for span in here:
            running = [x for x in here if x.start <= span.start < x.end - 1e-9]
            assert len(running) <= slots
            needs = [problem.functions[problem.where[x.function]] for x in running]
            held = sum(dict(f.alternatives[0].demand).get("memory", 0) for f in needs)
            assert held <= 100


@settings(**MESSY)
@given(problems(), st.integers(0, 5), st.sampled_from(["free", "oneport"]),
       st.sampled_from([replan, reconsider, everywhere]))  # fmt: skip
def test_a_steered_run_keeps_every_rule(problem, seed, network, controller):
    factor = noise_factors(problem, 0.4, seed)
    spans = hd.simulate(
        heft(problem), noise=0.4, seed=seed, network=network, controller=controller
    )
    check_played(problem, spans, factor)


@settings(**MESSY)
@given(problems(), st.floats(0, 1), st.data())
def test_replan_keeps_what_has_begun_and_is_no_later_than_the_fresh_plan(
    problem, share, data
):
    plan = heft(problem)
    now = share * plan.makespan
    has = plan.start < now
    late = data.draw(st.floats(1, 1.5))
    end = np.where(
        plan.end > now, plan.start + (plan.end - plan.start) * late, plan.end
    )
    begun = Begun(np.where(has, plan.node, -1), plan.option, plan.start, end)
    made = replan(plan, begun, now)
    if made is plan:
        return
    assert (made.node[has] == plan.node[has]).all()
    assert made.start[has] == pytest.approx(plan.start[has])
    assert (made.start[~has] >= now).all()
    assert len(made) == len(problem.functions)


def test_a_plan_that_goes_well_is_kept():
    functions = [hd.Function(i, cost={"cpu_time": 1000}) for i in range(6)]
    problem = hd.Problem(hd.Graph(functions), hd.Cluster([hd.Node("a"), hd.Node("b")]))
    plan = heft(problem)
    begun = Begun(np.where(plan.start < 1, plan.node, -1), plan.option, plan.start,
                  plan.end)  # fmt: skip
    assert replan(plan, begun, 1.0) is plan


def test_work_leaves_a_node_whose_function_is_late():
    functions = [hd.Function(i, cost={"cpu_time": 1000}) for i in range(4)]
    problem = hd.Problem(hd.Graph(functions), hd.Cluster([hd.Node("a"), hd.Node("b")]))
    plan = heft(problem)
    first = plan.start == 0
    end = np.where(first & (plan.node == 0), 10.0, plan.end)
    begun = Begun(np.where(first, plan.node, -1), plan.option, plan.start, end)
    made = replan(plan, begun, 1.0)
    assert made.makespan == 10.0
    assert (made.node[~first] == 1).all()
    assert not broken_rules(problem, made.node, made.option, made.start,
                            np.where(first, plan.end, made.end))  # fmt: skip


def test_what_is_late_is_expected_to_take_a_share_of_its_time_more():
    assert expected_end(2.0, 10.0, 5.0) == 12.0
    assert expected_end(2.0, 10.0, 13.0) == 13.0 + OVERDUE * 10.0


def test_what_is_much_later_is_expected_to_take_the_longer_the_later_it_is():
    assert expected_end(2.0, 10.0, 22.0) == 22.0 + OVERDUE * 10.0
    assert expected_end(2.0, 10.0, 32.0) == 32.0 + LATER * 10.0
    assert expected_end(0.0, 1.0, 24.0) == 24.0 + 11.0

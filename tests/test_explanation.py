"""Laws of explanations: what is told of other nodes is what would happen there."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import handout_dask as hd
from handout_dask import Cluster, Function, Graph, Node, Plan, Problem
from handout_dask.explanation import PlanExplanation
from handout_dask.lacks import Lack
from handout_dask.offers import Offer
from handout_dask.plans import allocate
from handout_dask.problem import Held
from handout_dask.rules import broken_rules
from handout_dask.slack import rounding

RANDOM = settings(
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


def function(id, args=(), seconds=1.0, mb=0.0, node=None, **cost):
    cost |= {"cpu_time": seconds * 1e3, "output_size": mb}
    return Function(id, args, cost=cost, node=node)


def planned(functions, where, nodes, held=(), **cluster):
    """The plan of an assignment; 1 MB/s and no latency between nodes."""
    cluster = Cluster(nodes, **{"bandwidth": 1, "latency": 0} | cluster)
    problem = Problem(Graph(functions), cluster, held=held)
    return Plan.from_assignment(problem, where)


def faults(plan, of):
    broken = broken_rules(plan.problem, plan.node, plan.option, plan.start, plan.end)
    return [fault for fault in broken if of in fault]


def moved(plan, i, node, option, start, end):
    """The plan with function i elsewhere, and the others where they are."""
    arrays = {}
    for what, value in {
        "node": node,
        "option": option,
        "start": start,
        "end": end,
    }.items():
        arrays[what] = getattr(plan, what).copy()
        arrays[what][i] = value
    return replace(plan, **arrays)


def options(problem, i, j):
    """``(option, seconds)`` of the alternatives that node j can run."""
    for o in range(problem.option_ptr[i], problem.option_ptr[i + 1]):
        rate = problem.rate[problem.option_class[o], problem.kind[j]]
        if rate > 0:
            yield o - problem.option_ptr[i], problem.option_work[o] / rate


def followed(plan, i, there):
    """The plan `there`, where i was moved, with what waits for i in order after it."""
    problem, wait = plan.problem, plan.precedence
    n = len(plan)
    shift = np.zeros(len(wait.start))
    for v in range(n):
        for u in problem.preds[v]:
            if u == i:
                arrival = there.end[i] + problem.transfer(
                    i, v, int(there.node[i]), int(there.node[v])
                )
                shift[v] = max(shift[v], arrival - there.start[v])
    for u, v, gap in zip(wait.before, wait.after, wait.gap, strict=True):
        if u != i:
            shift[v] = max(shift[v], shift[u] - gap)
    shift[i] = 0
    late = replace(there, start=there.start + shift[:n], end=there.end + shift[:n])
    return late, (shift[n:] > rounding(plan.end)).any()


@RANDOM
@given(data=st.data())
def test_an_offer_is_the_earliest_end_and_the_plan_that_it_leads_to(problems, data):
    problem = data.draw(problems)
    try:
        plan = allocate(problem, data.draw(st.sampled_from(["time", "load-balanced"])))
    except hd.UnsatisfiableError:
        return
    for i, f in enumerate(problem.functions):
        for offer in plan.explain(f.id).others:
            if offer.end < np.inf:
                check_offer(plan, i, offer)


def check_offer(plan, i, offer):
    problem, none = plan.problem, 1e-6
    j = problem.cluster.index[offer.node]
    reads = problem.preds[i]
    arrivals = [
        plan.end[u] + problem.transfer(u, i, int(plan.node[u]), j) for u in reads
    ]
    ready = max(arrivals, default=0.0)
    assert offer.mb == sum(problem.size(u, i) for u in reads if plan.node[u] != j)
    ends = [end for end in (*plan.end, *problem.held_arrays[2]) if ready < end < np.inf]
    best, taken = np.inf, None
    for option, seconds in options(problem, i, j):
        for start in (ready, *ends):
            if seconds and start + seconds < best - none:
                there = moved(plan, i, j, option, start, start + seconds)
                if not faults(there, "holds"):
                    best = start + seconds
        if offer.end - offer.start == pytest.approx(seconds):
            there = moved(plan, i, j, option, offer.start, offer.end)
            if taken is None or faults(taken, "holds"):  # two may take as long
                taken = there
    if all(seconds for _, seconds in options(problem, i, j)):  # else no room is checked
        assert offer.end == pytest.approx(best)
    assert offer.start >= ready
    assert taken.money == pytest.approx(offer.money)
    late, met = followed(plan, i, taken)
    assert met == (offer.makespan == np.inf)
    if not met:
        assert faults(late, "") == []
        assert late.makespan == pytest.approx(offer.makespan)


@RANDOM
@given(data=st.data())
def test_each_node_makes_an_offer_or_refuses(problems, data):
    problem = data.draw(problems)
    try:
        plan = allocate(problem, "time")
    except hd.UnsatisfiableError:
        return
    for i, f in enumerate(problem.functions):
        said = plan.explain(f.id)
        names = [said.chosen.node, *(o.node for o in said.others), *said.refusals]
        assert sorted(names) == sorted(node.name for node in problem.nodes)
        assert (said.chosen.start, said.chosen.end) == (plan.start[i], plan.end[i])
        assert said.critical == (f.id in plan.critical_path)
        assert said.slack == plan.slack[i]
        for j, node in enumerate(problem.nodes):
            if problem.explain(i, j):
                assert said.refusals[node.name] == problem.explain(i, j)


# ------------------------------------------------------------------- whole values
def test_why_a_function_waits_for_a_fast_node():
    nodes = [
        Node("gpu", {"memory": 100}, speed=4, price=36),
        Node("cpu", {"memory": 100}, price=3.6),
        Node("small", {"memory": 10}),
    ]
    functions = [
        function("a", seconds=8, memory=20),
        function("b", seconds=8, memory=20),
        function("c", ["b"], seconds=4, mb=1, memory=20),
    ]
    plan = planned(functions, dict.fromkeys("abc", "gpu"), nodes)
    said = plan.explain("b")
    assert said == PlanExplanation(
        function="b",
        chosen=Offer("gpu", 2, 4, 5, 0.05, 0),
        because="room left by 'a'",
        slack=0,
        critical=True,
        guessed=False,
        provenance={"time": "declared", "memory": "declared", "size": "declared"},
        others=(Offer("cpu", 0, 8, 9, 0.03 + 0.008, 0),),
        refusals={"small": (Lack("memory", 20, 10),)},
    )
    assert str(said) == (
        "function 'b' runs on gpu from 2 to 4 s\n"
        "  bound by room left by 'a'\n"
        "  is on the critical path\n"
        "  waits for gpu until 2 s; cpu would end later (8 s)\n"
        "  gpu (planned): 2 to 4 s, makespan 5 s, money 0.05, reads 0 MB\n"
        "  cpu: 0 to 8 s, makespan 9 s, money 0.038, reads 0 MB\n"
        "  small: lacks memory (needs 20 MB, has 10)"
    )


def test_what_another_node_would_have_to_fetch():
    functions = [function("a", mb=3), function("b", ["a"]), function("c", ["a"], 9)]
    where = {"a": "n0", "b": "n0", "c": "n0"}
    plan = planned(functions, where, [Node("n0"), Node("n1", speed=3)])
    (other,) = plan.explain("c").others
    assert other == Offer("n1", 4, 7, 7, 0, 3)
    assert plan.explain("c").waits == ""
    assert str(plan.explain("a")).splitlines()[1] == "  nothing holds it back"


def test_functions_that_share_a_node_move_together_or_not_at_all():
    functions = [function("a"), function("b", ["a"], node=hd.with_function("a"))]
    plan = planned(functions, dict.fromkeys("ab", "n0"), [Node("n0"), Node("n1")])
    said = plan.explain("a")
    assert (said.others, said.refusals) == (
        (),
        {"n1": (Lack("node", "n0", "n1", "'b'"),)},
    )
    assert str(said).endswith("n1: is not 'n0', the node of function 'b'")


def test_a_node_that_is_held_for_ever_has_no_room():
    held = [Held("n1", 0, float("inf"), {})]
    plan = planned([function("a")], {"a": "n0"}, [Node("n0"), Node("n1")], held)
    (other,) = plan.explain("a").others
    assert other == Offer("n1", np.inf, np.inf, np.inf, np.inf, 0)
    assert str(plan.explain("a")).endswith(
        "n1: no room, for what is held there does not end"
    )


def test_what_follows_too_late_would_meet_what_is_held():
    functions = [function("a"), function("b", ["a"])]
    held = [Held("n0", 2, 5, {})]
    nodes = [Node("n0"), Node("slow", speed=0.5)]
    plan = planned(functions, {"a": "n0", "b": "n0"}, nodes, held)
    assert plan.explain("a").others == (Offer("slow", 0, 2, np.inf, 0, 0),)
    assert "0 to 2 s, too late for what is held, money" in str(plan.explain("a"))


def test_money_by_held_nodes_counts_what_the_move_leaves_and_fills():
    """x, a hold n0 for 3 s, y n1 from 5 to 6 s; with a on n1 from 0 on, 1 s and 6 s."""
    functions = [function("x", mb=4), function("a", seconds=2), function("y", ["x"])]
    nodes = [Node("n0", price=3600), Node("n1", price=7200)]
    plan = planned(functions, {"x": "n0", "a": "n0", "y": "n1"}, nodes, billing="held")
    said = plan.explain("a")
    assert (said.chosen.money, said.others[0].money) == (3 + 2, 1 + 12)


def test_a_gap_before_the_inputs_come_is_no_offer():
    """n1 is free from 1 to 3 s and from 5 s on; b's input comes at 4 s."""
    held = [Held("n1", 0, 1, {}), Held("n1", 3, 5, {})]
    functions = [function("a", mb=3), function("b", ["a"])]
    plan = planned(functions, dict.fromkeys("ab", "n0"), [Node("n0"), Node("n1")], held)
    assert plan.explain("b").others == (Offer("n1", 5, 6, 6, 0, 3),)


def test_a_guess_is_told():
    plan = hd.plan(Graph([Function("a")]), [Node("n0")])
    assert plan.explain("a").guessed
    assert str(plan.explain("a")).splitlines()[0] == (
        "function 'a' runs on n0 from 0 to 1 s, by a guess of its run time"
    )


def test_of_many_nodes_the_best_are_told():
    nodes = [Node(f"n{j}") for j in range(15)] + [
        Node(f"s{j}", {"memory": 1}) for j in range(12)
    ]
    said = hd.plan(Graph([function("a", memory=5)]), nodes).explain("a")
    assert (len(said.others), len(said.refusals)) == (14, 12)
    lines = str(said).splitlines()
    assert "  ... and 4 more nodes can run it" in lines
    assert lines[-1] == "  ... and 2 more nodes can't"


@pytest.mark.parametrize("id", ["x", ["a"]])
def test_a_function_that_is_not_there_is_an_error_that_names_it(id):
    plan = planned([function("a")], {"a": "n0"}, [Node("n0")])
    with pytest.raises(hd.GraphError) as info:
        plan.explain(id)
    assert str(info.value).startswith(f"no function {id!r} in <Plan of 1 functions")

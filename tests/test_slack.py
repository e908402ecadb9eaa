"""Laws of slack and of the critical path: what may slip, what makes the makespan."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handout_dask import (
    Cluster,
    Function,
    Graph,
    Node,
    Plan,
    Problem,
    UnsatisfiableError,
)
from handout_dask.plans import allocate
from handout_dask.player import Player
from handout_dask.problem import Held
from handout_dask.rules import broken_rules
from handout_dask.slack import Step, rounding

ALLOCATORS = ["time", "first-available", "load-balanced"]


def function(id, args=(), seconds=1.0, mb=0.0, **cost):
    cost |= {"cpu_time": seconds * 1e3, "output_size": mb}
    return Function(id, args, cost=cost)


def planned(functions, where, nodes, order=None, held=()):
    """The plan of an assignment; 1 MB/s and no latency between nodes."""
    cluster = Cluster(nodes, bandwidth=1, latency=0)
    problem = Problem(Graph(functions), cluster, held=held)
    return Plan.from_assignment(problem, where, order)


def slack(plan):
    ids = [f.id for f in plan.problem.functions]
    return dict(zip(ids, plan.slack.tolist(), strict=True))


def slipped(plan, late):
    """The plan in which functions start so much later, and others follow in order."""
    p = plan.precedence
    shift = np.zeros(len(p.start))
    shift[list(late)] = list(late.values())
    for u, v, gap in zip(p.before, p.after, p.gap, strict=True):
        shift[v] = max(shift[v], shift[u] - gap)
    n = len(plan.node)
    assert (shift[n:] == 0).all(), "what is held would move"
    return replace(plan, start=plan.start + shift[:n], end=plan.end + shift[:n])


def sooner(plan, i):
    """The plan in which a function starts sooner, by half of what it has waited."""
    wait, start, end = plan.precedence, plan.start.copy(), plan.end.copy()
    waited = min([start[i], *wait.gap[wait.after == i]]) / 2
    assert waited > 0
    start[i], end[i] = start[i] - waited, end[i] - waited
    return replace(plan, start=start, end=end)


def faults(plan):
    return broken_rules(plan.problem, plan.node, plan.option, plan.start, plan.end)


def made(data, problems):
    """A random plan of a random problem."""
    problem = data.draw(problems)
    try:
        return allocate(problem, data.draw(st.sampled_from(ALLOCATORS)))
    except UnsatisfiableError:
        return None


RANDOM = settings(
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


# --------------------------------------------------------------------------- laws
@RANDOM
@given(data=st.data())
def test_a_function_can_slip_by_its_slack_and_no_rule_breaks(problems, data):
    plan = made(data, problems)
    if plan is None:
        return
    assert (plan.slack >= 0).all()
    wait = plan.precedence
    left, taken = wait.end[wait.before[wait.by_room]], wait.after[wait.by_room]
    assert (left <= wait.start[taken] + rounding(plan.end)).all()
    for i, slack in enumerate(plan.slack):
        late = slipped(plan, {i: slack})
        assert faults(late) == []
        assert late.makespan <= plan.makespan + len(plan) * rounding(plan.end)


@RANDOM
@given(data=st.data())
def test_the_makespan_grows_by_what_a_function_slips_beyond_its_slack(problems, data):
    plan = made(data, problems)
    if plan is None:
        return
    for i, slack in enumerate(plan.slack):
        if plan.precedence.to_held[i] == np.inf:
            late = slipped(plan, {i: slack + 1})
            assert faults(late) == []
            assert late.makespan == pytest.approx(plan.makespan + 1, abs=1e-5)


@st.composite
def single_slots(draw):
    """A plan on nodes of one slot and nothing else, of functions that take time."""
    n, m = draw(st.integers(1, 10)), draw(st.integers(1, 3))
    functions = []
    for i in range(n):
        reads = draw(st.lists(st.integers(0, i - 1), max_size=3)) if i else []
        seconds, mb = draw(st.integers(1, 5)), draw(st.integers(0, 3))
        functions.append(function(i, reads, seconds, mb))
    names = [f"n{j}" for j in range(m)]
    where = {i: draw(st.sampled_from(names)) for i in range(n)}
    order = draw(st.permutations(range(n)))
    return planned(functions, where, [Node(name) for name in names], order)


def played(plan, i, seconds):
    """The makespan when function i takes longer and every node keeps its order."""
    factor = np.ones(len(plan))
    factor[i] += seconds / (plan.end[i] - plan.start[i])
    return max(span.end for span in Player(plan, factor, "free", "strict").run())


@settings(deadline=None, max_examples=30)
@given(single_slots())
def test_on_single_slots_slack_is_exact(plan):
    for i, slack in enumerate(plan.slack):
        assert played(plan, i, slack) == pytest.approx(plan.makespan)
        assert played(plan, i, slack + 1) == pytest.approx(plan.makespan + 1)


@RANDOM
@given(data=st.data())
def test_the_critical_path_leads_from_the_beginning_to_the_makespan(problems, data):
    plan = made(data, problems)
    if plan is None or not len(plan):
        return
    steps, bound = plan.critical_steps, plan.precedence
    chain = bound.critical()
    assert plan.critical_path == tuple(step.function for step in steps)
    assert steps[-1].end == plan.makespan
    assert (plan.slack[chain] == 0).all()
    waits = dict(
        zip(zip(bound.before, bound.after, strict=True), bound.gap, strict=True)
    )
    assert [waits[pair] for pair in pairwise(chain)] == [0] * (len(chain) - 1)
    first = steps[0]
    timeless = (
        plan.end - plan.start == 0
    ).any()  # need not take the room they wait for
    assert first.because == "begins" or first.because.startswith("room held until")
    if first.because == "begins" and not timeless:
        assert first.start == 0


@RANDOM
@given(data=st.data())
def test_each_start_is_bound_by_what_is_said(problems, data):
    plan = made(data, problems)
    if plan is None or (plan.end - plan.start == 0).any():
        return
    for i, start in enumerate(plan.start):
        begins = plan.precedence.because(i) == "begins"
        assert begins or start > 0
        if begins and start > 0:  # by the order of a search; nothing else binds it
            assert faults(sooner(plan, i)) == []


def test_what_waits_for_nothing_but_its_turn_in_a_search_begins():
    """The search keeps an order on each node, also of what does not compete."""
    functions = [function("a"), function("b", ["a"]), function("c")]
    plan = planned(functions, dict.fromkeys("abc", "n0"), [Node("n0", slots=2)])
    where = plan.problem.where
    start, end = plan.start.copy(), plan.end.copy()
    start[where["c"]], end[where["c"]] = 1.0, 2.0
    idle = replace(plan, start=start, end=end)
    assert idle.precedence.because(where["c"]) == "begins"
    assert faults(sooner(idle, where["c"])) == []


# ------------------------------------------------------------------- whole values
def test_slack_on_one_slot_is_that_of_the_chain():
    """a, c on n0, b on n1: c needs both a's slot and b, which is late by 1 s."""
    functions = [function("a", seconds=2), function("b", seconds=3),
                 function("c", ["b"], seconds=1)]  # fmt: skip
    plan = planned(
        functions, {"a": "n0", "b": "n1", "c": "n0"}, [Node("n0"), Node("n1")]
    )
    assert slack(plan) == {"a": 1, "b": 0, "c": 0}
    assert plan.critical_steps == (
        Step("b", "n1", 0, 3, "begins"),
        Step("c", "n0", 3, 4, "input of 'b', from n1"),
    )


def test_what_travels_is_part_of_the_slack():
    """a's 2 MB travel for 2 s to n1; on n0, c may end 3 s later."""
    functions = [function("a", mb=2), function("b", ["a"], 3), function("c", ["a"], 2)]
    plan = planned(
        functions, {"a": "n0", "b": "n1", "c": "n0"}, [Node("n0"), Node("n1")]
    )
    assert (plan.makespan, slack(plan)) == (6, {"a": 0, "b": 0, "c": 3})
    assert plan.critical_path == ("a", "b")


def test_on_two_slots_room_is_taken_from_who_left_it_longest_ago():
    """a (1 s), b (3 s), then c (2 s) in a's slot, and d (4 s) in b's."""
    functions = [function(id, seconds=s) for id, s in zip("abcd", (1, 3, 2, 4))]  # noqa: B905
    plan = planned(functions, dict.fromkeys("abcd", "n0"), [Node("n0", slots=2)])
    assert [(p.function, p.start) for p in plan] == [
        ("a", 0), ("b", 0), ("c", 1), ("d", 3)]  # fmt: skip
    assert slack(plan) == {"a": 4, "b": 0, "c": 4, "d": 0}
    assert plan.critical_steps[1].because == "room left by 'b'"


def test_a_function_takes_the_room_of_its_input_rather_than_another():
    """Two chains side by side: x, y keep their slack, though y is next after a."""
    functions = [
        function("a"),
        function("x"),
        function("b", ["a"], 3),
        function("y", ["x"]),
    ]
    plan = planned(functions, dict.fromkeys("axby", "n0"), [Node("n0", slots=2)])
    assert slack(plan) == {"a": 0, "x": 2, "b": 0, "y": 2}


def test_memory_binds_where_slots_do_not():
    """Of 100 MB, a holds 60 and b 30; c needs the 60 of a, d the rest."""
    functions = [
        function("a", seconds=2, memory=60),
        function("b", seconds=1, memory=30),
        function("c", seconds=2, memory=60),
        function("d", seconds=1, memory=40),
    ]
    node = Node("n0", {"memory": 100}, slots=4)
    plan = planned(functions, dict.fromkeys("abcd", "n0"), [node])
    assert [(p.function, p.start) for p in plan] == [
        ("a", 0), ("b", 0), ("c", 2), ("d", 2)]  # fmt: skip
    assert slack(plan) == {"a": 0, "b": 2, "c": 0, "d": 1}
    assert plan.critical_steps == (
        Step("a", "n0", 0, 2, "begins"),
        Step("c", "n0", 2, 4, "room left by 'a'"),
    )


def test_what_is_held_binds_and_does_not_move():
    """The slot is held from 2 to 3 s: a may not slip into it, c waits for its end."""
    functions = [
        function("a", seconds=1.5),
        function("c", seconds=2),
        function("x", seconds=9),
    ]
    held = [Held("n0", 2, 3, {})]
    where = {"a": "n0", "c": "n0", "x": "n1"}
    plan = planned(functions, where, [Node("n0"), Node("n1")], held=held)
    assert (plan["c"].start, slack(plan)) == (3, {"a": 0.5, "c": 4, "x": 0})
    alone = planned(functions[:2], dict.fromkeys("ac", "n0"), [Node("n0")], held=held)
    assert alone.critical_steps == (Step("c", "n0", 3, 5, "room held until 3 s"),)


def test_more_held_than_there_is_leaves_room_when_it_fits_again():
    """150 + 150 MB of 200 are held; the first end leaves 50, the second the rest."""
    held = [Held("n0", 0, 1, {"slots": 0, "cpu": 0, "memory": 150}),
            Held("n0", 0, 2, {"slots": 0, "cpu": 0, "memory": 150})]  # fmt: skip
    functions = [function("a", memory=50), function("b", memory=100)]
    node = Node("n0", {"memory": 200}, slots=2)
    plan = planned(functions, dict.fromkeys("ab", "n0"), [node], held=held)
    because = [plan.precedence.because(i) for i in range(2)]
    assert [(p.function, p.start) for p in plan] == [("a", 1), ("b", 2)]
    assert because == ["room held until 1 s", "room held until 2 s"]


def test_functions_of_no_time_stand_in_the_chain():
    functions = [function("a"), function("z", ["a"], 0), function("b", ["z"])]
    plan = planned(functions, dict.fromkeys("azb", "n0"), [Node("n0")])
    assert slack(plan) == {"a": 0, "z": 0, "b": 0}
    assert plan.critical_path == ("a", "z", "b")


def test_a_plan_that_idles_begins_its_critical_path_later():
    plan = planned([function("a")], {"a": "n0"}, [Node("n0")])
    idle = replace(plan, start=[5.0], end=[6.0])
    assert idle.critical_steps == (Step("a", "n0", 5, 6, "begins"),)


def test_the_empty_plan_has_neither():
    plan = planned([], {}, [Node("n0")])
    assert (plan.slack.tolist(), plan.critical_path) == ([], ())


def test_the_critical_path_is_the_chain_that_begins_first():
    """v reads p, which idles until 2 s, and q, which has been worked for since 0."""
    functions = [function("p"), function("o", seconds=1.5),
                 function("q", ["o"], 1.5), function("v", ["p", "q"])]  # fmt: skip
    where = {"p": "n1", "o": "n0", "q": "n0", "v": "n0"}
    plan = planned(functions, where, [Node("n0"), Node("n1")])
    i = plan.problem.where["p"]
    start, end = plan.start.copy(), plan.end.copy()
    start[i], end[i] = 2, 3
    assert replace(plan, start=start, end=end).critical_path == ("o", "q", "v")


def test_a_chain_of_functions_goes_before_what_is_held():
    held = [Held("n0", 0, 3, {}), Held("n1", 0.5, 1, {})]
    functions = [function("a", seconds=2), function("v", ["a"])]
    nodes = [Node("n0"), Node("n1")]
    plan = planned(functions, {"a": "n1", "v": "n0"}, nodes, held=held)
    assert plan.critical_steps == (
        Step("a", "n1", 1, 3, "room held until 1 s"),
        Step("v", "n0", 3, 4, "input of 'a', from n1"),
    )


def test_an_input_goes_before_the_room_that_the_same_function_left():
    plan = planned(
        [function("a"), function("b", ["a"])], dict.fromkeys("ab", "n0"), [Node("n0")]
    )
    assert plan.critical_steps[1].because == "input of 'a'"

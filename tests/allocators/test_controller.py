"""Laws of reconsidering: what has begun stays, and the rest keeps the rules."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import handout_dask as hd
from handout_dask.allocators.controller import reconsider
from handout_dask.allocators.engine import place, upward_rank
from handout_dask.allocators.latest import latest_starts
from handout_dask.allocators.remains import carried, node_numbers
from handout_dask.begun import GONE, Begun
from handout_dask.errors import AllocationError
from handout_dask.problem import Held

MESSY = {"deadline": None, "max_examples": 30}


def heft(p):
    return place(p, key=-upward_rank(p))


def begun_at(plan, now, late=1.0):
    """What of a plan has begun at a time, if what runs takes so much longer."""
    end = np.where(
        plan.end > now, plan.start + (plan.end - plan.start) * late, plan.end
    )
    node = np.where(plan.start < now, plan.node, -1)
    return Begun(node, plan.option.copy(), plan.start.copy(), end)


def moved(plan, begun, problem):
    """Plan and begun on other nodes; what was on lost nodes is lost, if it is read."""
    number = np.append(node_numbers(plan.problem, problem), -1)
    node = number[begun.node]
    for i in reversed(range(len(node))):
        readers = [v for v, preds in enumerate(problem.preds) if i in preds]
        over = begun.end[i] <= begun.end.max() and begun.node[i] >= 0
        if over and node[i] < 0 and all(node[v] != -1 for v in readers):
            node[i] = GONE
    return replace(plan, problem=problem, node=carried(plan, problem)[0]), replace(
        begun, node=node
    )


@st.composite
def other_cluster(draw, cluster):
    """The same nodes, but some are gone, slower, poorer, or new."""
    nodes = []
    for node in cluster.nodes:
        what = draw(st.sampled_from(["same", "same", "gone", "slower", "poorer"]))
        if what == "gone":
            continue
        has = dict(node.capabilities)
        if what == "poorer":
            has = {name: x for name, x in has.items() if name in ("cpu", "memory")}
        speed = node.speed / 4 if what == "slower" else node.speed
        nodes.append(hd.Node(node.name, has, speed=speed, slots=node.slots))
    if draw(st.booleans()):
        nodes.insert(0, hd.Node("new", {"cpu": 2, "memory": 100, "camera": 1}))
    return hd.Cluster(nodes, bandwidth=10, latency=0.5)


@st.composite
def situations(draw, problems):
    """(plan, begun, now) in the middle of a plan, on nodes that may be others."""
    p = draw(problems)
    assume(p.able.all() and len(p.functions))
    plan = heft(p)
    now = draw(st.floats(0, 1)) * plan.makespan
    begun = begun_at(plan, now, draw(st.sampled_from([1.0, 1.5])))
    if draw(st.booleans()):
        work = p.option_work * draw(st.sampled_from([0.5, 1, 3]))
        made = p.on(draw(other_cluster(p.cluster)), held=p.held, work=work)
        plan, begun = moved(plan, begun, made)
    return plan, begun, now


def runs_nowhere(p, begun):
    """(n,) bool, from the words of the law."""
    n, m = len(p.functions), len(p.nodes)
    out = np.zeros(n, dtype=bool)
    for i in range(n):
        if begun.node[i] != -1:
            continue
        mates = [i] if p.group[i] < 0 else np.flatnonzero(p.group == p.group[i])
        there = {int(begun.node[g]) for g in mates} - {-1, GONE}
        waiting = [g for g in mates if begun.node[g] == -1]
        out[i] = not any(
            all(p.time(g, j) < np.inf for g in waiting) and there <= {j}
            for j in range(m)
        )
        out[i] |= any(out[u] for u in p.preds[i])
    return out


def check(checks, made, begun, now):
    """The rules, for what runs: the rest counts as done long ago, and free."""
    never = runs_nowhere(made.problem, begun)
    assert (np.isinf(made.end) == never).all()
    assert (np.isinf(made.start) == never).all()
    gone = begun.node == GONE
    assert (made.node[gone] == -1).all()
    if not len(made.problem.nodes):
        return
    aside = never | gone
    p = copy.copy(made.problem)
    p.pin, p.group = p.pin.copy(), p.group.copy()
    p.pin[aside] = p.group[aside] = -1
    zero = np.where(aside, 0, made.option)
    finite = replace(
        made, problem=p, node=np.where(aside, 0, made.node), option=zero,
        start=np.where(aside, 0.0, made.start), end=np.where(aside, 0.0, made.end),
    )  # fmt: skip
    has = aside | (begun.node >= 0)
    checks.check_slowly(
        finite,
        Begun(np.where(has, finite.node, -1), zero, finite.start, finite.end),
        now,
    )
    kept = begun.node >= 0
    assert (made.node[kept] == begun.node[kept]).all()
    assert (made.option[kept] == begun.option[kept]).all()
    assert (made.start[kept] == begun.start[kept]).all()
    assert (made.end[kept] == begun.end[kept]).all()


def length(made):
    return made.end[np.isfinite(made.end)].max(initial=0.0)


@settings(**MESSY)
@given(st.data(), st.booleans())
def test_a_reconsidered_plan_keeps_the_rules_and_what_has_begun(
    problems, checks, data, fixed
):
    plan, begun, now = data.draw(situations(problems))
    made = reconsider(plan, begun, now, fixed=fixed)
    assert made.problem is plan.problem
    check(checks, made, begun, now)


@settings(**MESSY)
@given(st.data())
def test_it_is_never_foreseen_to_end_later_than_what_it_replaces(problems, data):
    plan, begun, now = data.draw(situations(problems))
    made, kept = (reconsider(plan, begun, now, fixed=x) for x in (False, True))
    waits = (begun.node == -1) & np.isfinite(kept.end)
    if (plan.node[waits] >= 0).all():
        assert length(made) <= length(kept)
    assert (kept.node == plan.node)[waits & (plan.node >= 0)].all()


@settings(**MESSY)
@given(st.data(), st.booleans())
def test_a_plan_that_was_reconsidered_can_be_again(problems, checks, data, fixed):
    plan, begun, now = data.draw(situations(problems))
    made = reconsider(plan, begun, now, fixed=fixed)
    again = reconsider(made, begun, now, fixed=fixed)
    check(checks, again, begun, now)
    assert length(again) <= length(made) * (1 + 1e-9) + 1e-9


@settings(deadline=None, max_examples=30)
@given(st.data(), st.booleans())
def test_both_paths_give_the_same_plan(problems, data, fixed):
    plan, begun, now = data.draw(situations(problems))
    a, b = (
        reconsider(plan, begun, now, fixed=fixed, path=path)
        for path in ("numpy", "compiled")
    )
    assert a.node.tolist() == b.node.tolist()
    assert a.end.tolist() == b.end.tolist()


@settings(**MESSY)
@given(st.data())
def test_slower_nodes_are_those_of_less_speed(problems, data):
    plan, begun, now = data.draw(situations(problems))
    p = plan.problem
    slower = np.array([data.draw(st.sampled_from([0.5, 1, 4])) for _ in p.nodes])
    nodes = [
        hd.Node(
            x.name, x.capabilities, speed=x.speed / f, gpu_speed=x.gpu_speed / f,
            slots=x.slots, price=x.price,
        )
        for x, f in zip(p.nodes, slower, strict=True)
    ]  # fmt: skip
    links = p.cluster.bandwidth, p.cluster.latency
    other = replace(plan, problem=p.on(hd.Cluster(nodes, *links), held=p.held))
    a = reconsider(plan, begun, now, slower=slower)
    b = reconsider(other, begun, now)
    assert a.problem is p
    assert a.node.tolist() == b.node.tolist()
    assert a.end == pytest.approx(b.end)


def chain(*costs, nodes=("a", "b"), **more):
    """A plan of functions 0, 1, ... on equal nodes."""
    functions = [hd.Function(i, cost=cost, **more) for i, cost in enumerate(costs)]
    cluster = hd.Cluster([hd.Node(name) for name in nodes])
    return heft(hd.Problem(hd.Graph(functions), cluster))


def test_times_are_brought_up_to_date_where_the_plan_is_kept():
    plan = chain(*[{"cpu_time": 1000}] * 4, nodes=["a"])
    begun = begun_at(plan, 0.5, late=3.0)
    made = reconsider(plan, begun, 0.5)
    assert sorted(made.start.tolist()) == [0, 3, 4, 5]
    assert made.node.tolist() == plan.node.tolist()


def test_a_small_gain_is_not_worth_a_change():
    plan = chain(*[{"cpu_time": 1000}] * 4)
    begun = begun_at(plan, 0.5)
    late = replace(
        begun, end=np.where((begun.node == 0) & (plan.start == 0), 3.0, begun.end)
    )
    kept = reconsider(plan, late, 0.5, gain=0.5)
    made = reconsider(plan, late, 0.5)
    assert (kept.makespan, made.makespan) == (4.0, 3.0)


def test_fixed_functions_stay_and_only_the_homeless_are_placed():
    plan = chain(*[{"cpu_time": 1000}] * 6, nodes=["a", "b", "c"])
    p = plan.problem.on(hd.Cluster([hd.Node("c"), hd.Node("b")]))
    node, missing = carried(plan, p)
    assert (node[~missing] == 2 - plan.node[~missing]).all()
    assert missing.tolist() == (plan.node == 0).tolist()
    nothing = Begun(np.full(6, -1), np.zeros(6, int), np.zeros(6), np.zeros(6))
    made = reconsider(replace(plan, problem=p, node=node), nothing, 0.0, fixed=True)
    assert (made.node[~missing] == node[~missing]).all()
    assert made.makespan == 3.0


def test_what_lost_its_only_node_waits_for_ever_and_the_rest_goes_on():
    functions = [
        hd.Function("p", node="a"), hd.Function("q", ["p"]), hd.Function("r"),
        hd.Function("s", ["r"], node=hd.with_function("q")),
    ]  # fmt: skip
    cluster = hd.Cluster([hd.Node("a"), hd.Node("b")], latency=0)
    plan = heft(hd.Problem(hd.Graph(functions), cluster))
    p = plan.problem.on(hd.Cluster([hd.Node("b")], latency=0))
    n = len(functions)
    nothing = Begun(np.full(n, -1), np.zeros(n, int), np.zeros(n), np.zeros(n))
    for fixed in (False, True):
        here = replace(plan, problem=p, node=carried(plan, p)[0])
        made = reconsider(here, nothing, 0.0, fixed=fixed)
        ends = {f.id: end for f, end in zip(p.functions, made.end, strict=True)}
        assert ends == {"p": np.inf, "q": np.inf, "r": 1.0, "s": 2.0}
        back = p.on(cluster)
        there = replace(made, problem=back, node=carried(made, back)[0])
        assert np.isfinite(reconsider(there, nothing, 0.0, fixed=fixed).end).all()


def nothing_of(plan):
    """Begun, when nothing has."""
    n = len(plan.node)
    return Begun(np.full(n, -1), np.zeros(n, int), np.zeros(n), np.zeros(n))


def on(plan, *nodes):
    """The plan on other nodes."""
    p = plan.problem.on(hd.Cluster(nodes))
    return replace(plan, problem=p, node=carried(plan, p)[0])


def test_functions_of_one_group_move_together():
    functions = [
        hd.Function("x", cost={"ssd": True}),
        hd.Function("y", node=hd.with_function("x")),
    ]
    cluster = hd.Cluster([hd.Node("a", {"ssd": True})])
    plan = heft(hd.Problem(hd.Graph(functions), cluster))
    here = on(plan, hd.Node("a"), hd.Node("b", {"ssd": True}))
    assert here.node.tolist() == [-1, -1]
    for fixed in (False, True):
        made = reconsider(here, nothing_of(plan), 0.0, fixed=fixed)
        assert made.node.tolist() == [1, 1]


def test_mates_of_what_has_begun_go_where_it_is():
    functions = [hd.Function("x"), hd.Function("y", node=hd.with_function("x"))]
    functions += [hd.Function("z")]
    cluster = hd.Cluster([hd.Node("a"), hd.Node("b", speed=4)])
    problem = hd.Problem(hd.Graph(functions), cluster)
    plan = hd.Plan(problem, [1, 1, 1], [0] * 3, [0, 1, 2], [0.25, 1.25, 2.25])
    begun = nothing_of(plan)
    begun.node[0], begun.end[0] = 0, 1.0
    for fixed in (False, True):
        assert reconsider(plan, begun, 0.5, fixed=fixed).node.tolist() == [0, 0, 1]


def test_what_reads_results_that_exist_does_not_wait_for_those_that_are_lost():
    functions = [
        hd.Function("lost", node="a"), hd.Function("there", ["lost"]),
        hd.Function("reader", ["there"]), hd.Function("again", ["lost"]),
    ]  # fmt: skip
    cluster = hd.Cluster([hd.Node("a"), hd.Node("b")])
    plan = heft(hd.Problem(hd.Graph(functions), cluster))
    here = on(plan, hd.Node("b"))
    begun, at = nothing_of(plan), plan.problem.where
    begun.node[at["there"]], begun.end[at["there"]] = 0, 2.0
    made = reconsider(here, begun, 2.0)
    forever = {id for id, i in at.items() if np.isinf(made.end[i])}
    assert forever == {"lost", "again"}
    assert made.end[at["reader"]] == 3.0


def test_who_goes_on_keeps_a_node_that_its_waiting_mates_can_use():
    functions = [
        hd.Function("lost", node="a"), hd.Function("x"),
        hd.Function("y", ["lost"], node=hd.with_function("x"), cost={"ssd": True}),
    ]  # fmt: skip
    cluster = hd.Cluster([hd.Node("a"), hd.Node("c", {"ssd": True})])
    plan = heft(hd.Problem(hd.Graph(functions), cluster))
    at = plan.problem.where
    others = [hd.Node("fast", speed=9), hd.Node("d", {"ssd": True})]
    for fixed in (False, True):
        made = reconsider(on(plan, *others), nothing_of(plan), 0.0, fixed=fixed)
        assert (made.node[at["x"]], made.end[at["x"]]) == (1, 1.0)
        assert np.isinf(made.end[[at["lost"], at["y"]]]).all()


def test_without_nodes_everything_waits():
    plan = chain({}, {}, {})
    p = plan.problem.on(hd.Cluster([]))
    begun = Begun(np.array([GONE, -1, -1]), np.zeros(3, int), np.zeros(3), np.ones(3))
    made = reconsider(replace(plan, problem=p, node=carried(plan, p)[0]), begun, 1.0)
    assert made.node.tolist() == [-1, -1, -1]
    assert made.end.tolist() == [1.0, np.inf, np.inf]


def test_what_never_ends_keeps_its_room_and_its_readers_wait():
    functions = [hd.Function(0), hd.Function(1, [0]), hd.Function(2), hd.Function(3)]
    cluster = hd.Cluster([hd.Node("a"), hd.Node("b")])
    plan = heft(hd.Problem(hd.Graph(functions), cluster))
    at = {f.id: i for i, f in enumerate(plan.problem.functions)}
    begun = begun_at(plan, 0.0)
    begun.node[at[0]], begun.end[at[0]] = 0, np.inf
    made = reconsider(plan, begun, 0.5)
    assert np.isinf(made.end[[at[0], at[1]]]).all()
    assert made.node[[at[2], at[3]]].tolist() == [1, 1]
    assert sorted(made.end[[at[2], at[3]]].tolist()) == [1.5, 2.5]


def test_room_that_is_held_for_ever_is_not_there():
    p = chain({}, {}).problem
    p = p.on(p.cluster, held=[Held("a", 0.0, np.inf, {})])
    plan = hd.Plan(p, [0, 1], [0, 0], [0.0, 0.0], [1.0, 1.0])
    nothing = begun_at(plan, 0.0)
    for fixed in (False, True):
        made = reconsider(plan, nothing, 0.0, fixed=fixed)
        assert (made.node.tolist(), sorted(made.end)) == ([1, 1], [1.0, 2.0])


def test_factors_that_make_no_sense_are_refused():
    plan = chain({}, {})
    for slower in ([1.0], [1.0, 0.0], [1.0, np.inf]):
        with pytest.raises(AllocationError):
            reconsider(plan, begun_at(plan, 0.0), 0.0, slower=np.array(slower))


# -------------------------------------------------------------------- latest starts
@settings(**MESSY)
@given(st.data(), st.sampled_from(["numpy", "compiled"]))
def test_all_may_start_at_their_latest_at_once(problems, checks, data, path):
    p = data.draw(problems)
    assume(p.able.all())
    plan = heft(p)
    late = latest_starts(plan, path)
    assert (late >= plan.start).all()
    shifted = replace(plan, start=late, end=late + (plan.end - plan.start))
    assert shifted.makespan == pytest.approx(plan.makespan)
    checks.check_slowly(shifted)


@settings(**MESSY)
@given(st.data())
def test_with_one_slot_the_latest_start_leaves_no_slack(checks, data):
    plan = heft(data.draw(checks.tiny(zero=False)))
    assert latest_starts(plan) - plan.start == pytest.approx(plan.slack, abs=1e-9)


def latest_of(functions, has, **more):
    """By id, on one node."""
    cluster = hd.Cluster([hd.Node("a", has)])
    plan = heft(hd.Problem(hd.Graph(functions), cluster, **more))
    return dict(zip(plan.problem.where, latest_starts(plan).tolist(), strict=True))


def test_a_slot_is_that_of_what_is_read_or_of_who_left_it_longest_ago():
    seconds = {"cpu_time": 1000}
    functions = [
        hd.Function("a", cost=seconds), hd.Function("b", cost={"cpu_time": 2000}),
        hd.Function("reads b", ["b"], cost={"cpu_time": 2000}),
    ]  # fmt: skip
    assert latest_of(functions, {"cpu": 2}) == {"a": 3.0, "b": 0.0, "reads b": 2.0}
    functions = [
        hd.Function("a", cost=seconds), hd.Function("b", cost=seconds),
        hd.Function("long", cost={"cpu_time": 4000}),
        hd.Function("reads both", ["a", "b"], cost={"cpu_time": 2000}),
        hd.Function("last", ["long"], cost=seconds),
    ]  # fmt: skip
    assert latest_of(functions, {"cpu": 3}) == {
        "a": 2.0, "b": 2.0, "long": 0.0, "reads both": 3.0, "last": 4.0,
    }  # fmt: skip
    functions = [
        hd.Function("a", cost=seconds), hd.Function("b", cost={"cpu_time": 2000}),
        hd.Function("c", cost={"cpu_time": 1500}),
        *(hd.Function(k, ["b"], cost={"cpu_time": 3000}) for k in "de"),
    ]  # fmt: skip
    assert latest_of(functions, {"cpu": 3}) == {
        "a": 1.0, "b": 0.0, "c": 3.5, "d": 2.0, "e": 2.0,
    }  # fmt: skip


def test_where_more_than_slots_is_short_nothing_slips_behind_a_later_start():
    functions = [
        hd.Function("a", cost={"cpu_time": 1000}),
        hd.Function("c", cost={"cpu_time": 9000, "x": 1}),
        hd.Function("d", cost={"cpu_time": 3000, "x": 1}),
    ]
    late = latest_of(functions, {"cpu": 9, "x": 1})
    assert late == {"a": 8.0, "c": 0.0, "d": 9.0}


def test_what_is_held_leaves_no_room_to_slip_into():
    functions = [hd.Function(k, cost={"memory": 40}) for k in "uv"]
    held = [Held("a", 0.0, 10.0, {"memory": 60, "slots": 0, "cpu": 0})]
    late = latest_of(functions, {"cpu": 2, "memory": 100}, held=held)
    assert sorted(late.values()) == [0.0, 1.0]


def test_what_never_runs_has_no_latest_start():
    functions = [hd.Function("a"), hd.Function("b", ["a"]), hd.Function("c")]
    plan = heft(hd.Problem(hd.Graph(functions), hd.Cluster([hd.Node("n")])))
    at = plan.problem.where
    end = plan.end.copy()
    node, start = plan.node.copy(), plan.start.copy()
    node[at["b"]], start[at["b"]], end[at["b"]] = -1, np.inf, np.inf
    late = latest_starts(replace(plan, node=node, start=start, end=end))
    assert np.isinf(late).tolist() == [i == at["b"] for i in range(3)]

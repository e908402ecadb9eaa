"""Laws of revision: what of a live run is planned again, from its books."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import handout_dask as hd
from handout_dask.allocators.engine import place, upward_rank
from handout_dask.allocators.revision import Stand, revise, stand_of
from handout_dask.begun import OVERDUE, expected_end
from handout_dask.books import DONE, FAILED, READY, SENT, WAITING, RunBook
from handout_dask.held import Held
from handout_dask.problem import Problem
from handout_dask.runspec import RunSpec


def planned(functions, nodes, **links):
    cluster = hd.Cluster(nodes, **({"bandwidth": 1e6, "latency": 0} | links))
    p = Problem(hd.Graph(functions), cluster)
    return place(p, key=-upward_rank(p))


def stand_at(plan, now, ahead=()):
    """How far a run is that went as planned."""
    names = [node.name for node in plan.problem.nodes]
    state = np.full(len(plan.node), WAITING, dtype=np.uint8)
    state[plan.start <= now] = SENT
    state[plan.end <= now] = DONE
    state[list(ahead)] = SENT
    node = [names[j] for j in plan.node]
    return Stand(node, state, plan.start.copy(), plan.end.copy(), frozenset(ahead), now)


def again(plan, stand, cluster=None, **other):
    return revise(
        plan.problem.outline, plan.option, stand, cluster or plan.problem.cluster,
        **other,
    )  # fmt: skip


def many(n=12, seconds=1.0, **cost):
    """Functions that don't depend on each other."""
    return [hd.Function(i, cost={"cpu_time": 1e3 * seconds, **cost}) for i in range(n)]


def pair(**changes):
    return [hd.Node(name, {"cpu": 1}, **changes) for name in "ab"]


def test_a_run_that_goes_as_planned_stays_as_it_is():
    plan = planned(many(), pair())
    stand = stand_at(plan, 2.5)
    made = again(plan, stand)
    assert (made.node, made.moved, made.makespan) == (stand.node, 0, 6.0)
    assert made.start == pytest.approx(plan.start.tolist())
    assert made.end == pytest.approx(plan.end.tolist())
    assert sorted(made.rank) == list(range(12))


def test_what_runs_over_its_time_puts_off_what_follows():
    plan = planned(many(4), [hd.Node("a", {"cpu": 1})])
    stand = stand_at(plan, 0.5)
    stand = Stand(stand.node, stand.state, stand.start, stand.end, stand.ahead, 1.1)
    made = again(plan, stand)
    first = int(np.flatnonzero(stand.state == SENT)[0])
    assert made.end[first] == pytest.approx(1.1 + OVERDUE)
    rest = sorted(made.start[i] for i in range(4) if i != first)
    assert rest == pytest.approx([1.2, 2.2, 3.2])
    assert made.makespan == pytest.approx(4.2)


def test_what_is_late_on_one_node_is_taken_over_by_the_other():
    plan = planned(many(), pair())
    stand = stand_at(plan, 0.5)
    late = stand.node.index("a")
    assert stand.state[late] == SENT
    work = np.ones(12)
    work[late] = 20.0  # as was learned, or is learned of functions like it
    made = again(plan, stand, work=work)
    assert made.node[late] == "a"
    assert {made.node[i] for i in range(12) if i != late} == {"b"}
    assert made.moved == 5
    assert made.makespan == pytest.approx(20.0)


def test_functions_of_a_lost_node_go_elsewhere():
    plan = planned(many(), pair())
    stand = stand_at(plan, 2.5)
    stand.state[(stand.state == SENT) & (np.array(stand.node) == "a")] = WAITING
    made = again(plan, stand, hd.Cluster([plan.problem.nodes[1]]))
    for i, state in enumerate(stand.state):
        assert made.node[i] == (stand.node[i] if state == DONE else "b")
    assert made.moved == sum(
        s == WAITING and n == "a" for s, n in zip(stand.state, stand.node, strict=True)
    )
    assert made.makespan == pytest.approx(3.0 + 7)


def test_a_new_node_gets_work():
    plan = planned(many(), pair())
    cluster = hd.Cluster([*pair(), hd.Node("new", {"cpu": 2})])
    made = again(plan, stand_at(plan, 0.5), cluster)
    assert made.node.count("new") >= 4
    assert made.makespan < plan.makespan - 1.5


def test_a_slower_node_gets_less_work():
    plan = planned(many(40), pair())
    stand = stand_at(plan, 2.5)
    waits = [i for i in range(40) if stand.state[i] == WAITING]
    counts = []
    for slower in (1.0, 2.0, 4.0, 1000.0):
        made = again(plan, stand, slower=np.array([slower, 1.0]))
        counts.append(sum(made.node[i] == "a" for i in waits))
    assert counts[0] == len(waits) / 2
    assert counts == sorted(counts, reverse=True)
    assert counts[1] < counts[0]
    assert counts[-1] == 0


def test_learned_times_count():
    plan = planned(many(8), pair())
    made = again(plan, stand_at(plan, 0.5), work=np.full(8, 3.0))
    assert made.makespan == pytest.approx(4 * 3.0)  # of what runs too
    for i in range(8):
        assert made.end[i] - made.start[i] == pytest.approx(3.0)


def test_what_runs_on_a_slower_node_takes_longer_too():
    plan = planned(many(2), pair())
    made = again(plan, stand_at(plan, 0.5), slower=np.array([4.0, 1.0]))
    ends = {made.node[i]: made.end[i] for i in range(2)}
    assert ends == {"a": pytest.approx(4.0), "b": pytest.approx(1.0)}


def test_what_others_hold_counts_from_now_on():
    plan = planned(many(4), pair())
    stand = stand_at(plan, 0.5)
    made = again(plan, stand, held=[Held("b", 0.0, 100.0, {"cpu": 1.0})])
    waits = np.flatnonzero(stand.state == WAITING)
    assert [made.node[i] for i in waits] == ["a", "a"]
    assert made.makespan == pytest.approx(3.0)
    for start, end in ((0.0, 0.5), (2.0, 3.0)):  # until it is needed, or afterwards
        held = [Held("b", start, end, {"cpu": 1.0})]
        assert again(plan, stand, held=held).node == stand.node
    made = again(plan, stand, held=[Held("b", 0.0, 0.7, {"cpu": 1.0})], fixed=True)
    assert made.makespan == pytest.approx(2.2)
    assert again(plan, stand, held=[Held("gone", 0.0, 9.0, {})]).moved == 0


def test_what_keeps_its_node_keeps_it_where_it_can():
    plan = planned(many(), pair())
    stand = stand_at(plan, 2.5)
    slower = np.array([50.0, 1.0])
    made = again(plan, stand, slower=slower, fixed=True)
    assert (made.node, made.moved) == (stand.node, 0)
    lost = again(plan, stand, hd.Cluster(pair()[:1]), fixed=True)
    for i, state in enumerate(stand.state):
        if stand.node[i] == "a" or state in (SENT, DONE):
            assert lost.node[i] == stand.node[i]
        else:
            assert lost.node[i] == "a"


def test_what_can_run_nowhere_now_waits_and_the_rest_goes_on():
    functions = [
        hd.Function("camera", cost={"cpu_time": 1000, "camera": 1}),
        hd.Function("pinned", cost={"cpu_time": 1000}, node="b"),
        hd.Function("after", ["camera"], cost={"cpu_time": 1000}),
        *many(6),
    ]
    nodes = [hd.Node("a", {"cpu": 1}), hd.Node("b", {"cpu": 1, "camera": 1})]
    plan = planned(functions, nodes)
    stand = stand_at(plan, 0.0)
    stand.state[:] = WAITING
    made = again(plan, stand, hd.Cluster(nodes[:1]))
    index = plan.problem.where
    never = [index[id] for id in ("camera", "pinned", "after")]
    for i in range(len(functions)):
        assert np.isinf(made.end[i]) == np.isinf(made.start[i]) == (i in never)
        assert made.node[i] == ("b" if i in never[:2] else made.node[i])
    assert {made.node[i] for i in range(9) if i not in never} == {"a"}
    assert made.makespan == pytest.approx(6.0)
    assert min(made.rank[i] for i in never) == 6
    # Once the node is back, so are they.
    books = Stand(made.node, stand.state, np.array(made.start), np.array(made.end),
                  frozenset(), 2.0)  # fmt: skip
    back = again(plan, books)
    assert np.isfinite(back.end).all()
    assert [back.node[i] for i in never[:2]] == ["b", "b"]


def test_an_alternative_that_does_not_run_is_no_way_out():
    """What runs was settled when the run was lowered."""
    cost = [{"cpu_time": 1000, "camera": 1}, {"cpu_time": 9000}]
    nodes = [hd.Node("a", {"cpu": 1}), hd.Node("b", {"cpu": 1, "camera": 1})]
    plan = planned([hd.Function("choice", cost=cost), *many(4)], nodes)
    stand = stand_at(plan, -1.0)
    i = plan.problem.where["choice"]
    assert (stand.node[i], plan.option[i]) == ("b", 0)
    made = again(plan, stand, hd.Cluster(nodes[:1]))
    assert made.end[i] == np.inf
    assert made.makespan == pytest.approx(3.0)
    assert again(plan, stand, hd.Cluster(nodes[::-1])).node[i] == "b"


def test_what_was_sent_ahead_to_a_node_that_has_returned_has_times_again():
    plan = planned(many(2), [hd.Node("a", {"cpu": 1})])
    stand = stand_at(plan, 0.5, ahead=[1])
    stand.start[1] = stand.end[1] = np.inf
    made = again(plan, stand)
    assert (made.start, made.end) == ([0.0, 1.0], [1.0, 2.0])


def test_nothing_can_run_and_nothing_breaks():
    plan = planned([hd.Function(0, node="a"), hd.Function(1, [0])], pair())
    made = again(plan, stand_at(plan, -1.0), hd.Cluster(pair()[1:]))
    assert made.start == made.end == [np.inf, np.inf]
    assert (made.makespan, made.moved) == (0.0, 0)


def test_what_runs_on_a_paused_node_is_waited_for():
    functions = [hd.Function(0, cost={"cpu_time": 4000, "camera": 1}),
                 hd.Function(1, [0], cost={"cpu_time": 1000}),
                 hd.Function(2, cost={"cpu_time": 1000})]  # fmt: skip
    nodes = [hd.Node("a", {"cpu": 1}), hd.Node("b", {"cpu": 1, "camera": 1})]
    plan = planned(functions, nodes)
    stand = stand_at(plan, 0.5)
    i = plan.problem.where
    made = again(plan, stand, hd.Cluster(nodes[:1]))
    assert made.node[i[0]] == "b"
    assert made.end[i[0]] == pytest.approx(4.0)
    assert (made.node[i[1]], made.start[i[1]]) == ("a", pytest.approx(4.0))


def test_a_group_follows_what_was_sent():
    functions = [hd.Function("long", cost={"cpu_time": 9000}), *many(4),
                 hd.Function("with", ["long"], cost={"cpu_time": 1000},
                             node=hd.with_function("long"))]  # fmt: skip
    plan = planned(functions, pair())
    where = plan.problem.where
    stand = stand_at(plan, 0.5)
    j = stand.node.index(stand.node[where["long"]])
    slower = np.ones(2)
    slower["ab".index(stand.node[j])] = 100.0
    made = again(plan, stand, slower=slower)
    assert made.node[where["with"]] == stand.node[where["long"]]


def test_what_was_sent_ahead_begins_when_a_slot_gets_free():
    plan = planned(many(4), [hd.Node("a", {"cpu": 1})])
    order = np.argsort(plan.start).tolist()
    made = again(plan, stand_at(plan, 0.5, ahead=order[1:3]))
    assert [made.start[i] for i in order] == pytest.approx([0.0, 1.0, 2.0, 3.0])


def test_it_gets_the_slot_that_gets_free_first():
    functions = [
        hd.Function(k, cost={"cpu_time": t}) for k, t in enumerate([9000, 2000, 1000])
    ]
    plan = planned(functions, [hd.Node("a", {"cpu": 2})])
    i = plan.problem.where
    made = again(plan, stand_at(plan, 0.5, ahead=[i[2]]))
    assert [made.start[i[k]] for k in range(3)] == pytest.approx([0.0, 0.0, 2.0])


def test_latest_starts_are_those_that_lengthen_nothing():
    functions = [
        hd.Function("long", cost={"cpu_time": 4000}, node="a"),
        hd.Function("short", cost={"cpu_time": 1000}, node="b"),
        hd.Function("shorter", cost={"cpu_time": 500}, node="b"),
    ]
    plan = planned(functions, pair())
    stand = stand_at(plan, -1.0)
    stand = Stand(stand.node, stand.state, stand.start, stand.end, stand.ahead, 2.0)
    made = again(plan, stand)
    i = plan.problem.where
    assert made.start[i["long"]] == made.latest[i["long"]] == pytest.approx(2.0)
    of_b = [(made.start[i[k]], made.latest[i[k]]) for k in ("short", "shorter")]
    assert of_b == [pytest.approx((2.0, 4.5)), pytest.approx((3.0, 5.5))]


def test_what_failed_is_over():
    plan = planned(many(4), pair())
    stand = stand_at(plan, 0.5)
    failed = np.flatnonzero(stand.state == SENT)
    stand.state[failed] = FAILED
    made = again(plan, stand)
    assert made.makespan == pytest.approx(1.5)
    assert [made.node[i] for i in failed] == [stand.node[i] for i in failed]


def test_stand_is_a_copy_of_the_books_by_the_clock_of_the_run():
    spec = RunSpec(
        token="r", prefix=["f"] * 2, cut_prefix="cut", node=["a", "b"], rank=[0, 1],
        need=[0, 0], demand=[{"cpu": 1.0}], able=[frozenset("ab")], pinned=frozenset(),
        group={}, start=[0.0, 1.0], end=[1.0, 2.0], cuts=frozenset(),
    )  # fmt: skip
    run = RunBook(spec, [], since=100.0)
    run.state[0] = READY
    stand = stand_of(run, 103.0, [1])
    run.state[0], run.node[0], run.start[0], run.end[0] = DONE, "b", 7.0, 8.0
    assert stand.node == ["a", "b"]
    assert stand.state.tolist() == [READY, WAITING]
    assert (stand.start.tolist(), stand.end.tolist()) == ([0.0, 1.0], [1.0, 2.0])
    assert (stand.ahead, stand.now) == (frozenset([1]), 3.0)


# ------------------------------------------------------------------------ the law
@st.composite
def moments(draw, problems):
    """A plan, how far it is, the nodes that are there now, and how slow they are."""
    p = draw(problems)
    assume(p.able.all() and len(p.functions))
    plan = place(p, key=-upward_rank(p))
    now = draw(st.floats(0, 1)) * plan.makespan
    stand = stand_at(plan, now)
    pick = st.sampled_from
    there = [x for x in p.nodes if draw(pick([True, True, True, False]))]
    if draw(st.booleans()):
        there.insert(0, hd.Node("new", {"cpu": 2, "memory": 100, "camera": 1}))
    assume(there)
    names = {node.name for node in there}
    for i, state in enumerate(stand.state.tolist()):
        if state == SENT and (stand.node[i] not in names and draw(st.booleans())):
            stand.state[i] = WAITING  # lost with its node; else that is paused
        elif state == SENT and draw(pick([False, False, True])):
            stand.state[i] = FAILED
        elif state == SENT:
            late = draw(pick([1.0, 0.5, 3.0]))
            stand.end[i] = stand.start[i] + late * (stand.end[i] - stand.start[i])
    cluster = hd.Cluster(there, bandwidth=10, latency=0.5)
    slower = np.array([draw(pick([1.0, 1.0, 3.0])) for _ in there])
    held = [h for h in p.held if h.end < np.inf]
    return plan, stand, cluster, slower, held


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_revision_keeps_what_has_begun_and_plans_the_rest_from_now_on(problems, data):
    plan, stand, cluster, slower, held = data.draw(moments(problems))
    fixed = data.draw(st.booleans())
    before = [stand.node.copy(), stand.state.copy(), stand.start.copy()]
    made = again(plan, stand, cluster, slower=slower, held=held, fixed=fixed)
    more = {"slower": slower, "held": held, "fixed": fixed, "path": "numpy"}
    assert again(plan, stand, cluster, **more) == made
    assert stand.node == before[0]
    assert (stand.state == before[1]).all()
    assert (stand.start == before[2]).all()
    p, now, n = plan.problem, stand.now, len(plan.node)
    waits = [i for i in range(n) if stand.state[i] in (WAITING, READY)]
    moved = [i for i in range(n) if made.node[i] != stand.node[i]]
    assert made.moved == len(moved)
    assert set(moved) <= set(waits)
    new = Problem(p.outline, cluster)
    eps = 1e-9 * (1 + made.makespan)

    def seconds(i, j):
        row = p.option_ptr[i] + plan.option[i]
        rate = new.rate[p.option_class[row], new.kind[j]]
        assert rate > 0
        return p.option_work[row] / rate * slower[j]

    for i in range(n):
        start, end = made.start[i], made.end[i]
        if i not in waits:
            if stand.state[i] in (SENT, DONE):
                assert start == stand.start[i]
            if stand.state[i] == SENT:
                assert end >= now - eps
            if stand.state[i] == SENT and made.node[i] in cluster.index:
                takes = seconds(i, cluster.index[made.node[i]])
                assert end == pytest.approx(expected_end(start, takes, now))
            continue
        assert np.isinf(start) == np.isinf(end)
        if np.isinf(end):
            continue
        j = cluster.index[made.node[i]]  # it is there
        assert end - start == pytest.approx(seconds(i, j))
        assert start >= now - eps
        assert made.latest[i] >= start - eps
        assert p.pin[i] < 0 or made.node[i] == p.nodes[p.pin[i]].name
        for u in p.preds[i]:
            if stand.state[u] in (WAITING, READY, SENT):
                assert start >= made.end[u] - eps
                assert made.rank[u] < made.rank[i]
    for g in set(p.group[p.group >= 0].tolist()):
        mates = [i for i in np.flatnonzero(p.group == g) if i in waits]
        runs = {made.node[i] for i in mates if np.isfinite(made.end[i])}
        assert len(runs) <= 1
        sent_ones = {
            stand.node[i]
            for i in np.flatnonzero(p.group == g)
            if stand.state[i] == SENT and stand.node[i] in cluster.index
        }
        assert not (runs and sent_ones) or runs == sent_ones
    assert sorted(made.rank) == list(range(n))
    by_rank = sorted(range(n), key=made.rank.__getitem__)
    assert [made.start[i] for i in by_rank] == sorted(made.start)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_revision_under_a_deadline_runs_all_that_can_run(problems, data):
    plan, stand, cluster, slower, held = data.draw(moments(problems))
    nodes = [
        hd.Node(node.name, dict(node.capabilities), price=data.draw(st.floats(0, 5)))
        for node in cluster.nodes
    ]
    billing = data.draw(st.sampled_from(["function", "held"]))
    cluster = hd.Cluster(nodes, bandwidth=10, latency=0.5, billing=billing)
    deadline = data.draw(st.floats(0.05, 1.5)) * plan.makespan
    lax = again(plan, stand, cluster, slower=slower, held=held, fixed=True)
    made = again(
        plan, stand, cluster, slower=slower, held=held, fixed=True, deadline=deadline
    )
    assert (np.isinf(made.end) == np.isinf(lax.end)).all()
    assert made.makespan <= max(deadline, lax.makespan) * (1 + 1e-9)
    assert sorted(made.rank) == list(range(len(made.rank)))

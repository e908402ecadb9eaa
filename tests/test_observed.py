"""Laws of what other processes leave: bounded, monotone, without oscillation, late."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handout_dask import Cluster, Function, Graph, Node
from handout_dask.history import kind_of
from handout_dask.observed import (
    PLAYS,
    Level,
    Play,
    Sample,
    Usable,
    left_of,
    narrowed,
    own_use,
)
from handout_dask.outline import Outline
from handout_dask.problem import Held, Problem

PLAY = Play(1 / 10, 1.0, 1.5, shrink=2.0, grow=10.0)


def sample(
    node="n0", at=0.0, cpu=0.0, memory=100.0, busy=0.0, available=8000.0, **more
):
    about = {
        "host": "h", "process": node, "cores": 4.0, "total": 16000.0, **more
    }  # fmt: skip
    return Sample(
        node, at=at, cpu=cpu, memory=memory, busy=busy, available=available, **about
    )


def follow(level, left, times):
    return [level.follow(x, at) for x, at in zip(left, times, strict=True)]


# --------------------------------------------------------------- the host's samples
def test_memory_left_is_what_is_held_and_an_even_part_of_what_is_available():
    nodes = {n: Node(n, {"memory": 8000}) for n in ("a", "b")}
    samples = [sample("a", memory=500), sample("b", memory=1500, available=3000, at=1)]
    assert {n: left["memory"] for n, left in left_of(samples, nodes).items()} == {
        "a": 2000, "b": 3000
    }  # fmt: skip


def test_cores_left_are_those_that_no_other_process_keeps_busy():
    nodes = {"a": Node("a", {"cpu": 1}), "b": Node("b", {"cpu": 3})}
    samples = [sample("a", cpu=1.0, busy=3.5), sample("b", cpu=0.5, busy=3.5)]
    assert left_of(samples, nodes) == {"a": {"cpu": 0.5}, "b": {"cpu": 1.5}}


def test_declared_beyond_the_host_is_left_alone():
    node = Node("a", {"cpu": 5, "memory": 17000})
    hungry = sample("a", busy=4.0, available=0.0)
    assert left_of([hungry], {"a": node}) == {"a": {}}
    assert left_of([hungry], {"a": Node("a")}) == {"a": {}}


def test_workers_of_one_process_share_what_it_uses():
    samples = [
        sample(name, process="p", cpu=2.0, memory=600) for name in ("a", "b")
    ] + [sample("c", cpu=1.0)]
    assert own_use(samples) == {
        "a": {"cpu": 1.0, "memory": 300},
        "b": {"cpu": 1.0, "memory": 300},
        "c": {"cpu": 1.0, "memory": 100},
    }


def test_hosts_are_looked_at_apart():
    usable = Usable()
    nodes = {n: Node(n, {"memory": 1000}) for n in ("a", "b")}
    for at in range(5):
        usable.follow(
            [
                sample("a", at=at, available=0.0, total=1000, host="x"),
                sample("b", at=at, available=900.0, total=1000, host="y"),
            ],
            nodes,
            at,
        )
    assert usable.limits() == {"a": {"memory": 125.0}}


# ---------------------------------------------------------------- what is usable
def test_less_counts_after_a_while_and_more_after_a_longer_one():
    level = Level(1000.0, PLAY)
    shrinking = follow(level, [300.0] * 5, [0.0, 0.5, 1.0, 1.5, 2.0])
    assert shrinking == [1000.0] * 4 + [400.0]
    growing = follow(level, [1000.0] * 4, [3.0, 12.0, 12.5, 14.0])
    assert growing == [400.0, 400.0, 1000.0, 1000.0]


def test_a_short_meal_counts_nothing():
    level = Level(1000.0, PLAY)
    times = np.arange(0.0, 20.0, 0.5)
    left = [100.0 if k % 4 else 1000.0 for k in range(len(times))]
    assert set(follow(level, left, times)) == {1000.0}


def test_few_samples_count_nothing_however_far_apart():
    level = Level(1000.0, PLAY)
    assert follow(level, [0.0, 0.0, 0.0], [0.0, 60.0, 120.0]) == [1000, 1000, 100]


LEFT = st.floats(-100, 1500)
GAPS = st.lists(st.floats(0.1, 5.0), min_size=1, max_size=40)


@st.composite
def series(draw, values=LEFT):
    gaps = draw(GAPS)
    times = np.cumsum(gaps).tolist()
    return times, draw(st.lists(values, min_size=len(gaps), max_size=len(gaps)))


@given(series(), st.sampled_from([*PLAYS.values(), PLAY]), st.floats(0.5, 1000))
def test_usable_is_never_below_nothing_nor_above_what_is_declared(told, play, declared):
    times, left = told
    assert all(0 <= x <= declared for x in follow(Level(declared, play), left, times))


@given(series(), st.lists(st.floats(0, 500), min_size=40, max_size=40))
def test_more_left_never_makes_less_usable(told, more):
    times, left = told
    richer = [x + y for x, y in zip(left, more, strict=False)]
    less = follow(Level(1000.0, PLAY), left, times)
    assert all(
        x <= y
        for x, y in zip(less, follow(Level(1000.0, PLAY), richer, times), strict=True)
    )


JITTER = st.lists(
    st.tuples(st.sampled_from([-49, 0, 49]), st.sampled_from([1, 6, 25])), max_size=8
)


@given(st.integers(0, 24), JITTER, st.sampled_from([0, 500, 1000]))
def test_jitter_by_less_than_a_step_moves_it_in_one_direction_only(middle, told, first):
    jitter = [x for x, count in told for _ in range(count)]  # each for a while
    level = Level(1000.0, PLAY)
    level.value = first
    left = [50 * middle + x for x in jitter]
    seen = [first, *follow(level, left, [k / 2 for k in range(len(left))])]
    steps = {np.sign(b - a) for a, b in pairwise(seen)} - {0.0}
    assert len(steps) <= 1


@given(series(), st.floats(0, 1500))
def test_what_stays_is_met_within_a_step_and_a_half(told, final):
    times, left = told
    level = Level(1000.0, PLAY)
    follow(level, left, times)
    last = [level.follow(final, times[-1] + k) for k in range(1, 30)][-1]
    assert min(1000, final) - 100 <= last <= min(1000, final + 150)


def test_samples_that_are_no_news_count_nothing():
    usable, nodes = Usable(), {"n0": Node("n0", {"memory": 1000})}
    hungry = sample(available=0.0)
    changes = [usable.follow([hungry], nodes, at) for at in range(20)]
    assert changes == [set()] * 20


def test_a_node_that_is_gone_or_redeclared_starts_anew():
    usable, nodes = Usable(), {"n0": Node("n0", {"memory": 1000})}
    told = [sample(at=at, available=0.0) for at in range(5)]
    changes = [usable.follow([x], nodes, x.at) for x in told]
    assert changes == [set(), set(), {"n0"}, set(), set()]
    assert usable.limits() == {"n0": {"memory": 125.0}}
    assert usable.follow([], nodes, 5.0) == {"n0"}
    for x in told:
        usable.follow([replace(x, at=x.at + 10)], nodes, x.at + 10)
    assert usable.limits() == {"n0": {"memory": 125.0}}
    nodes["n0"] = Node("n0", {"memory": 2000})
    assert usable.follow([sample(at=15)], nodes, 15.0) == {"n0"}
    assert usable.limits() == {}


# ------------------------------------------------------------------ what plans see
def outline(*costs):
    return Outline.of(Graph(Function(k, [], int, cost=c) for k, c in enumerate(costs)))


def test_plans_see_less_but_room_for_each_function_that_fits_what_is_declared():
    cluster = Cluster(
        [Node("n0", {"cpu": 4, "memory": 1000, "camera": 1}, price=2, slots=3),
         Node("n1", {"memory": 300})],
        billing="held", quantum=5,
    )  # fmt: skip
    limits = {"n0": {"memory": 100.0, "cpu": 2.0}, "n1": {"memory": 50.0}}
    graph = outline({"memory": 700, "cpu": 1}, {"memory": 200})
    seen = narrowed(cluster, limits, graph)
    assert seen.nodes == (
        Node("n0", {"cpu": 2, "memory": 700, "camera": 1}, price=2, slots=3,
             kind=kind_of(cluster["n0"])),
        Node("n1", {"memory": 200}, kind=kind_of(cluster["n1"])),
    )  # fmt: skip
    assert (seen.billing, seen.quantum) == ("held", 5)
    assert narrowed(cluster, {"other": {"memory": 1.0}}, graph) is cluster


@st.composite
def narrow_cases(draw):
    amount = st.sampled_from([0, 50, 100, 300, 900, 2000])
    nodes = [
        Node(f"n{j}", {"cpu": draw(st.sampled_from([1, 2, 4])), "memory": draw(amount)})
        for j in range(draw(st.integers(1, 3)))
    ]
    limits = draw(
        st.dictionaries(
            st.sampled_from(["n0", "n1", "n2"]),
            st.dictionaries(st.sampled_from(["cpu", "memory"]), st.floats(0, 1000)),
        )
    )
    costs = draw(
        st.lists(
            st.fixed_dictionaries(
                {"memory": amount, "cpu": st.sampled_from([1, 2, 4])}
            ),
            min_size=1,
            max_size=6,
        )
    )
    return nodes, limits, costs


@given(narrow_cases())
def test_narrowing_makes_nothing_impossible_and_nothing_possible(case):
    nodes, limits, costs = case
    graph = outline(*costs)
    wide = Problem(graph, Cluster(nodes))
    tight = Problem(graph, narrowed(Cluster(nodes), limits, graph))
    assert [
        [tight.rate[c, k] for k in tight.kind] for c in range(len(graph.classes))
    ] == [[wide.rate[c, k] for k in wide.kind] for c in range(len(graph.classes))]


@pytest.mark.parametrize("allocator", ["time", "first-available", "packing", "cost"])
def test_a_plan_waits_for_what_is_held_beyond_what_is_usable(allocator):
    from handout_dask.plans import allocate, check_plan

    graph = outline(*[{"memory": 400, "cpu_time": 1000}] * 4)
    cluster = Cluster([Node("n0", {"memory": 1000, "cpu": 4})])
    tight = narrowed(cluster, {"n0": {"memory": 500.0}}, graph)
    held = [Held("n0", 0.0, 2.0, {"memory": 900.0, "cpu": 1.0})]
    problem = Problem(graph, tight, held=held)
    plan = allocate(problem, allocator)
    check_plan(plan, problem)
    assert sorted(plan.start.tolist()) == pytest.approx([2, 3, 4, 5])

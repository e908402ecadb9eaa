"""Laws of all allocators: a plan that an independent check finds good, or a refusal."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handout_dask import (
    AllocationError,
    Allocator,
    Cluster,
    Function,
    Graph,
    Node,
    Plan,
    Problem,
    UnsatisfiableError,
    allocator,
    check_plan,
    plan,
    with_function,
)
from handout_dask.allocators.engine import place, upward_rank
from handout_dask.allocators.makespan import Time
from handout_dask.function import WithFunction
from handout_dask.plans import allocate
from handout_dask.problem import Held

NAMES = ["first-available", "load-balanced", "time"]
SECOND = {"cpu_time": 1000}

slow_ok = settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)


def schedule(plan):
    return [(p.function, p.node, p.start, p.end) for p in plan]


# -------------------------------------------- the rules once more, from the spec alone
def needs(cost, node):
    """What a function of this cost holds on this node, whole devices where several."""
    need = {"cpu": 1.0, "slots": 1.0, **{k: cost[k] for k in cost.keys() - TIMES}}
    need = {k: v for k, v in need.items() if v is not True}
    if "gpus" in need and node.capabilities.get("gpus", 0) > 1:
        need["gpus"] = math.ceil(need["gpus"])
        need.pop("gpu_memory", None)
    return need


TIMES = {"cpu_time", "gpu_time", "output_size"}


def capacity(node, resource):
    default = math.inf if resource in ("cpu", "memory") else 0
    return (
        node.slots if resource == "slots" else node.capabilities.get(resource, default)
    )


def fits(cost, node):
    for key, value in cost.items():
        if key in TIMES:
            continue
        if value is True:
            name = "has_cuda" if key == "has_cuda_requirement" else key
            if not node.capabilities.get(name):
                return False
        elif value > capacity(node, key):
            return False
    return "cpu" in cost or capacity(node, "cpu") >= 1


def groups(functions):
    """Sets of ids that share a node, by repeated merging."""
    sets = [{f.id} for f in functions]
    for f in functions:
        if isinstance(f.node, WithFunction):
            one = next(s for s in sets if f.id in s)
            two = next(s for s in sets if f.node.id in s)
            if one is not two:
                sets.remove(two)
                one |= two
    return sets


def homes(p):
    """Where each group can run: ``[(ids, names)]``."""
    by_id = {f.id: f for f in p.functions}

    def runs(f, node):
        if isinstance(f.node, str) and f.node != node.name:
            return False
        return any(fits(c, node) for c in f.alternatives)

    return [
        (ids, [n.name for n in p.nodes if all(runs(by_id[i], n) for i in ids)])
        for ids in groups(p.functions)
    ]


def seconds(p, cost, node):
    declared = [
        c.cpu_time if c.gpu_time is None else c.gpu_time
        for f in p.functions
        for c in f.alternatives
    ]
    known = [t for t in declared if t is not None]
    guess = statistics.median(known) if known else 1000
    if cost.gpu_time is not None:
        return cost.gpu_time / 1000 / node.gpu_speed
    return (guess if cost.cpu_time is None else cost.cpu_time) / 1000 / node.speed


def carried(p, producer, consumer):
    """MB that the consumer reads of the producer; of indexes only 0 and 1 are used."""
    size = producer.alternatives[0].output_size
    read = {at for id, at in consumer.inputs if id == producer.id}
    everyone = {at for f in p.functions for id, at in f.inputs if id == producer.id}
    if size is None:
        return 0
    whole = sum(size.values()) if isinstance(size, dict) else size
    if None in read:
        return whole
    if isinstance(size, dict):
        return sum(size[at] for at in read)
    parts = 2 if 1 in everyone else 1
    return whole * len(read) / parts


def held_need(held):
    return {"slots": 1.0, "cpu": 1.0, **held.demand}


def check_independently(p, made):
    """All rules of a plan, by loops over its placements; knows no arrays."""
    by_id = {f.id: f for f in p.functions}
    node_of = {n.name: n for n in p.nodes}
    at = {x.function: x for x in made}
    tiny = 1e-9 + 1e-6 * max((x.end for x in made), default=0)
    assert sorted(at) == sorted(by_id)
    rows = {name: [] for name in node_of}  # (start, end, need, ours)
    for id, x in at.items():
        node, cost = node_of[x.node], by_id[id].alternatives[x.option]
        assert fits(cost, node)
        assert x.start >= 0
        assert x.end - x.start == pytest.approx(seconds(p, cost, node), abs=tiny)
        rows[x.node].append((x.start, x.end, needs(cost, node), True))
        for u, _ in by_id[id].inputs:
            ready = at[u].end
            if at[u].node != x.node:
                a, b = p.cluster.index[at[u].node], p.cluster.index[x.node]
                ready += p.cluster.latency[a, b] / 1000
                ready += carried(p, by_id[u], by_id[id]) / p.cluster.bandwidth[a, b]
            assert x.start >= ready - tiny
    for ids, names in homes(p):
        assert {at[id].node for id in ids} <= set(names)
        assert len({at[id].node for id in ids}) == 1
    for h in p.held:
        if h.node in rows:
            rows[h.node].append((h.start, h.end, held_need(h), False))
    for name, busy in rows.items():
        for t, *_ in busy:
            now = [r for r in busy if r[0] <= t + tiny and t + tiny < r[1] - tiny]
            for resource in {k for _, _, need, ours in now if ours for k in need}:
                used = [need.get(resource, 0) for _, _, need, _ in now]
                ours = [r[2].get(resource, 0) for r in now if r[3]]
                room = capacity(node_of[name], resource)
                assert not any(ours) or sum(used) <= room * (1 + 1e-9)


# ------------------------------------------------------------------------------ laws
@pytest.mark.parametrize("name", NAMES)
@slow_ok
@given(data=st.data())
def test_a_problem_gets_a_good_plan_or_is_truly_unsatisfiable(problems, name, data):
    p = data.draw(problems)
    lost = {id for ids, names in homes(p) if not names for id in ids}
    if lost:
        with pytest.raises(UnsatisfiableError) as caught:
            allocate(p, name)
        assert set(caught.value.refusals) == lost
        for refusals in caught.value.refusals.values():
            assert set(refusals) == {n.name for n in p.nodes}
        return
    made = allocate(p, name)
    check_plan(made, p)
    check_independently(p, made)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_problem_gets_the_same_plan(name):
    functions = [Function(i, [i // 2] if i else [], cost=SECOND) for i in range(40)]
    nodes = [Node(f"n{j}", speed=1 + j % 2) for j in range(4)]
    made = allocator(name, iterations=200) if name == "time" else name
    first, second = (plan(Graph(functions), nodes, allocator=made) for _ in range(2))
    assert schedule(first) == schedule(second)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_makes_an_allocator(name):
    made = allocator(name)
    assert isinstance(made, Allocator)
    assert repr(made) == f"{type(made).__name__}()"
    with pytest.raises(AllocationError, match=f"^allocator '{name}': .*'deadline'"):
        allocator(name, deadline=5)


def test_an_unknown_name_is_an_error_that_lists_the_known():
    with pytest.raises(AllocationError) as caught:
        allocator("tiem")
    assert str(caught.value).startswith(
        "there is no allocator 'tiem'; known: first-available, load-balanced, time"
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_pin_and_a_group_are_honoured(name):
    functions = [
        Function("a", cost=SECOND),
        Function("b", node="slow", cost=SECOND),
        Function("c", node=with_function("d"), cost=SECOND),
        Function("d", ["a"], node=with_function("b"), cost=SECOND),
        Function("e", node=with_function("f"), cost={**SECOND, "x": 1}),
        Function("f", cost={**SECOND, "y": True}),
    ]
    nodes = [
        Node("fast", {"x": 5}, speed=9),
        Node("slow"),
        Node("both", {"x": 1, "y": True}, speed=0.1),
    ]
    made = plan(Graph(functions), nodes, allocator=name)
    assert {made[id].node for id in "bcd"} == {"slow"}
    assert {made[id].node for id in "ef"} == {"both"}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_dearer_than_the_cluster_runs_one_after_the_other(name):
    functions = [
        Function(i, [i - 1] if i else [], cost={**SECOND, "memory": 900})
        for i in range(5)
    ]
    made = plan(Graph(functions), [Node("n0", {"memory": 1000})], allocator=name)
    assert schedule(made) == [(i, "n0", float(i), i + 1.0) for i in range(5)]


@pytest.mark.parametrize("name", NAMES)
def test_functions_of_no_time_take_no_room(name):
    cost = {"cpu_time": 0, "memory": 60}
    functions = [Function(i, cost=cost) for i in range(9)]
    functions += [Function("end", range(9), cost=SECOND)]
    made = plan(Graph(functions), [Node("n0", {"memory": 100})], allocator=name)
    assert (made.makespan, made["end"].start) == (1.0, 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_held_is_waited_for_even_where_it_exceeds_the_room(name):
    held = [
        Held("n0", 0, 5, {"x": 1}),
        Held("n0", 1, 4, {"x": 1}),
        Held("n0", 2, 3, {}),
    ]
    functions = [Function("a", cost={**SECOND, "x": 1}), Function("b", cost=SECOND)]
    nodes = [Node("n0", {"x": 1}, slots=3)]
    p = Problem(Graph(functions), Cluster(nodes), held=held)
    made = allocate(p, name)
    assert {x.function: x.start for x in made} == {"a": 5.0, "b": 0.0}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_held_for_ever_is_an_error_and_no_hang(name):
    held = [Held("n0", 3, math.inf, {})]
    functions = [Function("a", cost={"cpu_time": 2000}), Function("b", cost=SECOND)]
    p = Problem(Graph(functions), Cluster([Node("n0")]), held=held)
    assert allocate(p, name).makespan == 3.0
    functions = [Function("a", cost={"cpu_time": 4000})]
    p = Problem(Graph(functions), Cluster([Node("n0")]), held=held)
    with pytest.raises(AllocationError) as caught:
        allocate(p, name)
    assert str(caught.value) == (
        "function 'a' finds no room on any node: "
        "what is held there already does not end"
    )
    with pytest.raises(AllocationError, match="no room on the node it is assigned to"):
        Plan.from_assignment(p, {"a": "n0"})


# ------------------------------------------------------------------- first-available
def earliest(busy, node, need, ready, span):
    """The first start from `ready` on with room, of all ends of others and `ready`."""
    times = sorted({ready, *(end for _, end, _ in busy if end > ready)})
    for t in times:
        points = [t, *(s for s, _, _ in busy if t < s < t + span)]
        if all(
            sum(n.get(k, 0) for s, e, n in busy if s <= point < e) + need[k]
            <= capacity(node, k) * (1 + 1e-9)
            for point in points
            for k in need
            if need[k]
        ):
            return t
    raise AssertionError("the last of the times is free")


@slow_ok
@given(data=st.data())
def test_first_available_starts_nothing_later_than_it_could_at_its_turn(problems, data):
    p = data.draw(problems)
    where = {id: names for ids, names in homes(p) for id in ids}
    if not all(where.values()):
        return
    made = allocate(p, "first-available")
    at = {x.function: x for x in made}
    by_id = {f.id: f for f in p.functions}
    rank = {f.id: k for k, f in enumerate(p.functions)}
    few = {  # of its alternatives the one that most nodes can run
        f.id: min(
            len(where[f.id]),
            max(sum(fits(cost, node) for node in p.nodes) for cost in f.alternatives),
        )
        for f in p.functions
    }
    busy = {n.name: [] for n in p.nodes}
    for h in p.held:
        if h.node in busy:
            busy[h.node].append((max(h.start, 0), h.end, held_need(h)))
    chosen, done = {}, set()
    while len(done) < len(by_id):
        # The one that became ready first is next; of equal ones one that fewest nodes
        # can run; then in topological order.
        ready = {
            id: max((at[u].end for u, _ in f.inputs), default=0.0)
            for id, f in by_id.items()
            if id not in done and all(u in done for u, _ in f.inputs)
        }
        id = min(ready, key=lambda id: (ready[id], few[id], rank[id]))
        best = math.inf
        together = next(ids for ids in groups(p.functions) if id in ids)
        for node in p.nodes:
            home = chosen.get(min(together), node.name)
            if node.name not in where[id] or home != node.name:
                continue
            arrival = 0.0
            for u, _ in by_id[id].inputs:
                came = at[u].end
                if at[u].node != node.name:
                    a, b = p.cluster.index[at[u].node], p.cluster.index[node.name]
                    came += p.cluster.latency[a, b] / 1000
                    came += carried(p, by_id[u], by_id[id]) / p.cluster.bandwidth[a, b]
                arrival = max(arrival, came)
            for cost in by_id[id].alternatives:
                if fits(cost, node):
                    need, span = needs(cost, node), seconds(p, cost, node)
                    best = min(
                        best, earliest(busy[node.name], node, need, arrival, span)
                    )
        assert at[id].start == pytest.approx(best, abs=1e-9)
        x, node = at[id], p.cluster[at[id].node]
        if x.end > x.start:
            cost = by_id[id].alternatives[x.option]
            busy[x.node].append((x.start, x.end, needs(cost, node)))
        chosen[min(together)] = x.node
        done.add(id)


def test_first_available_spills_to_the_next_node_when_the_first_is_full():
    nodes = [Node(name, {"compute": 2}, slots=9) for name in "ab"]
    functions = [Function(i, cost={**SECOND, "compute": 1}) for i in range(5)]
    made = plan(Graph(functions), nodes, allocator="first-available")
    assert schedule(made) == [
        (0, "a", 0.0, 1.0),
        (1, "a", 0.0, 1.0),
        (2, "b", 0.0, 1.0),
        (3, "b", 0.0, 1.0),
        (4, "a", 1.0, 2.0),
    ]


def test_first_available_takes_the_first_node_that_is_big_enough():
    nodes = [
        Node("n1", {"cpu": 2, "memory": 1000}),
        Node("n2", {"cpu": 4, "memory": 2000}),
    ]
    costs = {"one": {"cpu": 1}, "three": {"cpu": 3}, "memory": {"memory": 1500}}
    for id, cost in costs.items():
        made = plan(
            Graph([Function(id, cost=cost)]), nodes, allocator="first-available"
        )
        assert made[id].node == ("n1" if id == "one" else "n2")


def test_first_available_does_not_wait_for_a_faster_node():
    nodes = [Node("slow", speed=0.01), Node("fast", speed=100)]
    functions = [Function(i, cost=SECOND) for i in range(3)]
    made = plan(Graph(functions), nodes, allocator="first-available")
    assert [(x.function, x.node, x.start) for x in made] == [
        (0, "slow", 0.0),
        (1, "fast", 0.0),
        (2, "fast", 0.01),
    ]


def test_first_available_spills_when_pinned_work_has_the_first_node():
    functions = [
        Function("pinned", node="n0", cost={**SECOND, "memory": 1950}),
        Function("free", cost={**SECOND, "memory": 2000}),
    ]
    nodes = [Node(name, {"memory": 2000}, slots=2) for name in ("n0", "n1")]
    made = plan(Graph(functions), nodes, allocator="first-available")
    assert [(x.function, x.node, x.start) for x in made] == [
        ("pinned", "n0", 0.0),
        ("free", "n1", 0.0),
    ]


# --------------------------------------------------------------------- load-balanced
def busy(made):
    return [sum(x.end - x.start for x in made.on(n.name)) for n in made.problem.nodes]


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 3))
def test_load_balanced_gives_equal_nodes_equal_busy_time(m, each, slots):
    nodes = [Node(f"n{j}", slots=slots) for j in range(m)]
    functions = [Function(i, cost=SECOND) for i in range(m * each)]
    made = plan(Graph(functions), nodes, allocator="load-balanced")
    assert busy(made) == [float(each)] * m


def test_load_balanced_gives_equal_shares_per_slot_and_more_to_the_fast():
    nodes = [Node("n0"), Node("wide", slots=3), Node("fast", speed=2)]
    functions = [Function(i, cost=SECOND) for i in range(60)]
    made = plan(Graph(functions), nodes, allocator="load-balanced")
    assert busy(made) == [10.0, 30.0, 10.0]
    assert [len(made.on(n.name)) for n in nodes] == [10, 30, 20]


# ----------------------------------------------------------------------- time (HEFT)
def hand_example():
    """Four functions on a fast and a slow node, small enough for paper.

    Mean times are 3/4 of those at speed 1 (speeds 2 and 1); an edge takes 0.5 s.
    Ranks: d 1.5, b 3 + 0.5 + 1.5 = 5, c 1.5 + 0.5 + 1.5 = 3.5, a 1.5 + 0.5 + 5 = 7.
    """
    cost = {"output_size": 0.5}
    functions = [
        Function("a", cost={**cost, "cpu_time": 2000}),
        Function("c", ["a"], cost={**cost, "cpu_time": 2000}),
        Function("b", ["a"], cost={**cost, "cpu_time": 4000}),
        Function("d", ["b", "c"], cost={**cost, "cpu_time": 2000}),
    ]
    nodes = [Node("p", speed=2), Node("q", speed=1)]
    return Problem(Graph(functions), Cluster(nodes, bandwidth=1, latency=0))


def test_upward_ranks_are_those_by_hand():
    p = hand_example()
    ranks = dict(zip([f.id for f in p.functions], upward_rank(p), strict=True))
    assert ranks == {"a": 7.0, "b": 5.0, "c": 3.5, "d": 1.5}


def test_heft_makes_the_plan_by_hand():
    # c would end at 4 on p behind b, and ends at 1 + 0.5 + 2 on q.
    assert schedule(Time().allocate(hand_example())) == [
        ("a", "p", 0.0, 1.0),
        ("b", "p", 1.0, 3.0),
        ("c", "q", 1.5, 3.5),
        ("d", "p", 4.0, 5.0),
    ]


def gap_example(memory):
    """b waits on q for a's result until 5 s; c and d come after b and fit before it.

    Ranks: a 1 + 4 + 5 = 10, b 5, c 3, d 2.9.
    """
    functions = [
        Function("d", node="q", cost={"cpu_time": 2900, "memory": memory}),
        Function("c", node="q", cost={"cpu_time": 3000, "memory": memory}),
        Function("a", node="p", cost={"cpu_time": 1000, "output_size": 4}),
        Function("b", ["a"], node="q", cost={"cpu_time": 5000, "memory": memory}),
    ]
    nodes = [Node("p"), Node("q", {"memory": 100}, slots=2)]
    return Problem(Graph(functions), Cluster(nodes, bandwidth=1, latency=0))


@pytest.mark.parametrize(("memory", "d"), [(40, (0.0, 2.9)), (60, (10.0, 12.9))])
def test_heft_fills_a_gap_where_every_resource_fits(memory, d):
    plan = place(gap_example(memory), key=-upward_rank(gap_example(memory)))
    made = {x.function: (x.start, x.end) for x in plan}
    assert made == {"a": (0.0, 1.0), "b": (5.0, 10.0), "c": (0.0, 3.0), "d": d}


def test_heft_waits_for_the_better_node():
    nodes = [Node("slow", speed=0.1), Node("fast")]
    functions = [Function(i, cost=SECOND) for i in range(3)]
    made = plan(Graph(functions), nodes, allocator="time")
    assert [(x.node, x.start) for x in made] == [
        ("fast", 0.0),
        ("fast", 1.0),
        ("fast", 2),
    ]


def test_heft_takes_the_alternative_that_ends_first():
    costs = [{"cpu_time": 5000}, {"gpu_time": 3000}]
    functions = [Function(i, cost=costs) for i in range(3)]
    made = plan(Graph(functions), [Node("n0", {"gpus": 1}, slots=3)], allocator="time")
    assert [(x.option, x.start, x.end) for x in made] == [
        (1, 0.0, 3.0),
        (0, 0.0, 5.0),
        (0, 0.0, 5.0),
    ]


def test_an_alternative_that_runs_nowhere_has_no_say_in_the_rank():
    costs = [{"cpu_time": 0, "x": 1}, {"cpu_time": 2000}]
    functions = [Function("a", cost=costs), Function("b", ["a"], cost=SECOND)]
    p = Problem(Graph(functions), Cluster([Node("n0")]))
    assert upward_rank(p).tolist() == [3.0, 1.0]


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_a_rank_is_never_below_that_of_a_reader(problems, data):
    p = data.draw(problems)
    if not p.functions or not all(names for _, names in homes(p)):
        return
    rank = upward_rank(p)
    assert np.isfinite(rank).all()
    assert all(rank[u] >= rank[v] for v, us in enumerate(p.preds) for u in us)

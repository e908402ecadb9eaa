"""Laws of plans: how they are made, what they cost, and that no broken one passes."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handout_dask import (
    AllocationError,
    Cluster,
    Function,
    Graph,
    GraphError,
    Node,
    Plan,
    Problem,
    UnsatisfiableError,
    check_plan,
    plan,
    with_function,
)
from handout_dask.allocators.makespan import Time
from handout_dask.billing import bill
from handout_dask.plans import Placement, allocate, allocate_all
from handout_dask.problem import Held

SECOND = {"cpu_time": 1000}


def problem(functions, nodes, **links):
    links = {"bandwidth": 1, "latency": 0} | links
    held = links.pop("held", ())
    return Problem(Graph(functions), Cluster(nodes, **links), held=held)


def schedule(plan):
    return [(p.function, p.node, p.start, p.end) for p in plan]


def diamond(**links):
    """a -> b, c -> d on two nodes; a's result takes 2 s to travel."""
    return problem(
        [
            Function("a", cost={**SECOND, "output_size": 2}),
            Function("b", ["a"], cost=SECOND),
            Function("c", ["a"], cost=SECOND),
            Function("d", ["b", "c"], cost=SECOND),
        ],
        [Node("n0"), Node("n1")],
        **links,
    )


# ------------------------------------------------------------------- from_assignment
def test_an_assignment_runs_each_function_as_early_as_it_can():
    p = diamond()
    made = Plan.from_assignment(p, {"a": "n0", "b": "n0", "c": "n1", "d": "n0"})
    assert schedule(made) == [
        ("a", "n0", 0.0, 1.0),
        ("b", "n0", 1.0, 2.0),
        ("c", "n1", 3.0, 4.0),
        ("d", "n0", 4.0, 5.0),
    ]
    assert (made.makespan, made.transferred, len(made)) == (5.0, 2.0, 4)
    assert made["c"] == Placement("c", "n1", 3.0, 4.0)
    assert made.on("n1") == (made["c"],)
    assert check_plan(made, p) is made


@pytest.mark.parametrize(
    ("order", "starts"),
    [
        (["a", "b", "c"], {"a": 0, "b": 1, "c": 2}),
        (["c", "b", "a"], {"c": 0, "b": 1, "a": 2}),
        (["b"], {"b": 0, "a": 1, "c": 2}),
        (["c"], {"c": 0, "a": 1, "b": 2}),
        (None, {"a": 0, "b": 1, "c": 2}),
    ],
)
def test_functions_of_a_node_start_in_the_order_given(order, starts):
    p = problem([Function(id, cost=SECOND) for id in "abc"], [Node("n0")])
    made = Plan.from_assignment(p, dict.fromkeys("abc", "n0"), order=order)
    assert {x.function: x.start for x in made} == starts


def test_the_order_holds_though_what_a_function_reads_is_named_later():
    functions = [
        Function("b", cost=SECOND),
        Function("x", cost=SECOND),
        Function("a", ["x"], cost=SECOND),
        Function("c", ["a"], cost=SECOND),
    ]
    p = problem(functions, [Node("n0"), Node("n1")])
    nodes = {"x": "n1", "a": "n1", "b": "n0", "c": "n0"}
    made = Plan.from_assignment(p, nodes, order=["c", "b", "x", "a"])
    assert schedule(made) == [
        ("x", "n1", 0.0, 1.0),
        ("a", "n1", 1.0, 2.0),
        ("c", "n0", 2.0, 3.0),
        ("b", "n0", 3.0, 4.0),
    ]


def test_dependencies_go_before_the_order():
    functions = [Function("a", cost=SECOND), Function("b", ["a"], cost=SECOND)]
    p = problem(functions, [Node("n0")])
    made = Plan.from_assignment(p, {"a": "n0", "b": "n0"}, order=["b", "a"])
    assert schedule(made) == [("a", "n0", 0.0, 1.0), ("b", "n0", 1.0, 2.0)]


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_on_each_node_starts_follow_any_order_that_the_graph_allows(data):
    n = data.draw(st.integers(1, 9))
    reads = [
        data.draw(st.lists(st.integers(0, i - 1), max_size=2)) if i else []
        for i in range(n)
    ]
    p = problem(
        [Function(i, reads[i], cost=SECOND) for i in range(n)],
        [Node("n0", slots=2), Node("n1")],
    )
    nodes = {i: data.draw(st.sampled_from(["n0", "n1"])) for i in range(n)}
    wish = data.draw(st.permutations(range(n)))
    order, left = [], list(wish)  # the wish made topological, over both nodes
    while left:
        i = next(i for i in left if all(u in order for u in reads[i]))
        order.append(i), left.remove(i)
    made = Plan.from_assignment(p, nodes, order=order)
    check_plan(made, p)
    for name in ("n0", "n1"):
        mine = [i for i in order if nodes[i] == name]
        starts = [made[i].start for i in mine]
        assert starts == sorted(starts)


@pytest.mark.parametrize(
    ("nodes", "order", "text"),
    [
        ({"a": "n0"}, None, "function 'b' is assigned to no node"),
        (
            {"a": "n0", "b": "x"},
            None,
            "function 'b' is assigned to node 'x'; there are n0, n1",
        ),
        (
            {"a": "n0", "b": "n0", "c": "n0"},
            None,
            "the plan assigns unknown function 'c'",
        ),
        ({"a": "n0", "b": "n0"}, ["c"], "the order names unknown function 'c'"),
        (
            {"a": "n1", "b": "n0"},
            None,
            "function 'a' can't run on node 'n1': it lacks camera (needs 1, has 0)",
        ),
        (
            {"a": "n0", "b": "n1"},
            None,
            "function 'b' can't run on node 'n1': it is not 'n0'",
        ),
    ],
)
def test_an_assignment_that_makes_no_sense_is_an_error(nodes, order, text):
    functions = [Function("a", cost={"camera": 1}), Function("b", node="n0")]
    p = problem(functions, [Node("n0", {"camera": 1}), Node("n1")])
    with pytest.raises(AllocationError) as caught:
        Plan.from_assignment(p, nodes, order=order)
    assert str(caught.value) == text


def test_an_assignment_takes_the_fastest_alternative_of_the_node():
    costs = [{"cpu_time": 2000}, {"gpu_time": 1000}]
    p = problem([Function("a", cost=costs)], [Node("n0"), Node("n1", {"gpus": 1})])
    for name, option, end in (("n0", 0, 2.0), ("n1", 1, 1.0)):
        made = Plan.from_assignment(p, {"a": name})
        assert made["a"] == Placement("a", name, 0.0, end, option)


def test_an_assignment_waits_for_what_is_held():
    held = [Held("n0", 0, 2, {}), Held("n1", 0.5, 1, {"camera": 1})]
    functions = [Function(id, cost={**SECOND, "camera": 1}) for id in "ab"]
    nodes = [Node("n0", {"camera": 1}), Node("n1", {"camera": 1}, slots=2)]
    p = problem(functions, nodes, held=held)
    made = Plan.from_assignment(p, {"a": "n0", "b": "n1"})
    assert schedule(check_plan(made, p)) == [
        ("b", "n1", 1.0, 2.0),
        ("a", "n0", 2.0, 3.0),
    ]


def test_a_group_that_is_split_does_not_pass():
    functions = [Function("a"), Function("b", node=with_function("a"))]
    p = problem(functions, [Node("n0"), Node("n1")])
    check_plan(Plan.from_assignment(p, {"a": "n1", "b": "n1"}), p)
    with pytest.raises(AllocationError, match="'a' and 'b' must share a node"):
        check_plan(Plan.from_assignment(p, {"a": "n0", "b": "n1"}), p)


def test_a_plan_of_nothing_is_a_plan():
    for nodes in ([], [Node("n0")]):
        p = problem([], nodes)
        made = check_plan(Plan.from_assignment(p, {}, order=[]), p)
        assert (len(made), list(made), made.makespan, made.money) == (0, [], 0.0, 0.0)
        assert made.transferred == 0.0
        assert made.guessed.tolist() == []


def test_guessed_says_whose_time_is_a_guess():
    functions = [Function("a"), Function("b", cost=[{"cpu_time": 5}, {"memory": 1}])]
    p = problem(functions, [Node("n0")])
    made = Plan.from_assignment(p, {"a": "n0", "b": "n0"})
    assert made.guessed.tolist() == [True, False]


# ------------------------------------------------------------------------ check_plan
def crowd():
    """A good plan in which every change of one number breaks a rule."""
    nodes = [
        Node("n0", {"memory": 100, "cpu": 4, "gpus": 2, "gpu_memory": 10}, slots=4),
        Node("n1", {"memory": 100}, slots=1),
    ]
    functions = [
        Function("big", cost={**SECOND, "memory": 60}),
        Function("big2", cost={**SECOND, "memory": 60}),
        Function("wide", cost={**SECOND, "cpu": 2}),
        Function("half", cost={**SECOND, "gpus": 0.5}),
        Function("half2", cost={**SECOND, "gpus": 0.5}),
        Function("pinned", node="n1", cost=SECOND),
        Function("mate", node=with_function("pinned"), cost=SECOND),
        Function("reads", ["pinned"], cost=SECOND),
        Function("gpu", cost={**SECOND, "gpus": 1, "cpu": 0}),
    ]
    p = problem(functions, nodes, latency=500)
    table = {
        "big": ("n0", 0, 1),
        "big2": ("n0", 1, 2),
        "wide": ("n0", 0, 1),
        "half": ("n0", 1, 2),
        "half2": ("n0", 1, 2),
        "pinned": ("n1", 0, 1),
        "mate": ("n1", 1, 2),
        "reads": ("n0", 2, 3),
        "gpu": ("n0", 2, 3),
    }
    return p, table


def as_plan(p, table):
    rows = [table[f.id] for f in p.functions]
    node = np.array([p.cluster.index.get(name, 9) for name, _, _ in rows])
    start, end = (np.array([row[k] for row in rows], dtype=float) for k in (1, 2))
    return Plan(p, node, np.zeros(len(rows), dtype=int), start, end, allocator="mine")


def test_a_good_plan_passes():
    p, table = crowd()
    assert check_plan(as_plan(p, table), p).makespan == 3.0


@pytest.mark.parametrize(
    ("id", "row", "fault"),
    [
        (
            "big",
            ("n9", 0, 1),
            "function 'big' is on node 9 of 2 with alternative 0 of 1",
        ),
        ("half", ("n1", 1, 2), "function 'half' can't run on node 'n1': it lacks gpus"),
        ("big", ("n0", 0, 0.9), "function 'big' takes 1 s, but runs from 0 to 0.9"),
        ("big", ("n0", 1, 0), "function 'big' takes 1 s, but runs from 1 to 0"),
        ("big", ("n0", -1, 0), "function 'big' takes 1 s, but runs from -1 to 0"),
        ("big", ("n0", float("nan"), 1), "'big' takes 1 s, but runs from nan to 1"),
        ("big", ("n0", 0, float("nan")), "'big' takes 1 s, but runs from 0 to nan"),
        ("big", ("n0", 0, float("inf")), "'big' takes 1 s, but runs from 0 to inf"),
        (
            "pinned",
            ("n0", 0, 1),
            "function 'pinned' can't run on node 'n0': it is not ",
        ),
        ("mate", ("n0", 2, 3), "functions 'pinned' and 'mate' must share a node"),
        (
            "reads",
            ("n0", 1.4, 2.4),
            "function 'reads' starts at 1.4 s; the result of 'pinned' arrives at 1.5 s",
        ),
        (
            "reads",
            ("n1", 0.5, 1.5),
            "function 'reads' starts at 0.5 s; the result of 'pinned' arrives at 1 s",
        ),
        (
            "big2",
            ("n0", 0.5, 1.5),
            "node 'n0' holds 120 memory of 100 at 0.5 s, when '",
        ),
        (
            "wide",
            ("n0", 1.5, 2.5),
            "node 'n0' holds 5 cpu of 4 at 1.5 s, when 'wide' r",
        ),
        (
            "mate",
            ("n1", 0.5, 1.5),
            "node 'n1' holds 2 slots of 1 at 0.5 s, when 'mate'",
        ),
        (
            "gpu",
            ("n0", 1.9, 2.9),
            "node 'n0' holds 3 whole gpus of 2 at 1.9 s, when 'g",
        ),
    ],
)
def test_every_broken_rule_is_found(id, row, fault):
    p, table = crowd()
    with pytest.raises(AllocationError) as caught:
        check_plan(as_plan(p, table | {id: row}), p)
    assert str(caught.value).startswith("the plan of mine breaks ")
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        (
            "node",
            np.zeros(3, dtype=int),
            "it has arrays of shapes [(3,), (9,)]; the pro",
        ),
        (
            "end",
            np.zeros((9, 1)),
            "it has arrays of shapes [(9,), (9, 1)]; the problem",
        ),
        ("option", np.ones(9, dtype=int), "with alternative 1 of 1"),
        ("option", -np.ones(9, dtype=int), "with alternative -1 of 1"),
        ("node", -np.ones(9, dtype=int), "is on node -1 of 2"),
        ("end", np.full(9, np.nan), "to nan"),
    ],
)
def test_malformed_arrays_are_found(field, value, text):
    p, table = crowd()
    with pytest.raises(AllocationError) as caught:
        check_plan(replace(as_plan(p, table), **{field: value}), p)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [("node", [0.5]), ("node", ["n0"]), ("option", [None]), ("start", ["now"])],
)
def test_a_plan_is_of_numbers(field, value):
    p = problem([Function("a")], [Node("n0")])
    good = {"node": [0], "option": [0], "start": [0], "end": [1]}
    assert schedule(check_plan(Plan(p, **good), p)) == [("a", "n0", 0.0, 1.0)]
    with pytest.raises(AllocationError, match=f"^a plan's {field} is "):
        Plan(p, **good | {field: value})


def test_an_alternative_that_does_not_run_there_is_found():
    costs = [{"cpu_time": 1000}, {"gpu_time": 1000}]
    p = problem([Function("a", cost=costs)], [Node("n0")])
    with pytest.raises(AllocationError, match="it can by another of its cost alternat"):
        check_plan(Plan(p, [0], [1], [0], [1]), p)


def test_only_the_first_faults_are_told_and_all_are_counted():
    p = problem([Function(i, cost=SECOND) for i in range(500)], [Node("n0")])
    zero = np.zeros(500)
    with pytest.raises(AllocationError) as caught:
        check_plan(Plan(p, zero.astype(int), zero.astype(int), zero, zero), p)
    text = str(caught.value)
    assert text.startswith(
        "the plan of the allocator breaks 500 rule(s):\nfunction 0 t"
    )
    assert text.endswith("function 9 takes 1 s, but runs from 0 to 0\n... and 490 more")


def test_what_is_held_counts():
    held = [
        Held("n0", 1, 3, {"x": 1}),
        Held("n0", 2, 9, {"slots": 0, "cpu": 0, "x": 5}),
    ]
    functions = [Function("a", cost={**SECOND, "x": 1}), Function("b", cost=SECOND)]
    p = problem(functions, [Node("n0", {"x": 2}, slots=2)], held=held)

    def check(a, b):
        return check_plan(Plan(p, [0, 0], [0, 0], [a, b], [a + 1, b + 1]), p)

    check(0, 0), check(1, 3), check(9, 2)  # b needs nothing of the x that is overdrawn
    for a, b, text in [
        (1.5, 0, "holds 7 x of 2 at 2 s, when what is held already runs"),
        (4, 0, "holds 6 x of 2 at 4 s, when 'a' runs"),
        (1, 1, "holds 3 slots of 2 at 1 s"),
    ]:
        with pytest.raises(AllocationError, match=text):
            check(a, b)


@settings(
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
@given(st.data())
def test_what_is_shorter_or_earlier_than_possible_does_not_pass(problems, data):
    p = data.draw(problems)
    try:
        made = plan_of(p)
    except UnsatisfiableError:
        return
    check_plan(made, p)
    long = np.flatnonzero(made.end - made.start > 1e-3)
    if not len(long):
        return
    i = int(data.draw(st.sampled_from(long.tolist())))
    end = made.end.copy()
    end[i] -= 5e-4
    with pytest.raises(AllocationError, match="but runs from"):
        check_plan(replace(made, end=end), p)
    start, end = made.start.copy(), made.end.copy()
    start[i], end[i] = start[i] - made.makespan - 1, end[i] - made.makespan - 1
    with pytest.raises(AllocationError, match="but runs from -"):
        check_plan(replace(made, start=start, end=end), p)


def plan_of(p):
    from handout_dask.allocators import allocator

    p.require_feasible()
    return allocator("time").allocate(p)


# ----------------------------------------------------------------------------- money
@pytest.mark.parametrize(
    ("billing", "quantum", "money"),
    [
        ("function", 0, (1 + 2) * 1 + 3 * 10),
        ("function", 60, (1 + 2) * 1 + 3 * 10),
        ("held", 0, 6 * 1 + 3 * 10),
        ("held", 4, 8 * 1 + 4 * 10),
        ("held", 3, 6 * 1 + 3 * 10),
    ],
)
def test_money_is_for_functions_or_for_holds(billing, quantum, money):
    nodes = [Node("n0", price=3600), Node("n1", price=36_000), Node("idle", price=1e9)]
    cluster = Cluster(nodes, billing=billing, quantum=quantum)
    node = np.array([0, 0, 1])
    start, end = np.array([0.0, 4.0, 5.0]), np.array([1.0, 6.0, 8.0])
    assert bill(cluster, node, start, end) == pytest.approx(money, rel=1e-12)


def test_a_hold_is_not_rounded_up_by_rounding_of_floats():
    cluster = Cluster([Node("n0", price=3600)], billing="held", quantum=0.1)
    money = bill(cluster, np.array([0]), np.array([0.0]), np.array([0.1 + 0.2]))
    assert money == pytest.approx(0.3, rel=1e-12)


def test_a_plan_knows_its_money():
    p = problem([Function("a", cost=SECOND)], [Node("n0", price=7200, speed=2)])
    assert Plan.from_assignment(p, {"a": "n0"}).money == pytest.approx(1.0)


# ------------------------------------------------------------------ plan(), allocate()
@dataclass(frozen=True)
class Cheapest:
    """A user's own: each function to the node where it costs least."""

    spread: bool = False

    def allocate(self, problem):
        chosen = {}
        for i, function in enumerate(problem.functions):
            nodes = [
                j
                for j in range(len(problem.nodes))
                if problem.time(i, j) < float("inf")
            ]
            if self.spread:
                nodes.sort(
                    key=lambda j: list(chosen.values()).count(problem.nodes[j].name)
                )
            best = min(nodes, key=lambda j: problem.time(i, j) * problem.nodes[j].price)
            chosen[function.id] = problem.nodes[best].name
        return Plan.from_assignment(problem, chosen)


def test_a_users_own_allocator_makes_a_plan():
    graph = Graph(
        [Function("a", cost=SECOND), Function("b", ["a"], cost={**SECOND, "x": 1})]
    )
    nodes = [Node("n0", price=1), Node("n1", {"x": 1}, price=2)]
    made = plan(graph, nodes, allocator=Cheapest())
    assert [(p.function, p.node) for p in made] == [("a", "n0"), ("b", "n1")]
    assert made.allocator == "Cheapest(spread=False)"
    assert made.planning_time > 0


class Broken:
    def __init__(self, answer):
        self.answer = answer

    def allocate(self, problem):
        return self.answer(problem)

    def __repr__(self):
        return "Broken()"


@pytest.mark.parametrize(
    ("allocator", "text"),
    [
        (
            Broken(lambda p: {"a": "n0"}),
            r"^allocator Broken\(\) returned dict, not a Plan; Plan.from_assignment m",
        ),
        (
            Broken(lambda p: Plan(p, [0], [0], [0], [0])),
            r"breaks 1 rule\(s\):\nfunction 'a' takes 1 s, but runs from 0 to 0$",
        ),
        (
            Broken(lambda p: Plan(p, [], [], [], [])),
            r"it has arrays of shapes \[\(0,\)\]",
        ),
        (
            Broken(lambda p: Plan.from_assignment(p, {})),
            "^function 'a' is assigned to no node$",
        ),
        (Broken, "is no allocator: it needs a method allocate"),
        (object(), "is no allocator: it needs a method allocate"),
        (
            "tmie",
            "^there is no allocator 'tmie'; known: first-available, load-balanced, t",
        ),
    ],
)
def test_a_bad_allocator_is_an_allocation_error(allocator, text):
    with pytest.raises(AllocationError, match=text):
        plan(Graph([Function("a", cost=SECOND)]), [Node("n0")], allocator=allocator)


def test_plan_takes_nodes_or_a_cluster_and_time_by_default():
    graph = Graph([Function("a", cost=SECOND)])
    for nodes in ([Node("n0")], Cluster([Node("n0")])):
        made = plan(graph, nodes)
        assert (schedule(made), made.allocator) == (
            [("a", "n0", 0.0, 1.0)],
            repr(Time()),
        )
    assert repr(made) == (
        "<Plan of 1 functions on 1 of 1 nodes: makespan 1 s, money 0, 0 MB moved, "
        f"by {Time()!r}>"
    )


def test_only_known_networks_are_assumed():
    graph, nodes = Graph([Function("a", cost=SECOND)]), [Node("n0")]
    for network in ("free", "oneport"):
        made = plan(graph, nodes, network=network)
        assert (made.problem.network, made.makespan) == (network, 1.0)
    with pytest.raises(AllocationError, match="network 'ring'.* free.* oneport"):
        plan(graph, nodes, network="ring")


def test_what_fits_nowhere_is_unsatisfiable():
    with pytest.raises(
        UnsatisfiableError, match="function 'a' fits on no node: n0 lac"
    ):
        plan(Graph([Function("a", cost={"x": 1})]), [Node("n0")])


def test_a_plan_for_another_problem_is_refused():
    graph = Graph([Function("a", [], int)])
    nodes = [Node("x"), Node("y")]
    other = plan(graph, nodes[::-1])
    with pytest.raises(AllocationError, match="for another problem"):
        check_plan(other, Problem(graph, Cluster(nodes)))


@pytest.mark.parametrize("nodes", ["nodes.toml", Node("x"), 3], ids=repr)
def test_what_is_no_list_of_nodes_is_refused(nodes):
    with pytest.raises(AllocationError, match="must be a Cluster or a list"):
        plan(Graph(), nodes)


def test_what_is_no_graph_is_refused():
    with pytest.raises(GraphError, match="a plan is made for a Graph, not list"):
        plan([], [Node("x")])


class Several:
    """Gives the plans that it is made with."""

    def __init__(self, *made):
        self.made = made

    def allocate(self, problem):
        return self.made[0]

    def plans(self, problem):
        return iter(self.made)


def two_plans():
    """A problem of one function, and its plans on a slow and on a fast node."""
    given = problem(
        [Function("a", cost=SECOND)], [Node("slow"), Node("fast", speed=2.0)]
    )
    plans = [Plan.from_assignment(given, {"a": name}) for name in ("slow", "fast")]
    return given, *plans


def test_several_plans_come_checked_and_the_fastest_first():
    given, slow, fast = two_plans()
    chosen = Several(slow, replace(fast, allocator="mine"))
    made = allocate_all(given, chosen)
    assert [plan.makespan for plan in made] == [0.5, 1.0]
    assert [plan.allocator for plan in made] == ["mine", repr(chosen)]
    assert made[0].planning_time == made[1].planning_time > 0


def test_broken_plan_among_several_does_not_pass():
    given, slow, fast = two_plans()
    short = replace(fast, end=fast.end / 2)
    with pytest.raises(AllocationError, match="breaks 1 rule"):
        allocate_all(given, Several(slow, short))
    with pytest.raises(AllocationError, match="returned str, not a Plan"):
        allocate_all(given, Several("slow"))


def test_several_plans_are_refused_by_who_makes_one():
    given, *_ = two_plans()
    with pytest.raises(AllocationError, match="'time' makes one plan, not several"):
        allocate_all(given, "time")


def test_several_plans_of_what_fits_nowhere_are_refused():
    given = problem([Function("a", cost={"camera": 1})], [Node("n0")])
    with pytest.raises(UnsatisfiableError, match="lacks camera"):
        allocate_all(given, Several())


def test_plans_for_the_one_port_network_wait_for_transfers_whoever_made_them():
    """1 MB to each of two nodes takes 1 s, one after the other."""
    reads = {"cpu_time": 1000, "output_size": 1}
    functions = [
        Function("a", cost=reads),
        Function("b", ["a"], cost=SECOND),
        Function("c", ["a"], cost=SECOND),
    ]
    cluster = Cluster([Node(f"n{j}") for j in range(3)], bandwidth=1, latency=0)
    given = Problem(Graph(functions), cluster, network="oneport")
    made = Plan.from_assignment(given, {"a": "n0", "b": "n1", "c": "n2"})
    assert made.makespan == 3.0
    for played in (allocate(given, Several(made)), *allocate_all(given, Several(made))):
        assert schedule(played) == [
            ("a", "n0", 0.0, 1.0),
            ("b", "n1", 2.0, 3.0),
            ("c", "n2", 3.0, 4.0),
        ]

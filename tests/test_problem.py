"""Laws of problems: what is measured, who may run where, and why not."""

import math

import numpy as np
import pytest

from handout_dask import (
    Cluster,
    Cost,
    Function,
    Graph,
    Node,
    Problem,
    UnsatisfiableError,
    with_function,
)
from handout_dask.problem import Held, Lack, explain_refusal

TWO = (Node("n0"), Node("n1"))


def problem(functions, nodes=TWO, **links):
    return Problem(Graph(functions), Cluster(nodes, **links))


def refused(functions, nodes=TWO):
    with pytest.raises(UnsatisfiableError) as caught:
        problem(functions, nodes).require_feasible()
    return str(caught.value), caught.value.refusals


def edges(size, args, code=None):
    """MB of what one function reads of "a", whose output size is given."""
    p = problem(
        [
            Function("a", cost={"output_size": size} if size is not None else {}),
            Function("b", args),
            *(code or ()),
        ]
    )
    return p.size(p.where["a"], p.where["b"])


# --------------------------------------------------------------------------- edges
@pytest.mark.parametrize(
    ("size", "args", "mb"),
    [
        (None, ["a"], 0.0),
        (10, ["a"], 10.0),
        (10, ["a", "a"], 10.0),
        (10, [("a", 0)], 10.0),
        (10, [("a", 1)], 5.0),
        (10, [("a", 4)], 2.0),
        (10, [("a", 0), ("a", 1)], 10.0),
        (10, [("a", 1), ("a", 1)], 5.0),
        (10, [("a", 1), ("a", np.int64(1))], 5.0),
        (10, [("a", 1), "a"], 10.0),
        (10, [("a", "x"), ("a", "y")], 10.0),
        (10, [("a", [0, 1])], 10.0),
        (10, [("a", np.array([0, 1])), ("a", slice(0, 1))], 10.0),
        (10, [("a", -1)], 10.0),
        ({0: 2, "x": 3}, ["a"], 5.0),
        ({0: 2, "x": 3}, [("a", "x")], 3.0),
        ({0: 2, "x": 3}, [("a", "x"), ("a", "x")], 3.0),
        ({0: 2, "x": 3}, [("a", np.int64(0)), ("a", 0)], 2.0),
        ({0: 2, "x": 3}, [("a", "x"), ("a", 0), ("a", 5)], 5.0),
        ({0: 2, "x": 3}, [("a", "x"), "a"], 5.0),
        ({0: 2, "x": 3}, [("a", [0])], 0.0),
        ({}, ["a"], 0.0),
    ],
)
def test_an_edge_carries_only_the_elements_that_are_read_each_once(size, args, mb):
    assert edges(size, args) == mb


def test_parts_are_counted_over_all_readers():
    other = Function("c", [("a", 3)])
    assert edges(12, [("a", 0)], code=[other]) == 3.0


def test_predecessors_are_listed_once_each():
    p = problem([Function("a"), Function("b"), Function("c", ["b", "a", ("b", 0)])])
    assert p.preds == ((), (), (1, 0))
    assert p.size(0, 1) == 0.0


def test_successors_are_the_transpose_of_predecessors():
    p = problem([Function("a"), Function("b", ["a"]), Function("c", ["a", "b"])])
    ptr, of = p.succs_arrays
    assert (ptr.tolist(), of.tolist()) == ([0, 2, 3, 3], [1, 2, 2])


def test_a_transfer_takes_latency_and_size_over_bandwidth():
    p = problem(
        [Function("a", cost={"output_size": 10}), Function("b", ["a"]), Function("c")],
        bandwidth=[[0, 5], [2, 0]],
        latency=[[0, 100], [0, 0]],
    )
    a, b, c = (p.where[id] for id in "abc")
    assert p.transfer(a, b, 0, 1) == 0.1 + 2.0
    assert p.transfer(a, b, 1, 0) == 5.0
    assert p.transfer(a, b, 1, 1) == 0.0
    assert p.transfer(a, c, 0, 1) == 0.1


# --------------------------------------------------------------------------- times
def test_time_is_that_at_speed_1_over_speed():
    nodes = [Node("n0", speed=2), Node("n1", {"gpus": 1}, gpu_speed=4, speed=0.5)]
    p = problem(
        [
            Function("cpu", cost={"cpu_time": 100}),
            Function("gpu", cost={"gpu_time": 100, "cpu_time": 7}),
            Function("gpu by cpu_time", cost={"gpus": 1, "cpu_time": 100}),
        ],
        nodes,
    )
    times = [[p.time(i, j) for j in (0, 1)] for i in range(3)]
    assert times == [[0.05, 0.2], [math.inf, 0.025], [math.inf, 0.2]]


def test_an_unknown_time_is_the_median_of_the_declared_ones():
    costs = [{"cpu_time": 100}, {"cpu_time": 300}, {"cpu_time": 700}, {}, {"memory": 1}]
    p = problem([Function(k, cost=cost) for k, cost in enumerate(costs)])
    assert [p.time(i, 0) for i in range(5)] == [0.1, 0.3, 0.7, 0.3, 0.3]
    assert p.option_guessed.tolist() == [False, False, False, True, True]


def test_an_unknown_time_is_1_s_where_none_is_declared():
    p = problem([Function("a"), Function("b", cost={"cpu": 1})], [Node("n0", speed=2)])
    assert ([p.time(i, 0) for i in (0, 1)], p.option_guessed.all()) == (
        [0.5, 0.5],
        True,
    )


def test_a_time_of_zero_is_known():
    p = problem([Function("a", cost={"cpu_time": 0})])
    assert (p.time(0, 0), p.option_guessed.tolist()) == (0.0, [False])


def test_the_fastest_alternative_that_fits_is_chosen():
    p = problem(
        [Function("a", cost=[{"cpu_time": 100}, {"gpu_time": 1}, {"x": 1}])],
        [Node("n0"), Node("n1", {"gpus": 1}), Node("n2", {"cpu": 0.5})],
    )
    assert [p.option(0, j) for j in range(3)] == [(0, 0.1), (1, 0.001), (0, math.inf)]


# ------------------------------------------------------------------- what fits where
def test_a_demand_fits_up_to_the_capacity():
    node = Node("n", {"cpu": 2, "memory": 100, "camera": 1, "ssd": True})
    costs = [
        {"cpu": 2, "memory": 100, "camera": 1, "ssd": True},
        {"cpu": 3},
        {"memory": 101},
        {"camera": 2},
        {"ssd": 1},
        {"ssd": 2},
        {"nvme": True},
        {"camera": True},
        {"cpu": 0},
    ]
    p = problem([Function(k, cost=c) for k, c in enumerate(costs)], [node])
    fits = [p.time(i, 0) < math.inf for i in range(len(costs))]
    assert fits == [True, False, False, False, True, False, False, True, True]
    assert fits == [not explain_refusal(Cost(c), node) for c in costs]


def test_cpu_and_memory_are_unlimited_where_absent():
    p = problem([Function("a", cost={"cpu": 1e6, "memory": 1e12})], [Node("n0")])
    assert (p.time(0, 0), p.resources) == (1.0, ("slots",))


def test_a_function_without_cpu_needs_one_core():
    assert refused([Function("a")], [Node("n0", {"cpu": 0.5})]) == (
        "function 'a' fits on no node: n0 lacks cpu (needs 1, has 0.5). "
        "Lower its cost or add a node.",
        {"a": {"n0": (Lack("cpu", 1.0, 0.5),)}},
    )


def test_devices_are_shared_where_there_is_one_and_whole_where_there_are_more():
    nodes = [Node("one", {"gpus": 1, "gpu_memory": 9}), Node("two", {"gpus": 2})]
    p = problem([Function("a", cost={"gpus": 0.6})], nodes)
    need = dict(zip(p.resources, p.need[0].tolist(), strict=True))
    room = [dict(zip(p.resources, row.tolist(), strict=True)) for row in p.room]
    assert need == {"slots": 1.0, "gpus": 0.6, "whole gpus": 1.0}
    assert room == [
        {"slots": 1.0, "gpus": 1.0, "whole gpus": math.inf},
        {"slots": 1.0, "gpus": math.inf, "whole gpus": 2.0},
    ]


def test_gpu_memory_is_per_device():
    nodes = [Node("n0", {"gpus": 4, "gpu_memory": 40})]
    problem(
        [Function("a", cost={"gpus": 4, "gpu_memory": 40})], nodes
    ).require_feasible()
    text, _ = refused([Function("a", cost={"gpus": 4, "gpu_memory": 41})], nodes)
    assert "n0 lacks gpu_memory (needs 41 MB, has 40)" in text


def test_a_consumable_of_any_name_is_counted():
    names = ["devices", "node", "gpus_", "speed", "used"]
    nodes = [Node("n0", {"gpus": 2, **dict.fromkeys(names, 3)})]
    p = problem([Function("a", cost={"gpus": 1, **dict.fromkeys(names, 2)})], nodes)
    need = dict(zip(p.resources, p.need[0].tolist(), strict=True))
    assert need == {"slots": 1.0, "whole gpus": 1.0, **dict.fromkeys(names, 2.0)} | (
        {"gpus": 1.0} if "gpus" in need else {}
    )
    text, _ = refused([Function("a", cost={"node": 2})], [Node("n0")])
    assert "n0 lacks node (needs 2, has 0)" in text


# ---------------------------------------------------------------------- pins, groups
def test_a_pin_leaves_one_node():
    p = problem([Function("a", node="n1"), Function("b")])
    assert [[p.time(i, j) for j in (0, 1)] for i in (0, 1)] == [[math.inf, 1], [1, 1]]
    assert (p.pin.tolist(), p.group.tolist()) == ([1, -1], [-1, -1])


def test_with_function_makes_groups_that_share_a_pin():
    p = problem(
        [
            Function("a"),
            Function("b", node=with_function("a")),
            Function("c", node="n1"),
            Function("d", node=with_function("c")),
            Function("e", node=with_function("d")),
            Function("alone", node=with_function("alone")),
        ]
    )
    assert p.group.tolist() == [0, 0, 1, 1, 1, -1]
    assert p.pin.tolist() == [-1, -1, 1, 1, 1, -1]


def test_an_unknown_pin_is_refused_with_the_names_there_are():
    functions = [Function("a", node="n7"), Function("b", node=with_function("a"))]
    lack = {
        name: (Lack("node", "n7", name, "'a'"),)
        for name in (
            "n0",
            "n1",
        )
    }
    assert refused(functions) == (
        "functions 'a', 'b' must run on node 'n7', but the nodes are n0, n1. "
        "Correct the name or add the node.",
        {"a": lack, "b": lack},
    )
    text, _ = refused(functions[:1], [])
    assert text == (
        "function 'a' must run on node 'n7', but the nodes are none. "
        "Correct the name or add the node."
    )


def test_pins_of_one_group_must_agree():
    functions = [
        Function("a", node="n0"),
        Function("b", node=with_function("a")),
        Function("c", node=with_function("b")),
        Function("d", node="n0"),
    ]
    assert problem(functions).require_feasible().pin.tolist() == [0, 0, 0, 0]

    p = problem([Function("a", node="n0"), Function("b", node=with_function("a"))])
    assert p.explain(1, 0) == ()
    assert p.explain(1, 1) == (Lack("node", "n0", "n1", "'a'"),)
    assert str(p.explain(1, 1)[0]) == "is not 'n0', the node of function 'a'"


def test_a_pinned_function_that_does_not_fit_there_is_refused():
    functions = [Function("a", node="n0", cost={"memory": 5})]
    nodes = [Node("n0", {"memory": 1}), Node("n1")]
    assert refused(functions, nodes) == (
        "function 'a' fits on no node: n0 lacks memory (needs 5 MB, has 1); "
        "n1 is not 'n0'. Lower its cost or add a node.",
        {"a": {"n0": (Lack("memory", 5.0, 1.0),), "n1": (Lack("node", "n0", "n1"),)}},
    )


def test_a_group_must_fit_on_one_node():
    functions = [
        Function("a", cost={"camera": 1}),
        Function("b", cost={"ssd": True}, node=with_function("a")),
        Function("c"),
    ]
    nodes = [Node("n0", {"camera": 1}), Node("n1", {"ssd": True}), Node("n2")]
    camera = Lack("camera", 1.0, 0.0, "'a'")
    ssd = Lack("ssd", True, False, "'b'")
    text, refusals = refused(functions, nodes)
    assert text == (
        "functions 'a', 'b' must share a node, and no node fits all: "
        "n0 lacks ssd for function 'b'; "
        "n1, n2 lacks camera (needs 1, has 0) for function 'a'. "
        "Lower a cost, part them or add a node."
    )
    assert refusals == {
        "a": {"n0": (ssd,), "n1": (camera,), "n2": (camera,)},
        "b": {"n0": (ssd,), "n1": (camera,), "n2": (ssd,)},
    }
    both = Node("n3", {"camera": 1, "ssd": True})
    problem(functions, [*nodes, both]).require_feasible()


# ------------------------------------------------------------------------- refusals
def test_a_refusal_names_who_what_where_and_the_way_out():
    cost = {"gpu_memory": 4000, "has_cuda_requirement": True, "camera": True}
    nodes = [
        Node("n0"),
        Node("n1", {"gpus": 1, "gpu_memory": 8000, "camera": 1}),
        Node("n2"),
    ]
    nothing = (
        Lack("camera", True, False),
        Lack("has_cuda", True, False),
        Lack("gpu_memory", 4000.0, 0.0),
        Lack("gpus", 1.0, 0.0),
    )
    assert refused([Function("blur", cost=cost), Function("ok")], nodes) == (
        "function 'blur' fits on no node: n0, n2 lacks camera, lacks CUDA, "
        "lacks gpu_memory (needs 4000 MB, has 0), lacks gpus (needs 1, has 0); "
        "n1 lacks CUDA. Lower its cost or add a node.",
        {
            "blur": {
                "n0": nothing,
                "n1": (Lack("has_cuda", True, False),),
                "n2": nothing,
            }
        },
    )


def test_the_alternative_that_lacks_least_is_explained():
    costs = [{"gpu_memory": 4, "x": 1}, {"memory": 9}]
    text, _ = refused([Function("a", cost=costs)], [Node("n0", {"memory": 1})])
    assert text == (
        "function 'a' fits on no node: n0 lacks memory (needs 9 MB, has 1). "
        "Lower its cost or add a node."
    )


def test_without_nodes_everything_is_refused():
    costs = [{}, {"x": True}, {"gpus": 1}, [{"cpu": 1}, {"memory": 1}]]
    text, refusals = refused([Function(k, cost=c) for k, c in enumerate(costs)], [])
    assert text == "\n".join(
        f"function {k} fits on no node: there is no node. Lower its cost or add a node."
        for k in range(4)
    )
    assert refusals == {0: {}, 1: {}, 2: {}, 3: {}}


def test_without_functions_nothing_is_refused():
    for nodes in ([], [Node("n0", {"x": True})]):
        p = problem([], nodes).require_feasible()
        assert (p.need.shape, p.room.shape) == ((0, 1), (len(nodes), 1))


def test_long_refusals_are_cut():
    functions = [Function(k, cost={"x": k + 1}) for k in range(25)]
    nodes = [Node(f"n{j}", {"x": j / 100}) for j in range(30)]
    text, refusals = refused(functions, nodes)
    assert text.endswith("\n... and 15 more functions.")
    assert text.split("\n")[0].endswith(
        "; and 20 more reasons. Lower its cost or add a node."
    )
    assert (text.count("\n"), list(refusals), len(refusals[0])) == (
        10,
        [*range(10)],
        30,
    )
    text, _ = refused([Function("a", node="n99")], nodes)
    assert "but the nodes are n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, .... Corr" in text


# ---------------------------------------------------------------------------- memory
def sizes(p):
    return [v.size for v in vars(p).values() if isinstance(v, np.ndarray)]


def test_memory_grows_with_classes_and_kinds_not_with_functions_times_nodes():
    n, m, size = 100_000, 1_000, 10
    cost = [{"memory": 10 * k, "cpu_time": 5} for k in range(size)]
    nodes = [Node(f"n{j}", {"memory": 1000}, speed=1 + j % 5) for j in range(m)]
    functions = [Function(i, cost=cost[i % size], node=None) for i in range(n)]
    p = problem(functions, nodes).require_feasible()
    assert (len(p.classes), len(p.kinds)) == (size, 5)
    assert (p.need.shape, p.room.shape, p.rate.shape) == ((10, 2), (5, 2), (10, 5))
    assert max(sizes(p)) == n + 1


def test_groups_are_numbered_without_holes():
    n = 5_000
    functions = [Function(i) for i in range(n)]
    functions += [Function(n + i, node=with_function(i)) for i in range(0, n, 2)]
    p = problem(functions).require_feasible()
    assert np.unique(p.group).tolist() == list(range(-1, n // 2))


def test_equal_costs_share_a_class_and_equal_nodes_a_kind():
    functions = [
        Function("a", cost={"cpu_time": 5, "memory": 1}),
        Function("b", cost={"cpu_time": 9, "memory": 1.0, "output_size": 3}),
        Function("c", cost={"memory": 1, "x": 1}),
        Function("d", cost={"memory": 1, "x": True}),
    ]
    nodes = [
        Node("n0", {"x": True}),
        Node("n1", {"x": 1}, price=5, kind="k"),
        Node("n2", {"x": 1}, speed=2),
    ]
    p = problem(functions, nodes)
    assert (p.option_class.tolist(), p.kind.tolist()) == ([0, 0, 1, 2], [0, 0, 1])


def test_what_is_held_takes_a_slot_and_a_core():
    held = [
        Held("n0", -5, 2, {}),
        Held("n0", 1, 3, {"slots": 0, "cpu": 2, "x": 1}),
        Held("gone", 0, 1, {}),
        Held("n0", -5, 0, {}),
    ]
    cluster = Cluster([Node("n0", {"cpu": 4, "x": 2})])
    p = Problem(Graph([Function("a", cost={"x": 1})]), cluster, held=held)
    node, start, end, need = p.held_arrays
    assert p.resources == ("slots", "cpu", "x")
    assert (node.tolist(), start.tolist(), end.tolist()) == ([0, 0], [0, 1], [2, 3])
    assert need.tolist() == [[1, 1, 0], [0, 2, 1]]

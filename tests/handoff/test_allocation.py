"""Handoff's scenarios of who gets which node: planned, and on worker processes."""

import pytest

import handout_dask as hd
from handout_dask import Function, Graph, with_function
from handout_dask.problem import Lack

SECOND = {"cpu_time": 1000}


def _placed(plan):
    return [(p.function, p.node, p.start) for p in plan]


def _join():
    """The source's memory leaves no room beside the pinned one's."""
    return Graph(
        [
            Function("a", [], lambda: 42, node="self", cost={**SECOND, "memory": 1950}),
            Function("b", [], lambda: 1337, cost={**SECOND, "memory": 2000}),
            Function("c", ["a", "b"], lambda *x: [[*x]], cost={**SECOND, "memory": 50}),
        ]
    )


# distributed_executor_test.exs:63
@pytest.mark.parametrize("allocator", ["first-available", "load-balanced", "time"])
def test_can_execute_simple_dag_on_two_nodes_is_planned(pair, allocator):
    plan = hd.plan(_join(), pair, allocator)
    assert _placed(plan)[:2] == [("a", "self", 0.0), ("b", "node2", 0.0)]
    assert plan["c"].node in ("self", "node2")
    if allocator == "first-available":
        assert plan["c"].node == "self"


# distributed_executor_test.exs:63
def test_can_execute_simple_dag_on_two_nodes(executor, located):
    with hd.Executor(
        executor.client, nodes=executor.declared, allocator="first-available"
    ) as first:  # the first one declared, whichever was up first
        run = first.execute(_join())
        assert dict(run.results) == {"a": 42, "b": 1337, "c": [[42, 1337]]}
        where = {id: run.where(id) for id in "abc"}
        assert where == {"a": "self", "b": "node2", "c": "self"}
        lies = {"a": ["self"], "b": ["node2", "self"], "c": ["self"]}
        assert located(executor, run) == lies  # c has read b, on self


GREEDY = ["first-available", "load-balanced", "packing", "locality", "ml", "iot"]


# distributed_executor_test.exs:125
@pytest.mark.parametrize("allocator", [*GREEDY, "time", "data", "throughput"])
@pytest.mark.parametrize("seconds", [1, 1.5])
@pytest.mark.parametrize("turn", [1, -1], ids=["pinned first", "source first"])
def test_can_execute_simple_dag_on_two_nodes_with_another_forced_to_self(
    pair, turn, seconds, allocator
):
    """Those that have no other node go first; however long the others take."""
    long = {"cpu_time": 1000 * seconds}
    functions = [
        Function("forced", node="self", cost={**SECOND, "memory": 1950}),
        Function("source", cost={**long, "memory": 2000}),
    ]
    plan = hd.plan(Graph(functions[::turn]), pair, allocator)
    assert (plan["forced"].node, plan["source"].node) == ("self", "node2")
    assert (plan["forced"].start, plan["source"].start) == (0.0, 0.0)


# distributed_executor_test.exs:125
def test_another_forced_to_self_gets_its_room_live(executor, gate):
    """And so it is on worker processes, where both are held until the other came."""
    call = gate.call()
    functions = [
        Function("source", [], call, extra_args=["source"], cost={"memory": 2000}),
        Function(
            "forced", [], call, extra_args=["forced"], node="self",
            cost={"memory": 1950},
        ),
    ]  # fmt: skip
    with hd.Executor(
        executor.client, nodes=executor.declared, allocator="first-available"
    ) as first:
        run = first.submit(Graph(functions))
        assert gate.arrivals(2) == ["forced", "source"]
        gate.let()
        run.wait(30)
        assert [run.where(id) for id in ("forced", "source")] == ["self", "node2"]


WHY = {
    "pinned": (
        "function 'task_B' fits on no node: self lacks memory (needs 2150 MB, has "
        "2000); node2 is not 'self'. Lower its cost or add a node."
    ),
    "collocated": (
        "functions 'task_A', 'task_B' must share a node, and no node fits all: self "
        "lacks memory (needs 2150 MB, has 2000) for function 'task_B'; node2 is not "
        "'self', the node of function 'task_A'. Lower a cost, part them or add a node."
    ),
}


# distributed_executor_test.exs:335
@pytest.mark.parametrize("how", ["pinned", "collocated"])
def test_fails_when_resource_constraints_not_satisfied(executor, caught, journal, how):
    """Only what fits no node is refused: 1900 and 150 of 2000 run in turn."""

    def code(*inputs):
        journal.stamp("begin")
        sum(range(50_000))
        journal.stamp("end")

    def graph(memory):
        node = "self" if how == "pinned" else with_function("task_A")
        return Graph(
            [
                Function("task_A", [], code, node="self", cost={"memory": 1900}),
                Function("task_B", [], code, node=node, cost={"memory": memory}),
            ]
        )

    run = executor.execute(graph(150))
    assert (run.progress, journal.most_at_once()) == ((2, 0, 2), 1)
    error = caught(hd.UnsatisfiableError, executor.submit, graph(2150))
    assert str(error) == WHY[how]


# distributed_executor_test.exs:427
def test_merges_collocated_costs(executor, gate):
    """Those that run at once add up: of two cores each, two of a node of four."""
    one, two = {"cpu": 1, "cpu_time": 1000}, {"cpu": 2, "cpu_time": 1000}
    together = with_function("f1")
    chain = [
        Function("f1", [], lambda: 1, node="self", cost=one),
        *(
            Function(f"f{k}", [f"f{k - 1}"], lambda x: x + 1, node=together, cost=one)
            for k in (2, 3, 4)
        ),
    ]
    run = executor.execute(Graph(chain))
    assert dict(run.results) == {"f1": 1, "f2": 2, "f3": 3, "f4": 4}
    assert {run.where(f.id) for f in chain} == {"self"}

    call = gate.call()
    wide = [
        Function(
            f"f{k}", [], call, extra_args=[f"f{k}"], cost=two,
            node=together if k > 1 else "self",
        )
        for k in (1, 2, 3, 4)
    ]  # fmt: skip
    run = executor.submit(Graph(wide))
    first = gate.arrivals(2)
    # However long it takes, as here a run on the other node:
    executor.execute(Graph([Function("other", [], int, node="node2")]))
    assert gate.nobody()
    gate.let()
    assert sorted(first + gate.arrivals(2)) == ["f1", "f2", "f3", "f4"]
    gate.let()
    run.wait(30)
    assert {run.where(f.id) for f in wide} == {"self"}


# distributed_executor_test.exs:427
def test_merges_collocated_costs_and_refuses_those_of_a_node_without_cores(pair):
    nodes = [pair[0], hd.Node("node2", {"cpu": 0})]
    functions = [Function("f1", node="node2", cost={"cpu": 1})]
    functions += [
        Function(f"f{k}", [f"f{k - 1}"], node=with_function("f1"), cost={"cpu": 1})
        for k in (2, 3, 4)
    ]
    with pytest.raises(hd.UnsatisfiableError) as info:
        hd.plan(Graph(functions), nodes)
    assert str(info.value) == (
        "functions 'f1', 'f2', 'f3', 'f4' must share a node, and no node fits all: "
        "self is not 'node2', the node of function 'f1'; node2 lacks cpu (needs 1, has "
        "0) for function 'f1'. Lower a cost, part them or add a node."
    )
    assert info.value.refusals == {
        f"f{k}": {
            "self": (Lack("node", "node2", "self", "'f1'"),),
            "node2": (Lack("cpu", 1.0, 0.0, f"'f{k}'"),),
        }
        for k in (1, 2, 3, 4)
    }

"""Handoff's scenarios of resources: what nodes have, and who gives back what when."""

import time

import pytest
from distributed import Client

import handout_dask as hd
from handout_dask import Function, Graph


@pytest.fixture
def others(executor):
    """Makes executors, each with a client of its own."""
    made = []

    def other():
        address = executor.client.scheduler.address
        client = Client(address, set_as_default=False)
        made.append(hd.Executor(client))
        return made[-1]

    yield other
    for each in made:
        if each.client.status != "closed":
            each.close()
            each.client.close()


def _holding(call, *names, memory):
    cost = {"memory": memory, "cpu_time": 1000}
    return Graph(
        Function(n, [], call, extra_args=[n], node="self", cost=cost) for n in names
    )


def _memory_is(amount):
    """Whether so much memory is claimed on the node "self"."""

    def holds(dask_scheduler):
        tracker = dask_scheduler.plugins["handout"].dispatcher.tracker
        return tracker.snapshot()["self"]["memory"][1] == amount

    return holds


# distributed_executor_test.exs:24
def test_can_discover_local_node_capabilities(executor):
    has = {node.name: dict(node.capabilities) for node in executor.nodes().nodes}
    room = {"cpu": 4.0, "memory": 2000.0, "compute": 2.0}
    assert has == {"self": room, "node2": room}
    rows = [
        {"node": node, "resource": name, "capacity": most, "claimed": 0.0}
        for node in ("node2", "self")
        for name, most in sorted(room.items())
    ]
    told = [{k: row[k] for k in rows[0]} for row in executor.resources()]
    assert sorted(told, key=lambda row: (row["node"], row["resource"])) == rows


# distributed_executor_test.exs:375
def test_respects_resource_limits(executor, caught):
    big = Graph([Function("big", [], int, cost={"cpu": 10})])
    error = caught(hd.UnsatisfiableError, executor.execute, big)
    assert str(error) == (
        "function 'big' fits on no node: self, node2 lacks cpu (needs 10, has 4). "
        "Lower its cost or add a node."
    )
    small = Graph(
        [
            Function("a", [], lambda: 1, cost={"cpu": 4}),
            Function("b", ["a"], lambda a: a + 1, cost={"cpu": 4}),
        ]
    )
    assert dict(executor.execute(small).results) == {"a": 1, "b": 2}


# resource_test.exs:65
def test_handles_multiple_processes_allocating_resources(
    executor, others, gate, until, claimed
):
    call = gate.call()
    first, second = others(), others()
    lost = first.submit(_holding(call, "a", "b", memory=300))
    run = second.submit(_holding(call, "c", memory=500))
    assert gate.arrivals(3) == ["a", "b", "c"]
    assert claimed(executor) == {("self", "memory"): 1100, ("self", "cpu"): 3}
    first.client.close()
    until(executor.client, lambda s: len(s.plugins["handout"].dispatcher.runs) == 1)
    assert claimed(executor)["self", "memory"] == 1100  # their threads go on
    gate.let("a", "b")
    until(executor.client, _memory_is(500))
    assert claimed(executor) == {("self", "memory"): 500, ("self", "cpu"): 1}
    gate.let()
    assert run["c"] == "c"
    until(executor.client, _memory_is(0))
    assert (claimed(executor), lost.progress) == ({}, (0, 0, 2))


# parallel_execution_test.exs:332
def test_caller_death_releases_claimed_resources_within_1_s(
    executor, others, gate, until, claimed
):
    dies = others()
    lost = dies.submit(_holding(gate.call(), "a", "b", memory=1000))
    assert gate.arrivals(2) == ["a", "b"]
    assert claimed(executor) == {("self", "memory"): 2000, ("self", "cpu"): 2}
    dies.client.close()
    until(executor.client, lambda s: not s.plugins["handout"].dispatcher.runs)
    assert claimed(executor)["self", "memory"] == 2000  # their threads go on
    began = time.monotonic()
    gate.let()
    until(executor.client, _memory_is(0))
    assert time.monotonic() - began < 3  # a hang guard
    assert (claimed(executor), lost.progress) == ({}, (0, 0, 2))
    run = executor.execute(Graph([Function("c", [], lambda: 1, cost={"memory": 2000})]))
    assert run["c"] == 1


# parallel_execution_test.exs:361
def test_successful_dag_releases_resources(executor, gate, claimed):
    """What runs holds what it declared; when all has ended nothing is held."""
    call = gate.call()
    graph = _holding(call, "a", "b", memory=300)
    graph.add(Function("c", ["a", "b"], lambda *x: x, cost={"memory": 2000}))
    run = executor.submit(graph)
    assert gate.arrivals(2) == ["a", "b"]
    assert claimed(executor) == {("self", "memory"): 600, ("self", "cpu"): 2}
    gate.let()
    assert run.wait(30)["c"] == ("a", "b")
    assert (run.status, claimed(executor)) == ("done", {})


# parallel_execution_test.exs:380
def test_failed_dag_releases_resources(executor, gate, claimed):
    """Nor when it failed, and what reads it never ran."""
    call = gate.call()

    def fails(name):
        call(name)
        raise RuntimeError(name)

    graph = _holding(fails, "a", "b", memory=300)
    graph.add(Function("c", ["a", "b"], lambda *x: x, cost={"memory": 2000}))
    run = executor.submit(graph)
    assert gate.arrivals(2) == ["a", "b"]
    assert claimed(executor) == {("self", "memory"): 600, ("self", "cpu"): 2}
    gate.let()
    run.wait(30)
    assert (run.status, run.progress, claimed(executor)) == ("failed", (0, 3, 3), {})

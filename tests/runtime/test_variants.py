"""A function that takes too much memory runs as another of its alternatives, live."""

import pytest

import handout_dask as hd
from handout_dask import Function, Graph, Node
from handout_dask.runtime.lower import lower

LIMIT = 60  # s after which a test calls it a hang


def big():
    return "big", len(bytearray(b"x") * (600 * 10**6))


def small():
    return "small", hd.attempt()


COSTS = [
    {"cpu_time": 10, "memory": 200, "code": big},
    {"cpu_time": 20, "memory": 220, "camera": 1, "code": big},
    {"cpu_time": 60_000, "memory": 150, "code": small},
]


@pytest.fixture(scope="module")
def executor():
    nodes = [
        Node("a", {"cpu": 1, "memory": 200}),
        Node("b", {"cpu": 1, "memory": 220, "camera": 1}),
    ]
    with hd.Executor(nodes=nodes, enforce_memory=True) as executor:
        yield executor


def test_it_runs_as_each_other_alternative_until_one_has_room(executor):
    pinned = Function("pinned", [], None, cost=COSTS, node="a")
    free = Function("free", [], None, cost=COSTS[1:] + COSTS[:1])
    run = executor.submit(Graph([pinned, free])).wait(LIMIT)
    assert run["pinned"][0] == run["free"][0] == "small"
    nodes = [span.node for span in run.spans if span.function == "pinned"]
    assert set(nodes) == {"a"}
    assert run["pinned"][1] == len(nodes)
    tries = [span for span in run.spans if span.function == "free"]
    assert all(span.outcome == "failed" for span in tries[:-1])
    assert run["free"][1] == len(tries) > 2


def much():
    return "much", len(bytearray(b"x") * (350 * 10**6))


@pytest.mark.slow
def test_it_may_take_what_the_other_alternative_declares():
    nodes = [
        Node("a", {"cpu": 1, "memory": 300}),
        Node("b", {"cpu": 1, "memory": 900, "camera": 1}),
    ]
    costs = [
        {"cpu_time": 10, "memory": 150, "code": big},
        {"cpu_time": 20, "memory": 700, "camera": 1, "code": much},
    ]
    with hd.Executor(nodes=nodes, enforce_memory=True) as executor:
        run = executor.submit(Graph([Function("f", [], None, cost=costs)])).wait(LIMIT)
        assert run["f"][0] == "much"
        assert len(run.spans) > 1
        assert not run.report().overuse or run.report().overuse[0].measured > 350


def test_it_fails_where_none_has_room_and_says_what_was_tried(executor, caught):
    costs = [{**cost, "code": big} for cost in COSTS]
    run = executor.submit(Graph([Function("f", [], None, cost=costs)])).wait(LIMIT)
    error = caught(hd.ResourceExhaustedError, lambda: run["f"])
    assert error.resource == "memory"
    assert len(run.spans) >= 3


def test_code_of_another_alternative_that_can_not_travel_is_no_error_until_it_runs():
    lock = __import__("threading").Lock()
    costs = [{"cpu_time": 10, "code": small}, {"cpu_time": 20, "code": lambda: lock}]
    lowered = lower(
        Graph([Function("f", [], None, cost=costs)]), "t", node=[0], option=[0]
    )
    (task,) = (t for layer in lowered.layers.layers.values() for t in layer.values())
    spec = task.args[0]
    assert spec.varied(0).code == spec.code
    assert spec.varied(1).code == b""

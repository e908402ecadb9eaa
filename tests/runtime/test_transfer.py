"""What crosses the network: what a consumer reads, and nothing else, once a node."""

import numpy as np
import pytest

from handout_dask import Function, Graph

MB = 10**6


@pytest.fixture
def received(executor):
    """Bytes that each node received from others since the fixture was made."""

    def count(dask_worker):
        entries = dask_worker.transfer_incoming_log
        return str(dask_worker.name), sum(e["total"] for e in entries), len(entries)

    def now():
        return {name: (total, many) for name, total, many in
                executor.client.run(count).values()}  # fmt: skip

    before = now()

    def since():
        return {n: (t - before[n][0], m - before[n][1]) for n, (t, m) in now().items()}

    return since


def _arrays(count=10, mb=10):
    return lambda: tuple(np.full(mb * MB // 8, k, dtype=float) for k in range(count))


def test_an_index_moves_its_element_alone(executor, received):
    graph = Graph(
        [
            Function("ten", [], _arrays(), node="n0"),
            Function("one", [("ten", 3)], lambda x: (x.nbytes, x[0]), node="n1"),
        ]
    )
    run = executor.execute(graph)
    assert run["one"] == (10 * MB, 3.0)
    crossed = {name: total for name, (total, _) in received().items()}
    assert 9.5 * MB < crossed["n1"] < 12 * MB
    assert (crossed["n0"], crossed["wide"]) == (0, 0)


def test_the_whole_crosses_where_the_whole_is_read(executor, received):
    graph = Graph(
        [
            Function("ten", [], _arrays(10, 1), node="n0"),
            Function("all", ["ten"], len, node="n1"),
        ]
    )
    assert executor.execute(graph)["all"] == 10
    assert 9.5 * MB < received()["n1"][0] < 12 * MB


def test_nothing_crosses_on_one_node(executor, received):
    graph = Graph(
        [
            Function("ten", [], _arrays(10, 1), node="n0"),
            Function("one", [("ten", 3)], lambda x: x.nbytes, node="n0"),
            Function("all", ["ten"], len, node="n0"),
        ]
    )
    executor.execute(graph)
    assert {total for total, _ in received().values()} == {0}


def test_an_element_crosses_once_for_all_readers_on_a_node(executor, received):
    readers = [
        Function(k, [("ten", 3)], lambda x: x.nbytes, node="n1") for k in range(8)
    ]
    graph = Graph([Function("ten", [], _arrays(10, 1), node="n0"), *readers])
    run = executor.execute(graph)
    assert {run[k] for k in range(8)} == {MB}
    total, count = received()["n1"]
    assert 0.95 * MB < total < 1.2 * MB
    assert count == 1


def test_elements_for_different_nodes_go_each_to_its_own(executor, received):
    graph = Graph(
        [
            Function("ten", [], _arrays(10, 1), node="n0"),
            Function("b", [("ten", 1), ("ten", 2)], lambda *x: len(x), node="n1"),
            Function("c", [("ten", 3)], lambda x: x.nbytes, node="wide"),
        ]
    )
    executor.execute(graph)
    crossed = received()
    assert 1.9 * MB < crossed["n1"][0] < 2.4 * MB
    assert 0.95 * MB < crossed["wide"][0] < 1.2 * MB


def test_a_node_gets_nothing_that_it_does_not_read(executor, received):
    graph = Graph(
        [
            Function("big", [], _arrays(1, 5), node="n0"),
            Function("here", ["big"], len, node="n0"),
            Function("there", ["here"], lambda x: x, node="n1"),
        ]
    )
    executor.execute(graph)
    assert received()["n1"][0] < 10_000

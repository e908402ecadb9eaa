"""What ran on a node that may have died of its memory runs alone the next time."""

import os
import signal
import time

import pytest
from distributed import LocalCluster

import handout_dask as hd
from handout_dask import Function, Graph

LIMIT = 60  # s after which a test calls it a hang


def _meet(call, name):
    return call(f"{name} {os.getpid()}")


@pytest.mark.parametrize(("memory", "alone"), [(500, True), (100, False)])
def test_who_filled_a_node_that_died_runs_alone_next(gate, memory, alone):
    call = gate.call()
    graph = Graph(
        Function(name, [], _meet, extra_args=[call, name], cost={"memory": memory})
        for name in ("a", "b")
    )
    nodes = [hd.Node("only", {"cpu": 2, "memory": 1000})]
    with hd.Executor(nodes=nodes) as executor:
        run = executor.submit(graph)
        first, second = gate.arrivals(2)
        assert (first[0], second[0]) == ("a", "b")
        os.kill(int(first.split()[1]), signal.SIGKILL)
        if alone:
            for _ in range(2):
                (name,) = gate.arrivals(1)
                time.sleep(0.5)
                assert gate.nobody()
                gate.let(name)
        else:
            gate.let(*gate.arrivals(2))
        run.wait(LIMIT)
        assert run.status == "done"
        ends = sorted((span.attempt, span.outcome) for span in run.spans)
        assert ends == [(1, "lost"), (1, "lost"), (2, "done"), (2, "done")]


def test_what_a_thread_holds_is_counted_when_no_executor_is_left(gate):
    """Who comes next to the scheduler waits until the thread has ended."""
    call = gate.call()
    cost = {"memory": 900}
    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    ) as cluster:
        nodes = [hd.Node("0", {"memory": 1000})]
        with hd.Executor(cluster, nodes=nodes) as executor:
            executor.submit(
                Graph([Function("a", [], call, extra_args=["a"], cost=cost)])
            )
            assert gate.arrivals(1) == ["a"]
        with hd.Executor(cluster, nodes=nodes) as executor:
            run = executor.submit(
                Graph([Function("b", [], call, extra_args=["b"], cost=cost)])
            )
            time.sleep(0.5)
            assert gate.nobody()
            gate.let("a")
            assert gate.arrivals(1) == ["b"]
            gate.let("b")
            assert run["b"] == "b"
    assert cluster.scheduler.plugins.get("handout") is None

"""Functions that run late begin anew elsewhere, if the user allows it."""

import pytest
from distributed import Client, LocalCluster

import handout_dask as hd
from handout_dask import Function, Graph

LIMIT = 60  # s after which a test calls it a hang


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def graph(gate, tmp_path):
    """A function whose first attempt waits at the gate, and one that reads it."""
    call, mark = gate.call(), tmp_path / "begun"

    def late():
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            return "second"
        call("late")
        return "first"

    return Graph(
        [
            Function("late", [], late, cost={"cpu_time": 200}),
            Function("reads", ["late"], lambda x: f"{x} attempt"),
        ]
    )


def test_a_late_function_begins_anew_elsewhere(client, graph, gate):
    with hd.Executor(client, speculative=True) as executor:
        run = executor.submit(graph)
        assert gate.arrivals(1) == ["late"]
        try:
            run.wait(LIMIT)
            assert run["reads"] == "second attempt"
            (span,) = [span for span in run.spans if span.function == "late"]
            assert (span.attempt, span.outcome) == (2, "done")
            assert span.node != run.plan["late"].node
            assert any("begins anew" in why for _, why, _, _ in run.replans)
        finally:
            gate.let()


def test_it_stays_unless_that_is_allowed(client, graph, gate):
    with hd.Executor(client) as executor:
        run = executor.submit(graph)
        assert gate.arrivals(1) == ["late"]
        with pytest.raises(TimeoutError):
            run.wait(2.5)  # by when it would have begun anew
        gate.let()
        run.wait(LIMIT)
        assert run["reads"] == "first attempt"


@pytest.mark.parametrize("tie", ["pin", "group"])
def test_what_is_bound_to_its_node_stays(client, graph, gate, tie):
    late, reads = graph["late"], graph["reads"]
    node = next(iter(client.scheduler_info()["workers"].values()))["name"]
    bound = Graph()
    where = str(node) if tie == "pin" else None
    bound.add(Function("late", [], late.code, cost=late.cost, node=where))
    with_it = hd.with_function("late") if tie == "group" else None
    bound.add(Function("reads", ["late"], reads.code, node=with_it))
    with hd.Executor(client, speculative=True) as executor:
        run = executor.submit(bound)
        assert gate.arrivals(1) == ["late"]
        with pytest.raises(TimeoutError):
            run.wait(2.5)
        gate.let()
        run.wait(LIMIT)
        assert run["reads"] == "first attempt"

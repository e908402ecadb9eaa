"""Laws that were broken once: keys, caches, trackers, references, addresses."""

import gc
import os

import dask
import pytest
from distributed import Client, LocalCluster

import handout_dask as hd
from handout_dask import Function, Graph

NODES = [hd.Node("a", {"cpu": 1}), hd.Node("b", {"cpu": 1})]


@pytest.fixture(scope="module")
def executor():
    with hd.Executor(nodes=NODES) as executor:
        yield executor


def test_a_function_of_any_name_is_kept_apart_from_elements(executor):
    def graph(name):
        return Graph(
            [
                Function("c", [], lambda: "mine", node="a", name=name),
                Function("p", ["c"], lambda c: ["e0", "e1"], node="a"),
                Function("r", [("p", 1)], lambda x: x, node="b"),
            ]
        )

    expected = {"c": "mine", "p": ["e0", "e1"], "r": "e1"}
    for name in ("cut", "cut-out", "cut_out"):
        assert graph(name).compute(scheduler="sync") == expected
        assert dict(executor.submit(graph(name)).wait(20).results) == expected


def test_a_graph_runs_on_one_cluster_after_another():
    graph = Graph([Function("a", [], lambda: 1, cost={"camera": 2})])
    for resources in ({"camera": 2}, {}, {"camera": 1}):
        with (
            LocalCluster(
                n_workers=1, processes=False, dashboard_address="127.0.0.1:0",
                resources=resources,
            ) as cluster,
            Client(cluster) as client,
        ):  # fmt: skip
            assert client.compute(graph).result(timeout=20) == {"a": 1}
            assert dask.compute(graph) == ({"a": 1},)


def test_a_tracker_that_raises_fails_the_function_with_its_reason(executor):
    class Broken(hd.StaticTracker):
        def request(self, claim, node, req):
            raise RuntimeError("out of order")

        def release(self, claim, part=None):
            raise RuntimeError("out of order")

    with hd.Executor(executor.client, tracker=Broken()) as other:
        graph = Graph([Function("a", [], int), Function("b", ["a"], abs)])
        run = other.submit(graph).wait(20)
        assert run.progress == (0, 2, 2)
        with pytest.raises(hd.HandoutError, match="RuntimeError: out of order"):
            run["a"]


def test_results_are_released_with_a_run_whose_failure_was_looked_at(executor, until):
    def fail():
        raise ValueError("looked at")

    run = executor.submit(Graph([Function("a", [], fail), Function("b", [], int)]))
    run.wait(20)
    with pytest.raises(ValueError, match="looked at"):
        run["a"]
    token = run.token
    del run
    gc.collect()
    until(executor.client, lambda s: not any(token in str(key) for key in s.tasks))


def test_declarations_of_an_executor_end_with_it(executor):
    graph = Graph([Function("a", [], int, cost={"camera": 1})])
    with hd.Executor(executor.client, nodes=[hd.Node("a", {"camera": 1})]) as other:
        assert other.plan(graph)["a"].node == "a"
    with pytest.raises(hd.UnsatisfiableError, match="camera"):
        executor.plan(graph)


def test_declared_nodes_that_no_worker_bears_are_refused(executor):
    with pytest.raises(hd.HandoutError, match="typo.*bears the name"):
        hd.Executor(executor.client, nodes=[hd.Node("typo")])


def test_an_address_that_is_none_is_refused():
    with pytest.raises(hd.HandoutError, match="'nonsense' is no address"):
        hd.Executor("nonsense")


@pytest.mark.parametrize(
    "options",
    [
        {"retry": 3},
        {"timeout": 0},
        {"cancel_grace": -1},
        {"max_concurrency": True},
        {"max_concurrency": 0},
        {"nodes": []},
    ],
    ids=repr,
)
def test_options_that_make_no_sense_are_refused(executor, options):
    with pytest.raises(hd.HandoutError):
        hd.Executor(executor.client, **options)


def test_what_can_not_be_done_is_refused_wherever_it_would_run(executor):
    graph = Graph([Function("a", [], int, timeout=1)])
    with pytest.raises(hd.GraphError, match="timeout=1, which only an Executor"):
        graph.compute()
    with pytest.raises(hd.HandoutError, match="detached"):
        executor.submit(Graph(), detached=True)


def test_a_run_says_so_when_its_executor_is_closed():
    with hd.Executor(nodes=NODES[:1]) as short:
        run = short.execute(Graph([Function("a", [], int)]))
    with pytest.raises(hd.ResultReleasedError, match="executor is closed"):
        run["a"]
    with pytest.raises(hd.HandoutError, match="executor is closed"):
        run.cancel()


def test_a_node_that_is_lost_for_a_while_is_not_given_up(until):
    def die():
        os._exit(1)

    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1ms"}),
        hd.Executor(nodes=NODES) as short,
    ):
        run = short.submit(Graph([Function("a", [], die, node="a")]))
        run.wait(40)
        until(
            short.client,
            lambda s: {str(w.name) for w in s.workers.values()} == set("ab"),
        )
        assert set(short.supervisor.cluster.workers) == {"a", "b"}
        assert short.execute(Graph([Function("b", [], int, node="a")]))["b"] == 0

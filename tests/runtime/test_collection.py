"""A graph is a Dask collection: it runs wherever Dask runs, and says what it costs."""

import dask
import pytest
from dask.base import is_dask_collection, tokenize
from distributed import Client, LocalCluster
from distributed.diagnostics.plugin import SchedulerPlugin

import handout_dask as hd
from handout_dask import Function, Graph

COST = {"memory": 100.0, "camera": 1.0, "cpu_time": 5.0}
EXPECTED = {"a": (1, 2), "b": 2, ("c", 1): 3, "d": {"x": 5}}


def _graph():
    return Graph(
        [
            Function("a", [], lambda: (1, 2), cost=COST),
            Function("b", [("a", 1)], lambda x: x, retry=hd.RetryPolicy(4)),
            Function(("c", 1), ["b", ("a", 0)], lambda *x: sum(x)),
            Function("d", [(("c", 1), None)], lambda x, y, z: {"x": x + y + z},
                     extra_args=[1], kwargs={"z": 1}),
        ]
    )  # fmt: skip


@pytest.mark.parametrize("scheduler", ["threads", "sync", "single-threaded"])
def test_a_graph_runs_on_daskss_local_schedulers(scheduler):
    assert dask.compute(_graph(), scheduler=scheduler) == (EXPECTED,)
    assert _graph().compute(scheduler=scheduler) == EXPECTED


def test_a_graph_runs_on_dasks_processes():
    assert dask.compute(_graph(), scheduler="processes") == (EXPECTED,)


def test_a_graph_runs_by_threads_where_nothing_is_said():
    assert dask.compute(_graph()) == (EXPECTED,)


def test_the_highlevelgraph_is_a_plain_dask_graph():
    graph = _graph()
    layers = graph.to_dask()
    values = dask.get(layers, graph.__dask_keys__())
    assert dict(zip(graph.order(), values, strict=True)) == EXPECTED


def test_a_graph_is_a_collection_among_others():
    graph, other = _graph(), dask.delayed(lambda: 7)()
    assert is_dask_collection(graph)
    assert dask.compute(graph, other, [graph], {"k": graph}) == (
        EXPECTED, 7, [EXPECTED], {"k": EXPECTED},
    )  # fmt: skip
    assert dask.compute(Graph()) == ({},)


def test_a_graph_may_be_an_argument_of_delayed():
    total = dask.delayed(lambda results, y: results["b"] + y)(_graph(), 10)
    assert total.compute() == 12


def test_optimising_changes_nothing():
    (optimised,) = dask.optimize(_graph())
    assert dask.compute(optimised) == (EXPECTED,)


def test_graphs_are_different_to_dask_and_one_is_the_same():
    graph = _graph()
    assert tokenize(graph) == tokenize(graph)
    assert tokenize(graph) != tokenize(_graph())
    before = tokenize(graph)
    graph.add(Function("e", ["d"], len))
    assert tokenize(graph) != before
    assert dask.compute(graph) == ({**EXPECTED, "e": 1},)


def test_persisting_keeps_the_results():
    graph = _graph().persist()
    assert isinstance(graph, Graph)
    assert dask.compute(graph) == (EXPECTED,)


def test_a_graph_can_be_drawn(monkeypatch):
    drawn = []
    monkeypatch.setattr("dask.base.visualize_dsk", lambda *a, **k: drawn.append(a))
    monkeypatch.setattr("dask.dot.dot_graph", lambda *a, **k: drawn.append(a))
    monkeypatch.setattr(
        "dask.base.import_required", lambda *a: __import__("dask"), raising=False
    )
    dask.visualize(_graph())
    _graph().visualize(engine="graphviz")
    assert len(drawn) == 2
    assert "<svg" in _graph().visualize().svg  # by ourselves
    assert len(drawn) == 2


def test_an_exception_passes_through_plain_dask():
    graph = Graph([Function("a", [], lambda: 1 / 0)])
    with pytest.raises(ZeroDivisionError) as info:
        dask.compute(graph)
    assert "in function 'a'" in info.value.__notes__


def test_a_bad_index_names_both_functions_in_plain_dask_too():
    graph = Graph([Function("a", [], tuple), Function("b", [("a", 3)], len)])
    with pytest.raises(hd.FunctionError, match="function 'b' reads element 3 of the "):
        dask.compute(graph)


class Keeper(SchedulerPlugin):
    """Remembers what every task was annotated with."""

    name = "keeper"

    def __init__(self):
        self.seen = {}

    def update_graph(self, scheduler, *, tasks, **kwargs):
        for key in tasks:
            task = scheduler.tasks[key]
            self.seen[key] = (dict(task.annotations or {}), task.retries,
                              dict(task.resource_restrictions or {}))  # fmt: skip


@pytest.fixture(scope="module")
def plain():
    """A cluster without our plugin, whose workers declare a resource."""
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=2,
            resources={"camera": 1},
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def seen(plain):
    plugin = Keeper()
    plain.cluster.scheduler.add_plugin(plugin)
    yield plugin.seen
    plain.cluster.scheduler.remove_plugin("keeper")


def _as_annotated(seen, graph):
    keys = dict(zip(graph.order(), graph.__dask_keys__(), strict=True))
    return {id: seen[key] for id, key in keys.items()}


def _check(seen, graph):
    got = _as_annotated(seen, graph)
    name = "_graph.<locals>.<lambda>".rpartition("<locals>.")[2]
    note = {"handout": {"cost": COST, "name": name}}
    free = {"handout": {"cost": {}, "name": name}}
    assert got == {
        "a": ({**note, "resources": {"camera": 1.0}}, 0, {"camera": 1.0}),
        "b": ({**free, "retries": 3}, 3, {}),
        ("c", 1): (free, 0, {}),
        "d": (free, 0, {}),
    }


@pytest.mark.parametrize(
    "how",
    [
        lambda client, graph: dask.compute(graph)[0],
        lambda client, graph: client.compute(graph).result(30),
        lambda client, graph: client.compute(graph, optimize_graph=False).result(30),
        lambda client, graph: graph.compute(),
        lambda client, graph: client.persist(graph).compute(),
        lambda client, graph: graph.persist().compute(),
        lambda client, graph: dask.compute({"k": [graph]})[0]["k"][0],
        lambda client, graph: dict(
            zip(graph.order(), client.get(graph.to_dask(), graph.__dask_keys__()),
                strict=True)
        ),
    ],
    ids=["compute", "client.compute", "unoptimised", "method", "client.persist",
         "persist", "nested", "get"],
)  # fmt: skip
def test_annotations_reach_a_scheduler_without_plugin(plain, seen, how):
    graph = _graph()
    assert how(plain, graph) == EXPECTED
    _check(seen, graph)


def test_annotations_of_many_costs_share_few_layers(plain, seen):
    graph = Graph(
        Function(k, [], lambda: 1, cost={"memory": k, "cpu_time": 1}, name=f"f{k}")
        for k in range(200)
    )
    assert len(graph.to_dask().layers) == 1
    plain.compute(graph).result(30)
    got = _as_annotated(seen, graph)
    assert [got[k][0]["handout"]["cost"].get("memory", 0) for k in range(200)] == [
        float(k) for k in range(200)
    ]


def test_costs_that_no_worker_declares_are_no_resources_to_dask(plain, seen):
    """A resource that nobody declares would make plain Dask wait for ever."""
    graph = Graph([Function("a", [], lambda: 1, cost={"licence": 1, "gpus": 1})])
    assert plain.compute(graph).result(30) == {"a": 1}
    assert _as_annotated(seen, graph)["a"][2] == {}


def test_resources_can_be_named(plain, seen):
    graph = _graph()
    layers = graph.to_dask(resources=["memory", "camera"])
    wanted = [
        layer.annotations["resources"]
        for layer in layers.layers.values()
        if "resources" in (layer.annotations or {})
    ]
    assert wanted == [{"memory": 100.0, "camera": 1.0}]


def test_retries_are_dasks_where_dask_runs_it(plain, journal):
    def code():
        journal("called")
        if len(journal.lines()) < 3:
            raise ValueError
        return 1

    graph = Graph([Function("a", [], code, retry=hd.RetryPolicy(3))])
    assert plain.compute(graph).result(30) == {"a": 1}
    assert len(journal.lines()) == 3


def test_a_graph_runs_plainly_on_a_cluster_with_the_plugin_too(executor):
    with executor.client.as_current():
        assert dask.compute(_graph(), scheduler=executor.client) == (EXPECTED,)
        assert executor.client.compute(_graph()).result(30) == EXPECTED
    assert executor.execute(_graph()).results["d"] == EXPECTED["d"]

"""Handoff's scenarios of stores and registries: what is where, run by run.

Its stores are Dask's own memory here, its registry is the scheduler's ``who_has``.
"""

import pytest

import handout_dask as hd
from handout_dask import Function, Graph


def _graph(value, where="self", name="item"):
    return Graph(
        [
            Function(name, [], lambda: [value], node=where),
            Function("len", [name], len, node=where),
        ]
    )


@pytest.fixture
def two(executor):
    """Two runs of the same ids, on different nodes."""
    runs = executor.submit(_graph("x", "self")), executor.submit(_graph("yy", "node2"))
    return [run.wait(30) for run in runs]


def _bytes_of(executor, run):
    """Which workers hold anything of a run in their memory, by their own account."""
    token = run.token

    def look(dask_worker):
        return str(dask_worker.name), sum(token in str(key) for key in dask_worker.data)

    return {name: n for name, n in executor.client.run(look).values() if n}


def _copies(scheduler, token):
    """How often results of a run are in memory, by the scheduler's account."""
    tasks = scheduler.tasks.items()
    return sum(len(task.who_has or ()) for key, task in tasks if token in str(key))


# ------------------------------------------------------------------------ the store
# result_store_test.exs:29
def test_get_returns_not_found_for_data_in_a_different_dag(executor):
    one = executor.execute(_graph(1, name="mine"))
    two = executor.execute(_graph(2, name="yours"))
    assert (one["mine"], two["yours"]) == ([1], [2])
    for run, other in ((one, "yours"), (two, "mine"), (one, "nobody")):
        for ask in (run.__getitem__, run.results.__getitem__, run.where):
            with pytest.raises(KeyError, match=f"no function '{other}' in <Graph"):
                ask(other)
        assert run.results.get(other) is None


# result_store_test.exs:36
def test_has_value_is_scoped_by_dag_id(executor):
    one = executor.execute(_graph(1, name="mine"))
    two = executor.execute(_graph(2, name="yours"))
    ids = ("mine", "yours", "len")
    assert [id in one.results for id in ids] == [True, False, True]
    assert [id in two.results for id in ids] == [False, True, True]


# result_store_test.exs:55
def test_get_with_fetch_retrieves_local_values_for_a_specific_dag(
    executor, two, located
):
    """Readers on the same node copy nothing, and neither does the client's look."""
    assert [dict(run.results) for run in two] == [
        {"item": ["x"], "len": 1},
        {"item": ["yy"], "len": 1},
    ]
    assert [located(executor, run) for run in two] == [
        {"item": ["self"], "len": ["self"]},
        {"item": ["node2"], "len": ["node2"]},
    ]


# distributed_result_store_test.exs:28
def test_store_distributed_is_scoped_by_dag_id(executor, two):
    assert [(run["item"], run.where("item")) for run in two] == [
        (["x"], "self"),
        (["yy"], "node2"),
    ]
    assert [_bytes_of(executor, run) for run in two] == [{"self": 2}, {"node2": 2}]


# distributed_result_store_test.exs:55
def test_clear_all_nodes_is_scoped_by_dag_id(executor, until):
    def spread():
        return Graph(
            [
                Function("a", [], lambda: (1, 2), node="self"),
                Function("b", ["a"], lambda a: a, node="node2"),
            ]
        )

    one, other = executor.execute(spread()), executor.execute(spread())
    assert _bytes_of(executor, one) == {"self": 1, "node2": 2}
    one.release()
    token = one.token
    until(executor.client, lambda s: not any(token in str(key) for key in s.tasks))
    assert _bytes_of(executor, one) == {}
    assert _bytes_of(executor, other) == {"self": 1, "node2": 2}
    assert dict(other.results) == {"a": (1, 2), "b": (1, 2)}
    with pytest.raises(hd.ResultReleasedError):
        one["a"]


# distributed_result_store_test.exs:90
def test_distributed_fetching_with_location_registry_is_scoped_by_dag_id(
    executor, located
):
    """What is fetched to a node is kept there as well; only of the run that read it."""

    def graph(reader):
        return Graph(
            [
                Function("a", [], lambda: [1, 2], node="self"),
                Function("b", ["a"], sum, node=reader),
            ]
        )

    near, far = (executor.execute(graph(node)) for node in ("self", "node2"))
    assert located(executor, near) == {"a": ["self"], "b": ["self"]}
    assert located(executor, far) == {"a": ["node2", "self"], "b": ["node2"]}
    assert (near["b"], far["b"], far["a"]) == (3, 3, [1, 2])


# --------------------------------------------------------------------- the registry
# data_location_registry_test.exs:17
def test_can_register_and_lookup_data_locations_for_a_specific_dag(executor, located):
    nodes = {"a": "self", "b": "node2", "c": "self"}
    graph = Graph(Function(id, [], int, node=node) for id, node in nodes.items())
    run = executor.execute(graph)
    assert {id: run.where(id) for id in "abc"} == nodes
    assert located(executor, run) == {id: [node] for id, node in nodes.items()}


# data_location_registry_test.exs:26
def test_lookup_returns_not_found_for_data_in_a_different_dag(executor, located):
    one = executor.execute(_graph(1, "self", name="mine"))
    two = executor.execute(_graph(2, "node2", name="yours"))
    with pytest.raises(KeyError, match="no function 'yours' in"):
        one.where("yours")
    assert set(located(executor, one)) == {"mine", "len"}
    assert set(located(executor, two)) == {"yours", "len"}


# data_location_registry_test.exs:36
def test_can_update_registered_locations_for_a_specific_dag(
    executor, gate, located, until
):
    """As its results are made and fetched; those of the same run beside stay."""
    call = gate.call()

    def graph(mark):
        def reads(a):
            return call(mark), a

        first = Function("a", [], lambda: [mark], node="self")
        return Graph([first, Function("b", ["a"], reads, node="node2")])

    one, two = executor.submit(graph("one")), executor.submit(graph("two"))
    assert gate.arrivals(2) == ["one", "two"]  # each has its input
    for token in (one.token, two.token):
        until(executor.client, lambda s: _copies(s, token) == 2)
    here = {"a": ["node2", "self"]}
    assert [located(executor, run) for run in (one, two)] == [here, here]
    gate.let("one")
    assert one["b"] == ("one", ["one"])
    assert located(executor, one) == here | {"b": ["node2"]}
    assert located(executor, two) == here
    gate.let("two")
    assert two.wait(30)["b"] == ("two", ["two"])
    assert located(executor, two) == here | {"b": ["node2"]}


# data_location_registry_test.exs:56
def test_get_all_returns_locations_only_for_the_specified_dag(executor, two, located):
    third = executor.execute(_graph("z", "node2", name="other"))
    assert [located(executor, run) for run in (*two, third)] == [
        {"item": ["self"], "len": ["self"]},
        {"item": ["node2"], "len": ["node2"]},
        {"other": ["node2"], "len": ["node2"]},
    ]


# data_location_registry_test.exs:75
def test_clear_removes_registrations_only_for_the_specified_dag(
    executor, two, located, until
):
    one, other = two
    one.release()
    token = one.token
    until(executor.client, lambda s: not any(token in str(key) for key in s.tasks))
    assert located(executor, one) == {}
    assert located(executor, other) == {"item": ["node2"], "len": ["node2"]}
    assert other["item"] == ["yy"]

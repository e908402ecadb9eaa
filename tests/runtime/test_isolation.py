"""Runs beside each other: nothing mixes, nothing is overbooked, nothing leaks."""

import gc
from concurrent.futures import ThreadPoolExecutor

import pytest
from distributed import Client, get_worker

import handout_dask as hd
from handout_dask import Function, Graph


@pytest.fixture(scope="module")
def other(executor):
    """A second executor on the same cluster, with a client of its own."""
    with (
        Client(executor.client.scheduler.address, set_as_default=False) as client,
        hd.Executor(client) as other,
    ):
        yield other


def _same_ids(mark):
    """Ids, names and shape are alike for every mark; code and values are not."""
    return Graph(
        [
            Function("a", [], lambda: [mark, mark], node="n0"),
            Function("b", [("a", 1)], lambda a: (mark, a), node="n1"),
            Function("c", ["a"], lambda a: (a, mark)),
            Function("d", ["b", "c"], lambda *x: x, extra_args=[mark]),
        ]
    )


def _expected(mark):
    return ((mark, mark), ([mark, mark], mark), mark)


def test_runs_with_the_same_ids_and_other_code_never_mix(executor, other):
    marks = range(40)
    with ThreadPoolExecutor(8) as pool:
        use = [executor, other]
        runs = list(pool.map(lambda m: use[m % 2].submit(_same_ids(m)), marks))
        values = list(pool.map(lambda run: run["d"], runs))
    assert values == [_expected(m) for m in marks]
    assert [run["b"] for run in runs] == [(m, m) for m in marks]


def test_a_run_that_is_cancelled_leaves_another_with_the_same_ids(
    executor, other, gate, caught
):
    call = gate.call()

    def graph(mark):
        return Graph(
            [
                Function("a", [], lambda: call(mark), node="wide"),
                Function("b", ["a"], lambda a: (a, mark), node="wide"),
            ]
        )

    first, second = executor.submit(graph("x")), other.submit(graph("y"))
    assert gate.arrivals(2) == ["x", "y"]
    first.cancel()
    gate.let()
    assert second["b"] == ("y", "y")
    assert second.wait(30).status == "done"
    caught(hd.RunCancelledError, lambda: first["b"])


def test_the_same_graph_submitted_twice_runs_twice(executor, journal):
    graph = Graph(
        [
            Function("a", [], lambda: journal("a")),
            Function("b", ["a"], lambda a: journal("b")),
        ]
    )
    runs = [executor.submit(graph) for _ in range(3)]
    for run in runs:
        run.wait(30)
    assert sorted(journal.lines()) == ["a"] * 3 + ["b"] * 3


def test_random_functions_run_anew_in_each_run(executor):
    import random

    graph = Graph([Function("a", [], lambda: random.getrandbits(60))])
    assert executor.execute(graph)["a"] != executor.execute(graph)["a"]


def _tasks(executor, run):
    token = run.token
    return executor.client.run_on_scheduler(
        lambda dask_scheduler: sorted(
            ts.state for k, ts in dask_scheduler.tasks.items() if token in str(k)
        )
    )


def test_results_are_released_when_their_run_is_and_only_then(executor, until):
    first = executor.execute(_same_ids(1))
    second = executor.execute(_same_ids(2))
    gc.collect()
    assert (_tasks(executor, first), _tasks(executor, second)) == (
        ["memory"] * 4 + ["released"],  # of the element that was cut out
        ["memory"] * 4 + ["released"],
    )
    first.release()
    token = first.token
    until(executor.client, lambda s: not any(token in str(key) for key in s.tasks))
    assert second["d"] == _expected(2)
    with pytest.raises(hd.ResultReleasedError, match="the run was released"):
        first["d"]
    assert first.status == "done"


def test_a_run_that_nobody_has_any_more_is_released(executor, until):
    run = executor.execute(_same_ids(1))
    token = run.token
    del run
    until(executor.client, lambda s: not any(token in str(key) for key in s.tasks))
    until(executor.client, lambda s: token not in s.plugins["handout"].runs)


def test_nothing_of_a_released_run_is_left_on_the_scheduler(executor, until):
    gc.collect()
    until(executor.client, lambda s: not s.plugins["handout"].runs)

    def books(dask_scheduler):
        plugin = dask_scheduler.plugins["handout"]
        ours = (plugin.runs, plugin.keys, plugin.dispatcher.runs)
        return [len(x) for x in (*ours, dask_scheduler.tasks)]

    run = executor.execute(_same_ids(1))
    assert executor.client.run_on_scheduler(books)[0] == 1
    run.release()
    until(executor.client, lambda s: not s.tasks)
    assert executor.client.run_on_scheduler(books) == [0] * 4


def test_runs_of_two_executors_do_not_overbook_a_node(executor, other, journal):
    def code():
        journal.stamp("begin")
        sum(range(50_000))
        journal.stamp("end")

    cost = {"memory": 600, "cpu_time": 2}

    def graph():
        return Graph(Function(k, [], code, node="wide", cost=cost) for k in range(15))

    runs = [use.submit(graph()) for use in (executor, other) * 2]
    for run in runs:
        run.wait(60)
    assert len(journal.lines()) == 2 * 15 * 4
    assert journal.most_at_once() == 1  # of 1000 MB


def test_single_slots_are_shared_by_runs_one_function_at_a_time(
    executor, other, journal
):
    def code():
        journal.stamp("begin")
        sum(range(50_000))
        journal.stamp("end")

    graph = Graph(Function(k, [], code, node="n0") for k in range(10))
    runs = [use.submit(graph) for use in (executor, other) * 2]
    for run in runs:
        run.wait(60)
    assert (len(journal.lines()), journal.most_at_once()) == (80, 1)


def test_runs_at_once_spill_over_to_the_next_node(gate):
    """The one that stock Dask fails: 4 runs, two fit a node at a time."""
    nodes = [hd.Node(n, {"cpu": 4, "compute": 2}) for n in ("a", "b")]
    call = gate.call()

    def code(name):
        call(name)
        return str(get_worker().name)

    for allocator in ("first-available", "load-balanced", "time"):
        with hd.Executor(nodes=nodes, allocator=allocator) as executor:
            runs = []
            for k in range(4):
                cost = {"compute": 1, "cpu_time": 1000}
                graph = Graph([Function("f", [], code, extra_args=[str(k)], cost=cost)])
                runs.append(executor.submit(graph))
            assert gate.arrivals(4) == list("0123")
            gate.let()
            assert sorted(run["f"] for run in runs) == ["a", "a", "b", "b"]


def test_many_runs_from_many_threads_end_right(executor, other):
    def one(m):
        functions = [Function(0, [], lambda: m)]
        functions += [Function(k, [k - 1], lambda x: x + 1) for k in range(1, 10)]
        use = (executor, other)[m % 2]
        return use.execute(Graph(functions), keep="sinks")[9]

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one, range(48))) == [m + 9 for m in range(48)]


def test_results_can_be_asked_for_by_many_threads_at_once(executor, gate):
    graph = Graph(
        [
            Function("a", [], gate.call(), extra_args=["a"]),
            Function("b", ["a"], lambda a: 1 / 0),
            Function("c", ["b"], lambda b: b),
        ]
    )
    run = executor.submit(graph)

    def ask(id):
        try:
            return run[id]
        except Exception as error:
            return type(error).__name__

    with ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(ask, id) for id in "abc" * 4]
        waits = [pool.submit(run.wait, 30)]
        gate.arrivals(1)
        gate.let()
        got = [answer.result(30) for answer in answers]
    assert got == ["a", "ZeroDivisionError", "FunctionError"] * 4
    assert waits[0].result(30) is run


def test_plain_dask_work_on_the_cluster_goes_on_beside(executor):
    client = executor.client
    futures = client.map(lambda x: x + 1, range(50), pure=False)
    keyed = client.submit(lambda: 7, key=("a", 0))
    run = executor.submit(_same_ids(3))
    assert client.gather(futures) == list(range(1, 51))
    assert keyed.result() == 7
    assert run["d"] == _expected(3)


def test_other_tasks_may_bear_keys_like_ours(executor):
    """A user's tuple keys are none of ours, whatever they are."""
    client = executor.client
    futures = [client.submit(lambda: 1, key=key) for key in [("cut-x", 0), ("b", "c")]]
    assert client.gather(futures) == [1, 1]

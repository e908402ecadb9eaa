"""What is claimed on a cluster: until threads have really ended, and told as it is."""

import pytest
from distributed import Client, LocalCluster

import handout_dask as hd
from handout_dask import Function, Graph


@pytest.fixture(scope="module")
def nodes():
    return [
        hd.Node("0", {"cpu": 4, "memory": 1000}, slots=4),
        hd.Node("1", {"cpu": 1, "memory": 100}, slots=1),
    ]


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(
        n_workers=2,
        threads_per_worker=4,
        processes=True,
        memory_limit="1GB",
        dashboard_address="",
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def executor(cluster, nodes):
    with Client(cluster) as client, hd.Executor(client, nodes=nodes) as executor:
        yield executor


@pytest.fixture
def other(cluster, nodes):
    """Another executor, of another client."""
    with Client(cluster) as client, hd.Executor(client, nodes=nodes) as executor:
        yield executor


def functions(call, *names, memory):
    cost = {"memory": memory, "cpu_time": 1000}
    return Graph([Function(n, [], call, extra_args=[n], cost=cost) for n in names])


def told(call, journal):
    """A function that says when it begins and ends."""

    def run(name):
        journal("begin", name)
        call(name)
        journal("end", name)

    return run


def held(name, resource, amount):
    def condition(dask_scheduler):
        tracker = dask_scheduler.plugins["handout"].dispatcher.tracker
        return tracker.snapshot()[name][resource][1] == amount

    return condition


def is_ready(dask_scheduler):
    """Whether something waits for nothing but its node."""
    return any(task.state == "no-worker" for task in dask_scheduler.tasks.values())


@pytest.mark.parametrize("how", ["cancelled", "released", "its client is gone"])
def test_memory_is_free_when_the_threads_that_have_it_have_ended(
    executor, other, gate, journal, until, how
):
    call = told(gate.call(), journal)
    first = other.submit(functions(call, "a", "b", memory=500))
    assert gate.arrivals(2) == ["a", "b"]
    if how == "cancelled":
        first.cancel()
    elif how == "released":
        first.release()
    else:
        other.client.close()
    until(executor.client, lambda s: not s.tasks)
    assert executor.client.run_on_scheduler(held("0", "memory", 1000))
    second = executor.submit(functions(call, "big", memory=1000))
    until(executor.client, is_ready)
    said = second.explain("big").standing
    (short,) = said.reason.short
    assert (said.state, said.node, said.reason.kind) == ("waits", "0", "room")
    assert (short.resource, short.needs, short.claimed) == ("memory", 1000, 1000)
    assert {other.how for other, _ in short.holders} == {
        "was taken back, and still runs"
    }
    gate.let("a")
    until(executor.client, held("0", "memory", 500))
    assert second.explain("big").standing.reason.short[0].claimed == 500
    gate.let("b")
    assert gate.arrivals(1) == ["big"]
    assert second.explain("big").standing.state == "runs"
    gate.let()
    second.wait()
    assert second.explain("big").standing.state == "done"
    ends = [journal.lines().index(f"end {name}") for name in "ab"]
    assert max(ends) < journal.lines().index("begin big")
    until(executor.client, held("0", "memory", 0))


def test_word_that_was_lost_is_made_up_for(executor, gate, until, monkeypatch):
    """Here of what was taken back before the worker could say so."""
    run = executor.submit(functions(gate.call(), "a", memory=1000))
    assert gate.arrivals(1) == ["a"]

    def be_deaf(dask_scheduler):
        dask_scheduler.plugins["handout"].lingering.left = lambda message: None

    def hear(dask_scheduler):
        del dask_scheduler.plugins["handout"].lingering.left

    executor.client.run_on_scheduler(be_deaf)
    run.cancel()
    gate.let()
    later = executor.execute(functions(int, "1", memory=1000))
    assert later["1"] == 1
    executor.client.run_on_scheduler(hear)


def test_what_failed_and_is_tried_again_holds_what_it_needs_once(
    executor, journal, until
):
    def fails_twice():
        journal("try")
        if len(journal.lines()) < 3:
            raise OSError("not yet")
        return 7

    cost, retry = {"memory": 1000}, hd.RetryPolicy(attempts=3)
    graph = Graph([Function("f", [], fails_twice, cost=cost, retry=retry)])
    assert executor.execute(graph)["f"] == 7
    until(executor.client, held("0", "memory", 0))


def test_what_a_function_waits_for_is_told_and_is_true(executor, gate, until):
    call = gate.call()
    cost = {"cpu_time": 600_000}
    graph = Graph(
        [
            Function("a", [], call, extra_args=["a"], cost=cost, node="1"),
            Function("b", [], call, extra_args=["b"], cost=cost, node="1"),
            Function("c", ["a", "b"], len, cost=cost),
        ]
    )
    run = executor.submit(graph)
    assert gate.arrivals(1) == ["a"]
    until(executor.client, is_ready)
    a, b, c = (run.explain(id).standing for id in "abc")
    assert (a.state, a.node, a.reason) == ("runs", "1", None)
    assert (b.state, b.reason.kind, b.reason.others[0].function) == (
        "waits",
        "slot",
        "a",
    )
    assert [other.function for other in c.reason.others] == ["a", "b"]
    text = str(run.explain("b"))
    assert "function 'b' waits for 1 until " in text
    assert "its slots are taken: 'a' (runs on 1)" in text
    assert "as first planned, function 'b' runs on 1" in text
    gate.let("a")
    assert gate.arrivals(1) == ["b"]
    run.cancel()
    gate.let()
    run.wait()
    assert str(run.explain("c")).splitlines()[:2] == [
        "function 'c' was cancelled",
        "  RunCancelledError: function 'c' did not end: the run was cancelled",
    ]


def test_what_waits_for_a_better_node_says_so(gate, until):
    """By plan it stays, for the other node is much slower."""
    nodes = [hd.Node("0", {"cpu": 1}, speed=100.0), hd.Node("1", {"cpu": 1})]
    with hd.Executor(nodes=nodes) as executor:
        cost = {"cpu_time": 6_000_000}  # not late while this is asked
        run = executor.submit(
            Graph(
                [
                    Function(n, [], gate.call(), extra_args=[n], cost=cost)
                    for n in ("a", "b")
                ]
            )
        )
        (first,) = gate.arrivals(1)
        until(executor.client, is_ready)
        (waits,) = {"a", "b"} - {first}
        said = run.explain(waits).standing
        assert (said.node, said.reason.kind) == ("0", "slot")
        assert [offer.node for offer in said.elsewhere] == ["1"]
        line = str(said).splitlines()[0]
        assert line.startswith(f"function '{waits}' waits for 0 until ")
        assert "; 1 would end later (" in line
        gate.let()
        assert gate.arrivals(1) == [waits]
        gate.let()
        run.wait()


def test_under_first_available_nothing_waits_beside_a_free_node_that_fits(gate):
    """Whatever takes longer, or less long, than was said."""
    nodes = [hd.Node(name, {"cpu": 1}) for name in ("0", "1")]
    with hd.Executor(nodes=nodes, allocator="first-available") as executor:
        names = [*"abcdef"]
        graph = functions(gate.call(), *names, memory=1)
        run = executor.submit(graph)
        first, second = gate.arrivals(2)
        for _ in range(4):
            gate.let(second)
            (second,) = gate.arrivals(1)
        gate.let()
        run.wait()
        assert [run.where(name) for name in names].count(run.where(first)) == 1

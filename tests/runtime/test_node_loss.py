"""Nodes are killed while they work: runs end right, or with an error that says why."""

import os
import random
import signal
from contextlib import suppress

import dask
import pytest
from distributed import get_worker

import handout_dask as hd
from handout_dask import Function, Graph


@pytest.fixture(scope="module")
def executor():
    """Three alike; a nanny restarts each under its name when it is killed."""
    nodes = [hd.Node(f"n{j}", {"cpu": 2, "memory": 2000}) for j in range(3)]
    # A worker that fetches from one that was killed tries it for 30 s (plain Dask
    # 2026.8.0 too: 4 of 44 runs with two kills).
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "3s"}),
        hd.Executor(nodes=nodes, restart=hd.RestartPolicy(None)) as executor,
    ):
        yield executor


@pytest.fixture
def pids(executor, until):
    """``{node: pid}`` once all three are up."""
    until(executor.client, lambda s: len(s.workers) == 3)
    return _pids(executor.client)


def _pids(client):
    found = client.run(
        lambda dask_worker: (str(dask_worker.name), os.getpid()), on_error="ignore"
    )
    return dict(found.values())


def _kill(pid):
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _where(*inputs):
    return str(get_worker().name)


def test_a_run_whose_node_is_killed_ends_right(executor, pids, gate, journal):
    call = gate.call()

    def first(k):
        journal("ran", k)
        if k == 2 and journal.lines().count("ran 2") == 1:  # the next time it goes on
            call(_where())
        return k

    functions = [Function(k, [], first, extra_args=[k]) for k in range(12)]
    functions += [
        Function(12 + k, [k, (k + 1) % 12], lambda *x: sum(x)) for k in range(12)
    ]
    functions.append(Function("all", [*range(12, 24)], lambda *x: sum(x)))
    run = executor.submit(Graph(functions))
    (victim,) = gate.arrivals(1)
    _kill(pids[victim])
    assert run.wait(60)["all"] == 2 * sum(range(12))
    assert (run.status, run.progress) == ("done", (25, 0, 25))


def test_unpinned_functions_move_to_nodes_that_are_up(executor, pids, gate):
    call = gate.call()

    def code(k):
        call(k)
        return _where()

    class AllOnOne:
        def allocate(self, problem):
            nodes = {function.id: "n1" for function in problem.functions}
            return hd.Plan.from_assignment(problem, nodes)

    with hd.Executor(executor.client, allocator=AllOnOne()) as other:
        graph = Graph(Function(k, [], code, extra_args=[k]) for k in range(8))
        run = other.submit(graph)
        first = gate.arrivals(2)
        _kill(pids["n1"])
        gate.let()
        again = gate.arrivals(4)
        gate.let()
        again += gate.arrivals(4)
        gate.let()
        assert set(first) <= set(again)
        assert {run[k] for k in range(8)} == {"n0", "n2"}
        assert {run.where(k) for k in range(8)} == {"n0", "n2"}


def test_finished_results_that_were_lost_are_computed_again_where_needed(
    executor, pids, gate, journal
):
    call = gate.call()

    def make(name):
        journal(name)
        return (name, name)

    graph = Graph(
        [
            Function("kept", [], make, extra_args=["kept"], node="n0"),
            Function("cut", [], make, extra_args=["cut"], node="n0"),
            Function("wait", [], lambda: call("wait"), node="n1"),
            Function("reads", ["kept", ("cut", 1), "wait"], lambda *x: x, node="n1"),
        ]
    )
    run = executor.submit(graph)
    gate.arrivals(1)
    assert (run["kept"], run["cut"]) == (("kept", "kept"), ("cut", "cut"))
    _kill(pids["n0"])
    gate.let()
    assert run.wait(60)["reads"] == (("kept", "kept"), "cut", "wait")
    assert run["kept"] == ("kept", "kept")
    assert run["cut"] == ("cut", "cut")
    assert run.status == "done"


def test_a_kept_result_of_a_run_that_is_done_is_computed_again(
    executor, pids, journal, until
):
    def make():
        journal("made")
        return _where(), len(journal.lines())

    run = executor.execute(Graph([Function("a", [], make, node="n2")]))
    assert run["a"] == ("n2", 1)
    _kill(pids["n2"])
    until(executor.client, lambda s: "n2" not in s.plugins["handout"].address)
    assert run["a"] == ("n2", 2)


def test_it_is_computed_again_after_its_executor_has_left(executor, pids, until):
    with hd.Executor(executor.client) as other:
        run = other.execute(Graph([Function("a", [], lambda: 3, node="n2")]))
    _kill(pids["n2"])
    until(executor.client, lambda s: "n2" not in s.plugins["handout"].address)
    until(executor.client, lambda s: "n2" in s.plugins["handout"].address)
    assert run["a"] == 3


def test_a_pinned_function_waits_for_its_node_to_return(executor, pids, gate, journal):
    call = gate.call()

    def code():
        journal("ran")
        if len(journal.lines()) == 1:
            call(os.getpid())
        return _where(), os.getpid()

    graph = Graph(
        [
            Function("a", [], code, node="n1"),
            Function("b", ["a"], lambda a: (a, _where()), node="n1"),
        ]
    )
    run = executor.submit(graph)
    assert gate.arrivals(1) == [pids["n1"]]
    _kill(pids["n1"])
    (where, pid), again = run.wait(60)["b"]
    assert (where, again) == ("n1", "n1")
    assert pid != pids["n1"]


def test_functions_that_must_share_a_node_move_together(executor, pids, gate, journal):
    call = gate.call()

    def code(*inputs):
        journal(_where())
        if len(journal.lines()) == 1:
            call("first")
        return _where()

    together = {"node": hd.with_function(0)}
    graph = Graph(
        [
            Function(0, [], code),
            *(Function(k, [k - 1], code, **together) for k in range(1, 6)),
        ]
    )
    run = executor.submit(graph)
    gate.arrivals(1)
    _kill(pids[journal.lines()[0]])
    assert len({run.wait(60)[k] for k in range(6)}) == 1


@pytest.mark.parametrize("seed", range(3))
def test_random_graphs_survive_random_kills(executor, pids, seed):
    rng = random.Random(seed)

    def code(k, *inputs):
        sum(range(50_000))
        return k + sum(i if isinstance(i, int) else i[0] for i in inputs), k

    functions, expected = [], {}
    for k in range(120):
        reads = rng.sample(range(k), min(k, rng.randint(0, 3)))
        args = [(u, 0) if rng.random() < 0.7 else u for u in reads]
        expected[k] = (k + sum(expected[u][0] for u in reads), k)
        functions.append(
            Function(k, args, lambda *x, k=k: code(k, *x), cost={"cpu_time": 2})
        )
    run = executor.submit(Graph(functions))
    for name in rng.sample(["n0", "n1", "n2"], 2):
        with suppress(Exception):
            run[rng.randrange(120)]
        pid = _pids(executor.client).get(name)
        if pid is not None:  # else it has not returned yet
            _kill(pid)
    run.wait(90)
    assert dict(run.results) == expected


def test_nothing_is_claimed_when_all_is_over(executor, pids, until, claimed):
    until(
        executor.client,
        lambda s: not any(r.book.left for r in s.plugins["handout"].runs.values()),
    )
    assert claimed(executor) == {}


# ---------------------------------------------------------- nodes that never return
@pytest.fixture
def short():
    """A cluster whose nodes do not return; pins wait for 0.2 s."""
    nodes = [
        hd.Node("stays", {"cpu": 1}),
        hd.Node("goes", {"cpu": 1, "camera": 1}),
    ]

    with hd.Executor(nodes=nodes, on_lost=hd.wait(0.2)) as executor:
        yield executor


def _lose(executor, name="goes"):
    """End a node for good, as a host that is switched off."""
    nanny = executor.supervisor.cluster.workers[name]
    nanny.close_gracefully()  # that is, don't restart it
    _kill(nanny.pid)


def test_a_pin_to_a_node_that_never_returns_is_an_error(short, gate, caught):
    call = gate.call()
    graph = Graph(
        [
            Function("other", [], lambda: 1, node="stays"),
            Function("pinned", [], lambda: call("pinned"), node="goes"),
            Function("after", ["pinned"], lambda x: x),
            Function("later", ["other"], lambda x: x, node="goes"),
        ]
    )
    run = short.submit(graph)
    gate.arrivals(1)
    _lose(short)
    run.wait(60)
    error = caught(hd.NodeLostError, lambda: run["pinned"])
    assert "goes" in str(error)
    assert error.handout[:2] == ("pinned", "goes")
    assert isinstance(caught(hd.NodeLostError, lambda: run["later"]), hd.NodeLostError)
    cause = caught(hd.FunctionError, lambda: run["after"]).__cause__
    assert isinstance(cause, hd.NodeLostError)
    assert run["other"] == 1


def test_what_only_a_lost_node_could_run_is_an_error(short, gate, caught):
    graph = Graph(
        [Function("a", [], gate.call(), extra_args=["a"], cost={"camera": 1})]
    )
    run = short.submit(graph)
    gate.arrivals(1)
    _lose(short)
    run.wait(60)
    assert "goes" in str(caught(hd.NodeLostError, lambda: run["a"]))


def test_after_a_loss_what_is_impossible_is_refused_at_submission(short, until):
    _lose(short)
    until(short.client, lambda s: len(s.workers) == 1)
    with pytest.raises(hd.UnsatisfiableError, match="fits on no node"):
        short.submit(Graph([Function("a", [], int, cost={"camera": 1})]))
    assert short.execute(Graph([Function("a", [], lambda: 1)]))["a"] == 1


def test_a_node_that_returns_takes_what_another_lost_for_good(three_cameras, gate):
    """Both are gone for a moment; then nothing could run it for a while."""
    executor, call = three_cameras, gate.call()

    def code():
        call(_where())
        return _where()

    run = executor.submit(Graph([Function("a", [], code, cost={"camera": 1})]))
    (first,) = gate.arrivals(1)
    second = {"c1": "c2", "c2": "c1"}[first]
    _kill(_pids(executor.client)[second])
    _lose(executor, first)
    assert gate.arrivals(1) == [second]
    gate.let()
    assert run.wait(60)["a"] == second


@pytest.fixture
def three_cameras():
    nodes = [hd.Node("stays"), *(hd.Node(n, {"camera": 1}) for n in ("c1", "c2"))]
    with hd.Executor(nodes=nodes) as executor:
        yield executor

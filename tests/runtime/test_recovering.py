"""Failures on a real cluster: rests, other nodes, memory, crashes, blame, clocks."""

import ctypes
import os
import signal
import time
from contextlib import suppress
from itertools import pairwise

import dask
import pytest
from distributed import get_worker

import handout_dask as hd
from handout_dask import Function, Graph, RetryPolicy

pytestmark = pytest.mark.slow

LIMIT = 60  # s after which a test calls it a hang
OFTEN = hd.RestartPolicy(max_restarts=None)
LATE = 0.15  # s that a try may begin late; what is promised is a third of it
EARLY = 0.05  # s: Dask shifts the clocks of workers by what it takes for their offsets


@pytest.fixture(scope="module")
def executor():
    """Three alike, of two slots; a nanny restarts each under its name."""
    nodes = [hd.Node(f"n{j}", {"cpu": 2, "memory": 1000}) for j in range(3)]
    with hd.Executor(nodes=nodes, restart=hd.RestartPolicy(None)) as executor:
        yield executor


def _where():
    return str(get_worker().name)


def _fails(journal, times, error=ValueError):
    def code():
        journal(_where())
        if len(journal.lines()) <= times:
            raise error(f"call {len(journal.lines())}")
        return 5

    return code


def _single(code, **options):
    return Graph([Function("a", [], code, **options)])


# -------------------------------------------------------------------------- rests
def test_it_rests_as_long_as_its_policy_says(executor, journal):
    policy, rests = RetryPolicy(4, backoff=0.2, factor=2.0, jitter=0.0), (0.2, 0.4, 0.8)
    late = []
    for trial in range(5):  # a busy machine may be late, but not each time
        mine = type(journal)(f"{journal.path}-{trial}")
        begun = type(journal)(f"{journal.path}-{trial}-begun")
        code = _fails(mine, 3)

        def stamped(begun=begun, code=code):
            begun.stamp()
            return code()

        run = executor.execute(_single(stamped, retry=policy))
        assert [(s.attempt, s.outcome, s.error) for s in run.spans] == [
            (1, "failed", "ValueError: call 1"),
            (2, "failed", "ValueError: call 2"),
            (3, "failed", "ValueError: call 3"),
            (4, "done", None),
        ]
        assert run.report().retries == 3
        times = [float(line) for line in begun.lines()]  # a failure takes no time
        gaps = [b - a for a, b in pairwise(times)]
        off = [gap - rest for gap, rest in zip(gaps, rests, strict=True)]
        assert min(off) >= -EARLY
        late.append(max(off))
        if late[-1] <= LATE:
            return
    raise AssertionError(f"too late each time [s]: {late}")


def test_it_holds_nothing_while_it_rests_and_says_why(gate, journal, claimed, until):
    call = gate.call()

    def fails():
        journal("try")
        if len(journal.lines()) == 1:
            raise OSError("no route")
        call("again")

    policy = RetryPolicy(2, backoff=2.0, jitter=0.0)
    cost = {"memory": 900, "cpu_time": 1}
    nodes = [hd.Node("only", {"cpu": 1, "memory": 1000})]
    with hd.Executor(nodes=nodes) as executor:
        graph = Graph(
            [
                Function("a", [], fails, cost=cost, retry=policy),
                Function("b", [], call, extra_args=["b"], cost=cost),
            ]
        )
        run = executor.submit(graph)
        assert gate.arrivals(1) == ["b"]  # while a rests
        until(
            executor.client,
            lambda s: any(r.book.rests for r in s.plugins["handout"].runs.values()),
        )
        text = str(run.explain("a"))
        assert "function 'a' rests until" in text
        assert "attempt 1 failed with OSError: no route" in text
        assert claimed(executor) == {("only", "cpu"): 1.0, ("only", "memory"): 900.0}
        gate.let("b")
        assert gate.arrivals(1) == ["again"]
        gate.let()
        run.wait(LIMIT)
        a = [span for span in run.spans if span.function == "a"]
        assert a[1].start - a[0].end >= 2.0 - EARLY


def test_what_rests_is_cancelled_with_its_run(executor, until):
    def fails():
        raise ValueError("no")

    run = executor.submit(_single(fails, retry=RetryPolicy(2, backoff=50.0)))
    until(
        executor.client,
        lambda s: any(r.book.rests for r in s.plugins["handout"].runs.values()),
    )
    run.cancel()
    run.wait(LIMIT)
    assert run.status == "cancelled"


# ------------------------------------------------------------------- which, and where
class Own(KeyError):
    """A class that the scheduler does not have."""


@pytest.mark.parametrize(
    ("policy", "error", "tries"),
    [
        (RetryPolicy(3, retry_on=Own), Own, 3),
        (RetryPolicy(3, retry_on=KeyError), Own, 3),
        (RetryPolicy(3, retry_on=[OSError, "ValueError"]), Own, 1),
        (RetryPolicy(3, never=KeyError), Own, 1),
        (RetryPolicy(3, never="IndexError"), Own, 3),
    ],
)
def test_exceptions_are_told_apart(executor, journal, caught, policy, error, tries):
    graph = _single(_fails(journal, 9, error), retry=policy)
    caught_one = caught(Own, executor.execute, graph)
    assert len(journal.lines()) == tries
    assert caught_one.handout[0::2] == ("a", tries)
    (note,) = [n for n in caught_one.__notes__ if "attempt" in n]
    assert note.count("Own: 'call") == tries - 1


def test_it_goes_where_it_has_not_failed(executor, journal):
    policy = RetryPolicy(3, elsewhere=True)
    run = executor.execute(_single(_fails(journal, 2), retry=policy))
    assert len(set(journal.lines())) == 3
    assert {span.node for span in run.spans} == {"n0", "n1", "n2"}


def test_a_pinned_function_stays(executor, journal):
    policy = RetryPolicy(3, elsewhere=True)
    executor.execute(_single(_fails(journal, 2), retry=policy, node="n1"))
    assert journal.lines() == ["n1"] * 3


def test_a_node_where_functions_fail_that_run_elsewhere_is_left_out(executor, until):
    def code():
        if _where() == "n0":
            raise OSError("no driver here")
        return _where()

    class AllOnOne:
        def allocate(self, problem):
            nodes = {function.id: "n0" for function in problem.functions}
            return hd.Plan.from_assignment(problem, nodes)

    policy = RetryPolicy(3, elsewhere=True, quarantine=60.0)
    with hd.Executor(
        executor.client, allocator=AllOnOne(), retry=policy
    ) as other:  # all begin where they fail
        run = other.execute(Graph(Function(k, [], code) for k in range(40)))
        assert {run[k] for k in range(40)} <= {"n1", "n2"}
        failed = [span for span in run.spans if span.outcome == "failed"]
        assert {span.node for span in failed} == {"n0"}
        assert 2 <= len(failed) < 30  # what was sent by then
        late = other.execute(Graph(Function(k, [], code) for k in range(4)))
        assert {span.node for span in late.spans} <= {"n1", "n2"}
        pinned = other.execute(_single(_where, node="n0"))
        assert pinned["a"] == "n0"  # no other may run it

    def bar_briefly(dask_scheduler):
        host = dask_scheduler.plugins["handout"]
        host.dispatcher.resting.unbar("n0")
        host.recovering._barring.bar("n1", time.time() + 0.5, "to see it end")
        return host.dispatcher.nodes["n1"].barred

    assert executor.client.run_on_scheduler(bar_briefly) == "to see it end"
    until(
        executor.client,
        lambda s: not s.plugins["handout"].dispatcher.nodes["n1"].barred,
    )


# -------------------------------------------------------------------------- memory
def test_what_ran_out_of_memory_claims_more_next(executor, gate, journal, claimed):
    call = gate.call()

    def code():
        journal(_where())
        if len(journal.lines()) == 1:
            raise MemoryError("too little")
        call("again")

    run = executor.submit(_single(code, cost={"memory": 300}))
    assert gate.arrivals(1) == ["again"]
    held = claimed(executor)
    assert [v for (_, what), v in held.items() if what == "memory"] == [600.0]
    gate.let()
    run.wait(LIMIT)
    assert run.status == "done"


def test_what_has_all_the_memory_there_is_fails_at_once(executor, journal, caught):
    graph = _single(_fails(journal, 9, MemoryError), cost={"memory": 1000})
    caught(MemoryError, executor.execute, graph)
    assert len(journal.lines()) == 1


# ------------------------------------------------------------------------- crashes
def _exits():
    os._exit(7)


def _segv():
    ctypes.string_at(0)


@pytest.mark.parametrize(
    ("crash", "how"), [(_exits, "exit code 7"), (_segv, "SIGSEGV")]
)
def test_poison_fails_alone_and_says_how(executor, until, caught, journal, crash, how):
    def innocent(k):
        journal("ran", k)
        time.sleep(0.05)
        return k

    until(executor.client, lambda s: len(s.workers) == 3)

    def poison():
        journal("poison")
        crash()

    functions = [Function(k, [], innocent, extra_args=[k]) for k in range(40)]
    functions.insert(5, Function("poison", [], poison))
    run = executor.submit(Graph(functions))
    error = caught(hd.FunctionCrashedError, lambda: run["poison"])
    run.wait(LIMIT)
    assert [run[k] for k in range(40)] == list(range(40))
    assert run.progress == (40, 1, 41)
    lines = journal.lines()
    assert lines.count("poison") <= 3
    for part in ("function 'poison'", how, "pid", "attempts:", " on 'n"):
        assert part in str(error)
    assert error.handout[0] == "poison"
    lost = [s for s in run.spans if s.function == "poison"]
    assert [s.outcome for s in lost] == ["lost"] * len(lost)
    assert how in lost[-1].error
    until(executor.client, lambda s: len(s.workers) == 3)


def test_a_crash_is_forgiven_as_often_as_the_policy_says(executor, journal, until):
    def once():
        journal("ran")
        if len(journal.lines()) == 1:
            os._exit(3)
        return 5

    assert executor.execute(_single(once))["a"] == 5
    until(executor.client, lambda s: len(s.workers) == 3)


def test_nobody_fails_of_kills_where_dask_allows_none(gate):
    """Dask itself would fail what was sent there at the first death."""
    call = gate.call()
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        hd.Executor(nodes=[hd.Node("only", {"cpu": 1})], restart=OFTEN) as executor,
    ):

        def code(k):
            if k == 0:
                call(os.getpid())
            return k

        run = executor.submit(
            Graph(Function(k, [], code, extra_args=[k]) for k in range(4))
        )
        for _ in range(2):
            (pid,) = gate.arrivals(1)
            os.kill(pid, signal.SIGKILL)
        gate.arrivals(1)
        gate.let()
        run.wait(LIMIT)
        assert dict(run.results) == {k: k for k in range(4)}
        assert [s.outcome for s in run.spans if s.function == 0] == [
            "lost",
            "lost",
            "done",
        ]


@pytest.mark.slow
def test_twelve_kills_one_each_second_harm_nobody():
    def code(*inputs):
        time.sleep(0.05)
        return 1

    nodes = [hd.Node(f"n{j}", {"cpu": 1}) for j in range(4)]
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "3s"}),
        hd.Executor(nodes=nodes, restart=OFTEN) as executor,
    ):
        functions = [Function(k, [], code) for k in range(200)]
        functions.append(Function("all", range(200), lambda *x: sum(x)))
        run = executor.submit(Graph(functions))
        for k in range(12):
            with suppress(TimeoutError):
                run.wait(1.0)
            found = executor.client.run(
                lambda dask_worker: (str(dask_worker.name), os.getpid()),
                on_error="ignore",
            )
            pids = dict(found.values())
            if f"n{k % 4}" in pids:
                with suppress(ProcessLookupError):
                    os.kill(pids[f"n{k % 4}"], signal.SIGKILL)
        assert run.wait(LIMIT)["all"] == 200
        assert run.status == "done"


def test_tasks_of_ordinary_dask_are_blamed_fairly(gate, until):
    """Killed five times, of which Dask forgives three."""
    call = gate.call()
    with hd.Executor(nodes=[hd.Node("only", {"cpu": 1})], restart=OFTEN) as executor:
        client = executor.client
        with hd.install(client), hd.cost(cpu_time=1):
            future = client.submit(lambda: call(os.getpid()), pure=False)
            for _ in range(5):
                (pid,) = gate.arrivals(1)
                os.kill(pid, signal.SIGKILL)
            (pid,) = gate.arrivals(1)
            gate.let()
            assert future.result(LIMIT) == pid


# -------------------------------------------------------------------------- clocks
def test_what_waits_too_long_fails_and_says_which_clock(gate, caught):
    """For a slot; what waits for its inputs is not counted."""
    policy = RetryPolicy(max_waiting=0.3)
    with hd.Executor(nodes=[hd.Node("only", {"cpu": 1})]) as executor:
        first = executor.submit(_single(gate.call(), extra_args=["first"]))
        gate.arrivals(1)
        reads = Function("reads", ["zero"], lambda x: x, retry=policy)
        second = executor.submit(Graph([Function("zero", [], int), reads]))
        third = executor.submit(_single(int, retry=policy))
        error = caught(hd.FunctionTimeoutError, lambda: third["a"])
        assert (error.clock, error.seconds) == ("waiting", 0.3)
        assert third.wait(LIMIT).status == "failed"
        gate.let()
        assert second.wait(LIMIT)["reads"] == 0
        assert first["a"] == "first"


def test_a_deadline_ends_what_runs_and_what_waits(gate, caught, until, claimed):
    call = gate.call()
    policy = RetryPolicy(deadline=0.5)
    with hd.Executor(nodes=[hd.Node("only", {"cpu": 1})], retry=policy) as executor:
        graph = Graph(
            [
                Function("runs", [], call, extra_args=["runs"]),
                Function("after", ["runs"], lambda x: x),
                Function("beside", [], lambda: 1, retry=RetryPolicy()),
            ]
        )
        run = executor.submit(graph)
        gate.arrivals(1)
        error = caught(hd.FunctionTimeoutError, lambda: run["runs"])
        assert (error.clock, error.seconds) == ("deadline", 0.5)
        gate.let()
        run.wait(LIMIT)
        assert run["beside"] == 1


def test_nothing_is_left_when_all_is_over(executor, claimed, until):
    until(
        executor.client,
        lambda s: not any(r.book.left for r in s.plugins["handout"].runs.values()),
    )
    assert claimed(executor) == {}

    def left(dask_scheduler):
        host = dask_scheduler.plugins["handout"]
        return [*host.dispatcher.resting.loners], [*host.recovering.recovery.cases]

    assert executor.client.run_on_scheduler(left) == ([], [])

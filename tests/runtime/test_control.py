"""Runs under way: order and overlap, progress, waiting, cancelling, failures."""

import asyncio
import io
import threading
import time

import distributed
import pytest

import handout_dask as hd
from handout_dask import Function, Graph
from handout_dask.runtime.run import Run


def _callers(call, names, **options):
    return [Function(n, [], call, extra_args=[n], **options) for n in names]


def _until(condition, limit=30):
    """Wait until the client has heard of it."""
    since = time.monotonic()
    while not condition():
        assert time.monotonic() - since < limit, "it never came true"
        time.sleep(0.01)


def test_independent_functions_run_at_once(executor, gate):
    run = executor.submit(Graph(_callers(gate.call(), "abcdef")))
    assert gate.arrivals(6) == list("abcdef")  # 1 + 1 + 4 slots: all before any ends
    assert run.progress == (0, 0, 6)
    gate.let()
    assert dict(run.wait(30).results) == {n: n for n in "abcdef"}


def test_a_run_is_pending_until_something_runs(executor, gate):
    call = gate.call()
    first = executor.submit(Graph(_callers(call, "a", node="n0")))
    gate.arrivals(1)
    _until(lambda: first.status == "running")
    run = executor.submit(Graph(_callers(call, "b", node="n0")))
    gate.nobody()
    assert (run.status, run.progress) == ("pending", (0, 0, 1))
    gate.let()
    gate.arrivals(1)
    _until(lambda: run.status == "running")
    assert run.progress == (0, 0, 1)
    gate.let()
    assert (run.wait(30).status, first.status) == ("done", "done")


def test_a_function_starts_when_its_inputs_have_ended(executor, gate):
    call = gate.call()
    graph = Graph(
        [
            *_callers(call, "a"),
            Function("b", ["a"], lambda a: call("b")),
            *(Function(n, ["b"], lambda b, n=n: call(n)) for n in "cde"),
            Function("f", ["c", "d", "e"], lambda *x: (call("f"), x)),
        ]
    )
    run = executor.submit(graph)
    for wave in ("a", "b", "cde", "f"):
        assert gate.arrivals(len(wave)) == list(wave)
        assert gate.nobody()
        gate.let()
    assert run.wait(30)["f"] == ("f", ("c", "d", "e"))


def test_status_and_progress_follow_the_run(executor, gate):
    call = gate.call()
    graph = Graph(
        [
            Function("a", [], lambda: 1, node="n0"),
            Function("b", ["a"], lambda a: call("b"), node="n0"),
        ]
    )
    run = executor.submit(graph)
    gate.arrivals(1)
    assert run["a"] == 1  # what has ended can be had while the rest runs
    with pytest.raises(TimeoutError, match=r"did not end within 0\.1 s"):
        run.wait(0.1)
    gate.let()
    assert run["b"] == "b"
    assert run.wait(30) is run
    assert (run.status, run.progress, len(run)) == ("done", (2, 0, 2), 2)
    assert [(s.function, s.node, s.attempt, s.outcome) for s in run.spans] == [
        ("a", "n0", 1, "done"),
        ("b", "n0", 1, "done"),
    ]
    a, b = run.spans
    assert 0 <= a.start <= a.end <= b.start <= b.end == run.makespan
    assert [run.where(id) for id in "ab"] == ["n0", "n0"]
    assert repr(run) == f"<Run {run.token}: done, 2 of 2 done, 0 failed>"


def test_progress_is_shown_in_lines_where_there_is_no_terminal(executor):
    graph = Graph(Function(k, [], lambda: 1) for k in range(20))
    stream = io.StringIO()
    executor.submit(graph).show_progress(stream)
    lines = stream.getvalue().splitlines()
    assert lines[-1].startswith("20 of 20 functions done, ")
    assert len(lines) <= 12


def test_progress_is_shown_in_one_line_on_a_terminal(executor):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def bad():
        raise ValueError

    stream = Terminal()
    graph = Graph([Function("a", [], bad), Function("b", ["a"], abs)])
    executor.submit(graph).show_progress(stream)
    text = stream.getvalue()
    assert text.split("\r")[-1].startswith("0 of 2 functions done, 2 failed, ")
    assert text.count("\n") == 1


# ------------------------------------------------------------------- cancelling
def test_cancelling_ends_what_has_not_ended_and_keeps_what_has(executor, gate, caught):
    call = gate.call()
    graph = Graph(
        [
            Function("done", [], lambda: (1, 2), node="n0"),
            Function("runs", [("done", 1)], lambda x: call("runs"), node="n1"),
            Function("waits", ["runs"], lambda x: x, node="n1"),
            Function("later", ["waits", ("done", 0)], lambda *x: x, node="wide"),
        ]
    )
    run = executor.submit(graph)
    gate.arrivals(1)
    run.cancel()
    run.wait(30)
    gate.let()
    assert (run.status, run.progress) == ("cancelled", (1, 0, 4))
    assert run["done"] == (1, 2)
    for id in ("runs", "waits", "later"):
        error = caught(hd.RunCancelledError, lambda id=id: run[id])
        assert str(error) == f"function {id!r} did not end: the run was cancelled"
    run.cancel()
    assert executor.execute(Graph([Function("a", [], lambda: 7)]))["a"] == 7


def test_cancelling_at_once_ends_a_run_too(executor, claimed, until):
    """The scheduler may hear of it before it has the graph."""
    runs = []
    for _ in range(20):
        graph = Graph(
            [
                Function("a", [], lambda: 1, node="n0"),
                *(Function(k, [("a", 0)], lambda x: x, node="n1") for k in range(50)),
            ]
        )
        runs.append(executor.submit(graph))
        runs[-1].cancel()
    for run in runs:
        run.wait(30)
    assert {run.status for run in runs} == {"cancelled"}
    until(executor.client, lambda s: not s.plugins["handout"].dispatcher.lingering)
    assert claimed(executor) == {}
    tokens = [run.token for run in runs]
    states = executor.client.run_on_scheduler(
        lambda dask_scheduler: {
            task.state
            for key, task in dask_scheduler.tasks.items()
            if any(token in key[0] for token in tokens)
        }
    )
    assert states <= {"memory", "released"}  # of functions that had ended already


def test_a_run_cancelled_while_its_graph_is_on_the_way_never_starts(
    executor, until, monkeypatch, journal
):
    client, cancelled = executor.client, threading.Event()
    unpack = distributed.scheduler._materialize_graph  # in a thread of its own

    def unpack_late(*args, **kwargs):
        assert cancelled.wait(30)
        return unpack(*args, **kwargs)

    monkeypatch.setattr("distributed.scheduler._materialize_graph", unpack_late)
    run = executor.submit(Graph(Function(k, [], journal) for k in range(20)))
    run.cancel()
    cancelled.set()
    assert (run.wait(30).status, run.progress) == ("cancelled", (0, 0, 20))
    token = run.token
    until(client, lambda s: not s._active_graph_updates)
    until(client, lambda s: not any(token in key[0] for key in s.tasks))
    assert journal.lines() == []


def test_a_run_released_while_it_runs_is_cancelled(executor, gate, caught):
    graph = Graph(
        [
            *_callers(gate.call(), "a"),
            Function("b", ["a"], lambda a: a),
        ]
    )
    run = executor.submit(graph)
    gate.arrivals(1)
    run.release()
    run.wait(30)
    gate.let()
    assert run.status == "cancelled"
    caught(hd.RunCancelledError, lambda: run["b"])


def test_an_interrupted_execute_cancels_its_run(executor, gate, until):
    import os
    import signal

    graph = Graph([*_callers(gate.call(), "a"), Function("b", ["a"], abs)])

    def interrupt():
        gate.arrivals(1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        executor.execute(graph)
    thread.join()
    gate.let()
    until(
        executor.client,
        lambda s: not any(r.book.left for r in s.plugins["handout"].runs.values()),
    )


# --------------------------------------------------------------------- failures
def _two_branches(call, bad):
    """bad and good run at once; each has a dependent; good is let on by the test."""
    return Graph(
        [
            Function("bad", [], bad, node="n0"),
            Function("good", [], lambda: call("good"), node="n1"),
            Function("after good", ["good"], lambda x: x),
            Function("after bad", ["bad"], lambda x: x),
            Function("sink", ["after good", "after bad"], lambda *x: x),
        ]
    )


def _bad():
    raise ValueError("bad")


def test_finish_finishes_what_is_independent(executor, gate, caught):
    run = executor.submit(_two_branches(gate.call(), _bad))
    caught(ValueError, lambda: run["bad"])
    gate.arrivals(1)
    gate.let()
    assert run["after good"] == "good"
    caught(hd.FunctionError, lambda: run["sink"])
    assert (run.wait(30).status, run.progress) == ("failed", (2, 3, 5))


def test_stop_ends_everything_with_the_first_failure(executor, gate, caught):
    with hd.Executor(executor.client, on_failure="stop") as stopping:
        run = stopping.submit(_two_branches(gate.call(), _bad))
        caught(ValueError, lambda: run["bad"])
        run.wait(30)
        for id in ("good", "after good"):
            error = caught(hd.FunctionError, lambda id=id: run[id])
            assert str(error) == (
                f"function {id!r} did not run: the run was stopped when function 'bad' "
                "failed"
            )
            assert isinstance(error.__cause__, ValueError)
        assert run.status == "failed"
        graph = Graph([Function("a", [], _bad, node="wide")])
        caught(ValueError, stopping.execute, graph)
        gate.arrivals(1)


def test_stop_keeps_what_was_done(executor, caught):
    graph = Graph(
        [
            Function("a", [], lambda: (1, 2), node="n0"),
            Function("b", [("a", 1)], lambda x: 1 / 0, node="n1"),
            Function("c", ["b", ("a", 0)], lambda *x: x, node="wide"),
        ]
    )
    with hd.Executor(executor.client, on_failure="stop") as stopping:
        run = stopping.submit(graph).wait(30)
        assert run["a"] == (1, 2)
        caught(ZeroDivisionError, lambda: run["b"])


@pytest.mark.parametrize("state", ["waits", "ready", "runs"])
def test_what_only_failed_functions_would_read_need_not_run(
    executor, gate, caught, state
):
    """Unless it is to be kept; a run does not wait for it."""
    call = gate.call()
    graph = Graph(
        [
            Function("bad", [], lambda: (call("bad"), 1 / 0), node="n0"),
            Function("before", [], lambda: call("before"), node="n1"),
            Function("runs", [], lambda: call("runs"), node="wide"),
            Function("ready", [], lambda: 1, node="n1", cost={"cpu_time": 1}),
            Function("waits", ["before"], lambda x: x, node="n1"),
            Function("sink", ["bad", state], lambda *x: x),
            Function("other", ["before"], lambda x: x),
        ]
    )
    run = executor.submit(graph, keep="sinks")
    assert "bad" in gate.arrivals(3)
    gate.let("bad")
    caught(ZeroDivisionError, lambda: run["bad"])
    gate.let()
    assert run.wait(30)["other"] == "before"
    assert run.status == "failed"
    assert caught(hd.FunctionError, lambda: run["sink"]).__cause__.handout[0] == "bad"
    caught((hd.FunctionError, hd.ResultReleasedError), lambda: run[state])


def test_ignore_finishes_and_does_not_raise(executor, caught):
    graph = Graph([Function("a", [], _bad), Function("b", [], lambda: 2)])
    with hd.Executor(executor.client, on_failure="ignore") as ignoring:
        run = ignoring.execute(graph)
        assert (run["b"], run.status) == (2, "failed")
        caught(ValueError, lambda: run["a"])


class Waited:
    """As much of a Run as its waiting needs, and nothing that ever ends it."""

    _until, _wait = Run._until, Run._wait
    _left, _lost = 1, ""

    def __init__(self):
        self._changed, self._client = asyncio.Event(), self
        self.status = "running"

    def _unheard(self):
        return ""


def test_a_wait_ends_though_a_record_and_a_look_come_in_the_same_moment(monkeypatch):
    monkeypatch.setattr("handout_dask.runtime.run.POLL", 0.01)

    async def main():
        for _ in range(50):
            run = Waited()
            waits = asyncio.ensure_future(run._wait(0.01))
            asyncio.get_running_loop().call_later(0.01, run._changed.set)
            done, _ = await asyncio.wait({waits}, timeout=10)
            assert done, "it waits for ever"
            with pytest.raises(TimeoutError, match="did not end within"):
                await waits

    asyncio.run(main())

"""Functions with a timeout are ended at their time; faults and attempts are told."""

import errno
import os
import re
import threading
import time

import psutil
import pytest

import handout_dask as hd
from handout_dask import Function, FunctionTimeoutError, Graph
from handout_dask.runtime import child as children
from handout_dask.runtime.child import Child
from handout_dask.runtime.faulting import FAULT

pytestmark = pytest.mark.slow

LIMIT = 60
SOON = 3 * 2.0  # s beyond its time after which a function was not ended: a hang


@pytest.fixture(scope="module")
def executor():
    with hd.Executor(nodes=[hd.Node("n0", {"memory": 4000}, slots=2)]) as executor:
        yield executor


def only(code, *extra, **about):
    return Graph([Function("f", [], code, extra_args=extra, **about)])


def worker_of(executor):
    (pid,) = executor.client.run(os.getpid).values()
    return pid


def power():
    return 7 ** (7**10)  # in C, with the GIL


def backtrack():
    return re.match(r"(a+)+$", "a" * 60 + "b")


def ignore():
    import signal

    for number in range(1, 32):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_IGN)
    while True:
        try:
            time.sleep(LIMIT)
        except BaseException:
            continue


@pytest.mark.parametrize("code", [power, backtrack, ignore])
def test_a_function_is_ended_at_its_time_and_harms_nobody(executor, gate, caught, code):
    call, worker = gate.call(), worker_of(executor)
    beside = executor.submit(only(lambda: call("beside")))
    gate.arrivals(1)
    begin = time.monotonic()
    run = executor.submit(only(code, timeout=0.5)).wait(LIMIT)
    assert time.monotonic() - begin < 0.5 + SOON
    error = caught(FunctionTimeoutError, run.__getitem__, "f")
    assert (error.seconds, error.clock) == (0.5, "running")
    assert error.handout == ("f", "n0", 1)
    assert str(error).startswith(
        "function 'f' was ended on node 'n0': it ran for longer than its timeout of 0.5"
    )
    # Its slot is free; the other one is not.
    assert executor.submit(only(lambda: 1)).wait(LIMIT)["f"] == 1
    gate.let()
    assert beside.wait(LIMIT)["f"] == "beside"
    assert [span.attempt for span in beside.spans] == [1]
    assert worker_of(executor) == worker
    assert [c for c in psutil.Process(worker).children() if is_own(c)] == []


def is_own(process):
    return "process_child" in " ".join(process.cmdline())


def test_what_ends_in_time_is_as_ever(executor):
    graph = Graph(
        [
            Function("a", [], lambda: [1, 2], timeout=LIMIT),
            Function("b", ["a"], lambda a: (sum(a), os.getpid())),
            Function("c", [("b", 0)], lambda b: (b, os.getpid()), timeout=LIMIT),
        ]
    )
    run = executor.execute(graph)
    assert run["c"][0] == 3
    assert run["b"][1] == worker_of(executor) != run["c"][1]


def test_the_executors_timeout_is_for_functions_without_their_own(executor, caught):
    with hd.Executor(executor.client, timeout=0.5) as brief:
        graph = Graph(
            [
                Function("own", [], lambda: time.sleep(1.5), timeout=LIMIT),
                Function("none", [], lambda: time.sleep(LIMIT)),
            ]
        )
        run = brief.execute(graph, raise_on_error=False)
    # Results are on the cluster.
    assert caught(FunctionTimeoutError, run.__getitem__, "none").seconds == 0.5
    assert [s.function for s in run.spans if s.outcome == "done"] == ["own"]


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), "2 s", True])
def test_a_timeout_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(hd.GraphError, match=r"function 'f': timeout=.* must be a"):
        only(int, timeout=wrong)


# ------------------------------------------------------------- the answer wins
def test_what_has_answered_is_not_ended(monkeypatch):
    """Its answer may lie in the pipe when its time is over."""
    child, ended, looks = Child(), threading.Event(), []

    def has_word(fd):
        looks.append(fd)
        if len(looks) == 3:
            ended.set()  # it was read
        return True

    monkeypatch.setattr(children, "has_word", has_word)
    child._watch(None, 0.0, ended)
    assert (len(looks), child.killed, child.late) == (3, False, False)
    assert child.lives()
    monkeypatch.setattr(children, "has_word", lambda fd: False)
    child._watch(None, 0.0, threading.Event())
    assert (child.killed, child.late, child.lives()) == (True, True, False)
    assert child.end().how == "killed by SIGKILL"


def test_a_process_that_died_idle_is_not_the_next_functions_fault(executor):
    executor.execute(only(int, timeout=LIMIT))

    def kill(dask_worker):
        for slot in dask_worker.executors["handout"]._slots:
            if slot._child is not None:
                slot._child.lives = lambda: True  # it dies just after that was asked
                os.kill(slot._child._process.pid, 9)

    executor.client.run(kill)
    assert executor.execute(only(lambda: 5, timeout=LIMIT))["f"] == 5


# ----------------------------------------------------------------------- faults
def faults(executor):
    """Key, kind, resource and first name of what was told so far."""

    def found(dask_scheduler):
        return [message for _, message in dask_scheduler.get_events(FAULT)]

    return executor.client.run_on_scheduler(found)


class Mine(ValueError):
    pass


def fail():
    raise Mine("no")


def exhaust():
    raise MemoryError


def fill(folder):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)


@pytest.mark.parametrize("timeout", [None, LIMIT])
def test_what_a_function_failed_of_is_told_before_dask_says_so(
    executor, caught, tmp_path, timeout
):
    for code, extra, kind, error in [
        (fail, (), "raised", Mine),
        (exhaust, (), "exhausted", MemoryError),
        (fill, (str(tmp_path),), "exhausted", OSError),
    ]:
        run = executor.submit(only(code, *extra, timeout=timeout)).wait(LIMIT)
        assert type(caught(error, run.__getitem__, "f")) is error
        told = faults(executor)[-1]
        assert told["key"][1] == 0
        assert told["kind"] == kind
        assert told["names"][0].endswith(error.__name__)
        assert told["worker"] in executor.client.scheduler_info()["workers"]
    assert told["resource"] == "disk"
    assert str(tmp_path) in told["text"]


def test_what_ends_a_process_is_told(executor):
    def die():
        os._exit(7)

    for code, timeout, kind in [
        (die, LIMIT, "crashed"),
        (ignore, 0.5, "timeout"),
        (threading.Lock, LIMIT, "undeliverable"),
    ]:
        executor.submit(only(code, timeout=timeout)).wait(LIMIT)
        assert faults(executor)[-1]["kind"] == kind


# --------------------------------------------------------------------- attempts
@pytest.mark.parametrize("timeout", [None, LIMIT])
def test_a_function_knows_its_attempt(gate, timeout):
    call = gate.call()

    def work():
        call(f"{os.getpid()} {hd.attempt()}")
        return hd.attempt()

    nodes = [hd.Node(f"n{k}", slots=1) for k in range(2)]
    with hd.Executor(nodes=nodes) as executor:
        run = executor.submit(only(work, timeout=timeout))
        (first,) = gate.arrivals(1)
        pid, number = map(int, first.split())
        assert number == 1
        process = psutil.Process(pid)
        (process.parent() if timeout else process).kill()
        (second,) = gate.arrivals(1)
        gate.let(second)
        assert run.wait(LIMIT)["f"] == int(second.split()[1]) > 1
    assert hd.attempt() == 1

"""What functions in processes of their own take is measured, and held to limits."""

import os
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from handout_dask import Function, Graph, ResourceExhaustedError

pytestmark = pytest.mark.slow

# Forks from a small process: the kernel counts what the one that forked held as well.
LIMIT = 60
LAUNCH = """
import os, sys
pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", sys.argv[1]])
_, status, used = os.wait4(pid, 0)
assert status == 0
print(used.ru_maxrss)
"""
needs_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="needs what is measured there"
)


def only(code, *extra, **about):
    return Graph([Function("f", [], code, extra_args=extra, **about)])


def worker_of(executor):
    (pid,) = executor.client.run(os.getpid).values()
    return pid


def touch(mb):
    return len(bytearray(b"x") * (mb * 10**6))


def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


# ------------------------------------------------------------------ measures
@needs_linux
def test_memory_and_time_agree_with_what_is_seen_from_outside(own, gate):
    """As psutil samples them while the function stands still."""
    call = gate.call()

    def work():
        call(f"before {os.getpid()}")
        data = bytearray(b"x") * (150 * 10**6)
        burn(0.3)
        call(f"within {os.getpid()}")
        return len(data)

    own.execute(only(int))  # warm
    run = own.submit(only(work))
    (before,) = gate.arrivals(1)
    child = psutil.Process(int(before.split()[1]))
    held, spent = child.memory_info().rss, sum(child.cpu_times()[:2])
    gate.let(before)
    (within,) = gate.arrivals(1)
    peak = child.memory_info().rss - held
    seconds = sum(child.cpu_times()[:2]) - spent
    gate.let(within)
    run.wait(LIMIT)
    (span,) = run.spans
    assert span.peak_exact
    assert span.peak_mb == pytest.approx(peak / 1e6, rel=0.1)
    assert span.cpu_seconds == pytest.approx(seconds, rel=0.1)


@needs_linux
@pytest.mark.parametrize("mb", [100, 250])
def test_memory_agrees_with_that_of_a_fresh_interpreter(own, mb):
    """As the kernel accounts for one that has ended, less an idle one."""

    def maximum(code):
        program = f"import numpy\n{code}\n"
        command = [sys.executable, "-c", LAUNCH, program]
        return int(subprocess.check_output(command, timeout=LIMIT)) * 1024 / 1e6

    def ones(mb):
        return float(np.ones(mb * 10**6 // 8).sum())

    outside = maximum(f"numpy.ones({mb} * 10**6 // 8).sum()") - maximum("")
    (span,) = own.execute(only(ones, mb)).spans
    assert span.peak_mb == pytest.approx(outside, rel=0.1)


def test_time_of_what_a_function_starts_is_its_own(own):
    code = "import time\nwhile time.process_time() < 0.4: pass"

    def start():
        subprocess.run([sys.executable, "-c", code], check=True)

    (span,) = own.execute(only(start)).spans
    assert span.cpu_seconds == pytest.approx(0.4, rel=0.2)


def test_bytes_in_are_told_of_own_processes_too(own):
    graph = Graph(
        [
            Function("a", [], lambda: np.ones(10**6)),
            Function("b", ["a"], len),
        ]
    )
    run = own.execute(graph)
    (span,) = [span for span in run.spans if span.function == "b"]
    assert span.bytes_in == pytest.approx(8e6, rel=0.01)


# -------------------------------------------------------------------- limits
@needs_linux
def test_a_function_that_takes_more_than_declared_is_ended_and_its_node_lives(
    held, caught
):
    worker = worker_of(held)

    def grow():
        parts = []
        while True:
            parts.append(bytearray(b"x") * 10**6)
            time.sleep(0.0005)

    run = held.execute(only(grow, cost={"memory": 100}), raise_on_error=False)
    error = caught(ResourceExhaustedError, run.__getitem__, "f")
    assert (error.resource, error.declared) == ("memory", 100)
    assert 100 < error.measured < 400  # the wall is behind that
    text = str(error)
    assert text.startswith(
        "function 'f' was ended on node 'n0': it declared memory=100 MB"
    )
    assert text.endswith("Declare more, let it take less, or leave out enforce_memory")
    (overuse,) = run.report().overuse
    assert (overuse.declared, overuse.measured) == (100, error.measured)
    assert held.execute(only(lambda: 1, cost={"memory": 100}))["f"] == 1
    assert worker_of(held) == worker


@needs_linux
def test_what_is_asked_at_once_beyond_the_wall_is_refused_and_told_alike(held, caught):
    run = held.execute(only(touch, 3000, cost={"memory": 50}), raise_on_error=False)
    error = caught(ResourceExhaustedError, run.__getitem__, "f")
    assert (error.resource, error.declared) == ("memory", 50)
    assert "MemoryError" in str(error)


@needs_linux
def test_within_its_limit_a_function_runs_and_inputs_are_not_counted(held):
    cost = {"memory": 100}
    graph = Graph(
        [
            Function("input", [], lambda: np.ones(25 * 10**6)),  # declares nothing
            Function("f", ["input"], lambda a: touch(50) + len(a), cost=cost),
            Function("next", ["f"], lambda _: touch(80), cost=cost),
        ]
    )
    run = held.execute(graph)
    assert run["f"] == 75 * 10**6
    spans = {span.function: span for span in run.spans}
    assert [spans[id].peak_exact for id in ("input", "f", "next")] == [
        False,
        True,
        True,
    ]


def test_only_functions_that_declare_memory_have_a_process_of_their_own(held):
    graph = Graph(
        [
            Function("a", [], os.getpid, cost={"memory": 100}),
            Function("b", [], os.getpid),
        ]
    )
    run = held.execute(graph)
    worker = worker_of(held)
    assert run["b"] == worker != run["a"]


def test_a_process_in_which_functions_leave_much_behind_is_renewed(held):
    def leaves(k):
        import builtins
        import os

        kept = getattr(builtins, "left_behind", [])
        builtins.left_behind = [*kept, bytearray(60_000_000)]
        return os.getpid(), len(builtins.left_behind)

    ids = range(12)
    graph = Graph(
        Function(k, [], leaves, extra_args=[k], cost={"memory": 400}) for k in ids
    )
    run = held.execute(graph)
    most = max(run[k][1] for k in ids)
    assert most <= 3  # that of two is seen when the next one begins
    assert len({run[k][0] for k in ids}) >= 4

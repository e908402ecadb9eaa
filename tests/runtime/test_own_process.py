"""Functions in processes of their own: as in a thread, but ended at will and exact."""

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from contextlib import suppress

import numpy as np
import psutil
import pytest

import handout_dask as hd
from handout_dask import Function, FunctionError, Graph, ResourceExhaustedError
from handout_dask.runtime.faults import rebuilt
from handout_dask.runtime.pipes import ClosedError, dumps, loads, receive, send
from handout_dask.runtime.process_child import Answer, _frames_of

LIMIT = 60
LINUX = sys.platform == "linux"
# Forks from a small process: the kernel counts what the one that forked held as well.
LAUNCH = """
import os, sys
pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", sys.argv[1]])
_, status, used = os.wait4(pid, 0)
assert status == 0
print(used.ru_maxrss)
"""
needs_linux = pytest.mark.skipif(not LINUX, reason="needs what is measured there")


@pytest.fixture(scope="module")
def own():
    with hd.Executor(nodes=[hd.Node("n0", {"cpu": 1, "memory": 4000})]) as executor:
        executor._own_process = True
        yield executor


@pytest.fixture(scope="module")
def held():
    nodes = [hd.Node("n0", {"cpu": 1, "memory": 4000})]
    with hd.Executor(nodes=nodes, enforce_memory=True) as executor:
        yield executor


def only(code, *extra, **about):
    return Graph([Function("f", [], code, extra_args=extra, **about)])


def worker_of(executor):
    (pid,) = executor.client.run(os.getpid).values()
    return pid


def gone(pid):
    """Wait until there is no such process, not even a dead one."""
    try:
        psutil.Process(pid).wait(LIMIT)
    except psutil.NoSuchProcess:
        return True
    return not psutil.pid_exists(pid)


def touch(mb):
    return len(bytearray(b"x") * (mb * 10**6))


def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


# -------------------------------------------------------------- as in a thread
def test_a_function_runs_beside_its_worker_in_a_process_that_is_used_again(own):
    pids = {own.execute(only(os.getpid))["f"] for _ in range(3)}
    assert len(pids) == 1
    (pid,) = pids
    assert psutil.Process(pid).ppid() == worker_of(own)


def test_inputs_and_results_are_what_they_are_in_threads(own):
    class Local:
        def __init__(self, x):
            self.x = x

    async def later(a, *, by):
        return a * by

    graph = Graph(
        [
            Function("array", [], lambda: (np.arange(10**6), "text")),
            Function("cut", [("array", 1)], str.upper),
            Function("changed", [("array", 0)], lambda a: np.add(a, 1, out=a)),
            Function("sum", [("array", 0)], np.sum),
            Function("later", ["sum"], later, kwargs={"by": 2}),
            Function("local", ["cut"], Local),
            Function("back", ["local"], lambda local: (local.x, local)),
            Function("code", [], lambda: lambda x: x + 1),
            Function("nothing", [], lambda: None),
        ]
    )
    run = own.execute(graph)
    assert run["cut"] == "TEXT"
    assert run["changed"][0] == 1
    assert run["changed"].flags.writeable
    assert run["array"][0][0] == 0  # the copy was changed
    assert run["later"] == 2 * run["sum"] == 10**6 * (10**6 - 1)
    assert run["back"][0] == "TEXT"
    assert isinstance(run["back"][1], type(run["local"]))
    assert run["code"](1) == 2
    assert run["nothing"] is None


def test_the_users_exception_comes_back_itself(own, caught):
    def fail():
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("no", 3) from error

    run = own.execute(only(fail), raise_on_error=False)
    error = caught(ValueError, run.__getitem__, "f")
    assert error.args == ("no", 3)
    assert error.handout == ("f", "n0", 1)
    assert isinstance(error.__cause__, KeyError)
    assert error.__notes__[0] == "in function 'f' on node 'n0'"
    frames, trace = [], error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert frames[-1] == "fail"


def test_what_can_not_come_back_is_a_function_error(own, caught):
    class Odd(Exception):
        def __init__(self, a, b):
            super().__init__(a)
            self.lock = __import__("threading").Lock()

    def fail():
        raise Odd(1, 2)

    for code, text in [
        (fail, "raised an exception that can't be pickled: "),
        (
            lambda: __import__("threading").Lock(),
            "returned a lock that can't be pickled",
        ),
        (sys.exit, "raised builtins.SystemExit"),
    ]:
        run = own.execute(only(code), raise_on_error=False)
        assert text in str(caught(FunctionError, run.__getitem__, "f"))


@pytest.mark.parametrize("cost", [{"memory": 100}, {}])
def test_a_recursion_error_comes_back_itself(held, caught, cost):
    """Its traceback is deeper than pickle goes; also in a thread."""

    def fall():
        return fall()

    def group():
        try:
            fall()
        except RecursionError as error:
            raise ExceptionGroup("some", [error]) from error

    run = held.submit(only(fall, cost=cost)).wait(LIMIT)
    error = caught(RecursionError, run.__getitem__, "f")
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert names[-40:] == ["fall"] * 40
    run = held.submit(only(group, cost=cost)).wait(LIMIT)
    error = caught(ExceptionGroup, run.__getitem__, "f")
    assert [type(one) for one in error.exceptions] == [RecursionError]
    assert isinstance(error.__cause__, RecursionError)


def test_an_exception_comes_back_without_a_traceback_that_can_not():
    import pickle

    lock = threading.Lock()
    about = "", ValueError("mine"), lock, False, 0.0, None, None
    answer = loads([bytes(x) for x in _frames_of(Answer(*about), "'f'")])
    assert (repr(answer.error), answer.traceback) == ("ValueError('mine')", None)
    text = pickle.dumps("File ...")  # as Dask sends one
    assert repr(rebuilt("f", pickle.dumps(answer.error), text, "")) == (
        "ValueError('mine')"
    )


def test_what_can_be_pickled_but_not_rebuilt_is_a_function_error(held, caught):
    class Never:
        def __reduce__(self):
            return int, ("x",)

    cost = {"memory": 100}
    run = held.execute(only(Never, cost=cost), raise_on_error=False)
    error = caught(FunctionError, run.__getitem__, "f")
    assert str(error).startswith(
        "function 'f' returned a Never that can be pickled in the process of the "
        "function's own, but not unpickled outside: ValueError: invalid literal"
    )
    graph = Graph([Function("a", [], Never), Function("f", ["a"], id, cost=cost)])
    run = held.execute(graph, raise_on_error=False, keep=["f"])
    error = caught(FunctionError, run.__getitem__, "f")
    assert str(error).startswith(
        "function 'f' runs in a process of its own and reads what can be pickled, but "
        "not unpickled there: ValueError: invalid literal"
    )
    assert held.execute(only(lambda: 3, cost=cost))["f"] == 3


def test_a_process_reads_what_is_of_a_module_that_came_later(held, tmp_path):
    cost = {"memory": 100}
    (tmp_path / "came_later.py").write_text("class Later:\n    x = 5\n")
    held.execute(only(int, cost=cost))  # its process is there

    def make(path):
        sys.path.append(path)
        return __import__("came_later").Later()

    graph = Graph(
        [
            Function("a", [], make, extra_args=[str(tmp_path)]),
            Function("f", ["a"], lambda a: a.x, cost=cost),
        ]
    )
    assert held.execute(graph, keep=["f"])["f"] == 5


@pytest.mark.parametrize("name", ["get_worker", "get_client", "secede", "rejoin"])
def test_why_dask_finds_no_worker_is_told(own, caught, name):
    def ask():
        import distributed

        getattr(distributed, name)()

    run = own.execute(only(ask), raise_on_error=False)
    notes = caught(Exception, run.__getitem__, "f").__notes__
    start = "function 'f' ran in a process of its own, where Dask's get_worker"
    assert len([note for note in notes if note.startswith(start)]) == 1
    run = own.execute(only(int, "x"), raise_on_error=False)
    notes = caught(ValueError, run.__getitem__, "f").__notes__
    assert not [note for note in notes if "process of its own" in note]


def test_an_input_that_can_not_come_is_told(held, caught):
    graph = Graph(
        [
            Function("lock", [], lambda: __import__("threading").Lock()),
            Function("f", ["lock"], id, cost={"memory": 10}),
        ]
    )
    run = held.execute(graph, raise_on_error=False, keep=["f"])
    error = caught(FunctionError, run.__getitem__, "f")
    assert "function 'f' runs in a process of its own and reads what can't" in str(
        error
    )


def test_many_at_once_on_a_wide_node_are_each_answered():
    nodes = [hd.Node("wide", {"cpu": 4, "memory": 4000})]
    with hd.Executor(nodes=nodes) as executor:
        executor._own_process = True
        functions = [
            Function(i, [i // 2] if i else [], lambda a=0: a + 1) for i in range(300)
        ]
        run = executor.execute(Graph(functions))
        assert [run[i] for i in range(300)] == [1 + i.bit_length() for i in range(300)]
        children = psutil.Process(worker_of(executor)).children()
        assert (
            len([c for c in children if "process_child" in " ".join(c.cmdline())]) <= 4
        )


def test_what_a_function_prints_is_no_answer(own):
    def talk():
        print("x" * 10**5, flush=True)
        os.write(1, b"y" * 100)
        return sys.stdin.read(), 7

    assert own.execute(only(talk))["f"] == ("", 7)


def test_a_function_may_fork(own):
    def fork():
        pid = os.fork()
        if not pid:
            os._exit(5)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert own.execute(only(fork))["f"] == 5


# ------------------------------------------------------------------ its end
@pytest.mark.parametrize(
    ("end", "how"),
    [
        (lambda: os._exit(7), "exit code 7"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "killed by SIGSEGV"),
    ],
)
def test_a_process_that_dies_is_a_function_error_and_its_node_lives(
    own, caught, end, how
):
    worker = worker_of(own)
    run = own.execute(only(end), raise_on_error=False)
    error = caught(FunctionError, run.__getitem__, "f")
    assert str(error) == f"the process of function 'f' ended while it ran: {how}"
    assert own.execute(only(lambda: 1))["f"] == 1
    assert worker_of(own) == worker


def test_a_process_that_dies_is_noticed_though_its_own_child_lives(own, caught):
    def leave():
        if not os.fork():
            time.sleep(10 * LIMIT)
        os._exit(3)

    run = own.execute(only(leave), raise_on_error=False)
    assert "exit code 3" in str(caught(FunctionError, run.__getitem__, "f"))


def test_cancelling_ends_a_function_at_once_and_frees_its_slot(
    own, gate, claimed, until
):
    call = gate.call()

    def hang():
        started = subprocess.Popen(["sleep", str(10 * LIMIT)])
        call(f"{os.getpid()} {started.pid}")

    run = own.submit(only(hang))
    (name,) = gate.arrivals(1)
    run.cancel()
    run.wait(LIMIT)
    assert run.status == "cancelled"
    assert all(gone(int(pid)) for pid in name.split())
    assert own.execute(only(lambda: 1))["f"] == 1
    until(own.client, lambda scheduler: True)
    assert claimed(own) == {}


def test_what_its_worker_ended_but_is_wanted_still_runs_anew(own, gate):
    call = gate.call()

    def work():
        call(os.getpid())
        return 7

    def end(dask_worker):
        (key,) = [t.key for t in dask_worker.state.executing]
        dask_worker.executors["handout"].cancel(key)

    run = own.submit(only(work))
    (first,) = gate.arrivals(1)
    own.client.run(end)
    assert gone(first)
    (second,) = gate.arrivals(1)
    gate.let(second)
    run.wait(LIMIT)
    assert (run["f"], first != second) == (7, True)


def test_a_killed_worker_takes_its_processes_along(gate):
    call = gate.call()

    def hang():
        call(os.getpid())

    nodes = [hd.Node(f"n{k}", {"cpu": 1, "memory": 1000}) for k in range(2)]
    with hd.Executor(nodes=nodes) as executor:
        executor._own_process = True
        run = executor.submit(only(hang))
        (first,) = gate.arrivals(1)
        os.kill(psutil.Process(first).ppid(), signal.SIGKILL)
        assert gone(first)
        (second,) = gate.arrivals(1)  # it runs anew
        gate.let(second)
        run.wait(LIMIT)
        assert run.status == "done"
    assert gone(second)


def test_nothing_is_left_of_processes_when_their_executor_leaves_a_cluster():
    from distributed import Client

    with Client(n_workers=1, threads_per_worker=1, dashboard_address=":0") as client:
        with hd.Executor(client) as executor:
            executor._own_process = True
            pid = executor.execute(only(os.getpid))["f"]
        assert gone(pid)
        (names,) = client.run(lambda dask_worker: list(dask_worker.executors)).values()
        assert "handout" not in names


# --------------------------------------------------------- its executor is gone
def test_lost_results_are_computed_in_threads_when_their_executor_is_gone():
    from distributed import Client

    with Client(n_workers=2, threads_per_worker=1, dashboard_address=":0") as client:
        cost = {"memory": 10}
        graph = Graph([Function(i, [], os.getpid, cost=cost) for i in range(8)])
        with hd.Executor(client, enforce_memory=True) as executor:
            run = executor.execute(graph)
            owns = {run[i] for i in range(8)}
        pids = set(client.run(os.getpid).values())
        assert not owns & pids
        victim = min(pids)
        os.kill(victim, signal.SIGKILL)
        assert gone(victim)
        found = {run[i] for i in range(8)}
        assert found - owns  # some were lost
        assert found - owns <= pids | set(client.run(os.getpid).values())


def test_lost_results_that_wait_for_their_turn_are_computed_when_their_executor_leaves(
    gate, journal
):
    from distributed import Client, LocalCluster

    call, path = gate.call(), journal.path

    def work(i):
        if os.path.exists(f"{path}-{i}"):
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL))
                call(i)
        open(f"{path}-{i}", "w").close()
        time.sleep(0.2)  # so long that few are sent ahead
        return i

    with (  # without a nanny: a worker that joins would bring them on its own
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        with hd.Executor(client) as executor:
            graph = Graph([Function(i, [], work, extra_args=[i]) for i in range(12)])
            run = executor.execute(graph)
            most = max(cluster.workers.values(), key=lambda worker: len(worker.data))
            cluster.sync(most.close)
            gate.arrivals(1)
        gate.let()
        assert [run[i] for i in range(12)] == list(range(12))


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


# --------------------------------------------------------------------- pipes
@pytest.mark.parametrize(
    "value",
    [None, "text", {"a": [1, (2,)]}, np.arange(10**5), np.array([]), b"", [b"x"] * 9],
)
def test_values_cross_a_pipe_as_they_are(value):
    source, sink = os.pipe()
    try:
        writer = threading.Thread(target=send, args=(sink, dumps(value)))
        writer.start()
        got = loads(receive(source))
        writer.join()
    finally:
        os.close(sink)
        np.testing.assert_equal(got, value)
        with pytest.raises(ClosedError):
            receive(source)
        os.close(source)


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

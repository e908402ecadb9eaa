"""Functions in processes of their own end at will, and harm nobody when they die."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import handout_dask as hd
from handout_dask import Function, FunctionCrashedError, Graph, ResourceExhaustedError

pytestmark = pytest.mark.slow

LIMIT = 60


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
    error = caught(FunctionCrashedError, run.__getitem__, "f")
    start = f"the process of function 'f' ended on node 'n0' while it ran: {how}"
    assert str(error).startswith(start)
    assert own.execute(only(lambda: 1))["f"] == 1
    assert worker_of(own) == worker


def test_a_process_that_dies_is_noticed_though_its_own_child_lives(own, caught):
    def leave():
        if not os.fork():
            time.sleep(10 * LIMIT)
        os._exit(3)

    run = own.execute(only(leave), raise_on_error=False)
    assert "exit code 3" in str(caught(FunctionCrashedError, run.__getitem__, "f"))


@pytest.fixture
def small():
    """A control group with 100 MB; skips where this user may make none."""
    text = Path("/proc/self/cgroup").read_text()
    groups = [line.split(":") for line in text.split()]
    places = {"memory": "/sys/fs/cgroup/memory", "": "/sys/fs/cgroup"}
    for _, name, path in sorted(groups, key=lambda group: group[1], reverse=True):
        if name in places:
            folder = f"{places[name]}{path.rstrip('/')}/handout-{os.getpid()}"
            limit = "memory.limit_in_bytes" if name else "memory.max"
            try:
                os.mkdir(folder)
            except OSError:
                continue
            try:
                with open(f"{folder}/{limit}", "w") as file:
                    file.write(str(100 * 10**6))
                yield folder
                return
            except OSError:
                continue
            finally:
                os.rmdir(folder)
    pytest.skip("needs the right to make a control group")


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's control groups")
def test_a_process_that_the_kernel_killed_for_want_of_memory(own, caught, small):
    def grow():
        with open(f"{small}/cgroup.procs", "w") as file:
            file.write(str(os.getpid()))
        return len(bytearray(b"x") * (300 * 10**6))

    worker = worker_of(own)
    run = own.execute(only(grow), raise_on_error=False)
    error = caught(ResourceExhaustedError, run.__getitem__, "f")
    assert str(error).startswith(
        "the process of function 'f' was killed on node 'n0' by the kernel for want of"
    )
    assert error.resource == "memory"
    assert error.declared > 0
    assert own.execute(only(lambda: 1))["f"] == 1
    assert worker_of(own) == worker


def test_what_a_function_has_started_ends_with_a_worker_that_is_killed(gate):
    call = gate.call()

    def start():
        started = subprocess.Popen(["sleep", str(10 * LIMIT)])
        call(f"{os.getpid()} {started.pid}")

    with hd.Executor(nodes=[hd.Node("n0")]) as executor:
        executor._own_process = True
        run = executor.submit(only(start))
        (name,) = gate.arrivals(1)
        child, started = map(int, name.split())
        os.kill(psutil.Process(child).ppid(), signal.SIGKILL)
        assert ended(child)
        assert ended(started)
        run.cancel()


def ended(pid):
    """Wait until a process is gone, or dead though nobody has waited for it."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        until = time.monotonic() + LIMIT
        while process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > until:
                return False
            with suppress(psutil.TimeoutExpired):
                process.wait(0.05)
    return True


def test_the_last_words_of_a_process_are_told(own, caught):
    def crash():
        os.write(2, b"cannot open the camera\n")
        os.kill(os.getpid(), signal.SIGSEGV)

    run = own.execute(only(crash), raise_on_error=False)
    error = caught(FunctionCrashedError, run.__getitem__, "f")
    assert error.code == -signal.SIGSEGV
    text = str(error)
    assert "killed by SIGSEGV; last words: cannot open the camera" in text
    assert "in crash" in text  # where


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

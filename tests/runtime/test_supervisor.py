"""Laws of supervision: nodes come back, or are given up with the reason; none stays."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil
import pytest
from distributed import get_worker

import handout_dask as hd
from handout_dask import Function, Graph, Node, RestartPolicy, Supervisor

pytestmark = pytest.mark.slow


def kill(pid, how=signal.SIGKILL):
    with suppress(ProcessLookupError):
        os.kill(pid, how)


def child(supervisor, name):
    """What a supervisor says of one of its children."""
    return next(row for row in supervisor.children() if row["name"] == name)


def back(supervisor, name, before):
    """Wait until a child is up again as another process."""

    def is_back():
        row = child(supervisor, name)
        return row["state"] == "up" and row["pid"] not in (None, before)

    wait_for(is_back)


def wait_for(condition, limit=60.0):
    """Look until it holds; what is looked at is no event of a scheduler's."""
    until = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < until, "it never came true"
        threading.Event().wait(0.02)


def below(me):
    """All processes below, but for Python's tracker of semaphores."""
    found = {}
    for process in psutil.Process(me).children(recursive=True):
        with suppress(psutil.Error):
            if "resource_tracker" not in " ".join(process.cmdline()):
                found[process.pid] = process
    return found


def runs(process):
    """Whether a process does not only wait to be buried."""
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def where():
    return str(get_worker().name)


@pytest.fixture(scope="module")
def pair():
    """Two nodes that may die as often as they like, and an executor."""
    nodes = [Node("a", {"cpu": 1, "memory": 500}), Node("b", {"cpu": 1})]
    with (
        Supervisor(nodes, restart=RestartPolicy(None)) as supervisor,
        hd.Executor(supervisor) as executor,
    ):
        yield supervisor, executor


def test_a_supervisor_is_usable_alone_and_says_what_its_children_are(pair):
    supervisor, executor = pair
    rows = [(r["name"], r["kind"], r["state"]) for r in supervisor.children()]
    assert rows == [("a", "transient", "up"), ("b", "transient", "up")]
    graph = Graph([Function(n, [], where, node=n) for n in "ab"])
    run = executor.execute(graph)
    assert [run[n] for n in "ab"] == ["a", "b"]
    assert executor.nodes()["a"].capacity("memory") == 500  # as it was declared


def test_a_worker_that_is_killed_is_started_again_and_that_is_told(pair):
    supervisor, executor = pair
    before = child(supervisor, "a")
    kill(before["pid"])
    back(supervisor, "a", before["pid"])
    after = child(supervisor, "a")
    assert after["restarts"] == before["restarts"] + 1
    assert (after["last"].code, after["last"].pid) == (-9, before["pid"])
    assert str(after["last"]).startswith(f"a (process {before['pid']}) was killed by")
    graph = Graph([Function("x", [], where, node="a")])
    assert executor.execute(graph)["x"] == "a"


def test_what_a_client_asks_to_be_started_anew_is_no_failure(pair):
    supervisor, executor = pair
    before = child(supervisor, "b")
    workers = executor.client.scheduler_info()["workers"].values()
    executor.client.restart_workers([w["name"] for w in workers if w["name"] == "b"])
    after = child(supervisor, "b")
    assert after["pid"] != before["pid"]
    assert (after["restarts"], after["last"]) == (before["restarts"], before["last"])


def test_nodes_are_added_replaced_and_removed(pair, journal):
    supervisor, executor = pair

    def code():
        journal("ran")
        return where()

    supervisor.add(Node("c", {"camera": 1, "cpu": 1}, speed=2))
    assert executor.nodes()["c"].speed == 2
    graph = Graph([Function("x", [], code, cost={"camera": 1})])
    run = executor.execute(graph)
    supervisor.replace("c", Node("d", {"camera": 1, "cpu": 1}, price=3))
    assert [node.name for node in executor.nodes().nodes] == ["a", "b", "d"]
    assert executor.nodes()["d"].price == 3
    assert (run["x"], journal.lines()) == ("c", ["ran"])  # its result was brought away
    supervisor.replace("d", Node("d", {"camera": 2, "cpu": 1}))
    assert executor.nodes()["d"].capacity("camera") == 2
    supervisor.remove("d")
    assert [row["name"] for row in supervisor.children()] == ["a", "b"]
    with pytest.raises(hd.UnsatisfiableError):
        executor.submit(Graph([Function("x", [], int, cost={"camera": 1})]))


def test_changes_that_make_no_sense_are_refused(pair, caught):
    supervisor, _ = pair
    error = caught(hd.HandoutError, supervisor.add, Node("a"))
    assert "there is a node 'a' already; replace it" in str(error)
    error = caught(hd.HandoutError, supervisor.remove, "z")
    assert "no node 'z' was declared; there are a, b" in str(error)
    error = caught(hd.HandoutError, supervisor.replace, "a", "b")
    assert "a supervisor starts Nodes, not 'b'" in str(error)
    assert [row["name"] for row in supervisor.children()] == ["a", "b"]


def test_settings_that_make_no_sense_are_refused_before_anything_starts(caught):
    nodes = [Node("a")]
    error = caught(hd.HandoutError, Supervisor, nodes, command=("ssh", "host"))
    assert "command needs isolated=True" in str(error)
    error = caught(hd.HandoutError, Supervisor, nodes, restart={"b": RestartPolicy()})
    assert "there is no node 'b'; there are a" in str(error)
    error = caught(
        hd.HandoutError, Supervisor, nodes, isolated=True, command="ssh host"
    )
    assert "must be a sequence of texts, such as ('ssh', 'host')" in str(error)
    error = caught(hd.HandoutError, hd.Executor, "tcp://a:1", restart=RestartPolicy())
    assert "restart is for nodes that are started here" in str(error)


def test_a_crash_loop_is_given_up_and_the_reason_reaches_who_waits(gate, until, caught):
    nodes = [Node("bad", {"cpu": 1}), Node("good", {"cpu": 1})]
    call = gate.call()
    with hd.Executor(nodes=nodes, restart=RestartPolicy(2, 600)) as executor:
        supervisor = executor.supervisor
        run = executor.submit(
            Graph(
                [
                    Function("pinned", [], call, extra_args=["pinned"], node="bad"),
                    Function("free", [], lambda: call("free")),
                ]
            )
        )
        gate.arrivals(2)
        for _ in range(2):
            kill(child(supervisor, "bad")["pid"])
            assert gate.arrivals(1) == ["pinned"]
        kill(child(supervisor, "bad")["pid"])
        error = caught(hd.NodeLostError, lambda: run["pinned"])
        assert "more than 2 restarts within 600 s are not allowed" in str(error)
        assert "bad (process" in str(error)
        gate.let()
        assert run["free"] == "free"
        row = child(supervisor, "bad")
        assert (row["state"], row["pid"], row["restarts"]) == ("given up", None, 2)
        assert supervisor.error is None
        until(executor.client, lambda s: len(s.workers) == 1)
        graph = Graph([Function(k, [], where) for k in range(3)])
        assert set(executor.execute(graph).results.values()) == {"good"}
        supervisor.replace("bad", Node("bad", {"cpu": 1}))  # it gets a new chance
        assert executor.execute(Graph([Function("x", [], where, node="bad")]))["x"]


def test_all_end_in_reverse_order_where_all_are_counted_together(gate, caught):
    nodes = [Node(name, {"cpu": 1}) for name in "abc"]
    policy = RestartPolicy(1, 600, scope="all")
    me = os.getpid()
    with hd.Executor(nodes=nodes, restart=policy) as executor:
        supervisor = executor.supervisor
        workers = {row["name"]: row["pid"] for row in supervisor.children()}
        run = executor.submit(Graph([Function("x", [], gate.call(), extra_args=["x"])]))
        kill(workers["a"])
        back(supervisor, "a", workers["a"])
        workers["a2"] = child(supervisor, "a")["pid"]
        kill(workers["b"])
        wait_for(lambda: supervisor.error is not None)
        error = supervisor.error
        assert isinstance(error, hd.SupervisorError)
        assert [(x.name, x.code) for x in error.exits] == [("a", -9), ("b", -9)]
        assert "c, b, a can't be kept up: more than 1 restarts" in str(error)
        wait_for(lambda: not {*workers.values()} & {*below(me)}, 15)
        assert supervisor.cluster.asked[:3] == ["c", "b", "a"]
        caught(hd.NodeLostError, lambda: run["x"])
        again = caught(
            hd.SupervisorError, executor.submit, Graph([Function("y", [], int)])
        )
        assert again is error


def test_permanent_transient_and_temporary(until):
    nodes = [Node(name, {"cpu": 1}) for name in ("keeps", "ends", "once", "stays")]
    kinds = {"keeps": "permanent", "ends": "transient", "once": "temporary"}
    policies = {name: RestartPolicy(kind=kind) for name, kind in kinds.items()}
    with (
        Supervisor(nodes, restart=policies) as supervisor,
        hd.Executor(supervisor) as executor,
    ):
        client = executor.client
        before = child(supervisor, "keeps")["pid"]
        client.retire_workers(names=["keeps", "ends"], close_workers=True)
        kill(child(supervisor, "once")["pid"])

        def settled(names, dask_scheduler):
            return sorted(ws.name for ws in dask_scheduler.workers.values()) == names

        back(supervisor, "keeps", before)
        until(client, lambda s: settled(["keeps", "stays"], s))
        states = {row["name"]: row["state"] for row in supervisor.children()}
        assert states == {
            "keeps": "up", "ends": "ended", "once": "ended", "stays": "up"
        }  # fmt: skip
        assert child(supervisor, "once")["last"].code == -9
        assert child(supervisor, "ends")["last"].how == "asked"


def test_what_an_elastic_executor_ends_stays_so_and_what_dies_comes_back():
    nodes = [Node("cheap", {"cpu": 1}), Node("dear", {"cpu": 1}, price=1)]
    elastic = hd.Elastic(idle=0.2)
    with (
        Supervisor(nodes) as supervisor,
        hd.Executor(supervisor, elastic=elastic) as executor,
    ):
        wait_for(lambda: "dear" not in supervisor.cluster.workers)
        assert child(supervisor, "dear")["restarts"] == 0
        graph = Graph([Function("x", [], where, node="dear")])
        assert executor.execute(graph)["x"] == "dear"
        before = child(supervisor, "cheap")["pid"]
        kill(before)
        back(supervisor, "cheap", before)
        assert child(supervisor, "cheap")["state"] == "up"


def test_closing_leaves_nothing_behind_whatever_nodes_do(gate):
    """One is frozen, one runs what does not end, one has started something."""
    me, threads = os.getpid(), set(threading.enumerate())
    before = below(me)

    def stuck():
        gate_call("stuck")
        threading.Event().wait()

    def starts():
        process = subprocess.Popen(["sleep", "1000"])
        gate_call("starts")
        return process.pid

    gate_call = gate.call()
    supervisor = Supervisor([Node(name, {"cpu": 1}) for name in "abc"])
    folder = supervisor.cluster.folder
    assert os.listdir(folder)
    with hd.Executor(supervisor) as executor:
        executor.submit(
            Graph([Function("s", [], stuck, node="a"), Function("t", [], starts,
                   node="b")])
        )  # fmt: skip
        gate.arrivals(2)
        gate.let()
        started = [p for p in below(me).values() if p.name() == "sleep"]
        assert started
        kill(child(supervisor, "c")["pid"], signal.SIGSTOP)
        began = time.monotonic()
        supervisor.close()
        took = time.monotonic() - began
    assert {*below(me)} <= {*before}
    assert not any(map(runs, started))
    assert not os.path.exists(folder)
    assert took < 15
    left = {t for t in threading.enumerate() if not t.daemon} - threads
    assert {t.name for t in left if t.is_alive()} == set()
    assert [name for name in supervisor.cluster.asked if name != "scheduler"] == [
        "c", "b", "a",
    ]  # fmt: skip


ORPHANS = """
import subprocess, sys, time
import handout_dask as hd
from multiprocessing.connection import Client as Connect

def code(port):
    process = subprocess.Popen(["sleep", "1000"])
    with Connect(("127.0.0.1", port)) as connection:
        connection.send(process.pid)
        connection.recv()

if __name__ == "__main__":
    nodes = [hd.Node("a", {"cpu": 1}), hd.Node("b", {"cpu": 1})]
    supervisor = hd.Supervisor(nodes, isolated=sys.argv[2] == "isolated")
    executor = hd.Executor(supervisor)
    run = executor.submit(hd.Graph(
        [hd.Function("x", [], code, extra_args=[int(sys.argv[1])], node="a")]))
    print(supervisor.cluster.folder, flush=True)
    run.wait()
"""


@pytest.mark.parametrize(
    "isolated", ["embedded", pytest.param("isolated", marks=pytest.mark.slow)]
)
def test_whoever_kills_the_parent_leaves_nothing_behind(isolated, gate, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(ORPHANS)
    port = gate._listener.address[1]
    base = tmp_path / "temporary"
    parent = subprocess.Popen(
        [sys.executable, str(script), str(port), isolated],
        stdout=subprocess.PIPE,
        env={**os.environ, "DASK_TEMPORARY_DIRECTORY": str(base)},
        text=True,
    )
    try:
        folder = parent.stdout.readline().strip()
        assert folder.startswith(str(base))
        (started,) = gate.arrivals(1)
        family = below(parent.pid)
        assert started in family
        assert len(family) >= 4  # two workers, what one has started, a janitor
        # One of them can't even hear that its parent is gone.
        frozen = [p for p in family.values() if "spawn_main" in " ".join(p.cmdline())]
        kill(frozen[-1].pid, signal.SIGSTOP)
        parent.kill()
        parent.wait()
        _, left = psutil.wait_procs([*family.values()], timeout=15)
        assert [process.cmdline() for process in left] == []
        wait_for(lambda: os.listdir(base) == [], 15)
    finally:
        parent.kill()
        parent.stdout.close()

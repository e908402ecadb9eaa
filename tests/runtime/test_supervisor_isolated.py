"""Laws of supervision where nannies and the scheduler have processes of their own."""

import os
import signal
import sys
from contextlib import suppress

import psutil
import pytest
from distributed import Client, get_worker

import handout_dask as hd
from handout_dask import Function, Graph, Node, RestartPolicy, Supervisor
from tests.runtime.test_supervisor import below, child, kill, wait_for

pytestmark = pytest.mark.slow

BACK, REJOINED = 18.0, 24.0  # s, three times what is promised


def where():
    return str(get_worker().name)


def exact(executor, count=6):
    """Run a small graph and look at the answer."""
    graph = Graph([Function(k, [], lambda k=k: k) for k in range(count)])
    graph.add(Function("sum", [*range(count)], lambda *x: sum(x)))
    return executor.execute(graph)["sum"] == sum(range(count))


@pytest.fixture(scope="module")
def isolated():
    nodes = [Node("a", {"cpu": 1}), Node("b", {"cpu": 1}, kind="marked")]
    with Supervisor(
        nodes,
        isolated=True,
        restart=RestartPolicy(None),
        command={"marked": ("env", "HANDOUT_TEST=1")},
    ) as supervisor:
        yield supervisor


@pytest.fixture
def up(isolated):
    """Both are there when a test begins."""
    with Client(isolated.cluster, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
    return isolated


def test_each_child_has_a_process_of_its_own_begun_by_its_command(up):
    rows = up.children()
    assert [row["name"] for row in rows] == ["scheduler", "a", "b"]
    pids = [row["pid"] for row in rows]
    assert len({*pids, os.getpid()}) == 4
    assert {*pids} <= {*below(os.getpid())}
    with hd.Executor(up) as executor:
        graph = Graph(
            Function(n, [], lambda: os.environ.get("HANDOUT_TEST"), node=n)
            for n in "ab"
        )
        run = executor.execute(graph)
        assert [run[n] for n in "ab"] == [None, "1"]
        assert executor.dashboard_link.startswith("http://127.0.0.1:")


def test_a_slot_whose_nanny_is_killed_comes_back(up, gate):
    with hd.Executor(up) as executor:
        call = gate.call()
        graph = Graph(
            [
                Function("x", [], lambda: (call("x"), where())[1], node="a"),
                Function("y", ["x"], lambda x: x + where(), node="b"),
            ]
        )
        run = executor.submit(graph)
        gate.arrivals(1)
        before = child(up, "a")["pid"]
        kill(before)
        assert gate.arrivals(1) == ["x"]  # a is there again
        gate.let()
        assert run.wait(BACK)["y"] == "ab"
        row = child(up, "a")
        assert row["pid"] != before
        assert (row["last"].code, row["last"].pid) == (-9, before)


def test_a_worker_that_is_killed_is_told_of_too(up):
    before = child(up, "b")
    with hd.Executor(up) as executor:
        pid = executor.execute(Graph([Function("x", [], os.getpid, node="b")]))["x"]
        kill(pid)
        wait_for(lambda: child(up, "b")["last"] is not None)
        wait_for(lambda: child(up, "b")["state"] == "up")
        row = child(up, "b")
        assert (row["pid"], row["last"].pid) == (before["pid"], pid)  # the same nanny
        assert executor.execute(Graph([Function("x", [], where, node="b")]))["x"] == "b"


def test_a_scheduler_that_is_killed_is_there_again_with_all_its_workers(up):
    address = up.cluster.scheduler_address
    link = up.cluster.dashboard_link
    with hd.Executor(up) as executor:
        assert exact(executor)
        kill(child(up, "scheduler")["pid"])
        wait_for(lambda: child(up, "scheduler")["restarts"] == 1, 10)
    with Client(address, set_as_default=False, timeout=REJOINED) as client:
        client.wait_for_workers(2, timeout=REJOINED)
        names = [w["name"] for w in client.scheduler_info()["workers"].values()]
        assert sorted(names) == ["a", "b"]
    assert (up.cluster.scheduler_address, up.cluster.dashboard_link) == (address, link)
    with hd.Executor(up) as executor:
        assert exact(executor)
    wait_for(lambda: len(up.cluster.scheduler_info["workers"]) == 2, 10)
    # That was nothing for which nodes are to blame.
    assert {row["state"] for row in up.children()} == {"up"}


def test_a_node_that_is_given_up_is_told_of_and_closing_leaves_nothing(gate, caught):
    me = os.getpid()
    before = below(me)
    nodes = [Node("bad", {"cpu": 1}), Node("good", {"cpu": 1})]
    policy = {"bad": RestartPolicy(0)}
    with (
        Supervisor(nodes, restart=policy, isolated=True) as supervisor,
        hd.Executor(supervisor) as executor,
    ):
        folder = supervisor.cluster.folder
        call = gate.call()
        run = executor.submit(
            Graph([Function("x", [], call, extra_args=["x"], node="bad")])
        )
        gate.arrivals(1)
        kill(child(supervisor, "bad")["pid"])
        error = caught(hd.NodeLostError, lambda: run["x"])
        assert "more than 0 restarts within 60 s" in str(error)
        assert child(supervisor, "bad")["state"] == "given up"
        assert exact(executor)
        kill(child(supervisor, "good")["pid"], signal.SIGSTOP)
    assert supervisor.cluster.asked == ["good", "scheduler"]
    wait_for(lambda: {*below(me)} <= {*before}, 15)
    assert not os.path.exists(folder)


def test_a_node_that_can_not_start_is_an_error_that_says_why(caught):
    me = os.getpid()
    before = below(me)
    options = {"isolated": True, "python": {"a": "/nowhere/python"}}
    error = caught(hd.SupervisorError, Supervisor, [Node("a")], **options)
    assert "a can't be started by /nowhere/python -m" in str(error)
    options = {"isolated": True, "command": {"a": ("false",)}}
    error = caught(hd.SupervisorError, Supervisor, [Node("a")], **options)
    assert "a did not start: its process ended with code 1" in str(error)
    wait_for(lambda: {*below(me)} <= {*before}, 15)


def test_the_process_of_a_node_ends_with_its_standard_input():
    """Wherever it was started, and though nobody can kill it from here."""
    import subprocess

    process = subprocess.Popen(
        [sys.executable, "-m", "handout_dask.runtime.node_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with suppress(OSError):
        process.stdin.close()
    assert process.wait(30) is not None
    assert not psutil.pid_exists(process.pid)

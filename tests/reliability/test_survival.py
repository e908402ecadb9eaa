"""Rows R12 and R17: schedulers, clients, nannies and parents die."""

import os
import signal
import tempfile
import threading
from pathlib import Path

import psutil
import pytest

import handout_dask as hd
from benchmarks.breaking import survival, work
from benchmarks.breaking.cluster import until

pytestmark = pytest.mark.stress

LIMIT = 30  # s


@pytest.mark.parametrize(
    "scenario",
    [survival.scheduler_dies, survival.client_dies, survival.all_die],
    ids=lambda scenario: scenario.__name__,
)
def test_r12_a_run_is_gone_on_with_and_nothing_that_ended_runs_again(play, scenario):
    seen = play(scenario)
    assert (seen.said, seen.exact) == ("done", True)
    assert seen.more["finished ones again"] == 0


def test_r17_a_node_whose_nanny_was_killed_comes_back(play):
    seen = play(survival.nanny_dies)
    assert (seen.said, seen.exact) == ("done", True)
    assert seen.back is not None
    assert seen.back < 18


def test_r17_nothing_outlives_a_parent_that_was_killed(play):
    assert play(survival.parent_dies).more == {
        "processes": pytest.approx(10, abs=8),
        "left": 0,
        "files left": 0,
    }


@pytest.fixture
def folder(monkeypatch):
    """Where all temporary files go, of this process and those that it starts."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield folder


@pytest.mark.parametrize("isolated", [False, True])
def test_r17_an_orderly_end_leaves_no_process_thread_or_file(folder, isolated):
    own = psutil.Process()
    before = {p.pid for p in own.children(recursive=True)}
    threads = set(threading.enumerate())
    counts = work.Counts()
    nodes = [hd.Node(f"n{k}", {"cpu": 1}) for k in range(2)]
    with (
        hd.Supervisor(nodes, isolated=isolated) as supervisor,
        hd.Executor(supervisor) as executor,
    ):
        run = executor.execute(work.fan(counts.path, 20, 0.01))
        assert run[work.SUM] == work.answer(20)
        family = [p for p in own.children(recursive=True) if p.pid not in before]
    counts.remove()
    # The tracker of Python's own shared memory stays, one for each interpreter.
    family = [p for p in family if p.is_running() and not _is_tracker(p)]
    assert psutil.wait_procs(family, LIMIT)[1] == []
    assert [str(p) for p in Path(folder).rglob("*") if p.is_file()] == []

    def alone():  # but for the one thread that Dask offloads to, in each process
        new = set(threading.enumerate()) - threads
        return all(thread.name.startswith("Dask-Offload") for thread in new)

    until(alone, LIMIT, "no thread is left")


def _is_tracker(process):
    try:
        return any("resource_tracker" in word for word in process.cmdline())
    except psutil.Error:
        return False


def test_r17_a_node_that_dies_too_often_is_given_up_and_the_others_go_on(tmp_path):
    nodes = [hd.Node(f"n{k}", {"cpu": 1}) for k in range(2)]
    restart = hd.RestartPolicy(max_restarts=1, within=60)
    with (
        hd.Supervisor(nodes, restart=restart) as supervisor,
        hd.Executor(supervisor) as executor,
    ):
        for _ in range(2):
            pid = until(lambda: _pid(supervisor, "n0"), LIMIT, "n0 is up")
            os.kill(pid, signal.SIGKILL)
            until(lambda: _pid(supervisor, "n0") != pid, LIMIT, "n0 is down")
        until(lambda: _state(supervisor, "n0") == "given up", LIMIT, "it is given up")
        path = str(tmp_path / "starts")
        run = executor.execute(work.fan(path, 20, 0.01))
        assert run[work.SUM] == work.answer(20)
        assert {run.where(f"f{k}") for k in range(20)} == {"n1"}


def test_r17_all_is_given_up_with_the_reason_where_the_policy_is_for_all():
    nodes = [hd.Node(f"n{k}", {"cpu": 1}) for k in range(2)]
    restart = hd.RestartPolicy(max_restarts=0, within=60, scope="all")
    with hd.Supervisor(nodes, restart=restart) as supervisor:
        pid = until(lambda: _pid(supervisor, "n0"), LIMIT, "n0 is up")
        os.kill(pid, signal.SIGKILL)
        error = until(lambda: supervisor.error, LIMIT, "all is given up")
        assert isinstance(error, hd.SupervisorError)
        assert "n0" in str(error)
        assert [exit.name for exit in error.exits] == ["n0"]


def _child(supervisor, name):
    return next(child for child in supervisor.children() if child["name"] == name)


def _pid(supervisor, name):
    child = _child(supervisor, name)
    return child["pid"] if child["state"] == "up" else None


def _state(supervisor, name):
    return _child(supervisor, name)["state"]

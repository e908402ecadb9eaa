"""Nothing lost: runs go on after whatever died, and what was kept is not run again."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import fsspec
import pytest
from distributed import LocalCluster

import handout_dask as hd
from handout_dask import Function, Graph
from handout_dask.errors import (
    FunctionError,
    GraphError,
    HandoutError,
    JournalError,
    ResultReleasedError,
    UntrustedError,
)
from handout_dask.runtime import signing

pytestmark = pytest.mark.slow

LIMIT = 60  # s after which a test calls it a hang


@pytest.fixture(autouse=True, scope="module")
def _own_state(tmp_path_factory):
    """A key of the tests' own, not the user's."""
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
    yield
    if before is None:
        del os.environ["XDG_STATE_HOME"]
    else:
        os.environ["XDG_STATE_HOME"] = before


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(
        2, threads_per_worker=1, dashboard_address=":0", processes=True
    ) as cluster:
        yield cluster


@pytest.fixture
def runs(tmp_path):
    """The folder of a journal."""
    return tmp_path / "runs"


def noted(journal, name, result):
    """A function that notes that it runs."""

    def f(*values):
        journal(name)
        return result if not values else sum(values) + result

    return f


def chain(journal, n=4):
    """Each adds one to the one before, and is noted."""
    return Graph(
        Function(k, [k - 1] if k else [], noted(journal, k, 1)) for k in range(n)
    )


def folder(runs, run):
    return Path(runs) / run.token


def results(runs, run):
    return sorted((folder(runs, run) / "results").iterdir())


def logs(runs, run):
    return sorted((folder(runs, run) / "log").iterdir())


def finished(cluster, runs, graph, **how):
    """A run that has ended, and whose executor is gone."""
    with hd.Executor(cluster, journal=runs, **how) as executor:
        return executor.execute(graph, raise_on_error=False)


def resumed(cluster, run, **how):
    """What a resumed run gives: results that can be had, or types of errors."""
    again = hd.resume(
        run if isinstance(run, str) else run.token, cluster=cluster, **how
    )
    try:
        again.wait(LIMIT)
        out = {}
        for id in again.graph.order():
            try:
                out[id] = again[id]
            except Exception as error:
                out[id] = type(error)
        return out
    finally:
        again.executor.close()


# ------------------------------------------------------------------- what is kept
def test_of_a_finished_run_nothing_is_run_again(cluster, runs, journal):
    run = finished(cluster, runs, chain(journal))
    assert resumed(cluster, run, journal=runs) == {0: 1, 1: 2, 2: 3, 3: 4}
    assert sorted(journal.lines()) == ["0", "1", "2", "3"]


def test_the_journal_is_found_by_itself(cluster, runs, journal):
    run = finished(cluster, runs, chain(journal))
    assert resumed(cluster, run)[3] == 4
    assert len(journal.lines()) == 4


def test_a_run_that_is_nowhere_is_an_error_that_says_where_was_looked(cluster, runs):
    with hd.Executor(cluster, journal=runs) as executor:
        with pytest.raises(JournalError, match=r"no journal has run 'abc'.*runs"):
            executor.resume("abc")
        with pytest.raises(JournalError, match="is no run"):
            executor.resume("../abc")
        with pytest.raises(GraphError, match="must be a Graph, not list"):
            executor.resume("abc", graph=[])
    for run in ("../abc", None):
        with pytest.raises(JournalError, match="is no run"):
            hd.resume(run, journal=runs)


def test_the_resumed_run_has_the_users_functions(cluster, runs, journal):
    run = finished(cluster, runs, chain(journal, 2))
    with hd.Executor(cluster, journal=runs) as executor:
        again = executor.resume(run.token)
        assert again.wait(LIMIT).status == "done"
        assert again.token == run.token
        assert again.restored == {0, 1}
        assert again.graph[1].inputs == ((0, None),)
        assert again.functions[1].results == 2
        assert again.functions[1].inputs == ((0, None),)


def test_what_failed_is_tried_anew_and_what_ended_is_not(
    cluster, runs, journal, tmp_path
):
    flag = tmp_path / "works"

    def fails(x):
        journal("fails")
        if not flag.exists():
            raise ValueError("not yet")
        return x * 10

    graph = Graph(
        [
            Function("a", [], noted(journal, "a", 1)),
            Function("b", ["a"], fails),
            Function("c", ["b"], noted(journal, "c", 1)),
        ]
    )
    run = finished(cluster, runs, graph)
    assert run.status == "failed"
    assert resumed(cluster, run)["c"] is FunctionError  # and again
    flag.touch()
    assert resumed(cluster, run) == {"a": 1, "b": 10, "c": 11}
    assert journal.lines() == ["a", "fails", "fails", "fails", "c"]
    assert resumed(cluster, run) == {"a": 1, "b": 10, "c": 11}
    assert len(journal.lines()) == 5


def test_marked_alone_are_kept_if_the_user_says_so(cluster, runs, journal):
    graph = Graph(
        [
            Function("a", [], noted(journal, "a", 1)),
            Function("b", ["a"], noted(journal, "b", 1), durable=True),
            Function("c", ["b"], noted(journal, "c", 1)),
        ]
    )
    with hd.Executor(cluster, journal=runs, durable="marked") as executor:
        run = executor.execute(graph, keep="sinks")
        assert run["c"] == 3
    assert len(results(runs, run)) == 1
    found = resumed(cluster, run)
    assert found == {"a": ResultReleasedError, "b": ResultReleasedError, "c": 3}
    assert journal.lines() == ["a", "b", "c", "c"]


def test_elements_of_kept_results_are_read(cluster, runs, journal, tmp_path):
    flag = tmp_path / "works"

    def second(x):
        if not flag.exists():
            raise ValueError("not yet")
        return x

    graph = Graph(
        [
            Function("a", [], lambda: (journal("a"), (5, [6]))[1]),
            Function("b", [("a", 1)], second),
        ]
    )
    run = finished(cluster, runs, graph)
    flag.touch()
    assert resumed(cluster, run) == {"a": (5, [6]), "b": [6]}
    assert journal.lines() == ["a"]


def test_arrays_come_back_as_they_were(cluster, runs):
    import numpy as np

    def made():
        frozen = np.arange(3)
        frozen.flags.writeable = False
        return np.arange(10**5), frozen

    run = finished(cluster, runs, Graph([Function("a", [], made)]))
    whole, frozen = resumed(cluster, run)["a"]
    assert whole.tolist() == list(range(10**5))
    assert (whole.flags.writeable, frozen.flags.writeable) == (True, False)


def test_what_cannot_be_pickled_is_an_error_only_where_it_is_asked_for(cluster, runs):
    graph = Graph(
        [
            Function("lock", [], threading.Lock),
            Function("same", ["lock"], lambda x: 1, node=hd.with_function("lock")),
        ]
    )
    run = finished(cluster, runs, graph, durable="all")
    assert [p.name for p in folder(runs, run).iterdir()].count("results") == 1
    assert len(results(runs, run)) == 1
    marked = Graph([Function("lock", [], threading.Lock, durable=True)])
    with (
        hd.Executor(cluster, journal=runs) as executor,
        pytest.raises(FunctionError, match="'lock'.*can't be pickled.*durable=True"),
    ):
        executor.execute(marked)


def test_durable_without_a_journal_is_an_error_that_says_what_to_do(cluster):
    graph = Graph([Function("a", [], int, durable=True)])
    with (
        hd.Executor(cluster) as executor,
        pytest.raises(HandoutError, match=r"'a' is durable.*journal="),
    ):
        executor.submit(graph)
    with pytest.raises(HandoutError, match="durable='marked' goes with journal="):
        hd.Executor(cluster, durable="marked")
    with pytest.raises(HandoutError, match="durable='some' must be one of"):
        hd.Executor(cluster, journal="runs", durable="some")


def test_a_live_run_is_not_resumed_beside_itself(cluster, runs, gate):
    call = gate.call()
    with hd.Executor(cluster, journal=runs) as executor:
        run = executor.submit(Graph([Function("a", [], lambda: call("a"))]))
        gate.arrivals(1)
        with pytest.raises(HandoutError, match="goes on on this cluster"):
            executor.resume(run.token)
        gate.let()
        assert run["a"] == "a"
        assert executor.resume(run.token)["a"] == "a"


# ---------------------------------------------------------- torn and foreign files
def test_a_log_that_is_torn_at_its_end_is_read_up_to_there(cluster, runs, journal):
    run = finished(cluster, runs, chain(journal))
    last = logs(runs, run)[-1]
    last.write_bytes(last.read_bytes()[:-3])
    assert resumed(cluster, run)[3] == 4
    assert len(journal.lines()) == 4


def test_a_log_that_is_corrupt_within_is_refused_with_its_name(cluster, runs, journal):
    run = finished(cluster, runs, chain(journal))
    log = folder(runs, run) / "log" / "0000-zz"
    log.write_bytes(b"handout-journal 1\nxxx\n" + logs(runs, run)[0].read_bytes()[18:])
    with pytest.raises(JournalError, match="0000-zz.* byte 18.*Move it away"):
        hd.resume(run.token, cluster=cluster)
    log.write_bytes(b"something else")
    with pytest.raises(JournalError, match="0000-zz.*no journal"):
        hd.resume(run.token, cluster=cluster)


@pytest.mark.parametrize("how", ["torn", "flipped", "foreign", "another"])
def test_a_result_that_is_refused_is_made_again(cluster, runs, journal, how):
    run = finished(cluster, runs, chain(journal, 3))
    files = results(runs, run)
    data = files[0].read_bytes()
    files[0].write_bytes(
        {
            "torn": data[:-1],
            "flipped": data[:-1] + bytes([data[-1] ^ 1]),
            "foreign": b"\x80\x04K\x01.",
            "another": files[1].read_bytes(),
        }[how]
    )
    with pytest.warns(UserWarning, match=f"run again.*{files[0].name}"):
        found = resumed(cluster, run)
    assert found == {0: 1, 1: 2, 2: 3}
    assert len(journal.lines()) == 4


def test_a_run_of_another_user_has_to_be_trusted(
    cluster, runs, journal, tmp_path, monkeypatch
):
    run = finished(cluster, runs, chain(journal, 2))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    with pytest.raises(UntrustedError, match=r"graph.*trust=True"):
        hd.resume(run.token, cluster=cluster, journal=runs)
    found = resumed(cluster, run, journal=runs, trust=True)
    assert found == {0: 1, 1: 2}
    assert len(journal.lines()) == 2


def test_a_result_of_another_user_is_not_unpickled(
    cluster, runs, journal, tmp_path, monkeypatch
):
    run = finished(cluster, runs, chain(journal, 2))
    file = results(runs, run)[0]
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    from handout_dask.runtime.durables import Durable, Store

    key = signing.key_of(run.token)
    store = Store(str(folder(runs, run)), run.token, key, "")
    proof = (folder(runs, run) / "run.json").read_text().split('"proof": "')[1][:16]
    Durable(store._replace(proof=proof), file.name, True).keep("evil", "x")
    monkeypatch.undo()
    with pytest.warns(UserWarning, match="not written by this user"):
        assert resumed(cluster, run, journal=runs) == {0: 1, 1: 2}


def test_keys_do_not_show():
    from handout_dask.runtime.durables import Durable, Store

    assert "secret" not in repr(Durable(Store("u", "r", b"secret", "p"), "n", True))


def test_a_key_that_others_can_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert signing.user_key() == signing.user_key()
    path = tmp_path / "handout" / "key"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(HandoutError, match="not only yours"):
        signing.user_key()


# ----------------------------------------------------------------- a changed graph
def test_of_a_changed_graph_only_what_changed_is_run(cluster, runs, journal):
    run = finished(cluster, runs, chain(journal))
    graph = Graph(
        Function(k, f.args, f.code if k != 2 else noted(journal, "new", 10))
        for k, f in enumerate(run.graph)
    )
    with pytest.warns(UserWarning, match="functions changed since.*: 2$"):
        found = resumed(cluster, run, graph=graph)
    assert found == {0: 1, 1: 2, 2: 12, 3: 13}
    assert journal.lines() == ["0", "1", "2", "3", "new", "3"]
    assert resumed(cluster, run) == found  # from now on that is the run
    assert len(journal.lines()) == 6


def test_code_that_changed_in_its_module_is_run_again(
    cluster, runs, tmp_path, monkeypatch
):
    module = tmp_path / "users_module.py"
    module.write_text("def f(): return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import users_module

    with hd.Executor(nodes=[hd.Node("n0", {"cpu": 1})], journal=runs) as executor:
        run = executor.execute(Graph([Function("a", [], users_module.f)]))
        assert run["a"] == 1
    exec("def f(): return 2\n", vars(users_module))
    with pytest.warns(UserWarning, match="functions changed since.*'a'"):
        again = hd.resume(run.token)
    again.wait(LIMIT)
    again.executor.close()
    assert again.restored == frozenset()


# ------------------------------------------------------------------------- places
def test_a_journal_may_be_at_any_url(runs, journal):
    """Of a cluster in this process, for only it sees this process's memory."""
    url = f"memory://{runs.parent.name}/runs"
    with LocalCluster(
        1, threads_per_worker=1, processes=False, dashboard_address=":0"
    ) as cluster:
        run = finished(cluster, url, chain(journal))
        fs, path = fsspec.core.url_to_fs(f"{url}/{run.token}")
        assert len(fs.ls(f"{path}/results")) == 4
        assert resumed(cluster, run, journal=url) == {0: 1, 1: 2, 2: 3, 3: 4}
    assert len(journal.lines()) == 4


def test_a_journal_that_workers_do_not_see_is_an_error_that_says_so(cluster):
    with (
        hd.Executor(cluster, journal="memory://nowhere") as executor,
        pytest.raises(HandoutError, match=r"the worker of function 'a' does not see"),
    ):
        executor.execute(Graph([Function("a", [], int)]))


def test_a_journal_that_is_a_file_is_an_error(cluster, tmp_path):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(HandoutError, match="is a file; give a folder"):
        hd.Executor(cluster, journal=path)


# ------------------------------------------------------------------ failure modes
def test_each_run_has_a_failure_mode_of_its_own(cluster, gate):
    call = gate.call()

    def fails():
        call("fails")
        raise ValueError("x")

    graph = Graph(
        [
            Function("bad", [], fails),
            Function("long", [], lambda: call("long")),
            Function("next", ["long"], lambda x: x),
            Function("after", ["bad"], int),
        ]
    )
    with hd.Executor(cluster) as executor:
        with pytest.raises(HandoutError, match="on_failure='never'"):
            executor.submit(graph, on_failure="never")
        run = executor.submit(graph, on_failure="stop")
        assert gate.arrivals(2) == ["fails", "long"]
        gate.let("fails")
        run.wait(LIMIT)  # at once, while "long" still is at the gate
        assert run.progress.done == 0
        with pytest.raises(FunctionError, match="was stopped when function 'bad'"):
            run["long"]
        with pytest.raises(FunctionError, match="'after' did not run"):
            run["after"]
        gate.let("long")
        run = executor.submit(graph, on_failure="finish")
        assert gate.arrivals(2) == ["fails", "long"]
        gate.let()
        run.wait(LIMIT)
        assert run["next"] == "long"
        with pytest.raises(ValueError, match="x"):
            run["bad"]
        threading.Thread(target=lambda: (gate.arrivals(2), gate.let())).start()
        run = executor.execute(graph, on_failure="ignore")
        assert run.status == "failed"
        assert run["next"] == "long"


def test_a_detached_run_is_stopped_without_its_client(cluster, gate):
    call = gate.call()

    def fails():
        call("fails")
        raise ValueError("x")

    graph = Graph(
        [
            Function("bad", [], fails),
            Function("long", [], lambda: call("long")),
            Function("next", ["long"], lambda x: x),
        ]
    )
    with hd.Executor(cluster) as executor:
        token = executor.submit(graph, detached=True, on_failure="stop").token
        assert gate.arrivals(2) == ["fails", "long"]
    gate.let("fails")
    with hd.Executor(cluster) as executor:
        run = executor.attach(token)
        run.wait(LIMIT)  # while "long" still is at the gate
        with pytest.raises(FunctionError, match="was stopped when function 'bad'"):
            run["next"]
        run.release()
    gate.let("long")


# ------------------------------------------------------------------ save and load
def test_a_saved_run_is_had_back_without_a_cluster(cluster, tmp_path):
    import numpy as np

    def fails():
        raise KeyError("gone")

    graph = Graph(
        [
            Function("a", [], lambda: np.arange(4)),
            Function("b", ["a"], lambda a: int(a.sum())),
            Function("bad", [], fails),
            Function("after", ["bad"], int),
        ],
        "mine",
    )
    path = tmp_path / "run.handout"
    with hd.Executor(cluster) as executor:
        run = executor.execute(graph, raise_on_error=False)
        run.save(path)
        report = str(run.report())
    loaded = hd.Run.load(path)
    assert loaded["a"].tolist() == [0, 1, 2, 3]
    assert loaded["a"].flags.writeable
    assert loaded["b"] == loaded.functions["b"].results == 6
    with pytest.raises(KeyError, match="gone") as info:
        loaded["bad"]
    assert info.value.handout[0] == "bad"
    with pytest.raises(FunctionError, match="'after' did not run"):
        loaded["after"]
    assert (loaded.status, loaded.token) == ("failed", run.token)
    assert loaded.progress == run.progress
    assert loaded.spans == run.spans
    assert str(loaded.report()) == report
    assert loaded.graph.name == "mine"
    assert loaded.wait() is loaded
    assert "'b' ran on" in str(loaded.explain("b"))


def test_only_kept_results_are_saved(cluster, tmp_path):
    path = tmp_path / "run"
    graph = Graph([Function("a", [], lambda: 1), Function("b", ["a"], lambda a: a + 1)])
    with hd.Executor(cluster) as executor:
        executor.execute(graph, keep="sinks").save(path)
    loaded = hd.Run.load(path)
    assert loaded["b"] == 2
    with pytest.raises(ResultReleasedError):
        loaded["a"]


def test_a_saved_run_that_is_torn_or_of_another_user_is_refused(
    cluster, tmp_path, monkeypatch
):
    path = tmp_path / "run"
    with hd.Executor(cluster) as executor:
        executor.execute(Graph([Function("a", [], int)])).save(path)
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(JournalError, match="torn"):
        hd.Run.load(path)
    path.write_bytes(data)
    with pytest.raises(JournalError, match="there is no file"):
        hd.Run.load(tmp_path / "nothing")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    with pytest.raises(UntrustedError):
        hd.Run.load(path)
    assert hd.Run.load(path, trust=True)["a"] == 0


# -------------------------------------------------------------------- real deaths
SCRIPT = """
import sys
from multiprocessing.connection import Client
import handout_dask as hd

runs, notes, host, port, address = sys.argv[1:]

def step(k):
    def f(*x):
        with open(notes, "a") as file:
            file.write(f"{k}\\n")
        if k == 6:
            with Client((host, int(port))) as connection:
                connection.send("here")
                connection.recv()
        return sum(x) + 1
    return f

if __name__ == "__main__":
    graph = hd.Graph(hd.Function(k, [k - 1] if k else [], step(k)) for k in range(10))
    nodes = None if address else [hd.Node("n0", {"cpu": 1}), hd.Node("n1", {"cpu": 1})]
    with hd.Executor(address or None, nodes=nodes, journal=runs) as executor:
        run = executor.submit(graph)
        print(run.token, flush=True)
        run.wait()
"""


class Process:
    """A process in a group of its own, which can be killed with all in it."""

    def __init__(self, *args):
        self._process = subprocess.Popen(
            [sys.executable, *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def line(self, mark=""):
        """The next line that it prints which has `mark`."""
        for line in self._process.stdout:
            if mark in line:
                return line.strip()
        raise AssertionError("it ended")

    def kill(self, group=True):
        if group:
            os.killpg(self._process.pid, signal.SIGKILL)
        elif self._process.poll() is None:
            self._process.kill()
        self._process.wait(LIMIT)
        self._process.stdout.close()


@pytest.fixture
def script(tmp_path, gate):
    """``script(runs, address)``: a client that runs ten functions, stuck at the 7th."""
    path, notes = tmp_path / "client.py", tmp_path / "notes"
    path.write_text(SCRIPT)
    begun = []

    def begin(runs, address=""):
        process = Process(path, runs, notes, *gate.call().__closure__[0].cell_contents,
                          address)  # fmt: skip
        begun.append(process)
        token = process.line()
        gate.arrivals(1)
        return process, token

    begin.notes = lambda: sorted(map(int, notes.read_text().split()))
    yield begin
    for process in begun:
        if process._process.poll() is None:
            process.kill()


@pytest.fixture
def dask_cluster():
    """``dask_cluster()``: a scheduler and two workers as processes; their address."""
    begun = []

    def begin(port="0"):
        scheduler = Process(
            "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port",
            port, "--no-dashboard", "--no-show",
        )  # fmt: skip
        begun.append(scheduler)
        address = scheduler.line("Scheduler at:").split()[-1]
        for _ in range(2):
            worker = Process(
                "-m", "distributed.cli.dask_worker", address, "--nthreads", "1",
                "--name", f"w{len(begun)}", "--no-dashboard", "--nanny",
            )  # fmt: skip
            begun.append(worker)
            worker.line("Registered to")
        return address, scheduler

    yield begin
    for process in begun:
        try:
            process.kill()
        except ProcessLookupError:
            process.kill(group=False)


ONCE = [0, 1, 2, 3, 4, 5, 6, 6, 7, 8, 9]  # the seventh ran when all was killed
SUMS = {k: k + 1 for k in range(10)}


def let_on(gate):
    """Let on who comes next; who waited there before fails, if it lives at all."""
    threading.Thread(target=lambda: (gate.arrivals(1), gate.let()), daemon=True).start()


def test_after_the_death_of_everything_what_had_ended_is_not_run_again(
    script, gate, runs
):
    process, token = script(runs)
    process.kill()
    let_on(gate)
    assert resumed(None, token, journal=runs) == SUMS
    assert script.notes() == ONCE


@pytest.mark.slow
def test_after_the_death_of_the_client_its_cluster_goes_on_with_the_run(
    script, gate, runs, dask_cluster
):
    address, _ = dask_cluster()
    process, token = script(runs, address)
    process.kill()
    let_on(gate)
    assert resumed(address, token, journal=runs) == SUMS
    assert script.notes() == ONCE


@pytest.mark.slow
def test_after_the_death_of_the_scheduler_another_cluster_goes_on_with_the_run(
    script, gate, runs, dask_cluster
):
    address, scheduler = dask_cluster()
    process, token = script(runs, address)
    scheduler.kill()
    other, _ = dask_cluster()
    let_on(gate)
    assert resumed(other, token, journal=runs) == SUMS
    assert script.notes() == ONCE
    process.kill()


@pytest.mark.slow
def test_a_run_may_die_again_and_again(script, gate, runs, tmp_path):
    process, token = script(runs)
    process.kill()
    again = tmp_path / "again.py"
    again.write_text(
        "import sys, handout_dask as hd\n"
        "if __name__ == '__main__':\n"
        "    hd.resume(sys.argv[1]).wait()\n"
    )
    second = Process(again, token)
    gate.arrivals(1)
    second.kill()
    let_on(gate)
    assert resumed(None, token) == SUMS
    assert script.notes() == sorted([*ONCE, 6])


@pytest.mark.slow
def test_an_executor_goes_on_when_its_scheduler_was_started_again(
    runs, gate, dask_cluster, journal
):
    call = gate.call()
    graph = Graph(
        [
            Function("a", [], noted(journal, "a", 1)),
            Function("b", ["a"], lambda a: call("here") and a + 1),
        ]
    )
    address, scheduler = dask_cluster()
    with hd.Executor(address, journal=runs) as executor:
        run = executor.submit(graph)
        gate.arrivals(1)
        scheduler.kill()
        dask_cluster(address.rpartition(":")[2])
        with pytest.raises(HandoutError):
            run.wait(LIMIT)
        let_on(gate)
        again = executor.resume(run.token)
        assert again.wait(LIMIT)["b"] == 2
    assert journal.lines() == ["a"]


POISON = """
import os, sys
from multiprocessing.connection import Client
import handout_dask as hd

runs, notes, host, port = sys.argv[1:]

def poison():
    with open(notes, "a") as file:
        file.write("x")
    with open(notes) as file:
        if len(file.read()) == 3:
            with Client((host, int(port))) as connection:
                connection.send("here")
                connection.recv()
    os._exit(7)

if __name__ == "__main__":
    nodes = [hd.Node("n0", {"cpu": 1})]
    with hd.Executor(nodes=nodes, journal=runs) as executor:
        run = executor.submit(hd.Graph([hd.Function("poison", [], poison)]))
        print(run.token, flush=True)
        run.wait()
"""


@pytest.mark.slow
def test_what_crashes_its_nodes_has_no_more_lives_when_it_is_resumed(
    gate, runs, tmp_path
):
    path, notes = tmp_path / "client.py", tmp_path / "notes"
    path.write_text(POISON)
    address = gate.call().__closure__[0].cell_contents
    process = Process(path, runs, notes, *address)
    try:
        token = process.line()
        gate.arrivals(1)  # it has crashed twice, and runs again

        def told():
            said = b"".join(p.read_bytes() for p in log.iterdir())
            return said.count(b'"crashed"') >= 2

        log = Path(runs) / token / "log"
        pause = threading.Event()
        for _ in range(600):
            if told():
                break
            pause.wait(0.1)
    finally:
        process.kill()
    again = hd.resume(token, journal=runs)
    again.wait(LIMIT)
    with pytest.raises(FunctionError, match="crashed its node 3 times"):
        again["poison"]
    again.executor.close()
    assert len(notes.read_text()) == 4  # the third was not its fault

"""Workers are stopped, starved, cut off: who is given up, who is not, who returns."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

import handout_dask as hd
from benchmarks.breaking import work
from benchmarks.breaking.cluster import Real, Spec, send, until
from benchmarks.breaking.netns import PEERS, Hosts, why_not
from handout_dask import Function, Graph
from handout_dask.runtime.guarding import Guard
from handout_dask.runtime.nannying import EXIT, STATE
from handout_dask.runtime.records import NAME

pytestmark = pytest.mark.slow

LIMIT = 60.0
NAMES = ("n0", "n1", "n2")


@pytest.fixture(scope="module")
def cluster():
    with Real({name: Spec(threads=2) for name in NAMES}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def executor(cluster):
    with hd.Executor(cluster.client) as executor:
        _until_nannied(cluster, len(NAMES))
        yield executor


@pytest.fixture
def counts():
    counts = work.Counts()
    yield counts
    counts.remove()


@pytest.fixture(autouse=True)
def _revived(request):
    yield
    if "executor" in request.fixturenames:
        request.getfixturevalue("cluster").revive()


def _until_nannied(cluster, count):
    def has_it(dask_worker):
        return STATE in dask_worker.handlers

    def ready():
        found = cluster.client.run(has_it, nanny=True, on_error="ignore")
        return len(found) >= count and all(found.values())

    until(ready, LIMIT, "all nannies have the plugin")


def _steps(counts, names, seconds=0.0, **options):
    return [
        Function(k, [], work.step, extra_args=[counts.path, k, seconds], **options)
        for k in names
    ]


def _exits(cluster, since):
    """What nannies have told since then."""
    return [m for t, m in cluster.client.get_events(EXIT) if t >= since]


def _gone(cluster, pid):
    return not os.path.exists(f"/proc/{pid}") or _state(pid) == "Z"


def _state(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


# --------------------------------------------------------------- left as it was found
# The first: later there is an executor all the time.
def _own(dask_worker):
    import handout_dask.runtime.nannying as nannying

    names = ("_on_worker_exit", "_unregister", "instantiate", "kill", "close")
    ours = [n for n in (*names, "log_event") if n in vars(dask_worker)]
    ours += [op for op in dask_worker.handlers if op.startswith("handout")]
    gracefully = dask_worker.handlers["close_gracefully"].__self__
    return ours + ["gracefully"] * isinstance(gracefully, nannying.Nannying)


def test_the_last_executor_leaves_nannies_as_it_found_them(cluster):
    with hd.Executor(cluster.client):
        _until_nannied(cluster, len(NAMES))
        assert all(cluster.client.run(_own, nanny=True).values())
    until(
        lambda: not any(cluster.client.run(_own, nanny=True).values()),
        LIMIT, "nothing of ours is left",
    )  # fmt: skip
    plugins = cluster.client.run_on_scheduler(
        lambda dask_scheduler: [*dask_scheduler.nanny_plugins, *dask_scheduler.plugins]
    )
    assert not [name for name in plugins if "handout" in name]


# ------------------------------------------------------------------------ the nannies
def test_a_nanny_tells_how_its_worker_was_killed(cluster, executor):
    since = time.time()
    pid = cluster.kill("n1")
    told = until(lambda: _exits(cluster, since), LIMIT, "its nanny told")[0]
    assert {k: told[k] for k in ("name", "pid", "code", "memory", "asked")} == {
        "name": "n1", "pid": pid, "code": -signal.SIGKILL, "memory": None,
        "asked": False,
    }  # fmt: skip
    assert told["worker"].startswith("tcp://127.0.0.1:")


def test_a_nanny_tells_what_its_worker_said_last(cluster, executor, counts):
    since = time.time()
    client = cluster.client
    future = client.submit(work.poison, counts.path, "p", "exit", workers=["n2"])
    told = until(lambda: _exits(cluster, since), LIMIT, "its nanny told")[0]
    future.cancel()
    assert (told["name"], told["code"], told["asked"]) == ("n2", 7, False)
    assert "p is about to end this process" in told["stderr"]
    assert list(told["running"]) == [future.key]


def test_a_worker_that_is_told_to_end_is_said_to_be(cluster, executor):
    since = time.time()
    client = cluster.client
    workers = client.scheduler_info(n_workers=-1)["workers"].items()
    (address,) = [a for a, about in workers if about["name"] == "n0"]
    client.restart_workers([address])
    told = until(lambda: _exits(cluster, since), LIMIT, "its nanny told")[0]
    assert (told["name"], told["asked"]) == ("n0", True)


# ------------------------------------------------------------------- frozen and busy
def test_a_stopped_worker_is_given_up_and_another_begins(cluster, executor, counts):
    graph = Graph(_steps(counts, range(100), 0.1))
    run = executor.submit(graph)
    counts.until(5)
    began = time.time()
    pid = cluster.freeze("n0")
    run.wait(LIMIT)
    assert dict(run.results) == {k: work.value_of(k) for k in range(100)}
    until(lambda: _gone(cluster, pid), LIMIT, "the stopped process is ended")
    cluster.until_up()
    assert time.time() - began < 3 * 10


def test_a_stopped_node_is_given_up_and_returns_when_it_goes_on(
    cluster, executor, counts
):
    run = executor.submit(Graph(_steps(counts, range(100), 0.1)))
    counts.until(5)
    began = time.time()
    pid = cluster.freeze("n0", nanny=True)
    until(lambda: "n0" not in cluster.names(), LIMIT, "it is given up")
    assert time.time() - began < 3 * 4
    run.wait(LIMIT)
    assert dict(run.results) == {k: work.value_of(k) for k in range(100)}
    cluster.thaw("n0", pid)
    assert cluster.until_up() < 3 * 10
    assert _gone(cluster, pid)


@pytest.mark.slow
def test_a_worker_that_holds_the_gil_is_kept(cluster, executor, counts):
    pids = {name: cluster.worker(name) for name in NAMES}
    functions = [
        Function("gil", [], work.hold_gil, extra_args=[counts.path, "gil", 8]),
        *_steps(counts, range(60), 0.05),
    ]
    run = executor.execute(Graph(functions))
    assert run["gil"] == work.value_of("gil")
    assert set(counts.starts().values()) == {1}
    assert pids == {name: cluster.worker(name) for name in NAMES}


@pytest.mark.slow
def test_on_a_busy_host_nobody_is_given_up(cluster, executor, counts):
    pids = {name: cluster.worker(name) for name in NAMES}
    burn = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(burn) for _ in range(6)]
    try:
        run = executor.execute(Graph(_steps(counts, range(200), 0.2)))
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert len(run.results) == 200
    assert set(counts.starts().values()) == {1}
    assert pids == {name: cluster.worker(name) for name in NAMES}


@pytest.mark.slow
def test_a_scheduler_that_was_stopped_gives_nobody_up(cluster, executor, counts):
    pids = {name: cluster.worker(name) for name in NAMES}
    run = executor.submit(Graph(_steps(counts, range(40), 0.2)))
    counts.until(5)
    send(cluster.scheduler.pid, signal.SIGSTOP)
    timer = threading.Timer(8.0, send, [cluster.scheduler.pid, signal.SIGCONT])
    timer.start()
    timer.join()
    run.wait(LIMIT)
    assert dict(run.results) == {k: work.value_of(k) for k in range(40)}
    assert set(counts.starts().values()) == {1}
    assert pids == {name: cluster.worker(name) for name in NAMES}


@pytest.mark.slow
def test_a_function_that_never_lets_go_of_the_gil_is_charged_with_it(counts, caught):
    config = {"handout.liveness.busy": 6}
    functions = [
        Function("hangs", [], work.for_ever_in_c, extra_args=[counts.path, "hangs"]),
        *_steps(counts, range(3)),
    ]
    with (
        Real({"n0": Spec(), "n1": Spec()}, config=config) as cluster,
        hd.Executor(cluster.client) as executor,
    ):
        _until_nannied(cluster, 2)
        run = executor.submit(Graph(functions))
        run.wait(2 * LIMIT)
        error = caught(hd.FunctionCrashedError, lambda: run["hangs"])
        assert "let nothing else run" in str(error)
        assert counts.starts()["hangs"] <= 3
        assert [run[k] for k in range(3)] == [work.value_of(k) for k in range(3)]


# ------------------------------------------------------------------------- partitions
@pytest.fixture(scope="module")
def hosts():
    if why_not():
        pytest.skip(why_not())
    with Hosts(["w1", "w2"]) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def network(hosts):
    specs = {"n0": Spec(), "n1": Spec(host="w1"), "n2": Spec(host="w2")}
    with Real(specs, hosts) as network:
        yield network


@pytest.fixture
def remote(network):
    with hd.Executor(network.client) as executor:
        _until_nannied(network, 3)
        yield executor
        network.revive()


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    ["both", *(pytest.param(how, marks=pytest.mark.stress) for how in ("out", "in"))],
)
def test_who_is_cut_off_is_given_up_and_returns_when_healed(
    remote, network, hosts, counts, how
):
    pid = network.worker("n1")
    run = remote.submit(Graph(_steps(counts, range(100), 0.1)))
    counts.until(5)
    began = time.time()
    hosts.cut("w1", how)
    run.wait(LIMIT)
    assert time.time() - began < 3 * 12
    assert dict(run.results) == {k: work.value_of(k) for k in range(100)}
    hosts.heal("w1")
    assert network.until_up() < 3 * 10
    assert _gone(network, pid)


@pytest.mark.stress
def test_who_was_cut_off_for_longer_than_tcp_waits_returns(
    remote, network, hosts, counts
):
    hosts.cut("w1")
    until(lambda: "n1" not in network.names(), LIMIT, "it is given up")
    heal = threading.Timer(45.0, hosts.heal, ["w1"])
    heal.start()
    heal.join()
    assert network.until_up() < 3 * 10
    run = remote.execute(Graph(_steps(counts, range(20), 0.01)))
    assert dict(run.results) == {k: work.value_of(k) for k in range(20)}


@pytest.mark.slow
def test_late_results_of_who_was_cut_off_are_ignored(remote, network, hosts, counts):
    def stamp(path, name, seconds):
        work.step(path, name, seconds)
        return os.getpid(), hd.attempt()

    functions = [
        Function(k, [], stamp, extra_args=[counts.path, k, 5.0]) for k in range(3)
    ]
    run = remote.submit(Graph(functions))
    counts.until(3)
    pid = network.worker("n1")
    hosts.cut("w1")
    until(lambda: "n1" not in network.names(), LIMIT, "it is given up")
    hosts.heal("w1")
    run.wait(LIMIT)
    pids = {run[k][0] for k in range(3)}
    assert pid not in pids
    assert sorted(run[k][1] for k in range(3)) == [1, 1, 2]


@pytest.mark.slow
def test_nodes_that_do_not_reach_each_other_leave_one_out(
    remote, network, hosts, counts, until
):
    hosts.cut("w1", PEERS)
    run = remote.submit(work.shuffle(counts.path))
    run.wait(2 * LIMIT)
    assert run[work.SUM] == work.shuffled()
    hosts.heal("w1")
    network.until_up()
    until(
        network.client,
        lambda s: not s.plugins["handout"].guard._parting._out,
    )
    run = remote.execute(work.shuffle(counts.path))
    assert run[work.SUM] == work.shuffled()


@pytest.mark.slow
def test_pins_on_nodes_that_do_not_reach_each_other_are_an_error(remote, hosts, caught):
    hosts.cut("w1", PEERS)
    graph = Graph(
        [
            Function("a", [], lambda: 1, node="n1"),
            Function("b", ["a"], lambda a: a, node="n2"),
            Function("c", [], lambda: 2),
        ]
    )
    run = remote.submit(graph)
    run.wait(2 * LIMIT)
    error = caught(hd.NodeLostError, lambda: run["b"])
    assert "n1" in str(error)
    assert "n2" in str(error)
    assert run["c"] == 2


# ------------------------------------------------------------ what can't be delivered
def test_a_task_of_dask_that_needs_what_can_not_be_pickled_fails(cluster, executor):
    client = cluster.client
    nodes = [hd.Node("n0", {"lens": 1}), hd.Node("n1", {"ear": 1})]
    with hd.install(client, nodes=nodes):
        with hd.cost(lens=1):
            lock = client.submit(threading.Lock, pure=False)
        until(lambda: lock.status == "finished", LIMIT, "the lock is made")
        with hd.cost(ear=1):
            other = client.submit(str, lock, pure=False)
        with pytest.raises(Exception, match="cannot pickle"):
            other.result(timeout=LIMIT)


def test_workers_that_were_there_are_fresh_until_they_have_loaded_what_watches_them():
    """Each tells so with its heartbeats; and all have when putting it is over."""
    heard, loaded, put = [], [], Future()
    detector = SimpleNamespace(
        heard=lambda *x: heard.append(x), look=lambda *x: [],
        loaded=lambda: loaded.append(len(heard)),
    )  # fmt: skip
    told = {"a": {}, "b": {NAME: {}}, "late": {}}
    guard = object.__new__(Guard)
    guard._seen, guard._detector, guard._before = {}, detector, {"a", "b"}
    guard._parting = SimpleNamespace(look=lambda now: None)
    observer = SimpleNamespace(is_loaded=False)
    guard._host, guard._put = SimpleNamespace(observer=observer), put
    workers = {
        who: SimpleNamespace(last_seen=1.0, nanny="there", metrics=metrics)
        for who, metrics in told.items()
    }
    guard._scheduler = SimpleNamespace(workers=workers)

    def fresh():
        heard.clear()
        guard._look()
        for ws in workers.values():
            ws.last_seen += 1.0
        return {who for who, _, is_fresh in heard if is_fresh}

    assert fresh() == {"a"}
    observer.is_loaded = True
    assert fresh() == {"a"}  # nannies load it, too
    put.set_result(True)
    assert not loaded
    assert fresh() == set()
    assert loaded == [0]


def test_workers_stay_fresh_if_one_can_not_be_reached():
    guard = object.__new__(Guard)
    detector = SimpleNamespace(look=lambda *x: [])
    guard._seen, guard._detector, guard._before = {}, detector, {"a"}
    guard._parting = SimpleNamespace(look=lambda now: None)
    guard._scheduler, guard._put = SimpleNamespace(workers={}), Future()
    guard._host = SimpleNamespace(observer=SimpleNamespace(is_loaded=True))
    guard._put.set_result(False)
    guard._look()
    assert guard._before == {"a"}

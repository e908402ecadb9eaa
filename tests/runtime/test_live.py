"""Plans meet reality: runs that are planned again, that compete, that nobody watches.

Functions sleep for what they take, so nodes are as fast as they say they are. Nothing
else is waited for by sleeping.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import textwrap
import time

import cloudpickle
import dask
import pytest
from distributed import Client, LocalCluster, get_worker

import handout_dask as hd
from handout_dask import Function, Graph
from handout_dask.books import READY, WAITING

pytestmark = pytest.mark.timeout(120)

LIMIT = 60  # s after which a test calls it a hang
PAIR = [hd.Node(name, {"cpu": 1}) for name in "01"]


def here():
    return str(get_worker().name)


def nap(seconds, *args):
    """Sleep, so many seconds or by node; returns where."""
    if isinstance(seconds, dict):
        seconds = seconds[here()]
    time.sleep(seconds)
    return here()


def flat(count, seconds, believed=None, **more):
    """Functions that don't depend on each other, and what they are believed to take."""
    believed = seconds if believed is None else believed
    cost = {"cpu_time": 1000 * believed} if believed else None
    more = {"cost": cost, "name": "nap"} | more
    return Graph(
        Function(k, [], lambda seconds: nap(seconds), extra_args=[seconds], **more)
        for k in range(count)
    )


@pytest.fixture(scope="module")
def cluster():
    """Two single slots in this process, that check Dask's invariants throughout."""
    checks = {
        "distributed.scheduler.validate": True,
        "distributed.worker.validate": True,
    }
    with (
        dask.config.set(checks),
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0",
            scheduler_port=0, protocol="tcp", host="127.0.0.1",
        ) as cluster,
    ):  # fmt: skip
        assert cluster.scheduler.validate
        yield cluster
        cluster.scheduler.validate_state()


@pytest.fixture
def client(cluster):
    with Client(cluster, set_as_default=False) as client:
        yield client
        assert client.run_on_scheduler(_unused) == []


async def _unused(dask_scheduler):
    """Wait until the plugin is gone; what of ours is on the scheduler for all that."""
    gone, remove = asyncio.Event(), dask_scheduler.remove_plugin

    def removed(*args, **kwargs):
        remove(*args, **kwargs)
        if args == ("handout",):  # the last of ours
            gone.set()

    dask_scheduler.remove_plugin = removed
    try:
        if "handout" in dask_scheduler.plugins:
            await asyncio.wait_for(gone.wait(), 20)
    finally:
        del dask_scheduler.remove_plugin
    left = [*dask_scheduler.plugins, *dask_scheduler.handlers, *dask_scheduler.clients]
    return [name for name in left if name.startswith("handout")]


@pytest.fixture
def executor(client):
    with hd.Executor(client, nodes=PAIR) as executor:
        yield executor


def counts(run):
    """How many functions ran on each node, by their own word."""
    names = list(run.results.values())
    return {name: names.count(name) for name in sorted(set(names))}


def moves(run):
    return sum(moved for *_, moved in run.replans)


# ------------------------------------------------------------------ as it really goes
def test_a_calm_run_is_left_alone(executor):
    run = executor.execute(flat(8, 0.25))
    assert moves(run) == 0
    assert {s.function: s.node for s in run.spans} == {
        p.function: p.node for p in run.plan
    }


@pytest.mark.slow  # alone on the machine: it is about how long functions take
def test_a_function_that_takes_much_longer_moves_those_behind_it(executor):
    graph = flat(10, 0.1)
    slow = Function(
        "slow", [], lambda: nap(1.2), name="slow", cost={"cpu_time": 100}, node="0"
    )
    run = executor.execute(Graph([slow, *(graph[k] for k in range(10))]))
    assert {p.function for p in run.plan.on("0")} > {"slow"}
    assert moves(run) > 0
    assert counts(run) in ({"0": 1, "1": 10}, {"0": 2, "1": 9})
    assert run.makespan < 1.6  # 1.2 + 4 or 5 that waited: 1.7 or 1.8
    when, why, makespan, moved = next(x for x in run.replans if x[3])
    assert 0 < when < 1.2
    assert "late" in why
    assert makespan > 0.6
    assert moved <= 5
    assert all(a[0] <= b[0] for a, b in zip(run.replans, run.replans[1:], strict=False))


def test_a_run_that_may_not_adapt_keeps_to_its_plan(client):
    slow = {"0": 0.3, "1": 0.05}
    with hd.Executor(client, nodes=PAIR, adaptive=False) as executor:
        run = executor.execute(flat(10, slow, believed=0.05))
    assert run.replans == []
    assert {s.function: s.node for s in run.spans} == {
        p.function: p.node for p in run.plan
    }
    assert run.makespan > 5 * 0.3


@pytest.mark.slow  # alone on the machine: it is about how long functions take
def test_a_node_that_is_slower_than_declared_gets_less_work(executor):
    graph = flat(40, {"0": 0.2, "1": 0.05}, believed=0.05)
    run = executor.execute(graph)
    planned = {name: len(run.plan.on(name)) for name in "01"}
    assert planned == {"0": 20, "1": 20}
    done = counts(run)
    assert done["0"] <= 12  # 8 would be right from the start
    assert moves(run) >= 8
    assert run.makespan < 2.9  # 20 x 0.2 by plan; 1.65 with that knowledge


def test_a_node_that_joins_gets_work_of_the_run_that_is_under_way(
    cluster, executor, gate, until
):
    call = gate.call()

    def code(k):
        if k == "gate":
            call("gate")
        return nap(0.1)

    functions = [
        Function(k, [], code, extra_args=[k], name="nap", cost={"cpu_time": 100})
        for k in ["gate", *range(20)]
    ]
    run = executor.submit(Graph(functions))
    try:
        gate.arrivals(1)
        assert {p.node for p in run.plan} == {"0", "1"}
        cluster.scale(3)
        until(executor.client, lambda s: len(s.workers) == 3)
        gate.let()
        run.wait(LIMIT)
        assert counts(run)["2"] >= 3
        assert any("node 2 joined" in why for _, why, *_ in run.replans)
        assert run.report().nodes[-1].node == "2"
    finally:
        run.release()
        cluster.scale(2)
        until(executor.client, lambda s: len(s.workers) == 2)


# ------------------------------------------------------------------- what was learned
TAKES = {"a": 0.1, "b": 0.25, "c": 0.45}


def undeclared():
    """Functions of one name that nothing is declared of, and take what they take."""
    functions = [
        Function(id, [], lambda seconds: nap(seconds), extra_args=[seconds], name="nap")
        for id, seconds in TAKES.items()
    ]
    return Graph([*functions, Function("end", [*TAKES], lambda *x: len(x))])


@pytest.mark.slow  # alone on the machine: it is about how long functions take
def test_the_second_plan_of_a_graph_knows_what_functions_take(executor):
    first = executor.plan(undeclared())
    assert first.guessed.all()
    assert {first[id].end - first[id].start for id in TAKES} == {1.0}
    executor.execute(undeclared()).release()
    second = executor.plan(undeclared())
    assert not second.guessed.any()
    took = {id: second[id].end - second[id].start for id in TAKES}
    assert took == pytest.approx(TAKES, rel=0.25)
    run = executor.execute(undeclared())
    assert run["end"] == 3
    assert run.makespan == pytest.approx(second.makespan, rel=0.25)
    assert run.where("c") not in (run.where("a"), run.where("b"))


def test_the_second_plan_knows_how_large_results_are(executor):
    def graph():
        big = Function("big", [], lambda: (bytes(4_000_000), bytes(4_000_000)))
        readers = [
            Function(k, [("big", k)], lambda x: len(x), cost={"cpu_time": 10})
            for k in range(2)
        ]
        return Graph([big, *readers, Function("all", ["big"], lambda x: len(x))])

    first = executor.plan(graph()).problem
    assert first.pred_mb.tolist() == [0.0, 0.0, 0.0]
    run = executor.execute(graph())
    assert [run[0], run[1], run["all"]] == [4_000_000, 4_000_000, 2]
    second = executor.plan(graph()).problem
    where = second.where
    mb = [second.size(where["big"], where[v]) for v in (0, 1, "all")]
    assert mb == pytest.approx([4.0, 4.0, 8.0], rel=0.01)


def test_what_all_functions_of_a_name_take_is_learned_of_those_that_are_declared(
    executor,
):
    executor.execute(flat(12, 0.09, believed=0.03, name="mistaken")).release()
    graph = flat(12, 0.09, believed=0.06, name="mistaken")
    plan = executor.plan(graph)
    seconds = [p.end - p.start for p in plan]
    assert min(seconds) > 0.1  # believed as declared it were 0.06; it is to be 0.18


# ------------------------------------------------------------------------- the report
def test_the_report_tells_plan_and_reality(executor, tmp_path):
    run = executor.execute(flat(6, 0.1, believed=0.05))
    report = run.report(tmp_path / "report.json")
    assert report[0].duration >= 0.09
    assert report[0].planned_duration == pytest.approx(0.05, abs=0.03)
    assert report.makespan == run.makespan
    assert report.planned_makespan == run.plan.makespan
    assert (report.done, report.failures, len(report)) == (6, 0, 6)
    assert [x[:2] for x in run.replans] == list(report.replans)
    lines = str(report).splitlines()
    assert lines[0].startswith(f"makespan {run.makespan:.6g} s, planned ")
    assert lines[1].startswith("6 of 6 functions done, ")
    assert lines[1].endswith(f", {len(run.replans)} replans")
    told = json.loads((tmp_path / "report.json").read_text())
    assert told == json.loads(json.dumps(report.as_dict()))
    assert told["makespan"] == run.makespan
    assert {row["function"] for row in told["functions"]} == {*range(6)}
    run.report(str(tmp_path / "report.txt"))
    assert (tmp_path / "report.txt").read_text() == str(report) + "\n"


def test_a_report_of_a_run_under_way_leaves_out_what_has_not_ended(executor, gate):
    call = gate.call()
    graph = Graph(
        [Function(0, [], lambda: 1), Function(1, [0], lambda x: call("later"))]
    )
    run = executor.submit(graph)
    gate.arrivals(1)
    with pytest.raises(TimeoutError):
        run.wait(0.5)
    report = run.report()
    assert (report.done, report[1].duration) == (1, None)
    gate.let()
    run.wait(LIMIT)
    assert run.report().done == 2


# --------------------------------------------------------------------------- deadlines
MARKET = hd.Cluster(
    [hd.Node("0", {"cpu": 1}, price=1), hd.Node("1", {"cpu": 1}, speed=4, price=40)]
)


@pytest.mark.slow  # alone on the machine: it is about how long functions take
@pytest.mark.parametrize(("slower", "nodes"), [(1, {"0"}), (3, {"0", "1"})])
def test_a_deadline_is_kept_and_the_dear_node_is_used_only_for_that(
    client, slower, nodes
):
    """Six of 0.3 s on the cheap node; three times slower they are 5.4 s there."""
    deadline = 4.0
    cost = hd.allocator("cost", deadline=deadline, time_budget=0.1)
    takes = {"0": 0.3 * slower, "1": 0.075 * slower}
    with hd.Executor(client, nodes=MARKET, allocator=cost) as executor:
        run = executor.execute(flat(6, takes, believed=0.3))
        assert {p.node for p in run.plan} == {"0"}
        assert {*counts(run)} == nodes
        assert run.makespan <= deadline
        assert counts(run)["0"] >= 3  # as much as it can do
        money = sum((s.end - s.start) * MARKET[s.node].price / 3600 for s in run.spans)
        assert run.report().money == pytest.approx(money)


# -------------------------------------------------------------------- sharing a cluster
def blocked(call):
    """A function that holds node 0 until the test lets it on."""
    return Graph(
        [Function("gate", [], lambda: call("gate"), node="0", cost={"cpu_time": 20000})]
    )


def pinned(journal, name, count, seconds=0.01):
    def code():
        journal(name)
        time.sleep(seconds)

    cost = {"cpu_time": 1000 * seconds}
    return Graph(
        Function((name, k), [], code, node="0", cost=cost) for k in range(count)
    )


def let_on(gate, until, client, first, runs):
    """Open the gate when all that waits behind it is ready; wait for all runs."""
    tokens = [run.token for run in runs]
    until(client, lambda s: all(
        READY in book.state and WAITING not in book.state
        for token in tokens
        for book in [s.plugins["handout"].runs[token].book]))  # fmt: skip
    gate.let()
    for run in (first, *runs):
        run.wait(LIMIT)


def test_a_later_run_of_higher_priority_goes_first(executor, gate, journal, until):
    first = executor.submit(blocked(gate.call()))
    gate.arrivals(1)
    runs = [
        executor.submit(pinned(journal, "low", 4), priority=-1),
        executor.submit(pinned(journal, "usual", 4)),
        executor.submit(pinned(journal, "high", 4), priority=2),
    ]
    let_on(gate, until, executor.client, first, runs)
    assert journal.lines() == ["high"] * 4 + ["usual"] * 4 + ["low"] * 4


def test_equal_runs_share_a_node_by_weight(executor, gate, journal, until):
    first = executor.submit(blocked(gate.call()))
    gate.arrivals(1)
    runs = [
        executor.submit(pinned(journal, "light", 24, 0.03)),
        executor.submit(pinned(journal, "heavy", 24, 0.03), weight=3),
    ]
    let_on(gate, until, executor.client, first, runs)
    begin = journal.lines()[:16]
    assert begin.count("heavy") == pytest.approx(12, abs=2)


@pytest.mark.parametrize(
    "turn",
    [
        {"priority": 1.5}, {"priority": True}, {"priority": "high"}, {"weight": 0},
        {"weight": -1}, {"weight": float("inf")}, {"weight": float("nan")},
        {"weight": "2"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("how", ["submit", "execute"])
def test_priorities_and_weights_that_make_no_sense_are_refused(executor, turn, how):
    ((what, value),) = turn.items()
    with pytest.raises(hd.HandoutError, match=f"{what}={value!r} must be a"):
        getattr(executor, how)(flat(1, 0.0), **turn)
    assert executor.runs() == []


def test_the_runs_of_a_cluster_can_be_listed(client, executor, gate):
    call = gate.call()
    graph = Graph(
        [
            Function("a", [], lambda: 1),
            Function("bad", [], lambda: 1 / 0),
            Function("b", ["a"], lambda x: call("b")),
            Function("c", ["bad"], lambda x: x),
        ]
    )
    with hd.Executor(client) as other:
        run = executor.submit(graph)
        gate.arrivals(1)
        with pytest.raises(ZeroDivisionError):
            _ = run["bad"]
        row = {"token": run.token, "detached": False, "total": 4}
        assert other.runs() == executor.runs()
        (told,) = other.runs()
        assert told == row | {"done": 1, "failed": 2, "ended": 3}
        gate.let()
        run.wait(LIMIT)
        assert other.runs() == [row | {"done": 2, "failed": 2, "ended": 4}]


# ----------------------------------------------------------------------- detached runs
def chain(call):
    """The second waits at the gate; the last reads an element of it."""
    return Graph(
        [
            Function("a", [], lambda: (time.sleep(0.05), 1)[1], cost={"cpu_time": 50}),
            Function("b", ["a"], lambda a: (call("b"), a + 1)),
            Function("c", [("b", 1)], lambda b: 10 * b),
        ]
    )


RESULTS = {"a": 1, "b": ("b", 2), "c": 20}


def check_attached(run):
    run.wait(LIMIT)
    assert run.detached
    assert dict(run.results) == RESULTS
    assert (run.status, run.progress) == ("done", (3, 0, 3))
    assert [(s.function, s.attempt, s.outcome) for s in run.spans] == [
        (id, 1, "done") for id in "abc"
    ]
    assert run.report()["a"].duration >= 0.04
    assert run.report().done == 3
    assert run.where("c") in "01"


@pytest.mark.parametrize("when", ["running", "ended"])
def test_a_detached_run_goes_on_without_its_executor(client, gate, until, when):
    with hd.Executor(client, nodes=PAIR) as executor:
        token = executor.submit(chain(gate.call()), detached=True).token
        gate.arrivals(1)
    assert "handout" in client.run_on_scheduler(lambda dask_scheduler: [
        *dask_scheduler.plugins])  # fmt: skip
    if when == "ended":
        gate.let()
        until(client, lambda s: not s.plugins["handout"].runs[token].book.left)
    with hd.Executor(client) as other:
        (row,) = other.runs()
        ended = 3 if when == "ended" else 1
        assert (row["token"], row["detached"]) == (token, True)
        assert (row["done"], row["ended"], row["total"]) == (ended, ended, 3)
        run = other.attach(token)
        if when == "running":
            gate.let()
        check_attached(run)
        run.release()
        until(client, lambda s: token not in s.plugins["handout"].runs)
        assert other.runs() == []
        with pytest.raises(hd.HandoutError, match="knows no detached run"):
            other.attach(token)


def test_a_detached_run_outlives_the_process_that_submitted_it(
    cluster, client, gate, until
):
    script = textwrap.dedent("""
        import os, sys, cloudpickle
        import handout_dask as hd
        with open(sys.argv[2], "rb") as file:
            graph = cloudpickle.load(file)
        executor = hd.Executor(sys.argv[1])
        first = executor.submit(graph, detached=True)
        other = executor.submit(hd.Graph([graph["a"]]))  # this one goes with it
        sys.stdin.read()
        os._exit(1)
    """)
    path = f"{os.environ.get('TMPDIR', '/tmp')}/graph-{os.getpid()}-{id(gate)}"
    with open(path, "wb") as file:
        cloudpickle.dump(chain(gate.call()), file)
    process = subprocess.Popen(
        [sys.executable, "-c", script, cluster.scheduler_address, path],
        stdin=subprocess.PIPE,
    )
    try:
        gate.arrivals(1)
        until(client, lambda s: len(s.plugins["handout"].runs) == 2)
        process.kill()
        process.wait(LIMIT)
        until(client, lambda s: not s.plugins["handout"].owners)
        until(client, lambda s: len(s.plugins["handout"].runs) == 1)
        gate.let()
        with hd.Executor(client) as other:
            (row,) = other.runs()
            run = other.attach(row["token"])
            check_attached(run)
            run.release()
    finally:
        process.kill()
        process.wait(LIMIT)
        os.unlink(path)


def test_the_last_release_takes_the_plugin_along(client, gate, until):
    """Nobody but the run was left; the executor that attached to it is gone by then."""
    with hd.Executor(client) as executor:
        run = executor.submit(chain(gate.call()), detached=True)
        token = run.token
        gate.arrivals(1)
    gate.let()
    until(client, lambda s: not s.plugins["handout"].runs[token].book.left)
    run.release()  # its client is still there
    assert client.run_on_scheduler(_unused) == []


def test_results_of_a_detached_run_stay_until_it_is_released(client, gate, until):
    with hd.Executor(client) as executor:
        run = executor.submit(chain(gate.call()), keep="sinks", detached=True)
        gate.arrivals(1)
        gate.let()
    token = run.token
    del run
    until(client, lambda s: not s.plugins["handout"].runs[token].book.left)

    def kept(dask_scheduler):
        return sorted(
            key[1] for key, task in dask_scheduler.tasks.items()
            if token in key[0] and task.state == "memory" and "cut" not in key[0]
        )  # fmt: skip

    assert client.run_on_scheduler(kept) == [2]
    with hd.Executor(client) as other:
        run = other.attach(token)
        assert run.wait(LIMIT)["c"] == 20
        with pytest.raises(hd.ResultReleasedError):
            _ = run["a"]
        run.release()
        until(client, lambda s: not any(token in key[0] for key in s.tasks))


def test_a_detached_run_that_failed_tells_so_to_whom_attaches(client, until):
    with hd.Executor(client) as executor:
        graph = Graph(
            [Function("bad", [], lambda: 1 / 0), Function("b", ["bad"], lambda x: x)]
        )
        token = executor.submit(graph, detached=True).token
    until(client, lambda s: not s.plugins["handout"].runs[token].book.left)
    with hd.Executor(client) as other:
        run = other.attach(token)
        run.wait(LIMIT)
        with pytest.raises(ZeroDivisionError) as caught:
            _ = run["bad"]
        assert caught.value.handout[0] == "bad"
        with pytest.raises(hd.FunctionError):
            _ = run["b"]
        assert (run.status, run.progress) == ("failed", (0, 2, 2))
        run.release()


def test_who_attaches_may_cancel(client, gate, until):
    with hd.Executor(client) as executor:
        token = executor.submit(chain(gate.call()), detached=True).token
        gate.arrivals(1)
    with hd.Executor(client) as other:
        run = other.attach(token)
        run.cancel()
        run.wait(LIMIT)
        assert run.status == "cancelled"
        with pytest.raises(hd.RunCancelledError):
            _ = run["c"]
        gate.let()
        run.release()


def test_a_run_that_is_not_known_or_not_detached_cannot_be_attached(
    executor, client, gate
):
    with pytest.raises(hd.HandoutError, match=r"detached run '0nope'; it knows none"):
        executor.attach("0nope")
    usual = executor.submit(blocked(gate.call()))
    gate.arrivals(1)
    kept = executor.submit(flat(1, 0.0), detached=True)
    with pytest.raises(hd.HandoutError, match=f"it knows {kept.token}"):
        executor.attach(usual.token)
    gate.let()
    usual.wait(LIMIT)
    kept.wait(LIMIT)
    kept.release()


def test_a_run_that_is_not_detached_ends_with_its_executor(client, gate, until):
    with hd.Executor(client) as executor, hd.Executor(client) as other:
        run = executor.submit(chain(gate.call()))
        gate.arrivals(1)
        executor.close()
        assert other.runs() == []
        until(client, lambda s, token=run.token: not any(
            token in key[0] and task.state == "processing"
            for key, task in s.tasks.items()))  # fmt: skip
        gate.let()
        with pytest.raises(hd.HandoutError):
            other.attach(run.token)
    assert run.status == "cancelled"
    del run


def test_an_embedded_cluster_takes_no_detached_run():
    with (
        hd.Executor(nodes=[hd.Node("n0", {"cpu": 1})]) as executor,
        pytest.raises(hd.HandoutError, match="a cluster that outlives this executor"),
    ):
        executor.submit(flat(1, 0.0), detached=True)


# ----------------------------------------------------------------------------- results
def test_of_a_large_result_only_an_element_follows_readers_that_move(client):
    """They were to run beside it, on a node that turns out to be slow."""
    size = {0: 8.0, 1: 0.001}

    def big():
        return bytes(8_000_000), b"x" * 1000

    def reader(x):
        return nap({"0": 0.2, "1": 0.05}), x

    graph = Graph(
        [
            Function(
                "big", [], big, node="0", cost={"cpu_time": 50, "output_size": size}
            ),
            *(
                Function(k, [("big", 1)], reader, cost={"cpu_time": 50})
                for k in range(30)
            ),
        ]
    )

    def holders(dask_scheduler, token, i):
        return [
            str(ws.name)
            for key, task in dask_scheduler.tasks.items()
            if token in key[0] and not key[0].startswith("cut") and key[1] == i
            for ws in task.who_has
        ]

    with hd.Executor(client, nodes=PAIR) as executor:
        run = executor.execute(graph)
        assert {run[k][1] for k in range(30)} == {b"x" * 1000}
        leaving = [
            k for k in range(30) if (run.plan[k].node, run.where(k)) == ("0", "1")
        ]
        assert len(leaving) >= 3
        i = run.plan.problem.where["big"]
        assert client.run_on_scheduler(holders, token=run.token, i=i) == ["0"]


def layered(rng, wild):
    """A random graph that takes other times than it declares, and what comes of it."""
    functions, values = [], {}
    for k in range(60):
        reads = rng.sample(range(k), min(k, rng.randint(0, 3)))
        args = [rng.choice([u, (u, 0), (u, 1)]) for u in reads]
        seconds = rng.choice([0.0, 0.001, 0.005, 0.02]) * wild

        def code(*xs, k=k, seconds=seconds):
            time.sleep(seconds)
            return k, (k, xs)

        cost = {"cpu_time": rng.choice([1, 3, 10, 30]), "output_size": {0: 0, 1: 0.001}}
        node = rng.choice([None, None, None, "0"])
        functions.append(Function(k, args, code, cost=cost, node=node, name="code"))
        xs = [
            values[a] if not isinstance(a, tuple) else values[a[0]][a[1]] for a in args
        ]
        values[k] = k, (k, tuple(xs))
    rng.shuffle(functions)
    return Graph(functions), values


@pytest.mark.parametrize("seed", range(3))
def test_results_are_exact_whatever_functions_take(executor, seed):
    rng = random.Random(seed)
    graphs = [layered(rng, wild=2) for _ in range(2)]
    runs = [executor.submit(graph) for graph, _ in graphs]
    for run, (_, values) in zip(runs, graphs, strict=True):
        assert dict(run.wait(LIMIT).results) == values
        assert sorted(s.function for s in run.spans) == list(range(60))
    assert any(run.replans for run in runs)

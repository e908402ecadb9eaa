"""Nodes start when a plan needs them, and end when none does."""

import asyncio
import os
import random
import signal
import time

import pytest
from distributed import Client, LocalCluster, Nanny, Scheduler, SpecCluster

import handout_dask as hd
from handout_dask.errors import NodeLostError

pytestmark = pytest.mark.timeout(90)

CHEAP = hd.Node("cheap", {"cpu": 1}, price=1)
DEAR = [hd.Node(f"dear{k}", {"cpu": 1}, speed=4, price=20) for k in range(2)]
NODES = hd.Cluster([*DEAR, CHEAP], billing="held")
QUICK = hd.Elastic(idle=0.5)
HOST = {"host": "127.0.0.1", "dashboard_address": ":0", "port": 0}


def where(*args):
    from distributed import get_worker

    return str(get_worker().name)


def nap(seconds, *args):
    time.sleep(seconds)
    return where()


def flat(count, seconds, believed=None, **more):
    cost = {"cpu_time": 1000 * (seconds if believed is None else believed)}
    return hd.Graph(
        [
            hd.Function(k, [], nap, extra_args=[seconds], cost=cost, name="nap", **more)
            for k in range(count)
        ]
    )


def up(*names):
    """A condition: exactly these nodes are there."""

    def holds(scheduler, names=frozenset(names)):
        return {str(ws.name) for ws in scheduler.workers.values()} == names

    return holds


def cheapest(deadline):
    return hd.allocator("cost", deadline=deadline, time_budget=0.1)


def held(run):
    return {hold.node for hold in run.holds}


def put(*names, **more):
    """A cluster of the user's, with these workers."""
    spec = {"cls": Nanny, "options": {"nthreads": 1, "host": "127.0.0.1"}}
    return SpecCluster(
        workers=dict.fromkeys(names, spec),
        scheduler={"cls": Scheduler, "options": HOST},
        **more,
    )


def test_dear_nodes_are_never_started_under_a_lax_deadline():
    with hd.Executor(nodes=NODES, allocator=cheapest(60), elastic=True) as executor:
        assert [node.name for node in executor.nodes().nodes] == ["cheap"]
        run = executor.execute(flat(4, 0.2))
        assert {run[k] for k in range(4)} == {"cheap"}
        assert held(run) == {"cheap"}
        report = run.report()
        assert report.money == report.held_money
        assert report.money > report.planned_money / 2
        assert report.money < report.whole_money / 20
        assert "all held all the time" in str(report)
        assert report.as_dict()["holds"][0]["node"] == "cheap"


@pytest.mark.slow  # alone on the machine: it is about how long functions take
def test_dear_nodes_come_when_functions_take_longer_and_the_deadline_is_kept(until):
    graph = hd.Graph(
        [
            hd.Function(k, [], slow_where_cheap, extra_args=[1.0], name="nap",
                        cost={"cpu_time": 250})
            for k in range(14)
        ]
    )  # fmt: skip
    with hd.Executor(nodes=NODES, allocator=cheapest(11), elastic=QUICK) as executor:
        run = executor.execute(graph)
        assert {row.node for row in run.plan} == {"cheap"}
        assert run.makespan <= 12.5  # 14 on the cheap one alone; 11 asked
        assert held(run) > {"cheap"}
        assert {run[k] for k in range(14)} > {"cheap"}
        until(executor.client, up("cheap"))
        assert {run[k] for k in range(14)} > {"cheap"}  # what the dear ones made
        assert run.report().money < run.report().whole_money


def slow_where_cheap(seconds):
    """As on nodes of the declared speeds."""
    time.sleep(seconds if where() == "cheap" else seconds / 4)
    return where()


def test_results_outlive_the_nodes_that_made_them(until, journal):
    names = [node.name for node in NODES.nodes]

    def told(*args):
        journal(where())
        return where()

    with hd.Executor(nodes=NODES, elastic=QUICK) as executor:
        graph = hd.Graph(
            [
                hd.Function(name, [], told, node=name, cost={"cpu_time": 10})
                for name in names
            ]
            + [hd.Function("all", names, lambda *args: list(args))]
        )
        run = executor.execute(graph)
        until(executor.client, up("cheap"))
        assert [run[name] for name in names] == run["all"] == names
        assert sorted(journal.lines()) == sorted(names)  # none was run again
        again = executor.execute(graph)  # what was ended is started again
        assert again["all"] == names


@pytest.mark.parametrize("allocator", ["time", cheapest("2x")])
@pytest.mark.slow
def test_random_graphs_survive_nodes_that_come_go_and_die(allocator, until):
    rng = random.Random(1)
    hasty = hd.Elastic(idle=0.1, startup=0.5)
    with hd.Executor(nodes=NODES, allocator=allocator, elastic=hasty) as executor:
        functions, expected = [], []
        for k in range(30):
            reads = rng.sample(range(k), min(k, rng.choice([0, 1, 2])))
            expected.append(1 + sum(expected[u] for u in reads))
            cost = {"cpu_time": rng.choice([10, 50, 300, 1000])}
            code = adding(rng.choice([0.01, 0.05, 0.2]))
            functions.append(hd.Function(k, reads, code, cost=cost))
        for _ in range(2):
            run = executor.submit(hd.Graph(functions))
            assert run[10] == expected[10]
            pids = executor.client.run(os.getpid)
            os.kill(rng.choice(sorted(pids.values())), signal.SIGKILL)
            run.wait(60)
            until(executor.client, up("cheap"))
            assert [run[k] for k in range(30)] == expected


def adding(seconds):
    def code(*args):
        time.sleep(seconds)
        return 1 + sum(args)

    return code


def test_two_runs_share_what_is_held(gate, until):
    call = gate.call()
    with hd.Executor(nodes=NODES, elastic=QUICK) as executor:
        first = executor.submit(
            hd.Graph([hd.Function("one", [], call, extra_args=["one"], node="dear0")])
        )
        second = executor.submit(
            hd.Graph(
                [
                    hd.Function("two", [], call, extra_args=["two"], node="dear1"),
                    hd.Function("last", ["two"], where, node="dear0"),
                ]
            )
        )
        assert gate.arrivals(2) == ["one", "two"]
        gate.let("one")
        first.wait()
        gate.let("two")  # node dear0 was kept for the second run, or came again
        assert second["last"] == "dear0"
        assert held(second) >= {"dear0", "dear1"}
        until(executor.client, up("cheap"))


@pytest.mark.parametrize("adaptive", [False, True])
def test_what_was_planned_for_a_node_that_can_not_start_runs_elsewhere(adaptive):
    broken = hd.Node("broken", {"cpu": 1}, speed=50, price=10)
    with put("cheap") as cluster:
        cluster.worker_spec["broken"] = {"cls": Unstartable, "options": {}}
        options = {"elastic": QUICK, "adaptive": adaptive}
        with hd.Executor(cluster, nodes=[broken, CHEAP], **options) as executor:
            run = executor.execute(flat(2, 0.01, 100))
            assert {row.node for row in run.plan} == {"broken"}
            assert [span.node for span in run.spans] == ["cheap"] * 2


@pytest.mark.slow
def test_a_function_pinned_to_a_node_that_can_not_start_fails(caught):
    broken = hd.Node("broken", {"cpu": 1}, price=0.5)  # it would be held at least
    with put("cheap") as cluster:
        cluster.worker_spec["broken"] = {"cls": Unstartable, "options": {}}
        with hd.Executor(cluster, nodes=[broken, CHEAP], elastic=QUICK) as executor:
            graph = hd.Graph([hd.Function("a", [], where, node="broken")])
            error = caught(hd.HandoutError, executor.execute, graph)
            if isinstance(error, NodeLostError):
                assert "'broken'" in str(error)
                assert "no such machine" in str(error)
            else:  # it was known before the plan was made
                assert isinstance(error, hd.UnsatisfiableError)


class Unstartable(Nanny):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, host="127.0.0.1", **kwargs)

    async def start_unsafe(self):
        raise RuntimeError("no such machine")


def test_a_given_cluster_is_left_as_it_was_found(until):
    with put("cheap", "dear0") as cluster:
        with hd.Executor(cluster, nodes=[CHEAP, DEAR[0]], elastic=QUICK) as executor:
            until(executor.client, up("cheap"))
            run = executor.execute(
                hd.Graph([hd.Function("a", [], where, node="dear0")])
            )
            assert run["a"] == "dear0"
        with Client(cluster) as client:
            until(client, up("cheap", "dear0"))


def test_an_adaptive_of_the_users_ends_no_node_that_a_plan_needs(gate, until):
    call = gate.call()
    with put("cheap", "dear0", "dear1") as cluster:  # noqa: SIM117
        with hd.Executor(cluster, nodes=NODES) as executor:
            run = executor.submit(
                hd.Graph(
                    [
                        hd.Function("a", [], call, extra_args=["a"], node="dear0"),
                        hd.Function("b", ["a"], where, node="dear1"),
                    ]
                )
            )
            gate.arrivals(1)

            def closable(dask_scheduler):
                found = dask_scheduler.workers_to_close(n=3, attribute="name")
                return sorted(map(str, found))

            assert executor.client.run_on_scheduler(closable) == ["cheap"]
            gate.let()
            assert run["b"] == "dear1"
            assert len(executor.client.run_on_scheduler(closable)) == 3


def test_what_a_user_ended_is_started_again_when_it_is_needed(until):
    with put("cheap", "dear0") as cluster:
        calm = hd.Elastic(idle=30)
        with hd.Executor(cluster, nodes=[CHEAP, DEAR[0]], elastic=calm) as executor:
            client = executor.client
            client.retire_workers(names=["dear0"], close_workers=True, remove=True)
            cluster.sync(cluster.scale_down, ["dear0"])
            until(client, up("cheap"))
            limit = time.monotonic() + 10
            while len(executor.plan(flat(1, 0.1)).problem.nodes) < 2:
                assert time.monotonic() < limit
            graph = hd.Graph([hd.Function("a", [], where, node="dear0")])
            assert executor.execute(graph)["a"] == "dear0"


def test_what_can_not_scale_by_name_is_refused_at_once(caught):
    error = caught(hd.HandoutError, hd.Executor, elastic=True)
    assert "needs nodes" in str(error)
    error = caught(hd.HandoutError, hd.Executor, "tcp://a:1", nodes=NODES, elastic=True)
    assert "starts workers by name" in str(error)
    error = caught(hd.HandoutError, hd.Executor, nodes=NODES, elastic="yes")
    assert "must be a bool or an Elastic" in str(error)
    options = {"n_workers": 1, "processes": False, "dashboard_address": ":0"}
    with LocalCluster(**options) as cluster, Client(cluster.scheduler_address) as other:
        error = caught(hd.HandoutError, hd.Executor, cluster, nodes=NODES, elastic=True)
        assert "can't start node 'dear0'; its worker_spec has 0" in str(error)
        error = caught(hd.HandoutError, hd.Executor, other, nodes=NODES, elastic=True)
        assert "knows no cluster object" in str(error)


def test_an_asynchronous_executor_is_elastic_too():
    async def main():
        options = {"nodes": NODES, "elastic": QUICK, "asynchronous": True}
        async with hd.Executor(**options) as executor:
            graph = hd.Graph([hd.Function("a", [], where, node="dear1")])
            run = await executor.execute(graph)
            return await run["a"]

    assert asyncio.run(main()) == "dear1"

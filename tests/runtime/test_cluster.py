"""Clusters of others are left as they were found; our own leave nothing behind."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import urllib.request

import psutil
import pytest
from distributed import Client, LocalCluster, get_worker

import handout_dask as hd
from handout_dask import Function, Graph


def _graph(**options):
    return Graph(
        [
            Function("a", [], lambda: (1, 2), **options),
            Function("b", [("a", 1)], lambda x: x + 1),
        ]
    )


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster, set_as_default=False) as client:
        yield client


def _traces(scheduler):
    """Where we could leave something."""
    return (
        sorted(scheduler.plugins),
        {name: id(handler) for name, handler in scheduler.handlers.items()},
        {name: id(handler) for name, handler in scheduler.stream_handlers.items()},
        sorted(scheduler.extensions),
        sorted(scheduler.periodic_callbacks),
        sorted(map(str, scheduler.tasks)),
    )


def _told(scheduler):
    """Topics of ours of which something is kept; events may be on their way."""
    return [
        name
        for name, topic in scheduler._broker._topics.items()
        if name.startswith("handout") and (topic.events or topic.subscribers)
    ]


@pytest.mark.parametrize(
    "given",
    [
        lambda cluster, client: cluster.scheduler_address,
        lambda cluster, client: client,
        lambda cluster, client: cluster,
    ],
    ids=["address", "client", "cluster"],
)
def test_a_cluster_is_left_as_it_was_found(cluster, client, until, given):
    before = _traces(cluster.scheduler)
    clients = len(cluster.scheduler.clients)
    with hd.Executor(given(cluster, client)) as executor:
        assert executor.execute(_graph())["b"] == 3
        assert "handout" in cluster.scheduler.plugins
        executor.submit(Graph([Function("a", [], lambda: 1)]))
    # The plugin stays until what was cancelled has left its worker.
    until(client, lambda s: not s.tasks and len(s.clients) == clients)
    until(client, lambda s: "handout" not in s.plugins)
    until(client, lambda s: not _told(s))
    assert _traces(cluster.scheduler) == before
    assert client.submit(lambda: 5, pure=False).result(30) == 5
    assert len(cluster.workers) == 2


def test_an_asynchronous_client_is_used_as_it_is(cluster):
    async def main():
        async with Client(cluster.scheduler_address, asynchronous=True) as client:
            before = _traces(cluster.scheduler)
            async with hd.Executor(client) as executor:
                assert executor.asynchronous
                run = await executor.execute(_graph())
                assert await run["b"] == 3
                assert await run.results["a"] == (1, 2)
                assert (await executor.plan(_graph()))["a"].node in ("0", "1")
                assert len(await executor.nodes()) == 2
                second = await executor.submit(_graph())
                assert await second.wait(30) is second
                run.release()
                second.release()
            while cluster.scheduler.tasks or _told(cluster.scheduler):
                await asyncio.sleep(0)
                await client.scheduler.identity()
            assert _traces(cluster.scheduler) == before
            assert await client.submit(lambda: 5, pure=False) == 5

    asyncio.run(asyncio.wait_for(main(), 60))


def test_an_asynchronous_executor_starts_its_own_nodes():
    async def main():
        nodes = [hd.Node("x", {"cpu": 1}), hd.Node("y", {"cpu": 1})]
        executor = await hd.Executor(nodes=nodes, asynchronous=True)
        run = await executor.execute(_graph(node="y"))
        assert (await run["b"], run.where("a")) == (3, "y")
        bad = Graph([Function("a", [], lambda: 1 / 0)])
        with pytest.raises(ZeroDivisionError):
            await executor.execute(bad)
        with pytest.raises(hd.HandoutError, match="needs 'async with'"), executor:
            pass
        await executor.close()
        with pytest.raises(hd.HandoutError, match="the executor is closed"):
            await executor.submit(bad)

    asyncio.run(asyncio.wait_for(main(), 60))


def test_the_last_executor_takes_the_plugin_with_it(cluster, client, until):
    before = _traces(cluster.scheduler)
    first = hd.Executor(client)
    second = hd.Executor(cluster.scheduler_address)
    first.close()
    assert "handout" in cluster.scheduler.plugins
    assert second.execute(_graph())["b"] == 3
    third = hd.Executor(client)
    second.close()
    assert third.execute(_graph())["b"] == 3
    third.close()
    until(client, lambda s: not s.tasks and not _told(s))
    assert _traces(cluster.scheduler) == before


def test_an_executor_that_nobody_heard_joining_joins_again(cluster, client):
    """As when the last one takes the plugin away just then."""
    with hd.Executor(client):
        handlers = cluster.scheduler.handlers
        heard = handlers.pop("handout_join")
        threading.Timer(0.5, handlers.__setitem__, ("handout_join", heard)).start()
        with hd.Executor(client) as second:
            assert second.id in cluster.scheduler.plugins["handout"].owners
            assert second.execute(_graph())["b"] == 3


def test_executors_may_come_and_go_at_once(cluster, client):
    from concurrent.futures import ThreadPoolExecutor

    def visit(k):
        with hd.Executor(client if k % 2 else cluster.scheduler_address) as executor:
            return executor.execute(_graph())["b"]

    before = _traces(cluster.scheduler)[:5]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(visit, range(24))) == [3] * 24
    assert _traces(cluster.scheduler)[:5] == before


def test_closing_cancels_what_runs(cluster, client, gate, until):
    executor = hd.Executor(client)
    call = gate.call()
    graph = Graph(
        [Function("a", [], call, extra_args=["a"]), Function("b", ["a"], abs)]
    )
    run = executor.submit(graph)
    gate.arrivals(1)
    executor.close()
    run.wait(30)
    gate.let()
    assert run.status == "cancelled"
    until(client, lambda s: not s.tasks)


def test_results_outlive_the_executor_on_a_clients_cluster(cluster, client):
    with hd.Executor(client) as executor:
        run = executor.execute(_graph())
    assert run["b"] == 3


SCRIPT = """
import os, sys
import handout_dask as hd
from multiprocessing.connection import Client as Connect

def call(x):
    with Connect((sys_host, port)) as c:
        c.send(x)
        c.recv()

address, port, sys_host = sys.argv[1], int(sys.argv[2]), "127.0.0.1"
executor = hd.Executor(address)
cost = {"memory": 400}
run = executor.submit(hd.Graph(
    [hd.Function("a", [], call, extra_args=["a"], cost=cost, node="0"),
     hd.Function("b", ["a"], abs, cost=cost)]))
run.wait()
"""


def test_a_client_that_dies_takes_its_runs_and_claims_along(
    cluster, client, gate, until, claimed, tmp_path
):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with hd.Executor(client) as executor:
        port = gate._listener.address[1]
        other = subprocess.Popen(
            [sys.executable, str(script), cluster.scheduler_address, str(port)]
        )
        assert gate.arrivals(1) == ["a"]
        assert claimed(executor)["0", "memory"] == 400
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        until(client, lambda s: len(s.plugins["handout"].owners) == 1)
        until(client, lambda s: not s.tasks)
        assert claimed(executor)["0", "memory"] == 400  # its thread goes on
        gate.let()
        until(client, lambda s: not s.plugins["handout"].dispatcher.lingering)
        assert claimed(executor) == {}
        assert executor.execute(_graph())["b"] == 3


def test_workers_are_matched_by_name_as_text(cluster, client):
    declared = [
        hd.Node("1", {"memory": 123, "camera": 1}, speed=3, price=2, kind="k"),
        hd.Node("absent", {"gpus": 1}),
    ]
    with hd.Executor(client, nodes=declared) as executor:
        nodes = {node.name: node for node in executor.nodes().nodes}
        assert sorted(nodes) == ["0", "1"]
        one = nodes["1"]
        assert (one.speed, one.price, one.kind, one.slots) == (3, 2, "k", 1)
        assert one.capabilities == {"memory": 123, "camera": 1}
        run = executor.execute(
            Graph([Function("a", [], lambda: get_worker().name, cost={"camera": 1})])
        )
        assert (run["a"], run.where("a")) == (1, "1")
        with pytest.raises(hd.UnsatisfiableError):
            executor.submit(Graph([Function("a", [], int, cost={"gpus": 1})]))


def test_a_declaration_never_gives_more_slots_than_threads(cluster, client):
    with hd.Executor(client, nodes=[hd.Node("0", {"cpu": 64})]) as executor:
        assert {node.slots for node in executor.nodes().nodes} == {1}


def test_a_nodes_file_declares_too(cluster, client, tmp_path):
    path = tmp_path / "nodes.toml"
    path.write_text(
        textwrap.dedent("""
            [[node]]
            name = "0"
            speed = 4
            [node.capabilities]
            camera = 2
            [network]
            bandwidth = 7.0
            """)
    )
    with hd.Executor(client, nodes=path) as executor:
        found = executor.nodes()
        assert (found.nodes[0].name, found.nodes[0].speed) == ("0", 4)
        assert found.nodes[0].capabilities["camera"] == 2


def test_embedded_nodes_are_as_declared_and_leave_no_process_behind():
    me = psutil.Process()
    before = {child.pid for child in me.children(recursive=True)}
    nodes = [hd.Node("small", {"memory": 300}), hd.Node("big node", {"cpu": 3})]
    with hd.Executor(nodes=nodes) as executor:
        info = executor.client.scheduler_info()["workers"]
        assert {(str(w["name"]), w["nthreads"]) for w in info.values()} == {
            ("small", 1), ("big node", 3),
        }  # fmt: skip
        assert all(address.startswith("tcp://127.0.0.1:") for address in info)
        limits = {str(w["name"]): w["memory_limit"] for w in info.values()}
        assert limits["small"] == 550e6
        assert executor.dashboard_link.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(executor.dashboard_link, timeout=20) as page:
            assert page.status == 200
        assert executor.execute(_graph())["b"] == 3
    _, alive = psutil.wait_procs(
        [c for c in me.children(recursive=True) if c.pid not in before], timeout=20
    )
    left = [c for c in alive if "resource_tracker" not in " ".join(c.cmdline())]
    assert left == []


def test_without_nodes_it_is_as_a_local_cluster(until):
    with hd.Executor() as executor:
        assert executor.execute(_graph())["b"] == 3
        assert all(node.slots >= 1 for node in executor.nodes().nodes)


def test_resources_tell_what_is_claimed_now(cluster, client, gate):
    call = gate.call()
    with hd.Executor(client, nodes=[hd.Node("0", {"camera": 2})]) as executor:
        cost = {"camera": 1, "cpu_time": 1}
        run = executor.submit(
            Graph([Function("a", [], call, extra_args=["a"], cost=cost)])
        )
        gate.arrivals(1)
        rows = [r for r in executor.resources() if r["resource"] == "camera"]
        assert rows == [
            {"node": "0", "resource": "camera", "capacity": 2.0, "claimed": 1.0,
             "free": 1.0, "observed": None, "usable": None,
             "holders": [{"run": run.token, "graph": None, "function": "a",
                          "amount": 1.0}]}
        ]  # fmt: skip
        gate.let()
        run.wait(30)
        rows = [r for r in executor.resources() if r["resource"] == "camera"]
        assert rows[0]["claimed"] == 0


def test_a_cluster_without_nodes_refuses_at_once():
    with (
        LocalCluster(
            n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as empty,
        hd.Executor(empty) as executor,
        pytest.raises(hd.UnsatisfiableError, match="there is no node"),
    ):
        executor.submit(_graph())

"""Laws of live runs that were broken once: early records, nodes that change, churn."""

import asyncio
import contextlib
import sys
import threading
import time

import dask
import pytest
from distributed import Client, LocalCluster, Scheduler, Worker

import handout_dask as hd
from handout_dask import Function, Graph
from handout_dask.errors import CostError, HandoutError, UnsatisfiableError
from handout_dask.runtime import elastic, replanner, submitter, watching

pytestmark = pytest.mark.timeout(60)

LIMIT = 30  # s after which a test calls it a hang
CAMERA = [hd.Node("0", {"cpu": 1, "camera": 1}), hd.Node("1", {"cpu": 1})]
NO_CAMERA = [hd.Node("0", {"cpu": 1}), hd.Node("1", {"cpu": 1})]
TRACKER = """
class Everything:
    def register(self, node, capabilities): pass
    def available(self, node, req): return True
    def request(self, claim, node, req): return True
    def release(self, claim, part=None): pass
    def snapshot(self): return {}
"""


def enter(call, name, *read):
    """Wait at the gate until the test lets this one on."""
    return call(name)


def nap(seconds, *read):
    time.sleep(seconds)


def function(name, reads, code, *args, **cost):
    """A function whose own arguments come first; its cost in capabilities and ms."""
    more = {"node": cost.pop("node")} if "node" in cost else {}
    return Function(
        name, reads, lambda *read: code(*args, *read), cost=cost or None, **more
    )


def behind(gate, count, **cost):
    """One function that waits at the gate, and others behind it."""
    return Graph(
        [function("first", [], enter, gate.call(), "first", **cost)]
        + [function(k, ["first"], nap, 0.0, **cost) for k in range(count)]
    )


# ------------------------------------------------------------- on one quiet cluster
@pytest.fixture(scope="module")
def cluster():
    """Two slots in this process, whose address is no network's."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0"
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster, set_as_default=False) as client:
        yield client


def test_records_that_come_before_the_client_knows_its_run_are_kept(
    client, monkeypatch
):
    heard = threading.Event()
    receive, send = submitter.Submitter._receive, submitter.submit_graph

    def receive_and_tell(self, event):
        receive(self, event)
        heard.set()

    def send_and_linger(*args):
        made = send(*args)
        assert heard.wait(LIMIT)
        return made

    monkeypatch.setattr(submitter.Submitter, "_receive", receive_and_tell)
    monkeypatch.setattr(submitter, "submit_graph", send_and_linger)
    with hd.Executor(client) as executor:
        run = executor.submit(Graph([Function("a", [], int)])).wait(LIMIT)
        assert (run["a"], run.status, run.progress) == (0, "done", (1, 0, 1))


@pytest.mark.parametrize("ids", [(1, 2), (("t", 1), ("t", 2)), (1.5, b"k")], ids=repr)
def test_who_attaches_gets_results_by_ids_of_any_kind(client, ids):
    first, second = ids
    makes = Function(first, [], lambda: 7)
    graph = Graph([makes, Function(second, [(first, None)], str)])
    with hd.Executor(client) as executor, hd.Executor(client) as other:
        run = executor.submit(graph, detached=True).wait(LIMIT)
        attached = other.attach(run.token).wait(LIMIT)
        assert (attached[first], attached[second]) == (7, "7")
        assert dict(attached.results) == {first: 7, second: "7"}
        assert attached.where(second) == run.where(second)
        assert attached.report().ratio > 0
        attached.release()


def test_executors_that_share_a_run_all_see_its_end(client, gate):
    with hd.Executor(client) as executor, hd.Executor(client) as other:
        run = executor.submit(behind(gate, 3), detached=True)
        gate.arrivals(1)
        attached = other.attach(run.token)
        gate.let()
        for seen in (run, attached):
            assert seen.wait(LIMIT).progress == (4, 0, 4)
        attached.release()


@pytest.mark.parametrize("given", ["foo", {"cost": 5}, {"cost": {"cpu_time": -1}}])
def test_an_annotation_that_makes_no_sense_stops_nobody_else(client, given):
    installed = hd.install(client)
    try:
        with dask.annotate(handout=given):
            bad = client.submit(abs, -1, pure=False)
        with hd.cost(cpu_time=10):
            good = client.submit(abs, -2, pure=False)
        assert good.result(timeout=LIMIT) == 2
        assert bad.result(timeout=LIMIT) == 1  # Dask runs it as it likes
    finally:
        installed.close()


def test_who_declares_a_node_without_a_capability_stops_no_run(client, gate):
    with hd.Executor(client, nodes=CAMERA) as executor:
        run = executor.submit(behind(gate, 3, camera=1))
        gate.arrivals(1)
        with hd.Executor(client, nodes=NO_CAMERA):
            gate.let()
            assert run.wait(LIMIT).progress == (4, 0, 4)
        assert {run.where(id) for id in ("first", 0, 1, 2)} == {"0"}


def test_a_detached_run_keeps_what_its_executor_declared(client, gate):
    with hd.Executor(client, nodes=CAMERA) as executor:
        token = executor.submit(behind(gate, 3, camera=1), detached=True).token
        gate.arrivals(1)
    with hd.Executor(client) as other:
        gate.let()
        run = other.attach(token)
        assert run.wait(LIMIT).progress == (4, 0, 4)
        run.release()
        with pytest.raises(UnsatisfiableError, match="camera"):
            other.plan(Graph([function("a", [], nap, 0.0, camera=1)]))


def test_a_function_that_stays_late_is_news_less_and_less_often(client, gate):
    with hd.Executor(client) as executor:
        run = executor.submit(behind(gate, 3, cpu_time=50))
        gate.arrivals(1)
        with pytest.raises(TimeoutError):
            run.wait(5)
        known = len(run.replans)  # told while the function still runs
        gate.let()
        assert run.wait(LIMIT).progress == (4, 0, 4)
        assert 0 < known <= len(run.replans) < 25


@pytest.mark.parametrize("given", [5, "x", [1]], ids=repr)
def test_a_cost_that_is_no_map_is_an_error(given):
    with pytest.raises(CostError, match="takes a cost map"):
        hd.cost(given)


def test_an_executors_seed_is_its_allocators(client):
    own = hd.allocator("time", seed=1)
    for allocator in ("time", own):
        with hd.Executor(client, allocator=allocator, seed=3) as executor:
            assert executor.allocator.seed == 3
            assert executor.execute(Graph([Function("a", [], int)]))["a"] == 0
    assert own.seed == 1


def test_an_address_in_this_process_is_accepted(cluster):
    assert cluster.scheduler_address.startswith("inproc://")
    with hd.Executor(cluster.scheduler_address) as executor:
        assert executor.execute(Graph([Function("a", [], int)]))["a"] == 0


def test_a_tracker_that_the_scheduler_cant_import_is_an_error_that_says_so(
    client, tmp_path, monkeypatch
):
    (tmp_path / "tracker_of_mine.py").write_text(TRACKER)
    with monkeypatch.context() as at_the_client:
        at_the_client.syspath_prepend(tmp_path)
        import tracker_of_mine

        executor = hd.Executor(client, tracker=tracker_of_mine.Everything())
    monkeypatch.delitem(sys.modules, "tracker_of_mine")  # here is the scheduler
    with executor:
        graph, before = Graph([Function("a", [], int)]), executor.runs()
        match = "tracker can't be loaded on the scheduler: ModuleNotFoundError.*mine"
        with pytest.raises(HandoutError, match=match):
            executor.submit(graph)
        assert executor.runs() == before


# ------------------------------------------------- on nodes that come, go and change
@contextlib.asynccontextmanager
async def site(*names, **options):
    """An executor, its plugin, and `start(name, **resources)`; all over TCP."""
    async with contextlib.AsyncExitStack() as stack:
        host = {"host": "127.0.0.1", "dashboard_address": ":0"}
        scheduler = await stack.enter_async_context(Scheduler(port=0, **host))

        async def start(name, **resources):
            worker = Worker(
                scheduler.address, nthreads=1, name=name, resources=resources, **host
            )
            return await stack.enter_async_context(worker)

        async def lose(name):
            (ws,) = [ws for ws in scheduler.workers.values() if ws.name == name]
            await scheduler.remove_worker(ws.address, stimulus_id="lost", close=True)

        for name in names:
            await start(name)
        options = {"asynchronous": True, **options}
        executor = await stack.enter_async_context(
            hd.Executor(scheduler.address, **options)
        )
        yield executor, scheduler.plugins["handout"], start, lose


def live(main):
    """Run a test's coroutine; a hang is a failure."""
    asyncio.run(asyncio.wait_for(main, LIMIT))


async def come_true(condition):
    while not condition():
        await asyncio.sleep(0.01)


def test_a_node_that_returns_without_a_capability_fails_what_needs_it(
    gate, monkeypatch
):
    async def main():
        async with site() as (executor, _, start, lose):
            await start("a", camera=1, dish=1)
            await start("b", dish=1)
            first = function("first", [], enter, gate.call(), "first", node="b")
            kinds = {"camera": {"camera": 1}, "dish": {"dish": 1}, "plain": {}}
            rest = [
                function((kind, k), ["first"], nap, 0.0, cpu_time=100, **cost)
                for kind, cost in kinds.items()
                for k in range(4)
            ]
            run = await executor.submit(Graph([first, *rest]))
            await asyncio.to_thread(gate.arrivals, 1)
            await lose("a")
            await start("a")
            monkeypatch.setattr(watching, "GRACE", 0.5)
            gate.let()
            await run.wait(LIMIT)
            assert run.progress == (9, 4, 13)
            assert {run.where(("dish", k)) for k in range(4)} == {"b"}
            with pytest.raises(UnsatisfiableError, match="any more.*lacks.*camera"):
                await run["camera", 0]

    live(main())


@pytest.mark.parametrize("allocator", ["time", "locality"])
def test_what_is_not_adaptive_moves_to_a_node_that_joined_when_its_own_is_lost(
    gate, allocator
):
    async def main():
        options = {"adaptive": False, "allocator": allocator}
        async with site("a", **options) as (executor, _, start, lose):
            run = await executor.submit(behind(gate, 3))
            await asyncio.to_thread(gate.arrivals, 1)
            await start("b")
            await lose("a")
            gate.let()
            await asyncio.to_thread(gate.arrivals, 1)
            gate.let()
            await run.wait(LIMIT)
            assert run.progress == (4, 0, 4)
            assert {run.where(id) for id in ("first", 0, 1, 2)} == {"b"}

    live(main())


def test_readers_of_a_result_that_cant_travel_go_back_to_it():
    async def main():
        nodes = [hd.Node("0", {"cpu": 1}, speed=10), hd.Node("1", {"cpu": 1})]
        async with site("0", "1") as (first, _, _, _):
            options = {"nodes": nodes, "asynchronous": True}
            async with hd.Executor(first.client, **options) as executor:
                readers = [f"r{k}" for k in range(6)]
                graph = Graph(
                    [function("lock", [], threading.Lock, cpu_time=100, node="0")]
                    + [function(r, ["lock"], nap, 0.2, cpu_time=100) for r in readers]
                )
                run = await executor.submit(graph, keep=readers)
                await run.wait(LIMIT)
                run._raise_first()
                assert any(moved for *_, moved in run.replans)  # it did happen
                assert {run.where(r) for r in readers} == {"0"}

    live(main())


def test_news_of_a_node_that_comes_while_a_plan_is_computed_is_planned_at_once(
    gate, monkeypatch
):
    begun, go_on = [threading.Event(), threading.Event()], threading.Event()
    revise = replanner.revise

    def slow(*args, **kwargs):
        if begun[0].is_set():
            begun[1].set()
        begun[0].set()
        assert go_on.wait(LIMIT)
        return revise(*args, **kwargs)

    for pause in ("LEAST_PAUSE", "PAUSE", "MOST_PAUSE"):
        monkeypatch.setattr(replanner, pause, 1e6)  # in fact, until the end
    monkeypatch.setattr(replanner, "revise", slow)

    async def main():
        async with site("0", "1") as (executor, handout, _, _):
            run = await executor.submit(behind(gate, 3, cpu_time=100_000))
            await asyncio.to_thread(gate.arrivals, 1)
            handout.replanner.changed("a node joined")
            assert await asyncio.to_thread(begun[0].wait, LIMIT)
            handout.replanner.changed("another joined")
            assert not begun[1].is_set()
            go_on.set()
            assert await asyncio.to_thread(begun[1].wait, 5)
            await come_true(lambda: len(run.replans) == 2)
            assert ["another joined" in why for _, why, *_ in run.replans] == [
                False,
                True,
            ]
            gate.let()
            await run.wait(LIMIT)

    live(main())


def test_nodes_that_are_gone_for_good_are_forgotten(monkeypatch):
    monkeypatch.setattr(watching, "GRACE", 0.1)

    async def main():
        async with site("keep") as (executor, handout, start, lose):
            for k in range(5):
                await start(f"w{k}")
                await lose(f"w{k}")
            assert set(handout.roster.down) <= {f"w{k}" for k in range(5)}
            await come_true(lambda: not handout.roster.down)
            run = await executor.execute(Graph([Function("a", [], int)]))
            assert run.where("a") == "keep"

    live(main())


# -------------------------------------------------------------------- elastic nodes
def addresses(executor):
    """Where each node is; one that was ended and started is elsewhere."""
    return executor.client.run_on_scheduler(
        lambda dask_scheduler: {
            str(ws.name): ws.address for ws in dask_scheduler.workers.values()
        }
    )


def test_a_node_whose_result_cant_travel_is_left_up(monkeypatch):
    monkeypatch.setattr(elastic, "MOVING", 0.5)

    given_up, give_up = threading.Event(), elastic.Keeper._give_up_moving

    def give_up_and_tell(self, address):
        give_up(self, address)
        given_up.set()

    monkeypatch.setattr(elastic.Keeper, "_give_up_moving", give_up_and_tell)
    with hd.Executor(
        nodes=[
            hd.Node("cheap", {"cpu": 1}, price=1),
            hd.Node("dear", {"cpu": 1, "camera": 1}, price=5),
        ],
        elastic=hd.Elastic(idle=0.3),
    ) as executor:
        lock = function("lock", [], threading.Lock, cpu_time=1, camera=1)
        held = executor.submit(Graph([lock])).wait(LIMIT)
        before = addresses(executor)
        assert given_up.wait(LIMIT)
        other = function("a", [], nap, 0.0, cpu_time=1, camera=1)
        run = executor.submit(Graph([other])).wait(LIMIT)
        assert (run.status, run.where("a")) == ("done", "dear")
        assert (held.status, addresses(executor)["dear"]) == ("done", before["dear"])

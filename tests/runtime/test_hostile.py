"""Clusters that change or end under a run, and hostile settings: no hangs."""

import asyncio
import os
import socket
import subprocess
import sys

import dask
import pytest
from distributed import Client, LocalCluster, Reschedule, get_worker, worker_client

import handout_dask as hd
from handout_dask import Function, Graph
from handout_dask.errors import RescheduledError
from handout_dask.setbacks import RESCHEDULES


def _free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Remote:
    """A scheduler and a worker as processes of their own."""

    def __init__(self):
        self.port = _free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.scheduler = self._start("scheduler", "--port", str(self.port),
                                     "--host", "127.0.0.1", "--dashboard-address",
                                     "127.0.0.1:0")  # fmt: skip
        self.start_worker()

    def _start(self, what, *args):
        return subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_" + what, *args],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def start_worker(self):
        self.worker = self._start(
            "worker", self.address, "--no-nanny", "--nthreads", "1", "--name", "w",
            "--host", "127.0.0.1", "--no-dashboard", "--death-timeout", "60",
        )  # fmt: skip

    def restart_scheduler(self):
        self.scheduler.kill()
        self.scheduler.wait()
        self.scheduler = self._start(
            "scheduler", "--port", str(self.port), "--host", "127.0.0.1",
            "--dashboard-address", "127.0.0.1:0",
        )  # fmt: skip

    def close(self):
        for process in (self.worker, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture
def remote():
    remote = Remote()
    yield remote
    remote.close()


def _waiting(gate, **options):
    call = gate.call()
    return Graph(
        [
            Function("done", [], lambda: 1, **options),
            Function("waits", ["done"], lambda x: call("waits"), **options),
            Function("after", ["waits"], lambda x: x, **options),
        ]
    )


def test_a_scheduler_that_dies_is_an_error_of_the_run(remote, gate, caught, until):
    with dask.config.set({"distributed.comm.timeouts.connect": "5s"}):
        client = Client(remote.address, set_as_default=False, timeout=60)
        client.wait_for_workers(1, timeout=60)
        executor = hd.Executor(client)
        run = executor.submit(_waiting(gate))
        gate.arrivals(1)
        remote.scheduler.kill()
        caught(hd.HandoutError, run.wait)
        assert run.status == "failed"
        for id in ("waits", "after"):
            caught(hd.HandoutError, lambda id=id: run[id])
        gate.let()
        executor.close()
        client.close()


def test_a_scheduler_that_restarts_is_an_error_of_the_run(remote, gate, caught):
    """The client finds it again, but not the run."""
    client = Client(remote.address, set_as_default=False)
    client.wait_for_workers(1, timeout=60)
    executor = hd.Executor(client)
    run = executor.submit(_waiting(gate))
    gate.arrivals(1)
    remote.restart_scheduler()
    error = caught(hd.HandoutError, run.wait)
    assert "the scheduler forgot it" in str(error) or "connection" in str(error)
    gate.let()
    caught(hd.HandoutError, lambda: run["after"])
    executor.close()
    client.close()


@pytest.fixture
def local():
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def test_a_restarted_cluster_ends_a_run_and_takes_the_next(local, gate, caught):
    with hd.Executor(local) as executor:
        run = executor.submit(_waiting(gate))
        gate.arrivals(1)
        local.restart(timeout=60)
        gate.let()
        run.wait(30)
        assert run.status == "cancelled"
        caught(hd.RunCancelledError, lambda: run["after"])
        again = executor.submit(Graph([Function("a", [], lambda: 7)]))
        assert again.wait(30)["a"] == 7


def test_futures_cancelled_by_the_user_end_the_run(local, gate, caught):
    with hd.Executor(local) as executor:
        run = executor.submit(_waiting(gate))
        gate.arrivals(1)
        local.cancel(list(run._futures.values()), force=True)
        run.wait(30)
        gate.let()
        caught(hd.RunCancelledError, lambda: run["after"])


def test_a_scheduler_that_gives_up_on_restrictions_does_not_give_up_on_ours(gate):
    """Functions that wait for their turn are parked; that is no lack of workers."""
    impatient = {"distributed.scheduler.no-workers-timeout": "1500ms"}
    with (
        dask.config.set(impatient),
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        hd.Executor(cluster) as executor,
    ):
        call = gate.call()

        def until_dask_gave_up(x, address=cluster.scheduler_address):
            return call("long")

        graph = Graph(
            [
                Function("long", [], until_dask_gave_up, extra_args=[1]),
                *(Function(k, [], lambda k=k: k) for k in range(3)),
            ]
        )
        run = executor.submit(graph)
        gate.arrivals(1)
        lone = executor.client.submit(
            lambda: 1, workers="tcp://127.0.0.1:9", pure=False
        )
        assert type(lone.exception(30)).__name__ == "NoValidWorkerError"
        gate.let()
        assert run.wait(30).progress == (4, 0, 4)


def test_a_worker_that_retires_hands_its_functions_on(local, gate, until):
    with hd.Executor(local) as executor:
        call = gate.call()
        graph = Graph(
            [
                *(Function(k, [], lambda k=k: (call(k), k)[1]) for k in range(2)),
                *(Function(10 + k, [k % 2], lambda x: x) for k in range(20)),
            ]
        )
        run = executor.submit(graph)
        gate.arrivals(2)
        address = next(iter(local.scheduler_info()["workers"]))
        local.retire_workers([address])
        gate.let()
        until(local, lambda s: len(s.workers) == 1)
        while run.status in ("pending", "running"):
            try:
                run.wait(0.2)
            except TimeoutError:
                gate.arrivals(1) if not gate.nobody() else None
                gate.let()
        assert [run[10 + k] for k in range(20)] == [k % 2 for k in range(20)]


def test_a_function_may_run_plain_dask_work_on_its_cluster(executor):
    def nested():
        with worker_client() as client:
            return sum(client.gather(client.map(lambda x: x * 2, range(10))))

    graph = Graph([Function(k, [], nested) for k in range(4)])
    assert dict(executor.submit(graph).wait(60).results) == dict.fromkeys(range(4), 90)


def test_a_function_may_ask_dask_to_run_it_elsewhere_or_again(executor, journal):
    def code():
        journal("called")
        if len(journal.lines()) < 3:
            raise Reschedule
        return len(journal.lines())

    assert executor.submit(Graph([Function("a", [], code)])).wait(30)["a"] == 3


@pytest.mark.parametrize("timeout", [None, 60], ids=["thread", "own process"])
def test_a_function_that_asks_for_ever_to_be_run_again_fails(
    executor, journal, caught, timeout
):
    def code():
        from distributed import Reschedule

        journal("called")
        raise Reschedule

    run = executor.submit(Graph([Function("a", [], code, timeout=timeout)])).wait(30)
    error = caught(RescheduledError, lambda: run["a"])
    assert str(error).startswith("function 'a' raised distributed.Reschedule")
    assert len(journal.lines()) == RESCHEDULES
    assert {span.error for span in run.spans[:-1]} == {
        "Reschedule: it asked to be run again"
    }


def test_a_result_larger_than_a_nodes_memory_share_still_arrives(executor):
    graph = Graph(
        [
            Function("a", [], lambda: bytes(200_000_000), node="n0"),
            Function("b", ["a"], len, node="n1"),
        ]
    )
    assert executor.submit(graph, keep=["b"]).wait(60)["b"] == 200_000_000


def test_many_small_runs_leave_nothing_behind(executor, until):
    import gc

    for k in range(100):
        executor.execute(Graph([Function("a", [], lambda k=k: k, node=f"n{k % 2}")]))
    gc.collect()
    until(executor.client, lambda s: not s.tasks and not s.plugins["handout"].runs)

    def sizes(dask_scheduler):
        plugin = dask_scheduler.plugins["handout"]
        books = plugin.dispatcher
        in_hand = sum(len(n.running) + len(n.ahead) for n in books.nodes.values())
        claims = len(books.tracker._claims)
        return (len(books.runs), claims, len(plugin.keys), in_hand)

    assert executor.client.run_on_scheduler(sizes) == (0, 0, 0, 0)


def test_a_graph_that_grows_between_submissions_runs_as_it_was(executor, gate):
    graph = Graph([Function("a", [], gate.call(), extra_args=["a"])])
    run = executor.submit(graph)
    gate.arrivals(1)
    graph.add(Function("b", ["a"], lambda a: a + "!"))
    second = executor.submit(graph)
    gate.arrivals(1)
    gate.let()
    gate.let()
    assert (len(run.wait(30)), len(second.wait(30)), second["b"]) == (1, 2, "a!")


def test_the_event_loop_of_an_asynchronous_user_is_not_blocked():
    async def main():
        beats = 0

        async def beat():
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0)

        async with hd.Executor(nodes=[hd.Node("x")], asynchronous=True) as executor:
            task = asyncio.create_task(beat())
            functions = [Function(k, [], lambda: 1) for k in range(300)]
            run = await executor.execute(Graph(functions), keep=[])
            task.cancel()
            return run.progress, beats

    progress, beats = asyncio.run(asyncio.wait_for(main(), 90))
    assert progress == (300, 0, 300)
    assert beats > 100


def test_a_graph_that_the_scheduler_cant_take_is_an_error_and_leaves_nothing(
    executor, caught, monkeypatch
):
    def refuse(*args, **kwargs):
        raise RuntimeError("not this one")

    with monkeypatch.context() as patch:
        patch.setattr("distributed.scheduler._materialize_graph", refuse)
        run = executor.submit(Graph([Function("a", [], lambda: 1)]))
        error = caught(hd.HandoutError, run.wait)
    assert "the scheduler can't take it: not this one" in str(error)
    caught(hd.HandoutError, lambda: run["a"])
    assert executor.execute(Graph([Function("a", [], lambda: 2)]))["a"] == 2
    token = run.token
    books = executor.client.run_on_scheduler(
        lambda dask_scheduler: list(dask_scheduler.plugins["handout"].runs)
    )
    assert token not in books


def test_functions_of_a_node_see_its_name_and_process(executor):
    graph = Graph(
        Function(n, [], lambda: (str(get_worker().name), os.getpid()), node=n)
        for n in ("n0", "n1", "wide")
    )
    run = executor.execute(graph)
    assert [run[n][0] for n in ("n0", "n1", "wide")] == ["n0", "n1", "wide"]
    assert len({run[n][1] for n in ("n0", "n1", "wide")} | {os.getpid()}) == 4

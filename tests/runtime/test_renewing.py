"""A thread goes on with what was cancelled: its worker is started anew."""

import os
import time

import pytest

import handout_dask as hd
from handout_dask import Function, Graph

pytestmark = pytest.mark.slow

LIMIT = 60
GRACE = 0.5


@pytest.fixture
def executor():
    nodes = [hd.Node("n0", slots=2), hd.Node("n1", slots=1)]
    with hd.Executor(nodes=nodes, cancel_grace=GRACE) as executor:
        yield executor


def sleep():
    time.sleep(10 * LIMIT)


def hold():
    return 7 ** (7**10)  # with the GIL


def spin():
    while True:
        pass


def pids(executor):
    """The processes of workers by node."""
    found = executor.client.run(lambda dask_worker: (dask_worker.name, os.getpid()))
    return dict(found.values())


def on(node, code, id="f", *extra):
    return Graph([Function(id, [], code, extra_args=extra, node=node)])


@pytest.mark.parametrize("code", [sleep, hold, spin])
def test_the_next_run_has_the_slots_of_what_was_cancelled(
    executor, gate, claimed, code
):
    call, before = gate.call(), pids(executor)

    def work(name):
        call(name)
        return code()

    functions = [Function(k, [], work, extra_args=[k], node="n0") for k in "ab"]
    run = executor.submit(Graph(functions))
    gate.arrivals(2)
    gate.let()
    run.cancel()
    begin = time.monotonic()
    nodes = ["n0", "n0", "n1"]
    graph = Graph([Function(k, [], os.getpid, node=n) for k, n in enumerate(nodes)])
    done = executor.submit(graph).wait(LIMIT)
    assert time.monotonic() - begin < 3 * 6.0
    assert done.status == "done"
    assert done[2] == before["n1"]
    assert {done[0], done[1]}.isdisjoint(before.values())
    assert claimed(executor) == {}


def test_what_else_runs_there_ends_first_and_results_are_kept(executor, gate, journal):
    call, path, before = gate.call(), journal.path, pids(executor)

    def keep():
        with open(path, "a") as file:
            file.write("kept\n")
        return "kept"

    def wait(name):
        call(name)
        return os.getpid()

    def loop():
        call("loop")
        sleep()

    kept = executor.execute(on("n0", keep))
    beside = executor.submit(on("n0", wait, "g", "beside"))
    gate.arrivals(1)
    doomed = executor.submit(on("n0", loop))
    gate.arrivals(1)
    gate.let("loop")
    doomed.cancel()

    def drained(scheduler):
        (ws,) = [w for w in scheduler.workers.values() if w.name == "n0"]
        return ws not in scheduler.running

    assert executor.client.run_on_scheduler(_until_true, drained)
    gate.let("beside")
    assert beside.wait(LIMIT)["g"] == before["n0"]
    assert executor.submit(on("n0", os.getpid)).wait(LIMIT)["f"] != before["n0"]
    assert kept["f"] == "kept"
    assert journal.lines() == ["kept"]
    assert [span.attempt for span in beside.spans] == [1]
    assert pids(executor)["n1"] == before["n1"]


async def _until_true(condition, dask_scheduler):
    import asyncio

    async with asyncio.timeout(LIMIT):
        while not condition(dask_scheduler):
            await asyncio.sleep(0.05)
    return True


def test_data_that_nobody_could_make_again_is_brought_away_first(executor, gate):
    call, before = gate.call(), pids(executor)

    def loop():
        call("loop")
        sleep()

    address = next(
        a
        for a, info in executor.client.scheduler_info()["workers"].items()
        if info["name"] == "n0"
    )
    data = executor.client.scatter("precious", workers=[address], hash=False)
    run = executor.submit(on("n0", loop))
    gate.arrivals(1)
    gate.let()
    run.cancel()
    old = before["n0"]

    def renewed(scheduler):
        return any(w.name == "n0" and w.pid != old for w in scheduler.workers.values())

    assert executor.client.run_on_scheduler(_until_true, renewed)
    assert data.result(LIMIT) == "precious"


def test_what_ends_by_itself_in_time_keeps_its_worker(executor, gate):
    call, before = gate.call(), pids(executor)

    def wait():
        call("in")

    run = executor.submit(on("n0", wait))
    gate.arrivals(1)
    run.cancel()
    gate.let()
    assert executor.submit(on("n0", os.getpid)).wait(LIMIT)["f"] == before["n0"]

"""Two clients, each with an executor, on one cluster: no node is ever over-booked.

Functions enter what they hold in a ledger, a file for each node that one at a time may
change, and leave it when they end. So what runs at once is known apart from the books.
"""

import fcntl
import json
import multiprocessing
import os
import random
import signal
import sys

import cloudpickle
import pytest
from distributed import Client, get_worker
from distributed.diagnostics.plugin import SchedulerPlugin

import handout_dask as hd
from handout_dask import Function, Graph

pytestmark = pytest.mark.slow

ROOM = {"cpu": 4, "memory": 1000, "licence": 3, "gpus": 1}
ALLOCATORS = ["first-available", "load-balanced", "time"]
LIMIT = 120  # s after which a client hangs


class Ledger:
    """What functions hold on each node now, and the most that was."""

    def __init__(self, folder):
        self.folder = folder

    def change(self, node, amounts, sign=1):
        """Add to what is held, or take away."""
        with open(os.path.join(self.folder, node), "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            state = json.loads(file.read() or '{"held": {}, "most": {}}')
            held, most = state["held"], state["most"]
            for name, amount in {"functions": 1, **amounts}.items():
                held[name] = held.get(name, 0) + sign * amount
                most[name] = max(most.get(name, 0), held[name])
            file.seek(0)
            file.truncate()
            file.write(json.dumps(state))

    def read(self, node):
        with open(os.path.join(self.folder, node)) as file:
            state = json.loads(file.read())
        return state["held"], state["most"]


class Work:
    """Holds its amounts while it works; its value tells of all that it has read."""

    def __init__(self, ledger, amounts, value):
        self.ledger, self.amounts, self.value = ledger, amounts, value

    def __call__(self, *inputs):
        node = str(get_worker().name)
        self.ledger.change(node, self.amounts)
        sum(range(30_000))
        self.ledger.change(node, self.amounts, -1)
        return self.value + sum(inputs)


def _graph(ledger, seed, count=20):
    """A random graph, and the values that it has to give."""
    draw = random.Random(seed)
    functions, values = [], []
    for i in range(count):
        reads = draw.sample(range(i), min(i, draw.choice([0, 0, 1, 2])))
        holds = {
            "memory": draw.choice([100, 250, 400, 700, 1000]),
            "cpu": draw.choice([1, 1, 1, 2, 4]),
            "licence": draw.choice([0, 0, 1, 2, 3]),
            "gpus": draw.choice([0, 0, 0, 1]),
        }
        code = Work(ledger, holds, i)
        cost = {**holds, "cpu_time": draw.choice([1, 2, 50])}
        where = draw.choice([None, None, None, "n0", "n1"])
        functions.append(Function(i, reads, code, cost=cost, node=where))
        values.append(i + sum(values[u] for u in reads))
    return Graph(functions), dict(enumerate(values))


def _client(address, folder, seeds, ready, go):
    """What a client's process does; its exit code says whether all came out right."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ledger = Ledger(folder)
    with Client(address, set_as_default=False) as client:
        executors = [hd.Executor(client, allocator=name) for name in ALLOCATORS]
        ready.set()
        go.wait(LIMIT)
        runs = []
        for k, seed in enumerate(seeds):
            graph, values = _graph(ledger, seed)
            runs.append((executors[k % len(executors)].submit(graph), values))
        right = [dict(run.wait(LIMIT).results) == values for run, values in runs]
        for executor in executors:
            executor.close()
    sys.exit(0 if right == [True] * len(seeds) else 3)


class Watch(SchedulerPlugin):
    """Looks at the books whenever a task changes its state."""

    name = "watch"

    def __init__(self, scheduler):
        self.scheduler, self.looks, self.over = scheduler, 0, []

    def transition(self, key, start, finish, *args, **kwargs):
        tracker = self.scheduler.plugins["handout"].dispatcher.tracker
        self.looks += 1
        for node, rows in tracker.snapshot().items():
            for resource, (capacity, claimed, _) in rows.items():
                if claimed > capacity * (1 + 1e-9):
                    self.over.append((node, resource, claimed, capacity))


@pytest.fixture(scope="module")
def executor():
    with hd.Executor(nodes=[hd.Node(n, ROOM) for n in ("n0", "n1")]) as executor:
        yield executor


@pytest.fixture
def watch(executor):
    """``watch()``: how often it looked, and where more was claimed than there is."""

    def look(dask_scheduler):
        return dask_scheduler.plugins["watch"].looks, dask_scheduler.plugins[
            "watch"
        ].over

    async def begin(dask_scheduler):
        dask_scheduler.add_plugin(Watch(dask_scheduler))

    client = executor.client
    client.run_on_scheduler(begin)
    yield lambda: client.run_on_scheduler(look)
    client.run_on_scheduler(
        lambda dask_scheduler: dask_scheduler.remove_plugin("watch")
    )


@pytest.fixture
def clients(executor, tmp_path):
    """``clients(*seeds)``: starts a process for each list of seeds, all at once."""
    spawn, started = multiprocessing.get_context("spawn"), []

    def clients(*seeds):
        address, go = executor.client.scheduler.address, spawn.Event()
        flags = [spawn.Event() for _ in seeds]
        for each, flag in zip(seeds, flags, strict=True):
            args = (address, str(tmp_path), each, flag, go)
            started.append(spawn.Process(target=_client, args=args, daemon=True))
            started[-1].start()
        assert all(flag.wait(LIMIT) for flag in flags)
        go.set()
        return started[-len(seeds) :]

    yield clients
    for process in started:
        if process.is_alive():
            process.kill()
        process.join(LIMIT)


def _nothing_is_left(dask_scheduler):
    rows = dask_scheduler.plugins["handout"].dispatcher.tracker.snapshot().values()
    return not any(claimed for row in rows for _, claimed, _ in row.values())


def _never_too_much(ledger, watch):
    looks, over = watch()
    assert (looks > 0, over) == (True, [])
    for node in ("n0", "n1"):
        held, most = ledger.read(node)
        assert {name: most[name] <= has for name, has in ROOM.items()} == dict.fromkeys(
            ROOM, True
        )
        assert most["functions"] > 1  # nor is it done by running one at a time
        yield {name: amount for name, amount in held.items() if amount}


def test_random_graphs_of_two_processes_never_over_book_a_node(
    executor, clients, watch, until, tmp_path
):
    """6 executors of 2 clients, by 3 allocators, with 24 graphs at once."""
    processes = clients(range(12), range(100, 112))
    for process in processes:
        process.join(LIMIT)
    assert [process.exitcode for process in processes] == [0, 0]
    until(executor.client, _nothing_is_left)
    assert list(_never_too_much(Ledger(str(tmp_path)), watch)) == [{}, {}]


def test_a_process_that_is_killed_leaves_its_room_to_the_other_when_it_is_free(
    executor, clients, watch, until, tmp_path
):
    """What its functions hold is held until they have ended, which their threads do."""
    dies, lives = clients(range(200, 215), range(300, 306))
    name = "n0"
    until(
        executor.client, lambda s: s.plugins["handout"].dispatcher.nodes[name].running
    )
    os.kill(dies.pid, signal.SIGKILL)
    lives.join(LIMIT)
    assert lives.exitcode == 0
    until(executor.client, _nothing_is_left)
    assert list(_never_too_much(Ledger(str(tmp_path)), watch)) == [{}, {}]


def test_cancelled_runs_of_one_client_never_over_book_the_other(
    executor, watch, until, tmp_path
):
    """A client submits and cancels, again and again, while the other's graphs run."""
    ledger = Ledger(str(tmp_path))
    with (
        Client(executor.client.scheduler.address, set_as_default=False) as client,
        hd.Executor(client, allocator="load-balanced") as other,
    ):
        runs = [other.submit(_graph(ledger, seed)[0]) for seed in range(400, 408)]
        for seed in range(500, 520):
            executor.submit(_graph(ledger, seed)[0]).cancel()
        for run, seed in zip(runs, range(400, 408), strict=True):
            assert dict(run.wait(LIMIT).results) == _graph(ledger, seed)[1]
    until(executor.client, _nothing_is_left)
    assert list(_never_too_much(ledger, watch)) == [{}, {}]

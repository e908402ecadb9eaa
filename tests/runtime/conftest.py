"""What tests of execution share: gates, journals, quiet logs, and who is left behind.

Nothing here sleeps to wait: functions meet the test at a socket, write what they did to
a file, and the scheduler says when a condition holds.
"""

import logging
import os
import queue
import threading
import time
from multiprocessing.connection import Client as Connect
from multiprocessing.connection import Listener

import cloudpickle
import dask
import pytest
from distributed.utils import get_mp_context

import handout_dask as hd

LIMIT = 60  # s after which a test calls it a hang


@pytest.fixture(autouse=True, scope="module")
def _by_value(request):
    """Helpers of test modules travel by value: workers can't import the tests."""
    cloudpickle.register_pickle_by_value(request.module)
    yield
    cloudpickle.unregister_pickle_by_value(request.module)


@pytest.fixture(autouse=True, scope="session")
def _patient():
    """Cancelled functions that wait at a gate keep their worker, unless a test says so.

    Of what waits there for long, because the machine is slow, nothing is ended.
    """
    with dask.config.set({"handout.cancel-grace": None}):
        yield


@pytest.fixture(autouse=True, scope="module")
def _forked():
    """Workers are forked off a process that has imported what they need.

    To start one then costs a tenth. Those of processes that tests start are spawned, as
    they are by default: of the command line, README, notebooks, and all that are broken
    in tests/reliability.
    """
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        context = get_mp_context()  # says, the first time, what is to be imported
        context.set_forkserver_preload(["distributed", "handout_dask.runtime.probe"])
        yield


@pytest.fixture(autouse=True, scope="session")
def _quiet():
    """Workers tell of every exception; here they are meant."""
    for name in ("distributed.worker", "distributed.scheduler", "distributed.nanny"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class Gate:
    """Functions call at it and wait there; the test sees who came, and lets them on."""

    def __init__(self):
        self._listener = Listener(("127.0.0.1", 0), backlog=64)
        self._callers = queue.Queue()
        self._waiting = {}
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection = self._listener.accept()
                self._callers.put((connection.recv(), connection))
            except (OSError, EOFError):
                if self._listener is None:
                    return

    def call(self):
        """What a function calls: ``call(name)`` waits until it is let on."""
        address = self._listener.address

        def call(name):
            with Connect(address) as connection:
                connection.send(name)
                return connection.recv()

        return call

    def arrivals(self, count):
        """The names of the next callers, sorted; they wait."""
        names = []
        for _ in range(count):
            name, connection = self._callers.get(timeout=LIMIT)
            self._waiting[name] = connection
            names.append(name)
        return sorted(names)

    def nobody(self):
        """Whether nobody else has come so far."""
        return self._callers.empty()

    def let(self, *names):
        """Let callers on who wait; all, if none is named."""
        for name in names or list(self._waiting):
            connection = self._waiting.pop(name)
            connection.send(name)
            connection.close()

    def close(self):
        listener, self._listener = self._listener, None
        for connection in self._waiting.values():
            connection.close()
        while not self._callers.empty():
            self._callers.get()[1].close()
        listener.close()


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.close()


class Journal:
    """A file into which functions on all nodes write lines."""

    def __init__(self, path):
        self.path = path

    def __call__(self, *words):
        line = " ".join(map(str, words)) + "\n"
        with open(self.path, "a") as file:
            file.write(line)

    def stamp(self, *words):
        """Write with the time; the clock is the same for all processes."""
        self(f"{time.monotonic():.9f}", *words)

    def lines(self):
        if not os.path.exists(self.path):
            return []
        with open(self.path) as file:
            return file.read().splitlines()

    def most_at_once(self, begin="begin", end="end"):
        """How many were between begin and end at once, of stamped lines."""
        events = sorted(
            (float(t), what) for t, what, *_ in map(str.split, self.lines())
        )
        level = most = 0
        for _, what in events:
            level += (what == begin) - (what == end)
            most = max(most, level)
        return most


@pytest.fixture
def journal(tmp_path):
    return Journal(str(tmp_path / "journal"))


async def _until(condition, limit, dask_scheduler):
    import asyncio
    from contextlib import suppress

    from distributed.diagnostics.plugin import SchedulerPlugin

    changed = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Watch(SchedulerPlugin):
        name = f"watch-{id(changed)}"

        def transition(self, *args, **kwargs):
            loop.call_soon(changed.set)

        add_worker = remove_worker = remove_client = log_event = transition

    watch = Watch()
    dask_scheduler.add_plugin(watch)
    try:
        async with asyncio.timeout(limit):
            while not condition(dask_scheduler):
                changed.clear()
                with suppress(TimeoutError):  # not all that changes is an event
                    await asyncio.wait_for(changed.wait(), 0.1)
    except TimeoutError:
        return False
    finally:
        dask_scheduler.remove_plugin(watch.name)
    return True


@pytest.fixture(scope="session")
def until():
    """``until(client, condition)``: wait until ``condition(scheduler)`` holds there."""

    def until(client, condition, limit=LIMIT):
        assert client.run_on_scheduler(_until, condition, limit), "it never came true"

    return until


@pytest.fixture(scope="session")
def claimed():
    """``claimed(executor)``: what runs hold, by node and resource."""

    def claimed(executor):
        return {
            (row["node"], row["resource"]): row["claimed"]
            for row in executor.resources()
            if row["claimed"]
        }

    return claimed


@pytest.fixture
def caught():
    """``caught(error, call, *args)``: the exception that a call raises."""

    def caught(kind, call, *args, **kwargs):
        with pytest.raises(kind) as info:
            call(*args, **kwargs)
        return info.value

    return caught


@pytest.fixture(scope="session")
def three():
    """Two nodes of one slot, one of four; workers say where they are by name."""
    return [
        hd.Node("n0", {"cpu": 1, "memory": 1000}),
        hd.Node("n1", {"cpu": 1, "memory": 1000}),
        hd.Node("wide", {"cpu": 4, "memory": 1000, "camera": 1}),
    ]


@pytest.fixture(scope="session")
def long_logs():
    """Workers log everything they do, not only the last thousand things."""
    with dask.config.set({"distributed.admin.low-level-log-length": 10**6}):
        yield


@pytest.fixture(scope="module")
def executor(three, long_logs):
    with hd.Executor(nodes=three) as executor:
        yield executor


@pytest.fixture(scope="module")
def own():
    """Every function runs in a process of its own."""
    with hd.Executor(nodes=[hd.Node("n0", {"cpu": 1, "memory": 4000})]) as executor:
        executor._own_process = True
        yield executor


@pytest.fixture(scope="module")
def held():
    """Those that declare memory do, held to it, and don't get more of it."""
    nodes = [hd.Node("n0", {"cpu": 1, "memory": 4000})]
    once = hd.RetryPolicy(memory_attempts=1)
    with hd.Executor(nodes=nodes, enforce_memory=True, retry=once) as executor:
        yield executor

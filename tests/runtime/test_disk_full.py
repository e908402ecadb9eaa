"""Workers whose disk is full: nothing that was computed is lost, and errors say so.

Reliability, R14. What needs a small file system mounts one, or is skipped.
"""

import asyncio
import errno
import os
import shutil
import subprocess
import time
from collections import namedtuple

import dask
import numpy as np
import pytest
from distributed import Scheduler, Worker
from distributed.spill import SpillBuffer

import handout_dask as hd
from handout_dask import Function, Graph
from handout_dask.runtime import spilling
from handout_dask.runtime.spilling import Spilling

pytestmark = pytest.mark.slow

SIZE = 30_000_000  # bytes of a result
Usage = namedtuple("Usage", "total used free")


# ------------------------------------------------------------------------ one worker
@pytest.fixture
def guarded(tmp_path):
    """``guarded(check)``: runs it with a worker that holds 1000 bytes, guarded."""

    def guarded(check):
        async def main():
            async with (
                Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler,
                Worker(
                    scheduler.address, host="127.0.0.1", nthreads=1,
                    memory_limit=10**9, local_directory=str(tmp_path),
                ) as worker,
            ):  # fmt: skip
                worker.data.fast.n = 1000
                guard = Spilling(worker)
                check(worker, guard)
                guard.stop()
                assert type(worker.data) is SpillBuffer

        asyncio.run(main())

    return guarded


def block(k):
    return bytes([k]) * 600


def files(worker):
    folder = os.path.join(worker.local_directory, "storage")
    return {name: os.path.getsize(os.path.join(folder, name))
            for name in os.listdir(folder)}  # fmt: skip


def full(monkeypatch):
    usage = Usage(100, 100, 0)
    monkeypatch.setattr(spilling.shutil, "disk_usage", lambda path: usage)


def test_a_disk_that_is_full_keeps_results_in_memory_and_is_counted(
    guarded, monkeypatch
):
    def check(worker, guard):
        worker.data["a"] = block(1)
        worker.data["b"] = block(2)
        assert list(worker.data.disk) == ["a"]
        with monkeypatch.context() as patch:
            full(patch)
            worker.data["c"] = block(3)
            assert guard.told()["failures"] == 1
        assert {k: worker.data[k] for k in "abc"} == dict(
            zip("abc", map(block, (1, 2, 3)), strict=True)
        )
        told = guard.told()
        assert told["path"] == worker.local_directory
        assert told["free"] == pytest.approx(
            shutil.disk_usage(worker.local_directory).free / 1e6, rel=0.05
        )

    guarded(check)


def test_what_is_on_disk_can_be_read_when_nothing_more_can_be_written(
    guarded, monkeypatch
):
    """Dask's own raises here, of the one that would have to make room."""

    def check(worker, guard):
        worker.data["a"] = block(1)
        worker.data["b"] = block(2)  # "a" is on disk
        full(monkeypatch)
        assert worker.data["a"] == block(1)
        assert worker.data["b"] == block(2)

    guarded(check)


def test_what_could_not_be_written_whole_leaves_no_file(guarded, monkeypatch):
    def torn(self, key, value):
        name = os.path.join(self.directory, self._safe_key(key))
        with open(name, "wb") as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", name)

    def check(worker, guard):
        monkeypatch.setattr(spilling.AnyKeyFile, "__setitem__", torn)
        for k in range(5):
            worker.data[f"k{k}"] = block(k)
        assert files(worker) == {}
        assert guard.told()["failures"] >= 4
        assert {k: worker.data[f"k{k}"] for k in range(5)} == {
            k: block(k) for k in range(5)
        }

    guarded(check)


def test_a_worker_that_keeps_its_data_elsewhere_is_left_alone(tmp_path):
    async def main():
        async with (
            Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler,
            Worker(scheduler.address, host="127.0.0.1", nthreads=1, data=dict,
                   local_directory=str(tmp_path)) as worker,
        ):  # fmt: skip
            guard = Spilling(worker)
            assert type(worker.data) is dict
            assert guard.told()["spilled"] == 0.0
            guard.stop()

    asyncio.run(main())


# ------------------------------------------------------------------------- real disks
@pytest.fixture
def small_disk(tmp_path):
    """A file system of 100 MB."""
    path = tmp_path / "small"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(path)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, timeout=30)
    except OSError as error:
        pytest.skip(f"can't mount a small file system: {error}")
    if done.returncode:
        pytest.skip(f"can't mount a small file system: {done.stderr.strip()}")
    yield str(path)
    subprocess.run(["umount", "-l", str(path)], timeout=30, check=False)


@pytest.fixture
def executor(small_disk):
    """Two nodes of 350 MB that spill to one disk of 100 MB."""
    nodes = [hd.Node(f"n{j}", {"cpu": 1, "memory": 100}) for j in range(2)]
    with (
        dask.config.set({"temporary-directory": small_disk}),
        hd.Executor(nodes=nodes) as executor,
    ):
        yield executor


def make(k):
    return np.full(SIZE, k, dtype=np.uint8)


@pytest.mark.slow
def test_what_does_not_fit_is_an_error_that_names_the_disk_and_the_rest_is_kept(
    executor, small_disk, journal
):
    """900 MB for nodes that hold 300 MB, and a disk of 100 MB."""

    def code(k):
        journal("ran", k)
        return make(k)

    begin = time.monotonic()
    run = executor.submit(Graph(Function(k, [], code, extra_args=[k])
                                for k in range(30)))  # fmt: skip
    run.wait(100)
    print(f"\nended after {time.monotonic() - begin:.1f} s: {run.progress}")
    done = [span.function for span in run.spans if span.outcome == "done"]
    assert 0 < len(set(done)) < 30
    for k in sorted(set(range(30)) - set(done)):
        with pytest.raises(hd.ResourceExhaustedError) as info:
            run[k]
        assert info.value.resource == "disk"
        assert small_disk in str(info.value)
        assert f"function {k} " in str(info.value)
    for k in sorted(set(done)):
        assert int(run[k].max()) == k  # none is lost
    assert len(journal.lines()) == len(set(done))  # nor computed again


@pytest.mark.stress
@pytest.mark.slow
def test_what_is_consumed_in_time_fits_by_back_pressure(executor):
    """900 MB pass through nodes that hold 300 MB, and a disk of 100 MB."""
    functions = [Function(("make", k), [], make, extra_args=[k]) for k in range(30)]
    functions += [
        Function(("sum", k), [(("make", k), None)], lambda x: int(x.sum(dtype=int)))
        for k in range(30)
    ]
    functions.append(
        Function("all", [(("sum", k), None) for k in range(30)], lambda *x: sum(x))
    )
    run = executor.submit(Graph(functions), keep="sinks")
    assert run.wait(100)["all"] == SIZE * sum(range(30))
    assert run.progress.failed == 0


@pytest.mark.slow
def test_a_function_that_fills_the_disk_itself_fails_alone(executor, small_disk):
    def fill():
        with open(os.path.join(small_disk, "big"), "wb") as file:
            while True:
                file.write(bytes(10_000_000))

    run = executor.submit(
        Graph([Function("fill", [], fill), Function("other", [], lambda: 1)])
    )
    run.wait(60)
    with pytest.raises(
        (OSError, hd.ResourceExhaustedError), match="No space left|disk"
    ):
        run["fill"]
    os.remove(os.path.join(small_disk, "big"))
    assert run["other"] == 1

"""Dask's cluster ends the nanny of a worker only if it stays away."""

import os
import signal
import threading

import dask
import pytest
from distributed import LocalCluster

import handout_dask as hd
from benchmarks.breaking.cluster import until
from handout_dask import Function, Graph
from handout_dask.runtime.absences import HEARS, PATIENCE

pytestmark = pytest.mark.timeout(120)

LIMIT = 30  # s after which a test calls it a hang
SOON = 0.2  # s, Dask's patience with a worker that is away


@pytest.fixture
def cluster():
    with (
        dask.config.set({PATIENCE: f"{SOON}s"}),
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
    ):
        yield cluster


def hear(cluster, *news):
    """Let the cluster hear this, and wait until it has looked who is away.

    Each is heard so many times `SOON` after the first; timers keep their order.
    """
    looked = threading.Event()

    def begin():
        for when, op, address in news:
            told = {"workers": {address: {"name": 0}}} if op == "add" else address
            cluster.loop.call_later(when * SOON, getattr(cluster, HEARS), op, told)
        cluster.loop.call_later((news[-1][0] + 1.5) * SOON, looked.set)

    cluster.loop.add_callback(begin)
    assert looked.wait(LIMIT)


def address_of(cluster):
    return next(iter(cluster.scheduler_info["workers"]))


def test_a_worker_that_came_and_went_again_is_waited_for(cluster):
    workers, first = dict(cluster.workers), address_of(cluster)
    news = (0, "remove", first), (0.2, "add", "x"), (0.5, "remove", "x")
    with hd.Executor(cluster):
        hear(cluster, *news, (1.2, "add", first))
        assert cluster.workers == workers


def test_a_worker_that_stays_away_is_lost(cluster):
    with hd.Executor(cluster):
        cluster.loop.add_callback(cluster.workers[0].close)
        until(lambda: not cluster.workers, LIMIT, "it is taken for lost")


def test_the_last_executor_leaves_the_cluster_as_it_was(cluster):
    first, second = hd.Executor(cluster), hd.Executor(cluster)
    assert HEARS in vars(cluster)
    first.close()
    assert HEARS in vars(cluster)
    second.close()
    assert HEARS not in vars(cluster)


@pytest.mark.slow
def test_no_slot_is_lost_where_workers_die_again_and_again():
    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    with (
        dask.config.set({PATIENCE: "8s"}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        hd.Executor(cluster) as executor,
    ):
        run = executor.submit(Graph([Function("f", [], die)]))
        run.wait(90)
        assert run.status == "failed"
        until(lambda: len(cluster.scheduler.workers) == 2, LIMIT, "both are there")
        assert [*cluster.workers] == [0, 1]

"""Clusters of others are watched, and asked to mend themselves, if they can."""

import logging
import threading
import time

import pytest
from distributed import Client, LocalCluster, Scheduler, SpecCluster, Worker

import handout_dask as hd
from handout_dask import Function, Graph, RestartPolicy, Supervisor

pytestmark = pytest.mark.slow


def wait_for(condition, limit=30.0):
    until = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < until, "it never came true"
        threading.Event().wait(0.02)


@pytest.fixture
def spec():
    """A cluster of somebody's own class, with its own names."""
    worker = {"cls": Worker, "options": {"nthreads": 1, "dashboard": False}}
    scheduler = {"cls": Scheduler, "options": {"dashboard": False, "port": 0}}
    with SpecCluster(
        workers={"x": worker, 7: worker}, worker=worker, scheduler=scheduler
    ) as cluster:
        yield cluster


def lose(cluster, key):
    """A worker goes, and nobody told the cluster."""
    cluster.sync(cluster.workers[key].close)


def child(adopted, name):
    return next(row for row in adopted.children() if row["name"] == name)


def states(adopted):
    return {row["name"]: row["state"] for row in adopted.children()}


def test_a_lost_worker_is_told_of_with_the_reason(spec, caplog):
    with (
        Supervisor.adopt(spec, patience=0.1) as adopted,
        hd.Executor(adopted) as executor,
    ):
        assert executor.execute(Graph([Function("a", [], lambda: 1)]))["a"] == 1
        assert states(adopted) == {"x": "up", "7": "up"}
        with caplog.at_level(logging.WARNING):
            lose(spec, 7)
            wait_for(lambda: states(adopted) == {"x": "up", "7": "ended"})
        row = child(adopted, "7")
        assert (row["kind"], row["pid"], row["restarts"]) == ("temporary", None, 0)
        assert row["last"].how == "died"
        assert "7 (process" in caplog.text
        assert "died: the scheduler says: " in caplog.text
        assert executor.execute(Graph([Function("a", [], lambda: 1)]))["a"] == 1
    assert spec.status.name == "running"


def test_what_the_cluster_specifies_is_brought_back_by_it_if_wanted(spec):
    policy = RestartPolicy(1, 600)
    with Supervisor.adopt(spec, policy, patience=0.1) as adopted:
        lose(spec, "x")
        wait_for(lambda: child(adopted, "x")["restarts"] == 1)
        wait_for(lambda: states(adopted) == {"x": "up", "7": "up"})
        lose(spec, "x")
        wait_for(lambda: states(adopted)["x"] == "given up")


class Pool:
    """A cluster that can do no more than scale."""

    def __init__(self, inner):
        self._inner, self.asked = inner, []
        self.scheduler_address, self.loop = inner.scheduler_address, inner.loop
        self.security, self.status = inner.security, inner.status

    def scale(self, n):
        self.asked.append(n)
        self._inner.worker_spec["more"] = self._inner.worker_spec["x"]
        self._inner.loop.add_callback(self._inner._correct_state)


def test_a_cluster_that_can_but_scale_is_asked_for_as_many_as_there_were(spec):
    pool = Pool(spec)
    with Client(pool.scheduler_address, set_as_default=False) as client:
        client.cluster = pool
        with Supervisor.adopt(client, RestartPolicy(5), patience=0.1) as adopted:
            lose(spec, 7)
            wait_for(lambda: pool.asked)
            wait_for(lambda: states(adopted).get("more") == "up")
            assert {*pool.asked} == {2}
        client.cluster = None


def test_of_an_address_it_can_only_tell(spec):
    address = spec.scheduler_address
    with Supervisor.adopt(address) as adopted:
        lose(spec, 7)
        wait_for(lambda: states(adopted)["7"] == "away")
        assert child(adopted, "7")["last"].how == "died"


def test_a_worker_that_its_own_nanny_starts_again_is_up_again():
    with (
        LocalCluster(1, threads_per_worker=1, dashboard_address=":0") as local,
        Supervisor.adopt(local, RestartPolicy(), patience=60.0) as adopted,
        hd.Executor(adopted),
    ):
        import os
        import signal

        before = adopted.children()[0]["pid"]
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: adopted.children()[0]["pid"] not in (None, before))
        row = adopted.children()[0]
        assert (row["state"], row["restarts"]) == ("up", 0)
        assert row["last"].pid == before


def test_what_makes_no_sense_is_refused(spec, caught):
    error = caught(hd.HandoutError, Supervisor.adopt, spec, restart=3)
    assert "restart=3 must be a RestartPolicy" in str(error)
    address = spec.scheduler_address
    error = caught(hd.HandoutError, Supervisor.adopt, address, restart=RestartPolicy())
    assert "restart needs a cluster object that can scale, not 'tcp" in str(error)

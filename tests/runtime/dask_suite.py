"""A pytest plugin: Dask's own tests run on a cluster, with the library or without.

With ``HANDOUT_SUITE=installed`` every task is planned, however short. Computations that
name a local scheduler go to the cluster too. What was run is written as JSON into the
file that ``HANDOUT_SUITE_REPORT`` names.
"""

import json
import logging
import os

import dask
from distributed import Client, LocalCluster
from distributed.diagnostics.plugin import SchedulerPlugin

LOCAL = ("sync", "synchronous", "single-threaded", "threads", "threading")


class Count(SchedulerPlugin):
    """Counts tasks that were computed, and those of them that were planned."""

    name = "count"

    def __init__(self):
        self.computed = self.planned = 0

    def start(self, scheduler):
        self.scheduler = scheduler

    def transition(self, key, start, finish, *args, **kwargs):
        if (start, finish) == ("processing", "memory"):
            self.computed += 1
        elif (start, finish) == ("no-worker", "processing"):
            self.planned += 1


class Suite:
    """The cluster, from the beginning of the session to its end."""

    def __init__(self):
        dask.config.set({"distributed.scheduler.validate": True})
        for name in ("distributed.worker", "distributed.scheduler"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.cluster = LocalCluster(
            n_workers=2, threads_per_worker=2, processes=False, dashboard_address=None
        )
        self.client = Client(self.cluster)
        self.client.register_plugin(Count())
        for name in LOCAL:
            dask.base.named_schedulers[name] = self.client.get
        self.installed = None
        if os.environ.get("HANDOUT_SUITE") == "installed":
            import handout_dask as hd
            from handout_dask.runtime import spared

            spared.LIGHT = -1.0  # in-process, so the scheduler's too
            self.installed = hd.install(self.client, uncosted="learn")
        self.outcomes = {}

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            # Of tests outside the root folder a nodeid lacks the module.
            self.outcomes[f"{report.location[0]}:{report.nodeid}"] = report.outcome

    def pytest_unconfigure(self):
        def counted(dask_scheduler):
            count = dask_scheduler.plugins["count"]
            return {"computed": count.computed, "planned": count.planned}

        told = self.client.run_on_scheduler(counted)
        if self.installed is not None:
            self.installed.close()
        self.client.close()
        self.cluster.close()
        with open(os.environ["HANDOUT_SUITE_REPORT"], "w") as file:
            json.dump({"outcomes": self.outcomes, **told}, file)


def pytest_configure(config):
    config.pluginmanager.register(Suite(), "handout-suite")

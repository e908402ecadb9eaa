"""What tests of reliability share: clusters of real processes, and scenarios on them.

What is done is in `benchmarks.breaking`, which the benchmark shares, so that the times
which that shows are those of what is tested here. A scenario that needs network
namespaces or a small disk is skipped, with the reason, where they can't be made.
"""

import logging
from contextlib import ExitStack

import pytest

from benchmarks.breaking import functions, graphs, network, nodes, runs, survival
from benchmarks.breaking.cluster import until
from benchmarks.breaking.scene import ROWS, cluster_of
from benchmarks.breaking.ways import Planned

assert {functions, graphs, network, nodes, runs, survival}  # they fill the table
SETTLE = 20  # s after which what is left behind counts as leaked


@pytest.fixture(autouse=True, scope="session")
def _quiet():
    """Dask tells of every loss; here they are meant."""
    for name in ("distributed", "distributed.core", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class Clusters:
    """One cluster at a time, of the kind that was asked for last."""

    def __init__(self):
        self._stack, self._shape, self._cluster = ExitStack(), "", None

    def get(self, shape):
        if self._shape != shape:
            self.close()
            try:
                self._cluster = self._stack.enter_context(cluster_of(shape))
            except OSError as error:
                pytest.skip(str(error))
            self._shape = shape
        return self._cluster

    def close(self):
        self._shape = ""
        self._stack.close()
        self._stack = ExitStack()


@pytest.fixture(scope="session")
def clusters():
    clusters = Clusters()
    yield clusters
    clusters.close()


def no_claims(executor):
    """Wait until nothing is claimed."""

    def nothing():
        return not any(row["claimed"] for row in executor.resources())

    until(nothing, SETTLE, "nothing is claimed")


@pytest.fixture
def play(clusters):
    """``play(scenario, **options of the executor)``: what came of it."""

    def play(scenario, **options):
        (row,) = [row for row in ROWS if row.play is scenario]
        try:
            with Planned(clusters.get(row.shape), **options) as way:
                seen = scenario(way, row.limit)
                no_claims(way.executor)
        except BaseException:  # the next one shall not find what this one left
            clusters.close()
            raise
        if not seen.exact:
            clusters.close()
        return seen

    return play

"""Laws of how workers and declarations make nodes."""

import numpy as np
import pytest

from handout_dask.node import Cluster, Node
from handout_dask.runtime.nodes import WorkerInfo, cluster_of, node_of
from handout_dask.traffic import FIRST_COST, Traffic

INFO = WorkerInfo("w", 4, 8_000_000_000, {"camera": 1.0})


def test_undeclared_worker_has_what_it_says():
    node = node_of(INFO)
    assert node == Node("w", {"cpu": 4, "memory": 8000, "camera": 1}, slots=4)


def test_worker_without_memory_limit_is_not_limited_by_memory():
    assert node_of(WorkerInfo("w", 1, None, {})) == Node("w", {"cpu": 1}, slots=1)


def test_declared_worker_has_what_is_declared_over_what_it_says():
    node = node_of(INFO, Node("w", {"memory": 500, "gpus": 1}, speed=2, price=3))
    has = {"memory": 500, "camera": 1, "gpus": 1}
    assert node == Node("w", has, speed=2, price=3, slots=4)


def test_declared_slots_count_up_to_the_threads_of_the_worker():
    slots = [
        node_of(INFO, Node("w", {}, slots=2)).slots,
        node_of(INFO, Node("w", {"cpu": 3})).slots,
        node_of(INFO, Node("w", {"cpu": 16})).slots,
        node_of(INFO, Node("w", {})).slots,
    ]
    assert slots == [2, 3, 4, 4]


def test_declared_links_and_order_hold_for_nodes_that_are_there():
    declared = Cluster(
        [Node("a"), Node("b"), Node("c")],
        [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
        [[0, 10, 20], [30, 0, 40], [50, 60, 0]],
        billing="held",
        quantum=60,
    )
    traffic = Traffic(100.0)
    traffic.declare(declared)
    found = cluster_of([Node("x"), Node("c"), Node("a")], traffic, declared)
    assert [node.name for node in found.nodes] == ["a", "c", "x"]
    off = ~np.eye(3, dtype=bool)
    assert found.bandwidth[off].tolist() == [3, 100, 7, 100, 100, 100]
    cost = 1e3 * FIRST_COST
    late = [20 + cost, cost, 50 + cost, cost, cost, cost]
    assert found.latency[off].tolist() == pytest.approx(late)
    assert (found.billing, found.quantum) == ("held", 60)

"""Laws of how workers and declarations make nodes."""

import numpy as np
import pytest

from handout_dask.node import Cluster, Node
from handout_dask.runtime.nodes import Finds, WorkerInfo, cluster_of, node_of
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


# ------------------------------------------------------------------ what was found
def test_what_was_found_counts_where_nobody_declares():
    found = WorkerInfo("w", 2, None, {}, gpu_memory=40e3, speed=1.5)
    has = {"cpu": 2, "gpus": 1, "gpu_memory": 40e3, "has_cuda": True}
    assert node_of(found) == Node("w", has, speed=1.5, slots=2)
    assert node_of(found, Node("w")) == Node("w", {}, slots=2)
    own = WorkerInfo("w", 2, None, {"gpu_memory": 100}, gpu_memory=40e3)
    assert node_of(own).capacity("gpu_memory") == 100


def test_speeds_are_relative_to_the_first_and_alike_for_hosts_that_are():
    finds = Finds()
    assert finds.of("a") == (None, 1.0)
    assert [finds.tell("a", {}), finds.tell("a", {})] == [True, False]
    told = {"a": 100.0, "b": 114.0, "c": 87.0, "d": 200.0, "e": 220.0, "f": 50.0}
    news = [finds.tell(name, {"rate": rate}) for name, rate in told.items()]
    assert {name: finds.of(name)[1] for name in told} == {
        "a": 1.0, "b": 1.0, "c": 1.0, "d": 2.0, "e": 2.0, "f": 0.5
    }  # fmt: skip
    assert news == [False, True, True, True, True, True]
    assert not any(finds.tell(name, {"rate": rate}) for name, rate in told.items())
    finds.forget("a")
    assert (finds.knows("a"), finds.of("a"), finds.of("d")[1]) == (False, (None, 1), 2)


def test_a_device_is_the_first_nodes_that_found_it():
    finds, device = Finds(), {"device": "GPU-0", "gpu_memory": 40.0}
    assert [finds.tell(name, device) for name in "ab"] == [True, True]
    assert [finds.of(name)[0] for name in "ab"] == [40.0, None]
    finds.forget("b")
    finds.tell("b", device)
    finds.forget("a")
    assert finds.of("b")[0] is None
    assert [finds.tell("b", device), finds.tell("b", device)] == [True, False]
    assert finds.of("b")[0] == 40.0

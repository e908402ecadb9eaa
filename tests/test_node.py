"""Laws of nodes and clusters: what is absent, and what is refused."""

import math

import numpy as np
import pytest

from handout_dask import Cluster, CostError, Node


@pytest.mark.parametrize(
    ("capabilities", "resource", "capacity", "has"),
    [
        ({}, "cpu", math.inf, False),
        ({}, "memory", math.inf, False),
        ({}, "slots", 1.0, False),
        ({}, "gpus", 0.0, False),
        ({}, "gpu_memory", 0.0, False),
        ({}, "disk_io", 0.0, False),
        ({}, "camera", 0.0, False),
        ({"cpu": 2.5}, "cpu", 2.5, True),
        ({"cpu": 2.5}, "slots", 2.0, False),
        ({"memory": "8 GB"}, "memory", 8000.0, True),
        ({"memory": 0}, "memory", 0.0, False),
        ({"has_cuda": True}, "gpus", 1.0, True),
        ({"has_cuda": True, "gpus": 4}, "gpus", 4.0, True),
        ({"has_cuda": False}, "gpus", 0.0, False),
        ({"camera": 2}, "camera", 2.0, True),
        ({"camera": 0}, "camera", 0.0, False),
        ({"ssd": True}, "ssd", 1.0, True),
        ({"ssd": np.False_}, "ssd", 0.0, False),
    ],
)
def test_absent_is_unlimited_for_cpu_and_memory_only(
    capabilities, resource, capacity, has
):
    node = Node("n", capabilities)
    assert (node.capacity(resource), node.has(resource)) == (capacity, has)


@pytest.mark.parametrize(
    ("capabilities", "given", "slots"),
    [
        ({}, None, 1),
        ({"cpu": 4}, None, 4),
        ({"cpu": 4.9}, None, 4),
        ({"cpu": 0.5}, None, 1),
        ({"cpu": 4}, 9, 9),
        ({"cpu": 4}, 2.0, 2),
    ],
)
def test_slots_are_the_floor_of_cpu_unless_given(capabilities, given, slots):
    assert Node("n", capabilities, slots=given).slots == slots


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"capabilities": {"cpu": -1}}, "cpu=-1 must be finite and not negative"),
        ({"capabilities": {"cpu": True}}, "cpu=True must be a number, not a bool"),
        ({"capabilities": {"memory": np.True_}}, "must be a number, not a bool"),
        ({"capabilities": {"memory": "8 XB"}}, "unknown unit 'XB'"),
        ({"capabilities": {"zone": "eu"}}, "zone='eu' is not a number with a unit"),
        ({"capabilities": {"gpus": 0.5}}, "gpus=0.5 must be a whole number"),
        ({"capabilities": {5: 1}}, "capability 5 must be a text"),
        (
            {"capabilities": ["cpu"]},
            "capabilities must be a mapping such as {'cpu': 4}",
        ),
        ({"speed": 0}, "speed must be above 0"),
        ({"gpu_speed": 0}, "gpu_speed must be above 0"),
        ({"speed": float("nan")}, "speed=nan must be finite and not negative"),
        ({"price": -1}, "price=-1 must be finite and not negative"),
        ({"watts": "x"}, "watts='x' is not a number"),
        ({"slots": 0}, "slots=0 must be an integer above 0"),
        ({"slots": 1.5}, "slots=1.5 must be an integer above 0"),
        ({"slots": True}, "slots=True must be a number, not a bool"),
    ],
)
def test_nonsense_is_an_error_that_names_node_and_key(fields, text):
    with pytest.raises(CostError) as caught:
        Node("n0", **fields)
    assert str(caught.value).startswith("node 'n0': ")
    assert text in str(caught.value)


@pytest.mark.parametrize("name", ["", 5, None])
def test_a_name_is_a_text(name):
    with pytest.raises(CostError, match="must be a text"):
        Node(name)


def test_names_differ_in_a_cluster():
    with pytest.raises(CostError, match=r"^two nodes are named 'a'$"):
        Cluster([Node("a"), Node("b"), Node("a")])


def test_a_cluster_holds_nodes():
    with pytest.raises(CostError, match=r"^a cluster holds Node objects, not 'a'$"):
        Cluster(["a"])


def test_links_are_a_number_or_a_matrix():
    nodes = [Node("a"), Node("b")]
    cluster = Cluster(nodes, bandwidth=10, latency=[[9, 1], [2, 9]])
    assert cluster.bandwidth.tolist() == [[10.0, 10.0], [10.0, 10.0]]
    assert cluster.latency.tolist() == [[9.0, 1.0], [2.0, 9.0]]
    assert (len(cluster), cluster["b"], cluster.index) == (
        2,
        nodes[1],
        {"a": 0, "b": 1},
    )
    assert repr(cluster) == "<Cluster of 2 nodes>"


def test_diagonals_are_ignored():
    nan = float("nan")
    Cluster(
        [Node("a"), Node("b")],
        bandwidth=[[0, 1], [1, nan]],
        latency=[[-1, 0], [0, math.inf]],
    )


def test_a_matrix_is_copied():
    latency = np.ones((1, 1))
    cluster = Cluster([Node("a")], latency=latency)
    latency[0, 0] = 5
    assert cluster.latency.tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("links", "text"),
    [
        ({"bandwidth": [1, 2]}, "bandwidth has shape (2,); there are 2 nodes"),
        ({"latency": np.ones((3, 3))}, "latency has shape (3, 3); there are 2 nodes"),
        ({"bandwidth": [[1, 2], [3]]}, "bandwidth must be a number or a matrix"),
        ({"bandwidth": "fast"}, "bandwidth must be a number or a matrix, not 'fast'"),
        ({"bandwidth": 0}, "bandwidth must be above 0 between every two nodes"),
        ({"bandwidth": [[1, 0], [1, 1]]}, "bandwidth must be above 0"),
        ({"bandwidth": -1}, "bandwidth=-1.0 must be finite and not negative"),
        ({"bandwidth": math.inf}, "bandwidth=inf must be finite and not negative"),
        ({"latency": [[0, -1], [0, 0]]}, "latency must be finite and not negative"),
        ({"latency": [[0, 1], [math.nan, 0]]}, "latency must be finite"),
        (
            {"billing": "monthly"},
            "billing 'monthly' must be one of ('function', 'held')",
        ),
        ({"quantum": -1}, "quantum=-1 must be finite and not negative"),
    ],
)
def test_malformed_links_and_billing_are_errors(links, text):
    with pytest.raises(CostError) as caught:
        Cluster([Node("a"), Node("b")], **links)
    assert text in str(caught.value)


def test_an_empty_cluster_is_a_cluster():
    assert (len(Cluster([])), Cluster([]).bandwidth.shape) == (0, (0, 0))


def test_a_cluster_with_other_nodes_keeps_the_links_that_it_knows():
    bandwidth = [[0, 10, 20], [30, 0, 40], [50, 60, 0]]
    old = Cluster([Node(n) for n in "abc"], bandwidth, 2.0, billing="held", quantum=5)
    new = old.with_nodes([Node("c"), Node("x"), Node("a", speed=2)])
    assert [node.name for node in new.nodes] == ["c", "x", "a"]
    assert (new["a"].speed, new.billing, new.quantum) == (2, "held", 5)
    off = ~np.eye(3, dtype=bool)
    assert new.bandwidth[off].tolist() == [35, 50, 35, 35, 20, 35]
    assert set(new.latency[off]) == {2.0}
    alone = Cluster([]).with_nodes([Node("a"), Node("b")])
    assert alone.bandwidth[0, 1] == 125

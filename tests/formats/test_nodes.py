"""Laws of `read_nodes`."""

import json

import pytest

from handout_dask.errors import CostError
from handout_dask.formats.nodes import read_nodes
from handout_dask.node import Node

TOML = """
[[node]]
name = "gpu"
speed = 2.0
gpu_speed = 3.0
kind = "a100"
price = 1.20
watts = 300
slots = 4
count = 2
[node.capabilities]
cpu = 8
memory = 64000
gpus = 1
gpu_memory = 40000
has_cuda = true
camera = 1

[[node]]
name = "cpu"

[network]
bandwidth = [[0, 2, 3], [4, 0, 6], [7, 8, 0]]
latency = 1.5

[billing]
model = "held"
quantum = 60
"""


@pytest.fixture
def toml(tmp_path):
    path = tmp_path / "nodes.toml"
    path.write_text(TOML)
    return path


def test_file_declares_nodes_links_and_billing(toml):
    cluster = read_nodes(toml)
    gpu = {
        "capabilities": {
            "cpu": 8,
            "memory": 64000,
            "gpus": 1,
            "gpu_memory": 40000,
            "has_cuda": True,
            "camera": 1,
        },
        "speed": 2.0,
        "gpu_speed": 3.0,
        "kind": "a100",
        "price": 1.2,
        "watts": 300,
        "slots": 4,
    }
    assert cluster.nodes == (Node("gpu-0", **gpu), Node("gpu-1", **gpu), Node("cpu"))
    assert cluster.bandwidth.tolist() == [[0, 2, 3], [4, 0, 6], [7, 8, 0]]
    assert cluster.latency.tolist() == [[1.5] * 3] * 3
    assert (cluster.billing, cluster.quantum) == ("held", 60.0)


def test_json_and_mapping_mean_the_same_as_toml(toml, tmp_path):
    import tomllib

    doc = tomllib.loads(TOML)
    path = tmp_path / "nodes.json"
    path.write_text(json.dumps(doc))
    unnamed = tmp_path / "nodes"
    unnamed.write_text(json.dumps(doc))
    seen = [
        (c.nodes, c.bandwidth.tolist(), c.latency.tolist(), c.billing, c.quantum)
        for c in map(read_nodes, (toml, path, unnamed, doc, str(toml)))
    ]
    assert seen == [seen[0]] * 5


def test_defaults_are_those_of_the_specification():
    cluster = read_nodes({"node": [{"name": "a"}, {"name": "b"}]})
    assert cluster.bandwidth[0, 1] == 125.0
    assert cluster.latency[0, 1] == 0.5
    assert (cluster.billing, cluster.quantum) == ("function", 0.0)
    assert cluster.nodes == (Node("a"), Node("b"))


def test_count_of_one_keeps_the_name():
    assert [
        n.name for n in read_nodes({"node": [{"name": "a", "count": 1}]}).nodes
    ] == ["a"]


def test_arguments_override_the_file(toml):
    cluster = read_nodes(toml, billing="function", quantum=3600)
    assert (cluster.billing, cluster.quantum) == ("function", 3600.0)
    assert read_nodes(toml, quantum=0).quantum == 0.0


@pytest.mark.parametrize(
    ("doc", "text"),
    [
        ({"nodes": []}, "the file has unknown key 'nodes'; did you mean 'node'?"),
        ({}, "there is no node"),
        ({"node": []}, "there is no node"),
        ({"node": {"name": "a"}}, "there is no node"),
        ({"node": ["a"]}, "node number 0 must be a table, not 'a'"),
        ({"node": [{"speed": 1}]}, "node number 0 has no name"),
        (
            {"node": [{"name": "a", "sped": 1}]},
            "node number 0 has unknown key 'sped'; did you mean 'speed'?",
        ),
        (
            {"node": [{"name": "a", "xyz": 1}]},
            "node number 0 has unknown key 'xyz'; known: name, capabilities, speed",
        ),
        (
            {"node": [{"name": "a"}], "network": {"bandwith": 1}},
            "network has unknown key 'bandwith'; did you mean 'bandwidth'?",
        ),
        (
            {"node": [{"name": "a"}], "billing": {"modell": 1}},
            "billing has unknown key 'modell'; did you mean 'model'?",
        ),
        ({"node": [{"name": "a", "count": 0}]}, "node 'a': count=0 must be"),
        ({"node": [{"name": "a", "count": 1.5}]}, "node 'a': count=1.5 must be"),
        ({"node": [{"name": "a", "speed": 0}]}, "node 'a': speed must be above 0"),
        ({"node": [{"name": "a"}, {"name": "a"}]}, "two nodes are named 'a'"),
        (
            {"node": [{"name": "a", "count": 2}], "network": {"latency": [[1]]}},
            "latency has shape (1, 1); there are 2 nodes",
        ),
        (
            {"node": [{"name": "a"}], "billing": {"model": "hourly"}},
            "billing 'hourly' must be one of",
        ),
    ],
)
def test_bad_file_is_an_error_that_names_file_and_key(doc, text, tmp_path):
    path = tmp_path / "nodes.json"
    path.write_text(json.dumps(doc))
    with pytest.raises(CostError) as caught:
        read_nodes(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert text in str(caught.value)


def test_unreadable_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(CostError, match=r"no\.toml: can't be read: No such file"):
        read_nodes(tmp_path / "no.toml")
    (tmp_path / "bad.toml").write_text("[[node]\n")
    with pytest.raises(CostError, match=r"bad\.toml: is not TOML"):
        read_nodes(tmp_path / "bad.toml")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(CostError, match=r"bad\.json: is not JSON"):
        read_nodes(tmp_path / "bad.json")

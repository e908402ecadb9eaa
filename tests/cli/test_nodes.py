"""``handout nodes``: a row for each resource of each node, who holds it, its use."""

import json

import pytest
from distributed import Client, Event

import handout_dask as hd

NODES = """
[[node]]
name = "z"
slots = 2
[node.capabilities]
cpu = 2
memory = 700
camera = 1
[[node]]
name = "a"
[node.capabilities]
cpu = 1
"""


@pytest.fixture(scope="module")
def executor(tmp_path_factory):
    path = tmp_path_factory.mktemp("nodes") / "nodes.toml"
    path.write_text(NODES)
    with hd.Executor(nodes=path) as executor:
        yield executor


def _held(name):
    """A function that says that it runs, and goes on until it may end."""

    def hold():
        Event(f"runs-{name}").set()
        return Event("may-end").wait(60)

    cost = {"memory": 200, "camera": 0.25, "cpu": 0.5}
    return hd.Function(name, [], hold, node="z", cost=cost)


def test_nodes_of_a_cluster_who_holds_them_and_what_they_use(executor, handout):
    address = executor.client.scheduler.address
    graph = hd.Graph([_held("f"), _held("g")], name="watch")
    with Client(address, set_as_default=False) as client:
        run = executor.submit(graph)
        for name in "fg":
            assert Event(f"runs-{name}", client).wait(60)
        code, out, _ = handout("nodes", "--cluster", address, "--json")
        text = handout("nodes", "--cluster", address)
        Event("may-end", client).set()
    assert run["g"] is True
    assert (code, text[0]) == (0, 0)

    told = json.loads(out)
    rows = {(row["node"], row["resource"]): row for row in told["nodes"]}
    assert list(rows)[:3] == [("z", "camera"), ("z", "cpu"), ("z", "memory")]
    assert [key[0] for key in rows][3:] == ["a"] * (len(rows) - 3)
    assert rows["z", "camera"] == {
        "node": "z", "resource": "camera", "capacity": 1.0, "claimed": 0.5,
        "free": 0.5, "observed": None, "usable": None,
        "holders": [
            {"run": run.token, "graph": "watch", "function": name, "amount": 0.25}
            for name in "fg"
        ],
    }  # fmt: skip
    assert rows["z", "memory"]["observed"] > 20
    assert {"cpu", "memory", "disk_io", "host_cpu"} <= told["usage"]["a"].keys()

    lines = [line.split() for line in text[1].splitlines()]
    assert lines[0] == [
        "node", "resource", "capacity", "usable", "claimed", "free", "observed",
        "claimed", "by",
    ]  # fmt: skip
    assert lines[1] == [
        "z", "camera", "1", "-", "0.5", "0.5", "-", "watch/f", "0.25,", "watch/g",
        "0.25",
    ]  # fmt: skip
    assert ["z", "disk_io", "-", "-", "-", "-"] in [line[:6] for line in lines]
    assert not any("host_" in word for line in lines for word in line)

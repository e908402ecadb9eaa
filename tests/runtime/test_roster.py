"""Laws of the roster: who is there under which name. Workers are stand-ins."""

import itertools
from types import SimpleNamespace

import pytest

from handout_dask.node import Cluster, Node
from handout_dask.runtime.roster import Roster
from handout_dask.traffic import FIRST_COST, Traffic


def worker(name, address, threads=2, **resources):
    return SimpleNamespace(
        name=name, address=address, nthreads=threads, memory_limit=10**9,
        resources=resources,
    )  # fmt: skip


@pytest.fixture
def roster():
    return Roster(Traffic(100.0))


def names(cluster):
    return [node.name for node in cluster.nodes]


def test_worker_is_known_by_its_name_as_text(roster):
    node = roster.add(worker(7, "tcp://a", camera=1))
    assert node == Node("7", {"cpu": 2, "memory": 1000, "camera": 1}, slots=2)
    assert (roster.address, roster.names) == ({"7": "tcp://a"}, {"tcp://a": "7"})
    assert roster.down == {}


def test_lost_worker_is_down_until_its_name_returns(roster):
    roster.add(worker("a", "tcp://1"))
    assert roster.remove("tcp://1", 5.0) == "a"
    assert (roster.address, roster.names, roster.down) == ({}, {}, {"a": 5.0})
    assert roster.remove("tcp://1", 6.0) is None
    assert roster.down == {"a": 5.0}
    roster.add(worker("a", "tcp://2"))
    assert (roster.address, roster.down) == ({"a": "tcp://2"}, {})


def test_worker_that_was_replaced_before_it_left_takes_nothing_along(roster):
    roster.add(worker("a", "tcp://1"))
    roster.add(worker("a", "tcp://2"))
    assert roster.remove("tcp://1", 5.0) is None
    assert (roster.address, roster.down) == ({"a": "tcp://2"}, {})
    assert roster.remove("tcp://2", 6.0) == "a"


def test_who_never_came_is_no_loss(roster):
    assert roster.remove("tcp://9", 5.0) is None
    assert roster.down == {}


def test_declarations_count_while_their_executor_stays(roster):
    fast = Cluster([Node("a", {"cpu": 1, "gpus": 1}, speed=3)], 10, 20)
    roster.declare("me", fast)
    roster.declare("other", None)
    node = roster.add(worker("a", "tcp://1"))
    has = {"cpu": 1, "memory": 1000, "gpus": 1}
    assert node == Node("a", has, speed=3, slots=1)
    assert not roster.withdraw("other")
    assert not roster.withdraw("nobody")
    assert roster.withdraw("me")
    assert not roster.withdraw("me")
    assert roster.add(worker("a", "tcp://1")).speed == 1


def test_the_latest_declaration_of_a_node_counts(roster):
    for owner, speed in (("one", 2), ("two", 3)):
        roster.declare(owner, Cluster([Node("a", speed=speed)]))
    roster.declare("three", Cluster([Node("b", speed=9)]))
    assert roster.add(worker("a", "tcp://1")).speed == 3
    roster.withdraw("two")
    assert roster.add(worker("a", "tcp://1")).speed == 2


def test_links_are_as_those_who_stay_declared_them(roster):
    nodes = [Node("a"), Node("b")]
    for k, name in enumerate("ab"):
        roster.add(worker(name, f"tcp://{k}"))

    def link():
        cluster = roster.cluster("me")
        latency = cluster.latency[0, 1] - 1e3 * FIRST_COST
        return cluster.bandwidth[0, 1], pytest.approx(latency)

    assert link() == (100, 0)
    roster.declare("one", Cluster(nodes, 10, 5))
    roster.declare("two", Cluster(nodes, 20, 7))
    assert link() == (20, 7)
    roster.withdraw("two")
    assert link() == (10, 5)
    roster.withdraw("one")
    assert link() == (100, 0)


def test_cluster_is_of_those_that_are_there_in_the_order_of_the_executor(roster):
    roster.declare("me", Cluster([Node("b"), Node("a")], billing="held", quantum=60))
    for k, name in enumerate("cab"):
        roster.add(worker(name, f"tcp://{k}"))
    mine, theirs = roster.cluster("me"), roster.cluster("someone")
    assert (names(mine), mine.billing, mine.quantum) == (["b", "a", "c"], "held", 60)
    assert (names(theirs), theirs.billing) == (["c", "a", "b"], "function")
    assert names(roster.cluster("me", ["c", "b"])) == ["b", "c"]
    roster.remove("tcp://2", 0.0)
    assert names(roster.cluster("me")) == ["a", "c"]


def test_nodes_may_be_taken_for_others(roster):
    roster.add(worker("a", "tcp://1"))
    seen = roster.cluster("me", seen=lambda node: Node(node.name, speed=0.5))
    assert seen["a"].speed == 0.5
    assert roster.cluster("me")["a"].speed == 1


def test_names_and_addresses_match_whatever_comes_and_goes(roster):
    """All orders in which workers of two names come and go."""
    moves = [("add", "a", 1), ("add", "a", 2), ("add", "b", 3), ("remove", "", 1),
             ("remove", "", 2)]  # fmt: skip
    for order in itertools.permutations(moves):
        roster = Roster(Traffic())
        there = {}
        for what, name, address in order:
            if what == "add":
                roster.add(worker(name, address))
                there[name] = address
            else:
                lost = [n for n, at in there.items() if at == address]
                assert roster.remove(address, 0.0) == (lost or [None])[0]
                there = {n: at for n, at in there.items() if at != address}
            assert roster.address == there
            assert {roster.names[at] for at in there.values()} == set(there)
            assert set(roster.down).isdisjoint(there)


def test_nodes_are_listed_as_declared_then_as_they_came(roster):
    for k, name in enumerate("dcba"):
        roster.add(worker(name, f"tcp://{k}"))
    assert roster.order("me") == ["d", "c", "b", "a"]
    roster.declare("other", Cluster([Node("b"), Node("gone"), Node("c")]))
    assert roster.order("me") == ["b", "c", "d", "a"]
    roster.declare("me", Cluster([Node("a"), Node("c")]))
    assert roster.order("me") == ["a", "c", "b", "d"]


def test_what_was_found_is_the_nodes_until_it_is_declared_or_gone(roster):
    roster.finds.tell("a", {"device": "GPU-0", "gpu_memory": 40.0, "rate": 2.0})
    assert roster.add(worker("a", "tcp://1")).capacity("gpu_memory") == 40
    roster.declare("me", Cluster([Node("a", {"memory": 5})]))
    assert roster.add(worker("a", "tcp://1")) == Node("a", {"memory": 5}, slots=2)
    roster.remove("tcp://1", 1.0)
    assert not roster.finds.knows("a")

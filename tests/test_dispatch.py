"""The books of live runs: what is sent where and when, without a cluster."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handout_dask.books import DONE, FAILED, GONE, READY, SENT, WAITING
from handout_dask.dispatch import Dispatcher, Send
from handout_dask.node import Node
from handout_dask.runspec import RunSpec
from handout_dask.tracker import StaticTracker


def spec(token: str, nodes: list[str], **changes: Any) -> RunSpec:
    """A run of len(nodes) functions in order of rank, of one core and no time each."""
    n = len(nodes)
    made = RunSpec(
        token=token,
        prefix=["f"] * n,
        cut_prefix="cut",
        node=nodes,
        rank=list(range(n)),
        need=[0] * n,
        demand=[{"cpu": 1.0}],
        able=[frozenset(nodes)],
        pinned=frozenset(),
        group={},
        start=[0.0] * n,
        end=[1.0] * n,
        cuts=frozenset(),
    )
    return replace(made, **changes)


def dispatcher(*nodes: Node) -> Dispatcher:
    made = Dispatcher(StaticTracker())
    for node in nodes:
        made.set_node(node)
    return made


def near(token: str, i: int, name: str) -> float:
    """All inputs are on every node."""
    return 0.0


def far(token: str, i: int, name: str) -> float:
    """All inputs are a second away."""
    return 1.0


def sent(books: Dispatcher, name: str, settled: Any = near) -> list[tuple[str, int]]:
    return [(send.token, send.i) for send in books.next(name, settled)]


@pytest.mark.parametrize("adaptive", [True, False])
def test_functions_are_sent_in_order_as_they_get_ready(adaptive: bool) -> None:
    books = dispatcher(Node("a", {"cpu": 1}))
    books.add_run(spec("r", ["a"] * 3, adaptive=adaptive))
    assert sent(books, "a") == []
    books.ready("r", 1)
    assert sent(books, "a") == []  # 0 is first in the order and not ready
    books.ready("r", 0)
    assert sent(books, "a") == [("r", 0)]
    books.now = 0.7
    assert sent(books, "a") == []
    books.now = 0.9
    assert sent(books, "a") == [("r", 1)]  # it waits for the slot that gets free soon
    books.ready("r", 2)
    assert sent(books, "a") == []
    books.ended("r", 0, DONE)
    assert sent(books, "a") == []
    books.now = 1.8
    assert sent(books, "a") == [("r", 2)]


def test_what_is_sent_ahead_gets_the_next_slot_and_begins_then() -> None:
    books = dispatcher(Node("a", {"cpu": 2, "memory": 100}))
    demand = [{"cpu": 1.0}, {"cpu": 0.5, "memory": 60.0}]
    run = books.add_run(
        spec("r", ["a"] * 4, demand=demand, need=[0, 0, 1, 0], end=[0.1] * 4)
    )
    for i in range(4):
        books.ready("r", i)
    assert sent(books, "a") == [("r", 0), ("r", 1), ("r", 2)]
    book = books.nodes["a"]
    assert (book.running, book.ahead) == (
        {("r", 0): 1.0, ("r", 1): 1.0},
        {("r", 2): pytest.approx(0.1)},
    )
    claimed = books.tracker.snapshot()["a"]
    assert claimed == {"cpu": (2.0, 2.0, None), "memory": (100.0, 60.0, None)}
    books.now = 0.3
    books.ended("r", 1, DONE)
    assert (book.running, book.ahead) == ({("r", 0): 1.0, ("r", 2): 0.5}, {})
    assert (run.start[2], run.end[2], run.running) == (0.3, pytest.approx(0.4), 2)
    claimed = books.tracker.snapshot()["a"]
    assert claimed == {"cpu": (2.0, 1.5, None), "memory": (100.0, 60.0, None)}


def test_a_node_that_gets_more_slots_runs_what_it_was_sent_ahead() -> None:
    books = dispatcher(Node("a", {"cpu": 4}, slots=1))
    books.add_run(spec("r", ["a"] * 3, end=[0.1] * 3))
    for i in range(2):
        books.ready("r", i)
    assert sent(books, "a") == [("r", 0), ("r", 1)]
    books.set_node(Node("a", {"cpu": 4}, slots=2))
    assert books.nodes["a"].running == {("r", 0): 1.0, ("r", 1): 1.0}
    assert books.tracker.snapshot()["a"]["cpu"] == (4.0, 2.0, None)


def test_work_ahead_is_counted_as_it_was_when_it_was_sent() -> None:
    books = dispatcher(Node("a", {"cpu": 1}))
    run = books.add_run(spec("r", ["a"] * 9, guessed=b"\1" * 9))
    run.mean = 0.001
    for i in range(3):
        books.ready("r", i)
    assert sent(books, "a") == [("r", 0), ("r", 1), ("r", 2)]
    rest = [0.0] * 9, [5.0] * 9, [0.0] * 9, list(range(9))
    books.revise("r", list(run.node), *rest)  # nothing is a guess any more
    books.ended("r", 0, DONE)
    assert books.nodes["a"].ahead_seconds == pytest.approx(0.001)
    books.ended("r", 2, DONE, 7.0)  # it was taken up first
    assert books.nodes["a"].ahead_seconds == 0.0


def test_nothing_overtakes_by_plan_a_function_whose_inputs_are_under_way() -> None:
    books = dispatcher(Node("a", {"cpu": 4}))
    books.add_run(spec("r", ["a"] * 3, adaptive=False))
    for i in range(3):
        books.ready("r", i)
    assert list(books.next("a", far)) == [Send("r", 0, "a", announce=True)]
    assert sent(books, "a") == []
    books.started("r", 0)
    assert sent(books, "a") == [("r", 1), ("r", 2)]


def test_nothing_is_sent_ahead_behind_one_whose_inputs_are_under_way() -> None:
    books = dispatcher(Node("a", {"cpu": 1}))
    books.add_run(spec("r", ["a"] * 2, end=[0.1] * 2))
    books.ready("r", 0)
    assert list(books.next("a", far)) == [Send("r", 0, "a", announce=True)]
    books.ready("r", 1)
    assert sent(books, "a") == []
    books.started("r", 0)
    assert sent(books, "a") == [("r", 1)]


@pytest.mark.parametrize("adaptive", [True, False])
def test_a_function_without_its_inputs_is_not_sent_to_a_full_node(
    adaptive: bool,
) -> None:
    books = dispatcher(Node("a", {"cpu": 1}))
    books.add_run(spec("r", ["a"], end=[0.1]))
    books.ready("r", 0)
    assert sent(books, "a") == [("r", 0)]
    books.add_run(spec("q", ["a"], adaptive=adaptive))
    books.ready("q", 0)
    assert sent(books, "a", far) == []
    assert sent(books, "a") == [("q", 0)]


def test_demand_of_all_runs_adds_up() -> None:
    books = dispatcher(Node("a", {"cpu": 4, "memory": 1000}))
    heavy = {"demand": [{"cpu": 1.0, "memory": 600.0}]}
    books.add_run(spec("r", ["a"], **heavy))
    books.add_run(spec("q", ["a"], **heavy))
    books.ready("r", 0)
    books.ready("q", 0)
    assert sent(books, "a") == [("r", 0)]
    assert books.tracker.snapshot()["a"]["memory"] == (1000.0, 600.0, None)
    books.ended("r", 0, FAILED)
    assert sent(books, "a") == [("q", 0)]


def test_a_later_run_gets_what_an_earlier_one_cannot_use() -> None:
    books = dispatcher(Node("a", {"cpu": 2, "memory": 1000}))
    books.add_run(spec("r", ["a"] * 2, demand=[{"cpu": 1.0, "memory": 900.0}]))
    books.add_run(spec("q", ["a"]))
    for member in (("r", 0), ("r", 1), ("q", 0)):
        books.ready(*member)
    assert sent(books, "a") == [("r", 0), ("q", 0)]


def test_cores_beyond_one_are_counted() -> None:
    books = dispatcher(Node("a", {"cpu": 4}, slots=8))
    books.add_run(spec("r", ["a"] * 3, demand=[{"cpu": 2.0}]))
    for i in range(3):
        books.ready("r", i)
    assert sent(books, "a") == [("r", 0), ("r", 1)]


def test_a_limit_holds_for_the_whole_run() -> None:
    books = dispatcher(Node("a", {"cpu": 4}), Node("b", {"cpu": 4}))
    books.add_run(spec("r", ["a", "a", "b", "b"], limit=3))
    for i in range(4):
        books.ready("r", i)
    assert sent(books, "a") == [("r", 0), ("r", 1)]
    assert sent(books, "b") == [("r", 2)]


def test_a_users_tracker_may_refuse_and_nothing_stays_claimed() -> None:
    class Closed(StaticTracker):
        def request(self, claim: Any, node: str, req: Any) -> bool:
            return False

    books = dispatcher(Node("a", {"cpu": 1}))
    books.add_run(spec("r", ["a"]), Closed())
    books.ready("r", 0)
    assert sent(books, "a") == []
    assert books.tracker.snapshot()["a"]["cpu"] == (1.0, 0.0, None)


def test_lost_node_moves_its_functions_and_returns_what_they_held() -> None:
    books = dispatcher(Node("a", {"cpu": 1}), Node("b", {"cpu": 1}))
    books.add_run(spec("r", ["a"] * 3, able=[frozenset("ab")], end=[0.1] * 3))
    for i in range(3):
        books.ready("r", i)
    assert sent(books, "a") == [("r", 0), ("r", 1)]
    books.waiting("r", 0)  # as the scheduler does with what was sent
    books.waiting("r", 1)
    assert books.lose_node("a") == {"b"}
    assert books.runs["r"].node == ["b", "b", "b"]
    assert books.tracker.snapshot()["a"]["cpu"] == (1.0, 0.0, None)
    books.ready("r", 0)
    assert sent(books, "b") == [("r", 0)]


def test_functions_wait_for_a_node_that_is_expected() -> None:
    books = dispatcher(Node("b", {"cpu": 1}))
    books.expect_node(Node("a", {"cpu": 1}))
    assert (books.is_up("a"), books.is_due("a")) == (False, True)
    run = books.add_run(spec("r", ["a", "b"], able=[frozenset("ab")]))
    books.ready("r", 0)
    assert (run.node, sent(books, "a")) == (["a", "b"], [])
    plan = [0.0] * 2, [1.0] * 2, [0.0] * 2, [0, 1]
    assert books.revise("r", ["a", "a"], *plan) == [1]  # it may be planned there too
    books.set_node(Node("a", {"cpu": 1}))
    assert sent(books, "a") == [("r", 0)]


def test_what_waits_for_an_expected_node_moves_if_it_does_not_come() -> None:
    books = dispatcher(Node("b", {"cpu": 1}))
    books.expect_node(Node("a", {"cpu": 1}))
    run = books.add_run(spec("r", ["a"], able=[frozenset("ab")]))
    assert books.lose_node("a") == {"b"}
    assert run.node == ["b"]
    books.expect_node(Node("a", {"cpu": 1}))
    assert books.lose_node("b") == {"a"}  # nowhere else; it will be there
    assert run.node == ["a"]


@pytest.mark.parametrize("told", ["waiting", "ready"])
def test_what_a_lost_node_ran_moves_once_it_is_to_be_run_again(told: str) -> None:
    books = dispatcher(Node("a", {"cpu": 1}), Node("b", {"cpu": 1}))
    run = books.add_run(spec("r", ["a"], able=[frozenset("ab")]))
    books.ready("r", 0)
    assert sent(books, "a") == [("r", 0)]
    assert books.lose_node("a") == set()
    assert run.node == ["a"]
    assert getattr(books, told)("r", 0) == "b"
    assert books.nodes["a"].running == {}


def test_pinned_functions_wait_for_their_node() -> None:
    books = dispatcher(Node("a", {"cpu": 1}), Node("b", {"cpu": 1}))
    books.add_run(spec("r", ["a"] * 2, able=[frozenset("ab")], pinned=frozenset({0})))
    books.lose_node("a")
    assert books.runs["r"].node == ["a", "b"]
    assert books.stranded("a") == [("r", 0)]
    books.set_node(Node("a", {"cpu": 1}))
    books.ready("r", 0)
    assert sent(books, "a") == [("r", 0)]


def test_a_group_moves_as_one() -> None:
    books = dispatcher(*(Node(name, {"cpu": 1}) for name in "abc"))
    able = [frozenset("abc"), frozenset("ac")]
    together = {0: (0, 1), 1: (0, 1)}
    books.add_run(spec("r", ["a", "a"], need=[0, 1], demand=[{"cpu": 1.0}] * 2,
                       able=able, group=together))  # fmt: skip
    books.lose_node("a")
    assert books.runs["r"].node == ["c", "c"]


def test_dropped_run_frees_what_it_held() -> None:
    books = dispatcher(Node("a", {"cpu": 1, "memory": 100}))
    books.add_run(spec("r", ["a"] * 2, demand=[{"cpu": 1.0, "memory": 100.0}]))
    books.ready("r", 0)
    assert sent(books, "a") == [("r", 0)]
    assert books.drop_run("r") == {"a"}
    assert books.tracker.snapshot()["a"] == {
        "cpu": (1.0, 0.0, None),
        "memory": (100.0, 0.0, None),
    }
    assert books.nodes["a"].running == {}


def test_a_result_that_is_cut_lets_nothing_wait_behind_it() -> None:
    books = dispatcher(Node("a", {"cpu": 1}))
    books.add_run(spec("r", ["a"] * 2, cuts=frozenset({0})))
    books.ready("r", 0)
    books.ready("r", 1)
    assert sent(books, "a") == [("r", 0)]
    books.ended("r", 0, DONE)
    assert sent(books, "a") == [("r", 1)]


def test_outlook_tells_what_nodes_are_promised() -> None:
    books = dispatcher(Node("a", {"cpu": 1}))
    books.now = 100.0
    books.add_run(spec("r", ["a"] * 3, start=[0.0, 10.0, 0.0], end=[10.0, 20.0, inf]))
    books.add_run(spec("q", ["a"], end=[3.0]))
    books.ready("r", 0)
    assert sent(books, "a") == [("r", 0)]
    books.now = 104.0
    r = [("a", 0.0, 6.0, {"cpu": 1.0}), ("a", 6.0, 16.0, {"cpu": 1.0})]
    q = [("a", 0.0, 3.0, {"cpu": 1.0})]  # it is late
    assert books.outlook() == r + q
    assert books.outlook(before=books.runs["q"]) == r[:1]  # they take turns
    assert books.outlook(before=books.runs["r"]) == []
    low = books.add_run(spec("p", ["a"], priority=-1))
    assert books.outlook(before=low) == r + q
    books.now = 112.0  # the one that runs is expected to take a tenth more
    assert books.outlook(before=books.runs["q"]) == [("a", 0.0, 1.0, {"cpu": 1.0})]


@pytest.mark.parametrize("state", [DONE, FAILED, GONE])
def test_what_ended_is_counted_once(state: int) -> None:
    books = dispatcher(Node("a", {"cpu": 1}))
    run = books.add_run(spec("r", ["a"] * 2))
    books.ready("r", 0)
    sent(books, "a")
    books.ended("r", 0, state)
    books.ended("r", 0, state)
    assert run.left == 1


def test_lost_result_is_computed_again() -> None:
    books = dispatcher(Node("a", {"cpu": 1}))
    run = books.add_run(spec("r", ["a"]))
    books.ready("r", 0)
    sent(books, "a")
    books.ended("r", 0, DONE)
    assert run.left == 0
    books.waiting("r", 0)
    assert run.left == 1
    books.ready("r", 0)
    assert sent(books, "a") == [("r", 0)]


# ------------------------------------------------------------------ several runs
def serve(books: Dispatcher, name: str, count: int) -> list[str]:
    """The runs of which a node of one slot gets so many functions, one by one."""
    out = []
    for _ in range(count):
        ((token, i),) = sent(books, name)
        books.now += books.runs[token].seconds(i)
        books.ended(token, i, DONE)
        out.append(token)
    return out


def rival(token: str, **changes: Any) -> RunSpec:
    """A run of many equal functions; none is sent ahead of its turn."""
    n = 200
    return spec(token, ["a"] * n, end=[3.0] * n, **changes)


def compete(books: Dispatcher, *specs: RunSpec) -> None:
    for one in specs:
        books.add_run(one)
        for i in range(len(one.node)):
            books.ready(one.token, i)


def test_higher_priority_goes_first() -> None:
    books = dispatcher(Node("a", {"cpu": 1}))
    compete(books, rival("low", priority=-1), rival("mid"), rival("high", priority=2))
    assert serve(books, "a", 201) == ["high"] * 200 + ["mid"]
    compete(books, rival("late", priority=1, weight=0.001))
    assert serve(books, "a", 2) == ["late"] * 2


def test_a_run_of_lower_priority_gets_what_a_higher_one_cannot_use() -> None:
    books = dispatcher(Node("a", {"cpu": 1}))
    compete(books, rival("low", priority=1))
    high = books.add_run(spec("high", ["a"] * 2, priority=2))
    assert serve(books, "a", 1) == ["low"]
    books.ready("high", 0)
    assert serve(books, "a", 2) == ["high", "low"]
    assert high.left == 1


@pytest.mark.parametrize("adaptive", [True, False])
def test_equal_runs_share_by_weight(adaptive: bool) -> None:
    books = dispatcher(Node("a", {"cpu": 1}))
    compete(books, rival("one", weight=1, adaptive=adaptive), rival("three", weight=3))
    for _ in range(5):
        assert Counter(serve(books, "a", 40)) == {"one": 10, "three": 30}


def test_shares_are_of_time_and_not_of_functions() -> None:
    books = dispatcher(Node("a", {"cpu": 1}))
    n = 100
    compete(books, rival("long"), spec("short", ["a"] * n, end=[1.0] * n))
    assert Counter(serve(books, "a", 80)) == {"long": 20, "short": 60}


def test_a_new_run_shares_from_now_on_and_makes_up_for_nothing() -> None:
    books = dispatcher(Node("a", {"cpu": 1}))
    compete(books, spec("over", ["a"] * 2, end=[3.0] * 2))
    assert serve(books, "a", 2) == ["over"] * 2  # its books are kept, as are results
    compete(books, rival("starved", priority=-1), rival("old"))
    assert serve(books, "a", 100) == ["old"] * 100
    compete(books, rival("new"))
    assert Counter(serve(books, "a", 20)) == {"old": 10, "new": 10}


# ---------------------------------------------------------------------- revising
def revise(books: Dispatcher, node: list[str], **other: Any) -> list[int]:
    n = len(node)
    new: dict[str, Any] = {
        "start": [2.0] * n, "end": [4.0] * n, "latest": [3.0] * n,
        "rank": list(range(n)),
    }  # fmt: skip
    return books.revise("r", node, *(new | other).values())


def test_a_revision_moves_what_was_not_sent() -> None:
    books = dispatcher(Node("a", {"cpu": 1}), Node("b", {"cpu": 1}))
    run = books.add_run(spec("r", ["a"] * 5))
    for i in range(3):
        books.ready("r", i)
    sent(books, "a")
    books.ended("r", 0, DONE)
    sent(books, "a")
    assert list(run.state) == [DONE, SENT, READY, WAITING, WAITING]
    assert revise(books, ["b"] * 5, rank=[0, 1, 4, 3, 2]) == [2, 3, 4]
    assert run.node == ["a", "a", "b", "b", "b"]
    assert (run.start[1:], run.end[2:]) == ([0.0, 2.0, 2.0, 2.0], [4.0] * 3)
    assert run.latest == [0.0, 0.0, 3.0, 3.0, 3.0]
    books.ready("r", 4)
    assert sent(books, "a") == []
    assert sent(books, "b") == [("r", 4)]  # by its new rank


def test_a_revision_made_before_a_node_was_lost_moves_nothing_there() -> None:
    books = dispatcher(Node("a", {"cpu": 1}), Node("b", {"cpu": 1}))
    run = books.add_run(spec("r", ["a"] * 2))
    books.ready("r", 0)
    books.lose_node("b")
    assert revise(books, ["b", "c"]) == []
    assert run.node == ["a", "a"]
    assert sent(books, "a") == [("r", 0)]


def test_a_revision_made_before_a_group_was_begun_or_had_moved_keeps_it_together() -> (
    None
):
    books = dispatcher(*(Node(name, {"cpu": 1}) for name in "abc"))
    able, group = [frozenset("abc")], {0: (0, 1), 1: (0, 1)}
    run = books.add_run(spec("r", ["a"] * 3, able=able, group=group))
    assert revise(books, ["b", "c", "c"]) == [2]  # 0 was done, but is needed again
    assert run.node == ["a", "a", "c"]
    assert revise(books, ["b", "b", "c"]) == [0, 1]
    books.ready("r", 0)
    assert sent(books, "b") == [("r", 0)]
    assert revise(books, ["c", "c", "c"]) == []
    assert run.node == ["b", "b", "c"]


# ------------------------------------------------------------- whatever happens
class World:
    """Runs on nodes where anything may happen; knows by itself what is to be so."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.names = [f"n{k}" for k in range(rng.randint(1, 3))]
        self.books = dispatcher()
        self.nodes: dict[str, Node] = {}
        self.up: set[str] = set()
        self.expected: set[str] = set()  # not up, but said to be soon
        for name in self.names:
            cpu, slots = rng.randint(1, 4), rng.randint(1, 3)
            self.nodes[name] = Node(name, {"cpu": cpu, "memory": 100}, slots=slots)
            self.join(name)
        self.specs: dict[str, RunSpec] = {}
        self.preds: dict[str, list[list[int]]] = {}
        self.state: dict[tuple[str, int], str] = {}
        self.at: dict[tuple[str, int], str] = {}  # where what was sent is, or ended
        self.sends: Counter[tuple[str, int]] = Counter()
        self.wished: Counter[tuple[str, int]] = Counter()
        self.order: dict[tuple[str, str], list[int]] = {}  # of runs that stick to it

    def join(self, name: str) -> None:
        self.books.set_node(self.nodes[name])
        for lost in self.names:  # as the plugin does: what had no node may have one
            if lost not in self.up and lost in self.books.nodes and lost != name:
                self.books.lose_node(lost)
        self.up.add(name)
        self.expected.discard(name)

    def submit(self) -> None:
        rng, token = self.rng, f"r{len(self.preds)}"
        n = rng.randint(1, 10)
        node = [rng.choice(self.names) for _ in range(n)]
        mates = rng.sample(range(n), min(n, 2)) if rng.random() < 0.5 else []
        for k in mates:
            node[k] = node[mates[0]]
        begin = sorted(rng.choice([0.0, 0.1, 0.5, 3.0]) for _ in range(n))
        takes = [rng.choice([0.0, 0.001, 0.1, 1.0]) for _ in range(n)]
        demand = [{"cpu": 1.0}, {"cpu": 0.5, "memory": 60.0}, {"cpu": 1.0, "memory": 9}]
        if all(has.capacity("cpu") >= 2 for has in self.nodes.values()):
            demand.append({"cpu": 2.0})
        self.specs[token] = made = spec(
            token, node,
            need=[rng.randrange(len(demand)) for _ in range(n)],
            demand=demand,
            able=[frozenset(self.names)] * len(demand),
            pinned=frozenset(k for k in range(n) if rng.random() < 0.1),
            group={k: tuple(mates) for k in mates},
            start=begin,
            end=[b + t for b, t in zip(begin, takes, strict=True)],
            latest=[b + rng.choice([0.0, 0.01, 2.0]) for b in begin],
            limit=rng.choice([None, None, 1, 2]),
            cuts=frozenset(k for k in range(n) if rng.random() < 0.1),
            guessed=bytes(rng.random() < 0.3 for _ in range(n)),
            adaptive=rng.random() < 0.7,
            priority=rng.choice([0, 0, 1]),
            weight=rng.choice([1.0, 3.0]),
        )  # fmt: skip
        self.preds[token] = [
            [u for u in range(i) if rng.random() < 0.2] for i in range(n)
        ]
        self.books.add_run(made)
        for i in range(n):
            self.wish(token, i)

    def wish(self, token: str, i: int) -> None:
        """A function is to be run, now or when its inputs are there."""
        self.state[token, i] = "waiting"
        self.wished[token, i] += 1
        self.look(token, i)

    def look(self, token: str, i: int) -> None:
        if self.state[token, i] == "waiting" and self.has_inputs(token, i):
            self.state[token, i] = "ready"
            self.books.ready(token, i)

    def has_inputs(self, token: str, i: int) -> bool:
        return all(self.state.get((token, u)) == "done" for u in self.preds[token][i])

    def arrives(self, token: str, i: int, name: str) -> float:
        return self.rng.choice([0.0] * 8 + [0.005, 1.0])

    def send(self, name: str) -> None:
        for send in self.books.next(name, self.arrives):
            member = send.token, send.i
            assert (send.node, self.state[member]) == (name, "ready")
            assert name in self.up
            self.state[member], self.at[member] = "sent", name
            self.sends[member] += 1
            if not self.specs[send.token].adaptive and self.wished[member] == 1:
                self.order.setdefault((send.token, name), []).append(send.i)
        if all(state != "sent" for state in self.state.values()):  # else it might hang
            assert not [
                member for member, state in self.state.items() if state == "ready"
                and self.books.runs[member[0]].node[member[1]] == name
                and self.is_next(*member)
            ] or name not in self.up  # fmt: skip

    def is_next(self, token: str, i: int) -> bool:
        """Whether a function is the first of its run that its node waits for."""
        run = self.books.runs[token]
        left = [
            (run.rank[k], k)
            for (other, k), state in self.state.items()
            if other == token and state in ("waiting", "ready")
            and run.node[k] == run.node[i]
        ]  # fmt: skip
        return min(left)[1] == i

    def end(self, member: tuple[str, int]) -> None:
        """What was sent ends: it is done, or failed and is run again."""
        done = self.rng.random() < 0.85
        if done:
            seconds = self.rng.choice([None, 0.0, 0.01, 2.0])
            self.state[member] = "done"
            self.books.ended(*member, DONE, seconds)
            for v, reads in enumerate(self.preds[member[0]]):
                if member[1] in reads and self.state[member[0], v] == "waiting":
                    self.look(member[0], v)
        else:
            if self.rng.random() < 0.5:
                self.books.ended(*member, FAILED)
            self.books.waiting(*member)
            self.wish(*member)

    def lose(self, name: str) -> None:
        """A node goes with what it ran, and with results that are needed yet."""
        told = self.rng.random() < 0.5
        self.up.discard(name)
        self.expected.discard(name)
        if told:
            self.books.lose_node(name)
        again = [m for m, at in self.at.items() if at == name and self.is_needed(*m)]
        for token, i in again:
            self.state[token, i] = "lost"
        for (token, i), state in self.state.items():
            lacks = any(self.state[token, u] == "lost" for u in self.preds[token][i])
            if state == "ready" and lacks:
                self.state[token, i] = "waiting"
                self.books.waiting(token, i)
        for token, i in again:
            del self.at[token, i]
            if self.rng.random() < 0.8 or not self.has_inputs(token, i):
                self.books.waiting(token, i)
            self.wish(token, i)
        if not told:
            self.books.lose_node(name)
        if self.rng.random() < 0.3:
            self.books.expect_node(self.nodes[name])
            self.expected.add(name)

    def is_needed(self, token: str, i: int) -> bool:
        if self.state[token, i] == "done":
            return self.rng.random() < 0.5 or any(
                i in reads and self.state[token, v] != "done"
                for v, reads in enumerate(self.preds[token])
            )
        return self.state[token, i] == "sent"

    def revise(self, token: str) -> None:
        """Another plan, made a while ago: any nodes, any order that can be."""
        rng, one, run = self.rng, self.specs[token], self.books.runs[token]
        n, node = len(one.node), list(run.node)
        for i in range(n):
            if rng.random() < 0.5 and i not in one.pinned:
                node[i] = rng.choice(self.names)
        for group in one.group.values():
            same = rng.choice([node[group[0]], run.node[group[0]]])
            fixed = [k for k in group if k in one.pinned]
            for k in group:
                node[k] = run.node[group[0]] if fixed else same
        order: list[int] = []
        while len(order) < n:
            left = [i for i in range(n) if i not in order]
            order.append(
                rng.choice([i for i in left if {*self.preds[token][i]} <= {*order}])
            )
        rank = [order.index(i) for i in range(n)]
        start = [0.1 * r for r in rank]
        never = rng.random() < 0.1
        end = [inf if never else s + rng.choice([0.0, 0.1, 1.0]) for s in start]
        before = [list(run.node), bytes(run.state)]
        moved = self.books.revise(token, node, start, end, list(start), rank)
        assert run.state == before[1]
        for i in range(n):
            assert (i in moved) == (run.node[i] != before[0][i])
            if i in moved:
                assert run.state[i] in (WAITING, READY)
                assert run.node[i] in self.up | self.expected

    def step(self) -> None:
        rng = self.rng
        sent_ones = [m for m, state in self.state.items() if state == "sent"]
        what = rng.random()
        self.books.now += rng.choice([0.0, 0.001, 0.1, 1.0])
        if what < 0.4:
            self.send(rng.choice(self.names))
        elif what < 0.75 and sent_ones:
            token, i = rng.choice(sent_ones)
            self.books.started(token, i)
            if rng.random() < 0.8:
                self.end((token, i))
        elif what < 0.80 and len(self.preds) < 3:
            self.submit()
        elif what < 0.85:
            self.lose(rng.choice(self.names))
        elif what < 0.92:
            name = rng.choice(self.names)
            if rng.random() < 0.3:  # more than before
                slots = int(self.nodes[name].slots or 1) + 1
                has = {"cpu": self.nodes[name].capacity("cpu") + 1, "memory": 100}
                self.nodes[name] = Node(name, has, slots=slots)
            self.join(name)
        elif what < 0.99:
            able = [t for t in self.books.runs if self.specs[t].adaptive]
            if able:
                self.revise(rng.choice(able))
        elif self.books.runs:
            self.drop(rng.choice(list(self.books.runs)))

    def drop(self, token: str) -> None:
        self.books.drop_run(token)
        for member in [m for m in self.state if m[0] == token]:
            del self.state[member]
            self.at.pop(member, None)

    def finish(self) -> None:
        """Let all that can run to its end."""
        for name in self.names:
            self.join(name)
        for _ in range(400):
            for name in self.names:
                self.send(name)
            self.check()
            sent_ones = [m for m, state in self.state.items() if state == "sent"]
            if not sent_ones:
                break
            self.books.now += 0.3
            for member in self.rng.sample(sent_ones, (len(sent_ones) + 1) // 2):
                self.end(member)

    def check(self) -> None:
        """What always holds."""
        books, held = self.books, Counter[tuple[str, str]]()
        assert self.sends == {
            m: count for m, count in self.sends.items() if count <= self.wished[m]
        }
        for name in self.names:
            book = books.nodes[name]
            mine = [m for m, state in self.state.items()
                    if state == "sent" and self.at[m] == name]  # fmt: skip
            assert sorted([*book.running, *book.ahead]) == sorted(mine)
            assert len(book.running) <= book.slots
            assert not book.ahead or len(book.running) == book.slots
            assert book.ahead_seconds == pytest.approx(sum(book.ahead.values()))
            assert book.unsure <= set(mine)
            lone = [(t, i) for t, i in mine if i in self.specs[t].cuts
                    or books.runs[t].demand(i)["cpu"] > 1]  # fmt: skip
            assert book.lone == len(lone)
            for token, i in mine:
                for what, amount in books.runs[token].demand(i).items():
                    if what != "cpu" or (token, i) in book.running:
                        held[name, what] += amount
        for name, rows in books.tracker.snapshot().items():
            for what, (has, taken, _) in rows.items():
                assert taken == pytest.approx(held[name, what], abs=1e-12)
                assert taken <= has + 1e-9
        for token, run in books.runs.items():
            one, states = self.specs[token], {"waiting": WAITING, "ready": READY,
                                              "sent": SENT, "done": DONE}  # fmt: skip
            n = len(run.node)
            now = [states[self.state[token, i]] for i in range(n)]
            assert list(run.state) == now
            assert run.left == n - now.count(DONE)
            running = [m for b in books.nodes.values() for m in b.running]
            assert run.running == sum(m[0] == token for m in running)
            assert one.limit is None or run.running <= one.limit
            assert run.attempts == [self.sends[token, i] for i in range(n)]
            for i in one.pinned:
                assert run.node[i] == one.node[i]
            for group in one.group.values():
                open_ones = [k for k in group if now[k] != DONE]
                assert len({run.node[k] for k in open_ones}) <= 1
        for _, begin, end, _ in books.outlook():
            assert 0.0 <= begin <= end + 1e-12 < inf


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 10**9))
def test_whatever_happens_every_function_is_sent_once_and_in_the_end_all_is_done(
    seed: int,
) -> None:
    world = World(random.Random(seed))
    for _ in range(2):
        world.submit()
    for _ in range(120):
        world.step()
        world.check()
    world.finish()
    assert set(world.state.values()) <= {"done"}
    assert all(run.left == 0 for run in world.books.runs.values())
    assert all(world.sends[m] == world.wished[m] for m in world.state)
    for rows in world.books.tracker.snapshot().values():
        assert all(taken == 0 for _, taken, _ in rows.values())


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**9))
def test_runs_that_stick_to_their_plan_keep_its_order_on_every_node(seed: int) -> None:
    world = World(random.Random(seed))
    for _ in range(3):
        world.submit()
    world.finish()
    assert set(world.state.values()) == {"done"}
    assert all(made == sorted(made) for made in world.order.values())

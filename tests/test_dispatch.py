"""The books of live runs: what is sent where and when, without a cluster."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handout_dask.books import DONE, FAILED, GONE, RunSpec
from handout_dask.dispatch import Dispatcher, Send
from handout_dask.node import Node
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


def test_functions_are_sent_in_order_as_they_get_ready() -> None:
    books = dispatcher(Node("a", {"cpu": 1}))
    books.add_run(spec("r", ["a"] * 3, end=[10.0] * 3))
    assert sent(books, "a") == []
    books.ready("r", 1)
    assert sent(books, "a") == []  # 0 is first in the order and not ready
    books.ready("r", 0)
    assert sent(books, "a") == [("r", 0), ("r", 1)]  # one runs, one waits for its slot
    books.ready("r", 2)
    assert sent(books, "a") == []
    books.ended("r", 0, DONE)
    assert sent(books, "a") == [("r", 2)]


def test_nothing_is_sent_behind_a_function_whose_inputs_are_under_way() -> None:
    books = dispatcher(Node("a", {"cpu": 4}))
    books.add_run(spec("r", ["a"] * 3))
    for i in range(3):
        books.ready("r", i)
    assert list(books.next("a", far)) == [Send("r", 0, "a", announce=True)]
    assert sent(books, "a") == []
    books.started("r", 0)
    assert sent(books, "a") == [("r", 1), ("r", 2)]


def test_a_function_without_its_inputs_is_not_sent_to_a_full_node() -> None:
    books = dispatcher(Node("a", {"cpu": 1}))
    books.add_run(spec("r", ["a"] * 2))
    books.ready("r", 0)
    books.ready("r", 1)
    assert sent(books, "a") == [("r", 0), ("r", 1)]
    books.add_run(spec("q", ["a"]))
    books.ready("q", 0)
    assert sent(books, "a", far) == []


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
    books.add_run(spec("r", ["a"] * 3, able=[frozenset("ab")]))
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
    books.add_run(spec("r", ["a"] * 2, start=[0.0, 10.0], end=[10.0, 20.0]))
    books.ready("r", 0)
    assert sent(books, "a") == [("r", 0)]
    assert books.outlook({"r": 4.0}) == [
        ("a", 0.0, 6.0, {"cpu": 1.0}),
        ("a", 6.0, 16.0, {"cpu": 1.0}),
    ]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Node], list[RunSpec], list[list[list[int]]]]:
    """Nodes, runs over them, and the predecessors of each function."""
    names = [f"n{k}" for k in range(draw(st.integers(1, 3)))]
    nodes = [
        Node(
            n,
            {"cpu": draw(st.integers(1, 4)), "memory": 100},
            slots=draw(st.integers(1, 3)),
        )
        for n in names
    ]
    specs, preds = [], []
    for token in "rq"[: draw(st.integers(1, 2))]:
        n = draw(st.integers(1, 12))
        demand = [{"cpu": 1.0}, {"cpu": 0.5, "memory": 60.0}]
        specs.append(
            spec(
                token,
                [draw(st.sampled_from(names)) for _ in range(n)],
                need=[draw(st.integers(0, 1)) for _ in range(n)],
                demand=demand,
                able=[frozenset(names)] * 2,
                limit=draw(st.sampled_from([None, 1, 2])),
                cuts=frozenset(draw(st.sets(st.integers(0, n - 1), max_size=2))),
                end=[draw(st.sampled_from([0.0, 0.01, 5.0])) for _ in range(n)],
            )
        )
        preds.append(
            [
                draw(st.lists(st.integers(0, i - 1), max_size=2)) if i else []
                for i in range(n)
            ]
        )
    return nodes, specs, preds


@settings(deadline=None, max_examples=150)
@given(worlds(), st.integers(0, 10**6))
def test_every_function_is_sent_once_in_order_within_what_nodes_have(
    world: Any, seed: int
) -> None:
    nodes, specs, preds = world
    rng = random.Random(seed)
    books = dispatcher(*nodes)
    for one in specs:
        books.add_run(one)
    by_token = dict(zip("rq", preds, strict=False))
    done: dict[str, set[int]] = {one.token: set() for one in specs}
    order: dict[tuple[str, str], list[int]] = {}
    flying: list[tuple[str, int, str]] = []
    unsure: set[tuple[str, int]] = set()
    announced: set[tuple[str, int]] = set()

    def settled(token: str, i: int, name: str) -> bool:
        return (token, i) not in unsure

    for one in specs:
        for i in range(len(one.node)):
            if rng.random() < 0.3:
                unsure.add((one.token, i))
            if not by_token[one.token][i]:
                books.ready(one.token, i)
    for _ in range(1000):
        for node in nodes:
            for send in books.next(node.name, settled):
                assert send.node == node.name
                order.setdefault((send.token, send.node), []).append(send.i)
                flying.append((send.token, send.i, send.node))
                assert send.announce == ((send.token, send.i) in unsure)
        for node in nodes:
            book = books.nodes[node.name]
            assert len(book.running) <= node.slots
            claimed = books.tracker.snapshot()[node.name]
            assert all(has >= taken for has, taken, _ in claimed.values())
        for one in specs:
            assert one.limit is None or books.runs[one.token].running <= one.limit
        if not flying:
            break
        # A node runs what it was sent first; it may end in any order within its slots.
        name = rng.choice([name for _, _, name in flying])
        runs = [k for k, row in enumerate(flying) if row[2] == name]
        token, i, _ = flying[
            runs[rng.randrange(min(len(runs), books.nodes[name].node.slots))]
        ]
        if (token, i) in unsure and (token, i) not in announced:
            announced.add((token, i))
            books.started(token, i)
            continue
        flying.remove((token, i, name))
        books.ended(token, i, DONE, rng.random() * 0.01)
        done[token].add(i)
        for v, reads in enumerate(by_token[token]):
            if i in reads and set(reads) <= done[token]:
                books.ready(token, v)
    for one in specs:
        assert done[one.token] == set(range(len(one.node)))
        assert books.runs[one.token].left == 0
    for sequence in order.values():
        assert sequence == sorted(sequence)  # rank is the number here
    for rows in books.tracker.snapshot().values():
        assert all(taken == 0 for _, taken, _ in rows.values())


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

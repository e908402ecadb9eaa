"""What a function of a live run waits for, as data and as text."""

from __future__ import annotations

from typing import Any

import pytest

import handout_dask as hd
from handout_dask.books import DONE, FAILED, GONE
from handout_dask.dispatch import Dispatcher
from handout_dask.node import Node
from handout_dask.runspec import RunSpec
from handout_dask.standing import Elsewhere, Standing
from handout_dask.tracker import StaticTracker
from handout_dask.waiting import Asked

FAST, SLOW = (
    Node("fast", {"cpu": 1, "memory": 1000}),
    Node("slow", {"cpu": 2}, speed=0.5),
)


def books_of(
    functions: list[hd.Function], nodes: list[Node], **about: Any
) -> Dispatcher:
    """Books with one run "r" of these functions, planned for the first node."""
    problem = hd.Problem(hd.Graph(functions), hd.Cluster(nodes))
    books = Dispatcher(StaticTracker())
    books.tells = lambda name: True
    for node in nodes:
        books.set_node(node)
    n, where = len(functions), about.pop("node", nodes[0].name)
    about.setdefault("pinned", frozenset())
    spec = RunSpec(
        token="r",
        prefix=["f"] * n,
        cut_prefix="cut",
        node=[where] * n,
        rank=list(range(n)),
        need=problem.option_class.tolist(),
        demand=[{"cpu": 1.0, **dict(cost.demand)} for cost in problem.classes],
        able=[frozenset(node.name for node in nodes)] * len(problem.classes),
        group={},
        start=[float(i) for i in range(n)],
        end=[i + 1.0 for i in range(n)],
        cuts=frozenset(),
        outline=problem.outline,
        option=[0] * n,
        **about,
    )
    books.add_run(spec)
    return books


def near(token: str, i: int, name: str) -> float:
    """All inputs are on every node."""
    return 0.0


def standing(books: Dispatcher, i: int, token: str = "r", paused: Any = ()) -> Standing:
    return Asked(books, token, i, lambda name: name not in paused).standing(near)


def send(books: Dispatcher, *ready: int, token: str = "r") -> None:
    for i in ready:
        books.ready(token, i)
    for name in books.nodes:
        list(books.next(name, near))


def lines(books: Dispatcher, i: int, **about: Any) -> list[str]:
    return str(standing(books, i, **about)).split("\n  ")


def functions(*costs: dict[str, Any], **more: Any) -> list[hd.Function]:
    made = [hd.Function("abcdef"[i], cost=cost) for i, cost in enumerate(costs)]
    return [*made, *(hd.Function(name, args) for name, args in more.items())]


def test_what_reads_others_waits_for_those_that_have_not_ended() -> None:
    books = books_of(functions({}, {}, {}, z=["a", "b", "c"]), [FAST])
    send(books, 0)
    books.ended("r", 0, DONE, 1.0)
    send(books, 1)
    assert lines(books, 3) == [
        "function 'z' waits until 3 s",
        "it reads 'b' (runs on fast), 'c' (waits)",
    ]


def test_what_waits_for_a_slot_says_who_has_it_and_what_else_there_is() -> None:
    books = books_of(functions({}, {}), [FAST, SLOW])
    send(books, 0, 1)
    books.now = 0.5
    assert standing(books, 1).elsewhere == (Elsewhere("slow", 2.5),)
    assert lines(books, 1) == [
        "function 'b' waits for fast until 1 s; slow would end later (2.5 s)",
        "its slots are taken: 'a' (runs on fast)",
    ]
    assert lines(books, 0) == ["function 'a' runs on fast since 0 s, until 1 s"]


def test_what_waits_for_room_says_who_holds_how_much() -> None:
    wide = Node("wide", {"cpu": 4, "memory": 1000})
    books = books_of(functions({"memory": 600}, {"memory": 500}), [wide])
    send(books, 0, 1)
    assert lines(books, 1)[1] == (
        "too little is free of memory: needs 500 of 1000, 600 claimed: "
        "600 by 'a' (runs on wide)"
    )
    books.drop_run("r")
    other = books_of(functions({"memory": 600}, {"memory": 500}), [wide])
    other.ready("r", 0)
    send(other)
    other.ended("r", 0, GONE, lingers=True)
    send(other, 1)
    assert lines(other, 1)[1].endswith("600 by 'a' (was taken back, and still runs)")


def test_what_stands_behind_another_says_which_and_why() -> None:
    books = books_of(functions({}, {}), [FAST])
    send(books, 1)
    assert lines(books, 1)[1] == (
        "its turn is after 'a' (waits), which is to start by 0 s, and would not"
    )
    plain = books_of(functions({}, {}), [FAST], adaptive=False)
    send(plain, 1)
    why = "its turn is after 'a' (waits), which is before it by plan"
    assert lines(plain, 1)[1] == why


@pytest.mark.parametrize(
    ("how", "what"),
    [("lost", "gone"), ("expected", "not there yet"), ("paused", "paused")],
)
def test_what_waits_for_a_node_that_takes_nothing_says_why(how: str, what: str) -> None:
    books = books_of(functions({}), [FAST], pinned=frozenset([0]))
    books.ready("r", 0)
    if how != "paused":
        books.lose_node("fast") if how == "lost" else books.expect_node(FAST)
    paused = ["fast"] if how == "paused" else []
    assert lines(books, 0, paused=paused)[1] == f"that is {what}"


def test_what_waits_for_its_run_says_how_many_of_it_may_run() -> None:
    books = books_of(functions({}, {}), [SLOW], limit=1)
    send(books, 0, 1)
    assert lines(books, 1)[1] == "of its run only 1 may run at once"


def test_what_a_users_tracker_refuses_says_so() -> None:
    class Never(StaticTracker):
        def request(self, claim: Any, node: str, req: Any) -> bool:
            return False

    books = books_of(functions({}), [FAST])
    spec = books.runs["r"].spec
    books.drop_run("r")
    books.add_run(spec, Never())
    send(books, 0)
    assert lines(books, 0)[1] == "the tracker Never refuses"


def test_what_ended_says_how() -> None:
    books = books_of(functions({}, {}, {}), [FAST])
    send(books, 0)
    books.now = 2.0
    books.ended("r", 0, DONE, 1.5)
    books.ended("r", 1, FAILED)
    books.ended("r", 2, GONE)
    assert [lines(books, i) for i in range(3)] == [
        ["function 'a' ran on fast from 0.5 to 2 s"],
        ["function 'b' failed"],
        ["function 'c' was cancelled"],
    ]

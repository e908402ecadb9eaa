"""Which function of a run a node gets next: what may overtake what."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handout_dask.books import READY, SENT, WAITING, NodeBook, RunBook
from handout_dask.choosing import (
    AHEAD_SECONDS,
    LEAST_SLIP,
    NEAR,
    SLIP,
    TRIES,
    choose,
    choose_by_plan,
)
from handout_dask.node import Node
from handout_dask.runspec import RunSpec

ONE = [{"cpu": 1.0}]


def run_of(
    state: list[int], seconds: list[float], latest: list[float] | None = None,
    *, demand: list[dict[str, float]] = ONE, need: list[int] | None = None,
    cuts: frozenset[int] = frozenset(), since: float = 0.0,
) -> RunBook:  # fmt: skip
    """The books of a run on node "a", in the states given, ranked by number."""
    n = len(state)
    spec = RunSpec(
        token="r", prefix=["f"] * n, cut_prefix="cut", node=["a"] * n,
        rank=list(range(n)), need=need or [0] * n, demand=demand,
        able=[frozenset("a")] * len(demand), pinned=frozenset(), group={},
        start=[0.0] * n, end=seconds, cuts=cuts, latest=latest,
    )  # fmt: skip
    run = RunBook(spec, [], since)
    run.state[:] = bytes(state)
    run._fill()
    return run


def node_of(slots: int = 1, cpu: float | None = None, running: Any = ()) -> NodeBook:
    """A node on which functions of these cores run."""
    node = Node("a", {"cpu": slots if cpu is None else cpu}, slots=slots)
    return NodeBook(node, running={("q", k): c for k, c in enumerate(running)})


def takes(run: RunBook, i: int, name: str, full: bool) -> bool:
    """All that a function demands is free."""
    return True


def away(*seconds: float) -> Any:
    """How far the inputs of each function are."""
    return lambda token, i, name: seconds[i]


NO_WAY = away(*[0.0] * 40)
W, R = WAITING, READY


def chosen(
    book: NodeBook, run: RunBook, arrives: Any = NO_WAY, claim: Any = takes,
    now: float = 0.0, full: bool = False, rule: Any = choose,
) -> Any:  # fmt: skip
    return rule(book, run, full, arrives, claim, now)


# ----------------------------------------------------------------------- examples
def test_the_first_goes_however_late_others_are() -> None:
    assert chosen(node_of(), run_of([R, R], [50.0, 0.0], [0.0, 0.0])) == (0, True)


def test_what_ends_in_time_goes_before_what_is_not_ready() -> None:
    run = run_of([W, R], [1.0, 4.0], [4.0, 9.0])
    assert chosen(node_of(), run) == (1, True)
    assert not run.blocked


def test_what_would_make_another_late_waits_and_the_run_says_so() -> None:
    run = run_of([W, R], [1.0, 4.0], [3.5, 9.0])
    assert chosen(node_of(), run) is None
    assert run.blocked


def test_a_hair_late_is_not_late() -> None:
    slip = LEAST_SLIP
    assert chosen(node_of(), run_of([W, R], [1.0, 2.0], [2.0 - slip + 1e-6, 9])) == (
        1,
        True,
    )
    assert chosen(node_of(), run_of([W, R], [1.0, 2.0], [2.0 - slip - 1e-6, 9])) is None
    slip = SLIP * 100.0  # of a long run a share of what is left
    assert chosen(node_of(), run_of([W, R], [1.0, 100.0], [99.6, 99.0])) == (1, True)
    assert chosen(node_of(), run_of([W, R], [1.0, 100.0], [99.4, 99.0])) is None


def test_time_counts_from_the_beginning_of_the_run() -> None:
    run = run_of([W, R], [1.0, 4.0], [5.0, 9.0], since=1000.0)
    assert chosen(node_of(), run, now=1002.0) is None
    assert chosen(node_of(), run, now=1000.5) == (1, True)


def test_where_slots_are_to_spare_a_long_one_goes() -> None:
    run = run_of([W, W, R], [1.0, 1.0, 50.0], [0.0, 0.0, 0.0])
    assert chosen(node_of(3), run) == (2, True)
    assert chosen(node_of(2), run) is None
    assert chosen(node_of(4, running=[1.0]), run) == (2, True)
    assert chosen(node_of(4, running=[1.0, 1.0]), run) is None


def test_slots_are_not_to_spare_where_cores_may_be_short() -> None:
    run = run_of([W, R], [1.0, 50.0], [0.0, 0.0])
    assert chosen(node_of(3, cpu=2.0), run) is None


def test_slots_are_not_to_spare_for_what_takes_more_than_a_core() -> None:
    short = {"latest": [0.0, 0.0], "need": [0, 1]}
    demand = [{"cpu": 1.0}, {"cpu": 4.0}, {"cpu": 1.0, "memory": 1.0}]
    wide = run_of([W, R], [1.0, 50.0], demand=demand, **short)  # type: ignore[arg-type]
    assert chosen(node_of(4), wide) is None
    assert chosen(node_of(5), wide) == (1, True)
    short["need"] = [1, 0]  # the one in front takes them
    wide = run_of([W, R], [1.0, 50.0], demand=demand, **short)  # type: ignore[arg-type]
    assert chosen(node_of(4), wide) is None
    assert chosen(node_of(5), wide) == (1, True)
    short["need"] = [2, 0]  # or its memory
    heavy = run_of([W, R], [1.0, 50.0], demand=demand, **short)  # type: ignore[arg-type]
    assert chosen(node_of(9), heavy) is None
    short["need"] = [0, 0]
    run = run_of([W, R], [1.0, 50.0], demand=demand, **short)  # type: ignore[arg-type]
    assert chosen(node_of(4, running=[3.0]), run) is None
    assert chosen(node_of(5, running=[3.0]), run) == (1, True)


def test_a_function_that_came_back_takes_the_place_of_one() -> None:
    run = run_of([R, R], [1.0, 50.0], [0.0, 0.0])
    run.state[0] = SENT
    run.state[0] = WAITING
    run.put(0)
    assert [*run.ahead_of("a", None, 9)] == [0, 1]
    assert chosen(node_of(2), run) == (1, True)
    run.state[0] = READY
    run.get_ready(0)
    run.get_ready(0)
    assert [*run.candidates("a")] == [0, 1]
    assert [*run.candidates("a")] == [0, 1]


def test_what_does_not_fit_is_passed_by_what_does() -> None:
    run = run_of([R, R, R], [1.0] * 3, [5.0] * 3)

    def claim(run: RunBook, i: int, name: str, full: bool) -> bool:
        return i == 2

    assert chosen(node_of(), run, claim=claim) == (2, True)
    late = run_of([R, R, R], [1.0] * 3, [0.5] * 3)
    assert chosen(node_of(), late, claim=claim) is None
    assert late.blocked


def test_only_the_first_few_are_looked_at() -> None:
    asked = []

    def claim(run: RunBook, i: int, name: str, full: bool) -> bool:
        asked.append(i)
        return False

    run = run_of([R] * 20, [0.0] * 20, [9.0] * 20)
    assert chosen(node_of(), run, claim=claim) is None
    assert asked == list(range(TRIES))
    assert chosen(node_of(), run) == (0, True)  # none got lost


def test_inputs_that_are_there_are_preferred_for_as_long_as_others_travel() -> None:
    run = run_of([R, R, R], [9.0, 2.0, 0.5], [99.0] * 3)
    assert chosen(node_of(), run, away(1.0, 1.0, 0.0)) == (2, True)
    assert chosen(node_of(), run, away(3.0, 0.0, 0.0)) == (1, True)
    assert chosen(node_of(), run, away(0.3, 0.0, 0.0)) == (0, False)
    assert chosen(node_of(), run, away(3.0, 2.0, 2.0)) == (0, False)
    assert chosen(node_of(), run, away(3.0, 0.4, 0.0)) == (2, True)
    assert chosen(node_of(), run, away(NEAR, 0.0, 0.0)) == (0, False)  # as good as
    rest = lambda run, i, name, full: i == 1  # noqa: E731
    assert chosen(node_of(), run, away(1.0, 0.0, 0.0), rest) == (1, True)


def test_the_plan_is_kept_by_choosing_the_first_or_none() -> None:
    def by_plan(state: list[int], arrives: Any = NO_WAY, **other: Any) -> Any:
        return chosen(node_of(3), run_of(state, [0.0] * len(state)), arrives,
                      rule=choose_by_plan, **other)  # fmt: skip

    assert by_plan([R, R]) == (0, True)
    assert by_plan([W, R]) is None
    assert by_plan([SENT, W, R]) is None
    assert by_plan([SENT, R, R]) == (1, True)
    assert by_plan([R, R], away(5.0, 0.0)) == (0, False)
    assert by_plan([R, R], claim=lambda run, i, name, full: i != 0) is None
    assert by_plan([]) is None


def test_to_a_full_node_little_is_sent_ahead() -> None:
    run = run_of([R, R], [9.0, 9.0], [0.0, 0.0])
    full = {"full": True}
    book = node_of(2, running=[1.0, 1.0])
    assert chosen(book, run, **full) == (0, True)  # type: ignore[arg-type]
    assert chosen(book, run, away(0.1, 0.1), **full) is None  # type: ignore[arg-type]
    book.ahead, book.ahead_seconds = {("q", 9): 1.0}, 2 * AHEAD_SECONDS - 1e-9
    assert chosen(book, run, **full) == (0, True)  # type: ignore[arg-type]
    book.ahead_seconds = 2 * AHEAD_SECONDS
    for rule in (choose, choose_by_plan):
        assert chosen(book, run, rule=rule, **full) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", [choose, choose_by_plan])
def test_nothing_is_sent_ahead_where_it_might_not_get_the_next_slot(rule: Any) -> None:
    run = run_of([R], [0.0])
    assert chosen(node_of(2, running=[1.0, 1.0]), run, full=True, rule=rule)
    lone = node_of(2, running=[1.0, 1.0])
    lone.lone = 1
    assert chosen(lone, run, full=True, rule=rule) is None
    short = node_of(2, cpu=1.0, running=[0.5, 0.5])
    assert chosen(short, run, full=True, rule=rule) is None
    wide = run_of([R], [0.0], demand=[{"cpu": 2.0}])
    assert chosen(node_of(2, running=[1, 1]), wide, full=True, rule=rule) is None


# ----------------------------------------------------------------------- the law
@st.composite
def situations(draw: st.DrawFn) -> tuple[NodeBook, RunBook, float, list[bool]]:
    """A node, a run of at most 12 functions, the time, and which of them fit."""
    pick = st.sampled_from
    n = draw(st.integers(1, 12))
    slots = draw(st.integers(1, 5))
    running: list[float] = []
    for _ in range(draw(st.integers(0, slots - 1))):
        running.append(draw(pick([0.5, 1.0, 2.0])))
    state = [draw(pick([W, R, R, SENT])) for _ in range(n)]
    seconds = [draw(pick([0.0, 1.0, 3.0, 10.0])) for _ in range(n)]
    latest = [draw(pick([-1.0, 0.5, 1.0, 3.0, 9.0, 20.0])) for _ in range(n)]
    demand = [{"cpu": 1.0}, {"cpu": 0.5}, {"cpu": 3.0}, {"cpu": 1.0, "memory": 1.0}]
    need = [draw(pick([0, 0, 0, 1, 2, 3])) for _ in range(n)]
    run = run_of(state, seconds, latest, demand=demand, need=need)
    cpu = draw(pick([None, None, 1.0]))
    fits = [draw(pick([True, True, False])) for _ in range(n)]
    return node_of(slots, cpu, running), run, draw(pick([0.0, 0.5, 5.0])), fits


@settings(deadline=None, max_examples=150)
@given(situations())
def test_a_function_goes_ahead_only_if_it_makes_nothing_late(situation: Any) -> None:
    book, run, now, fits = situation
    before = bytes(run.state)
    found = chosen(book, run, claim=lambda run, i, name, full: fits[i], now=now)
    assert bytes(run.state) == before
    ready = [i for i, state in enumerate(before) if state == R]
    unsent = [i for i, state in enumerate(before) if state in (W, R)]
    slip = max(LEAST_SLIP, SLIP * (run.last - now))
    if found is None:
        first = unsent[0] if unsent else None
        assert not (first in ready and fits[first])
        if ready and not any(not fits[i] for i in ready):
            assert run.blocked
        return
    i, sure = found
    assert sure
    assert i in ready
    assert fits[i]
    late = [k for k in unsent if k < i and now + run.seconds(i) > run.latest[k] + slip]
    # These have slots and cores of their own, whether i runs or not.
    cores = [max(1.0, run.cores(k)) for k in late]
    if late:
        assert all(run.demand(k).keys() == {"cpu"} for k in late)
        taken = sum(max(1.0, c) for c in book.running.values())
        room = min(book.slots, book.node.capacity("cpu"))
        assert taken + max(1.0, run.cores(i)) + sum(cores) <= room


@settings(deadline=None, max_examples=80)
@given(situations(), st.data())
def test_inputs_on_their_way_hold_a_node_up_as_little_as_can_be(
    situation: Any, data: st.DataObject
) -> None:
    book, run, now, fits = situation
    n = len(run.state)
    ways = st.lists(st.sampled_from([0.0, 0.005, 0.5, 2.0]), min_size=n, max_size=n)
    way = data.draw(ways)
    found = chosen(book, run, away(*way), lambda r, i, a, f: fits[i], now)
    if found is None:
        ready = [i for i in range(n) if run.state[i] == R]
        assert run.blocked or not any(fits[i] for i in ready[:TRIES])
        return
    i, sure = found
    assert sure == (way[i] == 0.0)
    far = [k for k in range(i) if run.state[k] == R and way[k] > NEAR]
    if any(fits[k] for k in far):  # else i goes though it holds them up
        assert way[i] <= NEAR
        assert run.seconds(i) <= way[far[0]]  # it has ended when those inputs come

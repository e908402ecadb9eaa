"""Laws of holding nodes: what is decided about them, without a cluster."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import handout_dask as hd
from handout_dask.books import DONE, READY, RunBook
from handout_dask.errors import HandoutError
from handout_dask.held import Held
from handout_dask.holding import STAYS, Holding, needs
from handout_dask.node import Cluster, Node
from handout_dask.plans import allocate
from handout_dask.runspec import RunSpec
from handout_dask.scaling import Decision, Elastic, End, Expect, Lose, Start

CHEAP, DEAR, DEARER = (
    Node("cheap", price=1, slots=1),
    Node("dear", price=10, slots=2),
    Node("dearer", price=20),
)
THREE = Cluster([DEARER, CHEAP, DEAR])
OPTIONS = Elastic(idle=5, least=1, startup=2, patience=30)


def idle(name: str) -> bool:
    return False


def holding(
    *there: str, cluster: Cluster = THREE, elastic: Elastic = OPTIONS
) -> Holding:
    made = Holding()
    made.declare("me", cluster, elastic, there, 0.0)
    return made


def book(
    node: list[str], start: list[float], end: list[float], since: float
) -> RunBook:
    order = sorted(range(len(node)), key=lambda i: (start[i], i))
    rank = [order.index(i) for i in range(len(node))]
    n = len(node)
    spec = RunSpec(
        "t", ["f"] * n, "c", node, rank, [0] * n, [{"cpu": 1.0}],
        [frozenset(node)], frozenset(), {}, start, end, frozenset(),
    )  # fmt: skip
    return RunBook(spec, [], since)


# -------------------------------------------------------------------------- needs
def test_a_node_is_needed_when_its_first_unsent_function_starts() -> None:
    run = book(["a", "a", "b"], [1.0, 3.0, 2.0], [2.0, 4.0, 3.0], 100.0)
    assert needs([run], ["a", "b", "c"]) == {"a": 101.0, "b": 102.0}
    run.state[0] = DONE
    run.state[1] = READY
    assert needs([run], ["a", "b"]) == {"a": 103.0, "b": 102.0}
    run.state[1] = DONE
    assert needs([run], ["a", "b"]) == {"b": 102.0}


def test_the_first_run_that_needs_a_node_counts() -> None:
    late = book(["a"], [50.0], [51.0], 0.0)
    early = book(["a"], [1.0], [2.0], 30.0)
    assert needs([late, early], ["a"]) == {"a": 31.0}


def test_a_function_that_can_run_nowhere_needs_nothing() -> None:
    assert needs([book(["a"], [math.inf], [math.inf], 0.0)], ["a"]) == {}


# ------------------------------------------------------------------------ settings
@pytest.mark.parametrize(
    "wrong", [{"least": 0}, {"least": 1.5}, {"idle": -1}, {"patience": "long"}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises((HandoutError,)):
        Elastic(**wrong)  # type: ignore[arg-type]


def test_elastic_is_a_bool_or_settings() -> None:
    assert Elastic.of(False) is None
    assert Elastic.of(True) == Elastic()
    assert Elastic.of(OPTIONS) is OPTIONS
    with pytest.raises(HandoutError, match="elastic=1"):
        Elastic.of(1)
    assert hd.Elastic is Elastic


# ------------------------------------------------------------------------ decisions
def test_absent_nodes_are_expected_and_the_cheapest_is_started() -> None:
    made = Holding()
    said = made.declare("me", THREE, OPTIONS, (), 0.0)
    assert said == [Expect("dearer"), Expect("cheap"), Expect("dear")]
    assert made.decide({}, idle, 0.0) == [Start("cheap")]
    assert made.decide({}, idle, 1.0) == []
    assert made.wanted("me") == (["cheap"], ["dearer", "dear"])


def test_a_node_is_started_in_time_for_its_first_function() -> None:
    made = holding("cheap")
    assert made.decide({"dear": 10.0}, idle, 7.0) == []
    assert made.decide({"dear": 10.0}, idle, 7.5) == [Start("dear")]  # 1.25 * 2 s
    assert made.delay("dear", 8.5) == 1.0
    assert made.delay("dear", 9.5) == 1.0  # it takes longer: half as long again
    made.joined("dear", 10.5)
    assert made.delay("dear", 11.0) == 0.0
    assert made.startup("dearer") == 3.0  # as was seen


def test_a_node_that_nobody_needs_is_ended_after_a_while_but_not_the_last() -> None:
    made = holding("cheap", "dear", "dearer")
    assert made.decide({}, idle, 4.9) == []
    assert made.decide({}, idle, 5.0) == [End("dearer"), End("dear")]
    assert made.decide({}, idle, 100.0) == []
    assert made.left("dear", 6.0)
    assert made.holds("me", 1.0, 10.0) == [
        ("dearer", 0.0, 9.0),  # its results are being moved yet
        ("cheap", 0.0, 9.0),
        ("dear", 0.0, 5.0),
    ]


def test_a_node_that_is_busy_or_needed_soon_stays() -> None:
    made = holding("cheap", "dear", "dearer")
    for now in range(1, 20):
        need = {"dear": now + 7.0}
        assert made.decide(need, lambda name: name == "dearer", float(now)) == []
    need = {"dear": 31.0}  # a gap of more than start and idle time
    assert made.decide(need, idle, 20.0) == []
    assert made.decide(need, idle, 24.0) == [End("dearer")]
    assert made.decide({"dear": 100.0}, idle, 28.9) == []
    assert made.decide({"dear": 100.0}, idle, 29.0) == [End("dear")]


def test_a_node_stays_for_the_time_that_is_paid() -> None:
    hourly = Cluster(THREE.nodes, billing="held", quantum=60.0)
    made = holding("cheap", "dear", cluster=hourly)
    assert made.decide({}, idle, 30.0) == []
    assert made.decide({}, idle, 59.5) == [End("dear")]


def test_a_node_whose_results_fit_nowhere_stays() -> None:
    made = holding("cheap", "dear")
    assert made.decide({}, idle, 5.0) == [End("dear")]
    made.stays("dear", 6.0)
    assert made.decide({}, idle, 11.0 + STAYS - 0.1) == []
    assert made.decide({}, idle, 11.0 + STAYS) == [End("dear")]


def test_only_what_was_put_away_is_started_again() -> None:
    made = holding("cheap", "dear")
    made.decide({}, idle, 5.0)
    made.left("dear", 5.1)
    need = {"dear": 5.0}
    assert made.decide(need, idle, 5.2) == []
    assert made.wanted("me") == ([], ["dearer", "dear"])
    assert made.specified("me", ["cheap", "dear"], 5.3) == []
    assert made.decide(need, idle, 5.3) == []
    assert made.specified("me", ["cheap"], 5.4) == []
    assert made.decide(need, idle, 5.4) == [Start("dear")]


def test_a_node_that_does_not_come_is_given_up_for_a_while() -> None:
    made = holding("cheap")
    need = {"dear": 1.0}
    assert made.decide(need, idle, 0.0) == [Start("dear")]
    assert [made.slow(t) for t in (3.0, 4.5, 5.0)] == [[], ["dear"], []]
    assert made.decide(need, idle, 30.5) == [
        Lose("dear", "it did not come within 30 s")
    ]
    assert made.delay("dear", 31.0) == math.inf
    assert [node.name for node in made.away("me")] == ["dearer"]
    assert made.wanted("me") == ([], ["dearer", "dear"])
    assert made.specified("me", ["cheap"], 40.0) == []
    assert made.specified("me", ["cheap"], 60.5) == [Expect("dear")]
    assert made.decide(need, idle, 60.5) == [Start("dear")]


def test_a_node_that_can_not_be_started_is_lost_at_once() -> None:
    made = holding("cheap")
    made.decide({"dear": 1.0}, idle, 0.0)
    assert made.failed("dear", "no quota", 1.0) == [Lose("dear", "no quota")]
    assert made.failed("dear", "no quota", 1.0) == []
    assert made.failed("cheap", "it is there", 1.0) == []


def test_the_next_cheapest_is_held_for_one_that_fails() -> None:
    made = holding()
    assert made.decide({}, idle, 0.0) == [Start("cheap")]
    made.failed("cheap", "broken", 1.0)
    assert made.decide({}, idle, 1.0) == [Start("dear")]


def test_no_node_ends_before_the_one_that_stays_is_there() -> None:
    made = holding("cheap", "dear")
    made.left("cheap", 1.0)
    assert made.specified("me", ["dear"], 10.0) == [Expect("cheap")]
    assert made.decide({}, idle, 10.0) == [Start("cheap")]
    assert made.decide({}, idle, 11.0) == []
    made.joined("cheap", 11.5)
    assert made.decide({}, idle, 12.0) == [End("dear")]


def test_a_crashed_node_may_return_by_itself_or_is_replaced() -> None:
    made = holding("cheap", "dear")
    assert not made.left("dear", 1.0)
    assert made.specified("me", ["cheap", "dear"], 2.0) == []
    assert made.wanted("me") == ([], ["dearer"])  # its nanny may be at it
    assert made.decide({}, idle, 31.5) == [Expect("dear")]
    assert made.wanted("me") == ([], ["dearer", "dear"])


def test_a_node_that_somebody_else_ended_can_be_started_again() -> None:
    made = holding("cheap", "dear")
    made.left("dear", 1.0)
    assert made.specified("me", ["cheap"], 1.1) == [Expect("dear")]
    assert made.decide({"dear": 1.0}, idle, 1.2) == [Start("dear")]


def test_all_of_a_node_is_held_until_it_can_be_there() -> None:
    made = holding("cheap", "dearer")
    assert made.held("me", 0.0) == [Held("dear", 0.0, 2.0, {"slots": 2.0, "cpu": 0.0})]
    assert made.held("other", 0.0) == made.away("other") == []
    made.decide({"dear": 0.0}, idle, 0.0)
    assert made.held("me", 1.5)[0].end == 0.5


def test_plans_wait_for_what_has_to_start() -> None:
    made = holding("cheap", cluster=Cluster([CHEAP, DEAR]))
    graph = hd.Graph([hd.Function("a", node="dear", cost={"cpu_time": 1000})])
    problem = hd.Problem(graph, Cluster([CHEAP, DEAR]), held=made.held("me", 0.0))
    for name in ("time", "cost", "first-available"):
        assert allocate(problem, name)["a"].start == pytest.approx(2.0)


def test_the_first_executor_leads_until_it_leaves() -> None:
    made = holding("cheap")
    other = Cluster([DEAR, Node("own", price=0.5)])
    assert made.declare("you", other, OPTIONS, (), 1.0) == [Expect("own")]
    assert made.is_led_by("me", "dear")
    assert not made.is_led_by("you", "dear")
    assert made.withdraw("me") == [Lose("dearer", "who would start it has left")]
    assert made.is_led_by("you", "dear")
    assert made.withdraw("me") == []


# ---------------------------------------------------------------- any course of events
@dataclass
class World:
    """What happens to nodes as it is decided, with chance: starts fail, nodes crash."""

    holding: Holding
    there: set[str]
    specified: set[str]
    expected: set[str]
    starting: dict[str, float] = field(default_factory=dict)
    ending: set[str] = field(default_factory=set)

    def enact(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            name = decision.node
            if isinstance(decision, Start):
                assert name not in self.there | self.specified
                assert name in self.expected
            elif isinstance(decision, End):
                assert name in self.there
                self.ending.add(name)
                assert self.there - self.ending, "the last one ends"
            elif isinstance(decision, Lose):
                self.expected.discard(name)
            elif isinstance(decision, Expect):
                self.expected.add(name)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["join", "fail", "crash", "end", "stay", "poll"]),
        st.sampled_from(["cheap", "dear", "dearer"]),
        st.floats(0.0, 20.0),
        st.dictionaries(st.sampled_from(["cheap", "dear", "dearer"]), st.floats(0, 40)),
        st.sets(st.sampled_from(["cheap", "dear", "dearer"])),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(EVENTS, st.integers(1, 2))
def test_whatever_happens_no_busy_node_ends_and_what_is_needed_comes(
    events: list[tuple[str, str, float, dict[str, float], set[str]]], least: int
) -> None:
    elastic = Elastic(idle=5, least=least, startup=2, patience=30)
    world = World(holding("cheap", elastic=elastic), {"cheap"}, {"cheap"}, set())
    world.expected |= {"cheap", "dear", "dearer"}
    made, now = world.holding, 0.0

    def poll(need: dict[str, float], busy: set[str]) -> None:
        world.enact(made.specified("me", sorted(world.specified), now))
        wanted = {name: now + when for name, when in need.items()}
        decisions = made.decide(wanted, busy.__contains__, now)
        world.enact(decisions)
        for decision in decisions:
            assert not (isinstance(decision, End) and decision.node in busy)
        start, away = made.wanted("me")
        assert not {*start} & {*away}
        assert not {*away} & world.there - world.ending
        world.specified |= {*start}
        world.specified -= {*away}
        for name, when in need.items():
            delay = made.delay(name, now)
            if when <= 2.0 and delay < math.inf and name not in world.ending:
                assert name in world.there | world.specified or delay > 0

    for what, name, passed, need, busy in events:
        now += passed
        if what == "join" and name in world.specified - world.there:
            made.joined(name, now)
            world.there.add(name)
        elif what == "fail" and name in world.specified - world.there:
            world.enact(made.failed(name, "why", now))
        elif what == "crash" and name in world.there:
            made.left(name, now)
            world.there.discard(name)
            world.ending.discard(name)
        elif what == "end" and name in world.ending:
            assert made.left(name, now)
            world.there.discard(name)
            world.ending.discard(name)
        elif what == "stay" and name in world.ending:
            made.stays(name, now)
            world.ending.discard(name)
        poll(need, busy & world.there)

    # In calm, all that is needed comes, and all else goes but the least.
    for _ in range(200):
        now += 1.0
        for name in sorted(world.ending):
            made.left(name, now)
            world.there.discard(name)
        world.ending.clear()
        poll({"dear": 0.0}, set())
        for name in sorted(world.specified - world.there):
            made.joined(name, now)
            world.there.add(name)
    assert world.there >= {"dear", "cheap"}
    for name in ("dear", "cheap", "dearer"):
        holds = [row for row in made.holds("me", 0.0, now) if row[0] == name]
        for (_, begin, end), (_, later, _) in pairwise(holds):
            assert begin <= end <= later

"""What bound functions do when their node is gone: values, and the books."""

import pickle

import pytest

import handout_dask as hd
from handout_dask import Function
from handout_dask.books import READY, RunBook
from handout_dask.dispatch import Dispatcher
from handout_dask.node import Node
from handout_dask.pins import DEFAULT, joint, parse_on_lost, patience, wait
from handout_dask.runspec import RunSpec
from handout_dask.tracker import StaticTracker


@pytest.mark.parametrize("value", [None, "elsewhere", "fail", wait(0), wait(2.5)])
def test_a_policy_that_makes_sense_is_kept(value):
    assert Function("a", on_lost=value).on_lost == value
    assert pickle.loads(pickle.dumps(parse_on_lost("x", value))) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("nowhere", r"function 'a': on_lost='nowhere' must be 'elsewhere', 'fail' or"),
        (10, r"function 'a': on_lost=10 must be .*did you mean wait\(10\)\?"),
        (True, r"function 'a': on_lost=True must be"),
        (["fail"], r"function 'a': on_lost=\['fail'\] must be"),
    ],
)
def test_another_is_refused_by_function_field_and_value(value, text):
    with pytest.raises(hd.GraphError, match=text):
        Function("a", on_lost=value)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "3", True, None])
def test_nonsense_is_no_time_to_wait(seconds):
    with pytest.raises(hd.GraphError, match=r"wait\(.*must be a number of at least 0"):
        hd.wait(seconds)


def test_the_strictest_of_a_group_counts():
    assert joint([]) is joint([None]) is None
    assert joint([None, "elsewhere"]) == "elsewhere"
    assert joint(["elsewhere", wait(9), wait(3)]) == wait(3)
    assert joint([wait(0.5), "fail", "elsewhere"]) == "fail"
    assert [patience(x) for x in ("fail", wait(4), DEFAULT)] == [0.0, 4.0, 10.0]


# ------------------------------------------------------------------------ the books
def books(pinned=(), group=(), nodes="aab", names="ab", **about):
    """A run of functions that wait for their nodes."""
    made = Dispatcher(StaticTracker())
    for name in names:
        made.set_node(Node(name, {"cpu": 1}))
    n = len(nodes)
    spec = RunSpec(
        token="t",
        prefix=["f"] * n,
        cut_prefix="c",
        node=list(nodes),
        rank=list(range(n)),
        need=[0] * n,
        demand=[{"cpu": 1.0}],
        able=[frozenset(names)],
        pinned=frozenset(pinned),
        group={i: tuple(group) for i in group},
        start=[0.0] * n,
        end=[1.0] * n,
        cuts=frozenset(),
        **about,
    )
    made.add_run(spec)
    return made


def where(made):
    return "".join(made.runs["t"].node)


def test_a_pin_stays_and_what_is_free_moves():
    made = books(pinned=[0])
    assert made.lose_node("a") == {"b"}
    assert where(made) == "abb"
    assert made.stranded("a") == [("t", 0)]


@pytest.mark.parametrize("policy", ["fail", wait(3)])
def test_a_pin_that_says_so_stays_whatever_the_executor_says(policy):
    made = books(pinned=[0, 1], on_lost="elsewhere", lost={0: policy})
    made.lose_node("a")
    assert where(made) == "abb"


def test_a_pin_that_goes_elsewhere_is_none_from_then_on():
    made = books(pinned=[0, 1], lost={1: "elsewhere"})
    made.lose_node("a")
    assert where(made) == "abb"
    assert made.runs["t"].pinned == {0}
    assert made.move("t", 1, "b")  # as any other


def test_a_pin_leaves_only_a_node_that_is_gone():
    made = books(pinned=[0], on_lost="elsewhere")
    assert not made.move("t", 0, "b")
    assert where(made) == "aab"


def test_a_pinned_group_moves_as_one_or_not_at_all():
    for policy, after in ("elsewhere", "bbb"), ("fail", "aab"), (wait(1), "aab"):
        lost = dict.fromkeys((0, 1), policy)
        made = books(pinned=[0, 1], group=[0, 1], lost=lost)
        made.lose_node("a")
        assert where(made) == after


def test_a_group_is_bound_once_one_of_it_has_run():
    for begun, after in (False, "bbb"), (True, "aab"):
        made = books(group=[0, 1], lost={0: "fail", 1: "fail"})
        made.runs["t"].attempts[0] = int(begun)
        made.lose_node("a")
        assert where(made) == after


def test_a_group_without_a_pin_that_says_nothing_moves_though_the_executor_says_fail():
    made = books(group=[0, 1], on_lost="fail")
    made.runs["t"].attempts[0] = 1
    made.lose_node("a")
    assert where(made) == "bbb"


def test_what_comes_back_to_a_node_that_is_gone_goes_elsewhere_too():
    made = books(pinned=[0], on_lost="elsewhere", nodes="a")
    made.ended("t", 0, 3)
    made.lose_node("a")
    assert where(made) == "a"
    made.waiting("t", 0)  # its result was lost with the node, and is needed
    assert where(made) == "b"


def test_a_run_that_begins_when_its_node_has_just_gone_is_treated_alike():
    made = books(names="ab", nodes="b")
    made.lose_node("a")
    spec = made.runs["t"].spec
    from dataclasses import replace

    late = replace(
        spec, token="u", node=["a"], pinned=frozenset([0]), on_lost="elsewhere"
    )
    assert made.add_run(late).node == ["b"]


def test_a_plan_made_again_has_no_pin_that_does_not_hold():
    graph = hd.Graph([Function("p", node="a"), Function("q", node="a")])
    nodes = [Node("a"), Node("b")]
    outline = hd.Problem(graph, hd.Cluster(nodes)).outline
    freed = outline.freed([0])
    assert (outline.pins, freed.pins) == ({0: "a", 1: "a"}, {1: "a"})
    left = hd.Problem(freed, hd.Cluster(nodes[1:]))
    assert left.pin.tolist() == [-1, -2]
    spec = RunSpec("t", ["f"] * 2, "c", ["a"] * 2, [0, 1], [0, 0], [{"cpu": 1.0}],
                   [frozenset("ab")], frozenset([0, 1]), {}, [0.0] * 2, [1.0] * 2,
                   frozenset(), outline=outline)  # fmt: skip
    book = RunBook(spec, [StaticTracker()])
    book.state[0] = READY
    book.unpin([0])
    assert (book.pinned, book.outline.pins) == ({1}, {1: "a"})

"""Who is left out where nodes can't reach each other: laws, on a network of our own."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from handout_dask.cuts import STRIKES, Cuts, Questions

NAMES = "abcde"
PAIRS = list(combinations(NAMES, 2))


def cut(cuts, one, other, reached=False, times=STRIKES):
    return [cuts.tried(one, other, reached) for _ in range(times)]


def test_one_failed_try_is_chance_and_two_are_news():
    cuts = Cuts()
    assert cut(cuts, "a", "b") == [False, True]
    assert cuts.is_cut("b", "a")
    assert cuts.cut_from("a") == ["b"]
    assert cut(cuts, "b", "a") == [False, False]
    assert cut(cuts, "a", "b", reached=True) == [False, True]
    assert not cuts.is_cut("a", "b")
    assert cuts.out({}) == []


def test_a_try_that_works_between_two_that_fail_makes_them_chance():
    cuts = Cuts()
    tries = [cuts.tried("a", "b", reached) for reached in (False, True, False, True)]
    assert tries == [False] * 4
    assert not cuts.is_cut("a", "b")


def test_who_most_can_not_reach_is_out_and_of_equals_who_has_least_in_hand():
    cuts = Cuts()
    for other in "bcd":
        cut(cuts, "a", other)
    assert cuts.out({"a": 9.0}) == ["a"]
    two = Cuts()
    cut(two, "a", "b")
    assert two.out({"a": 2.0, "b": 1.0}) == ["b"]


def test_who_is_out_stays_out_while_it_is_cut_off():
    cuts = Cuts()
    cut(cuts, "a", "b")
    assert cuts.out({"a": 1.0, "b": 2.0}) == ["a"]
    assert cuts.out({"a": 3.0, "b": 2.0}) == ["a"]
    cut(cuts, "a", "b", reached=True)
    assert cuts.out({"a": 3.0, "b": 2.0}) == []


def test_a_node_that_is_gone_is_cut_off_from_nobody():
    cuts = Cuts()
    cut(cuts, "a", "b")
    cuts.forget("b")
    assert (cuts.out({}), cuts.cut_from("a")) == ([], [])


TRIES = st.lists(st.tuples(st.sampled_from(PAIRS), st.booleans()), max_size=80)


@given(TRIES, st.lists(st.integers(0, 79), max_size=5))
@settings(max_examples=200, deadline=None)
def test_those_that_are_not_out_reach_each_other_and_one_is_always_left(tries, looks):
    cuts, before = Cuts(), []
    for k, ((one, other), reached) in enumerate(tries):
        cuts.tried(one, other, reached)
        if k in looks or k == len(tries) - 1:
            out = cuts.out({})
            assert not any(
                cuts.is_cut(x, y) for x, y in PAIRS if x not in out and y not in out
            )
            assert len(out) < len(NAMES)
            assert all(cuts.cut_from(name) for name in out)
            assert all(name in out for name in before if cuts.cut_from(name))
            before = out


def test_questions_are_counted_until_there_is_a_pause():
    questions = Questions(pause=10.0)
    asked = [questions.asked("a", "k", now) for now in (0.0, 1.0, 9.0)]
    assert asked == [(1, 0.0), (2, 1.0), (3, 9.0)]
    assert questions.asked("b", "k", 9.0) == (1, 0.0)
    assert questions.asked("a", "k", 19.5) == (1, 0.0)
    questions.forget("a", "k")
    assert questions.asked("a", "k", 20.0) == (1, 0.0)
    questions.sweep(31.0)
    assert questions._rounds == {}

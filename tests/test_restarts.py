"""Laws of restarts: what is started again, what counts, and when it is too much."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import handout_dask as hd
from handout_dask.restarts import (
    ASKED,
    CUT,
    DIED,
    FAILED,
    GIVEN_UP,
    HOWS,
    KINDS,
    Exit,
    GiveUp,
    Leave,
    Restart,
    Restarts,
    policies_of,
)


def of(*names, **options):
    """Restarts of children with one policy."""
    restarts = Restarts()
    for name in names:
        restarts.add(name, hd.RestartPolicy(**options))
    return restarts


def die(restarts, name, time, how=DIED, code=-9):
    return restarts.ended(Exit(name, time, how, code, 17))


@pytest.mark.parametrize(
    ("kind", "how", "again"),
    [
        ("permanent", ASKED, True),
        ("permanent", DIED, True),
        ("permanent", FAILED, True),
        ("permanent", CUT, True),
        ("transient", ASKED, False),
        ("transient", DIED, True),
        ("transient", FAILED, True),
        ("transient", CUT, True),
        ("temporary", ASKED, False),
        ("temporary", DIED, False),
        ("temporary", FAILED, False),
        ("temporary", CUT, False),
    ],
)
def test_the_kind_says_what_is_started_again(kind, how, again):
    restarts = of("a", kind=kind)
    assert die(restarts, "a", 1.0, how) == (Restart("a") if again else Leave("a"))
    child = restarts.children["a"]
    assert (child.restarts, child.state) == (
        (1, "restarting") if again else (0, "ended")
    )
    assert child.last == Exit("a", 1.0, how, -9, 17)


def test_one_more_than_is_allowed_within_the_period_is_given_up_with_the_reason():
    restarts = of("a", "b", max_restarts=2, within=10)
    assert die(restarts, "a", 0.0) == Restart("a")
    assert die(restarts, "b", 1.0) == Restart("b")
    assert die(restarts, "a", 4.0, FAILED, None) == Restart("a")
    decision = die(restarts, "a", 10.0, DIED, 3)
    assert decision.names == ("a",)
    assert [(x.time, x.how, x.code) for x in decision.exits] == [
        (0.0, DIED, -9), (4.0, FAILED, None), (10.0, DIED, 3),
    ]  # fmt: skip
    assert decision.why == (
        "more than 2 restarts within 10 s are not allowed, and this would be number 3: "
        "a (process 17) was killed by SIGKILL, 10.0 s before; a (process 17) could not "
        "start, 6.0 s before; a (process 17) exited with code 3"
    )
    states = {name: child.state for name, child in restarts.children.items()}
    assert states == {"a": GIVEN_UP, "b": "restarting"}
    assert die(restarts, "a", 11.0) == Leave("a")


def test_what_is_longer_ago_than_the_period_does_not_count():
    restarts = of("a", max_restarts=1, within=10)
    times = [0.0, 10.001, 20.002, 30.003]
    assert [die(restarts, "a", t) for t in times] == [Restart("a")] * 4
    assert isinstance(die(restarts, "a", 40.003), GiveUp)


def test_counted_together_all_are_given_up_the_last_first():
    restarts = of("a", "b", "c", max_restarts=2, scope="all")
    assert [die(restarts, n, t) for t, n in enumerate("ab")] == [
        Restart("a"), Restart("b"),
    ]  # fmt: skip
    decision = die(restarts, "c", 2.0)
    assert decision.names == ("c", "b", "a")
    assert [x.name for x in decision.exits] == ["a", "b", "c"]


def test_what_lost_its_scheduler_is_not_charged():
    restarts = of("a", max_restarts=0)
    assert [die(restarts, "a", t, CUT, 0) for t in range(9)] == [Restart("a")] * 9
    assert isinstance(die(restarts, "a", 9.0), GiveUp)


def test_without_a_limit_nothing_is_given_up():
    restarts = of("a", max_restarts=None)
    assert {die(restarts, "a", t / 100) for t in range(1000)} == {Restart("a")}


def test_what_somebody_starts_again_gets_a_new_chance():
    restarts = of("a", max_restarts=1)
    die(restarts, "a", 0.0)
    assert isinstance(die(restarts, "a", 1.0), GiveUp)
    restarts.is_up("a")
    assert restarts.children["a"].state == "up"
    assert die(restarts, "a", 2.0) == Restart("a")


def test_strangers_are_left_alone():
    restarts = of("a")
    assert die(restarts, "b", 0.0) == Leave("b")
    restarts.remove("a")
    assert die(restarts, "a", 0.0) == Leave("a")


EVENTS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(HOWS),
        st.sampled_from([0.0, 0.1, 1.0, 4.9, 5.0, 5.1, 30.0]),
    ),
    max_size=40,
)


@given(
    EVENTS,
    st.sampled_from(KINDS),
    st.integers(0, 3),
    st.sampled_from(["node", "all"]),
)
def test_decisions_are_those_of_the_definition(events, kind, most, scope):
    """Played against the definition, word for word, on the whole of the past."""
    restarts = of(*"abc", kind=kind, max_restarts=most, within=5, scope=scope)
    now, past, gone = 0.0, [], set()
    for name, how, passed in events:
        now += passed
        decision = restarts.ended(Exit(name, now, how))
        normal = how == ASKED and kind == "transient"
        if name in gone or kind == "temporary" or normal:
            assert decision == Leave(name)
            continue
        if how != CUT:
            past.append((now, name))
        counted = [n for t, n in past if t >= now - 5 and (scope == "all" or n == name)]
        if how != CUT and len(counted) > most:
            names = "cba" if scope == "all" else name
            assert decision.names == tuple(names)
            assert [x.name for x in decision.exits] == counted
            gone |= {*names}
        else:
            assert decision == Restart(name)
    assert {n for n, c in restarts.children.items() if c.state == GIVEN_UP} == gone


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_restarts": -1}, "max_restarts=-1 must be an integer, at least 0"),
        ({"max_restarts": 1.5}, "max_restarts=1.5 must be"),
        ({"max_restarts": True}, "max_restarts=True must be"),
        ({"within": 0}, "within=0 must be a number of seconds above 0"),
        ({"within": "1 min"}, "within='1 min' must be"),
        ({"within": float("nan")}, "within=nan must be"),
        ({"within": float("inf")}, "within=inf must be"),
        ({"kind": "eternal"}, "kind='eternal' must be one of ('permanent', "),
        ({"scope": 3}, "scope=3 must be one of ('node', 'all')"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(options, words):
    with pytest.raises(hd.HandoutError) as info:
        hd.RestartPolicy(**options)
    assert words in str(info.value)


def test_policies_are_given_for_all_or_by_name():
    calm, plain = hd.RestartPolicy(9), hd.RestartPolicy()
    assert policies_of(None, "ab") == {"a": plain, "b": plain}
    assert policies_of(calm, "ab") == {"a": calm, "b": calm}
    assert policies_of({"b": calm}, "ab") == {"a": plain, "b": calm}
    with pytest.raises(hd.HandoutError, match="there is no node 'c'; there are a, b"):
        policies_of({"c": calm}, "ab")
    with pytest.raises(hd.HandoutError, match="3 of 'a' is no RestartPolicy"):
        policies_of({"a": 3}, "ab")
    with pytest.raises(hd.HandoutError, match="must be a RestartPolicy, or a dict"):
        policies_of(3, "ab")


def test_the_error_travels_with_its_reasons():
    exits = (Exit("a", 1.0, DIED, -11, 5),)
    error = pickle.loads(pickle.dumps(hd.SupervisorError("why", exits)))
    assert (str(error), error.exits) == ("why", exits)
    assert str(exits[0]) == "a (process 5) was killed by SIGSEGV"

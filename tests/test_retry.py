"""RetryPolicy: what it takes, what it refuses, and the times of its rests."""

import pickle
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handout_dask import GraphError, RetryPolicy

calm = settings(deadline=None)
policies = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 50),
    backoff=st.floats(0, 1e4),
    factor=st.floats(1, 10),
    most=st.floats(0, 1e4),
    jitter=st.floats(0, 1),
)


class Ours(ValueError):
    pass


def names_of(kind):
    return [f"{k.__module__}.{k.__qualname__}" for k in kind.__mro__[:-1]]


@calm
@given(policies, st.integers(1, 10**9), st.integers())
def test_rests_are_never_longer_than_the_most(policy, failures, seed):
    assert 0.0 <= policy.rest(failures, seed) <= policy.most


@calm
@given(policies, st.integers(1, 100), st.integers())
def test_rests_are_within_bounds(policy, failures, seed):
    rest = policy.rest(failures, seed)
    if policy.backoff * policy.factor ** (failures - 1) < policy.most:
        plain = policy.backoff * policy.factor ** (failures - 1)
        assert rest >= (1 - policy.jitter) * plain - 1e-9
        assert rest <= (1 + policy.jitter) * plain + 1e-9


@calm
@given(policies, st.integers(1, 200))
def test_without_jitter_rests_grow_until_the_most(policy, failures):
    calm = RetryPolicy(**{**asdict(policy), "jitter": 0.0})
    one, next_one = calm.rest(failures), calm.rest(failures + 1)
    assert one <= next_one
    if next_one < calm.most and one:
        assert next_one == pytest.approx(one * calm.factor)


@calm
@given(policies, st.integers(1, 100), st.text(), st.integers())
def test_the_same_seed_gives_the_same_rest(policy, failures, token, i):
    copy = pickle.loads(pickle.dumps(policy))
    assert copy == policy
    assert copy.rest(failures, token, i) == policy.rest(failures, token, i)


def test_jitter_keeps_those_apart_that_failed_at_once():
    policy = RetryPolicy(backoff=1.0, jitter=0.5, most=10.0)
    rests = {policy.rest(1, "run", i) for i in range(100)}
    assert len(rests) == 100
    assert max(rests) - min(rests) > 0.5


def test_no_number_of_failures_overflows():
    assert RetryPolicy(backoff=1.0, factor=10.0, jitter=0.0).rest(10**9) == 60.0


@pytest.mark.parametrize(
    ("retry_on", "never", "error", "again"),
    [
        (Exception, (), Ours, True),
        (Exception, ValueError, Ours, False),
        (ValueError, (), Ours, True),
        (OSError, (), Ours, False),
        ("OSError", (), ConnectionError, True),
        ([OSError, "ValueError"], (), Ours, True),
        (Ours, (), Ours, True),
        (Ours, (), ValueError, False),
        (f"{__name__}.Ours", (), Ours, True),
        (Exception, Exception, Ours, False),
        ((), (), Ours, False),
    ],
)
def test_exceptions_are_told_apart_by_their_classes(retry_on, never, error, again):
    policy = RetryPolicy(3, retry_on=retry_on, never=never)
    copy = pickle.loads(pickle.dumps(policy))
    assert copy.is_tried_again(names_of(error)) is again


def test_a_class_travels_as_its_name():
    """A scheduler need not have the user's package."""
    assert RetryPolicy(retry_on=Ours).retry_on == (f"{__name__}.Ours",)
    assert b"Ours" not in pickle.dumps(RetryPolicy(retry_on=ValueError))


def test_a_name_without_its_module_matches_what_is_known():
    policy = RetryPolicy(retry_on="requests.HTTPError")
    assert policy.is_tried_again(["HTTPError"])
    assert not policy.is_tried_again(["ValueError"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attempts", 0), ("attempts", -3), ("attempts", 1.5), ("attempts", "3"),
        ("attempts", True), ("crashes", 0), ("memory_attempts", None),
        ("backoff", -1), ("backoff", float("nan")), ("backoff", "1"),
        ("factor", 0.5), ("factor", float("inf")), ("most", -1), ("jitter", 1.1),
        ("jitter", -0.1), ("memory_factor", 0.9), ("elsewhere", 1),
        ("quarantine", -1), ("max_waiting", "10"), ("deadline", float("inf")),
        ("retry_on", 3), ("retry_on", int), ("never", [ValueError, 3]),
        ("never", "not a name"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_by_name(field, value):
    with pytest.raises(GraphError, match=rf"^RetryPolicy: {field}=") as info:
        RetryPolicy(**{field: value})
    assert repr(value) in str(info.value)

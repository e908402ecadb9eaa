"""Laws of records."""

import pickle

import pytest

from handout_dask.events import DONE, FAILED, LOST, OUTCOMES, Span


def test_record_is_a_value_that_travels_and_never_changes():
    span = Span("a", "n0", 0.0, 1.0, 2, FAILED, error="ValueError: no")
    assert pickle.loads(pickle.dumps(span)) == span
    assert {span: 1}[span] == 1
    with pytest.raises(AttributeError):
        span.end = 2.0


def test_first_attempt_that_is_done_is_the_default():
    assert Span("a", "n0", 0.0, 1.0) == Span("a", "n0", 0.0, 1.0, 1, DONE, None, None)
    assert OUTCOMES == (DONE, FAILED, LOST)

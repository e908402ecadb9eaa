"""Rows R8, R9 and R11: functions that raise, take too much, or never end."""

import pytest

import handout_dask as hd
from benchmarks.breaking import functions

pytestmark = pytest.mark.stress


def test_r8_attempts_come_after_the_times_of_the_policy(play):
    seen = play(functions.raises)
    assert seen.exact
    gaps, planned = seen.more["gaps"], [0.2, 0.4, 0.8]
    assert len(gaps) == 3
    assert all(p <= gap < p + 3 for p, gap in zip(planned, gaps, strict=True))


@pytest.mark.parametrize("scenario", [functions.hog_slow, functions.hog_burst])
def test_r9_what_takes_too_much_memory_fails_alone_and_says_how_much(play, scenario):
    seen = play(scenario)
    assert (set(seen.ended.errors), seen.more["innocents"]) == ({"hog"}, 60)
    error = seen.ended.errors["hog"]
    assert isinstance(error, hd.ResourceExhaustedError)
    assert error.resource == "memory"
    assert "MB" in str(error)
    assert seen.more["hog ran"] <= 3
    assert seen.more["neighbours again"] <= 20


def test_r9_what_takes_too_much_for_a_node_runs_on_a_larger_one(play):
    seen = play(functions.hog_unequal)
    assert seen.exact
    assert seen.more["neighbours again"] <= 20
    assert seen.more["hog ran"] <= 3


def test_r11_what_runs_too_long_is_ended_and_its_slot_is_used_again(play):
    seen = play(functions.timeout_thread)
    assert seen.exact
    error = seen.ended.errors["never"]
    assert isinstance(error, hd.FunctionTimeoutError)
    assert (error.seconds, error.clock) == (functions.TIMEOUT, "running")
    assert seen.more["next run"] is not None


def test_r11_that_holds_for_code_in_c_that_keeps_the_gil(play):
    seen = play(functions.timeout_gil)
    assert seen.exact
    assert isinstance(seen.ended.errors["never"], hd.FunctionTimeoutError)
    assert seen.more["next run"] is not None


def test_r11_what_is_cancelled_gives_its_slot_back(play):
    assert play(functions.cancelled).exact

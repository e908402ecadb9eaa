"""Rows R6 and R7: hosts in network namespaces are cut off, or from each other."""

import pytest

import handout_dask as hd
from benchmarks.breaking import network

pytestmark = pytest.mark.stress


@pytest.mark.parametrize(
    "scenario",
    [network.cut_for_10, network.cut_for_good, network.cut_one_way],
    ids=lambda scenario: scenario.__name__,
)
def test_r6_a_run_goes_on_without_what_is_cut_off_and_takes_it_back(play, scenario):
    seen = play(scenario)
    assert (seen.said, seen.exact) == ("done", True)
    assert seen.back is not None
    assert seen.more["begun after the end"] == 0
    assert seen.again == 0 or seen.more["highest attempt"] > 1
    assert seen.more["same attempt twice"] == 0


def test_r6_what_comes_late_from_nodes_that_were_cut_off_does_not_count(play):
    seen = play(network.cut_and_late)
    assert (seen.said, seen.exact) == ("done", True)
    assert seen.more["same attempt twice"] == 0  # functions see which one they are


def test_r7_nodes_that_cant_reach_each_other_hold_nothing_up(play):
    seen = play(network.cut_from_each_other)
    assert not seen.ended.hang
    assert seen.exact or all(
        isinstance(error, hd.HandoutError) for error in seen.ended.errors.values()
    )


def test_r7_a_result_that_cant_travel_is_an_error_that_says_so(play):
    seen = play(network.unpicklable)
    assert seen.exact
    assert isinstance(seen.ended.errors["reads"], hd.FunctionError)
    assert "'lock'" in seen.more["text"]

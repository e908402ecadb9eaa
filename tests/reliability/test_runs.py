"""Rows R10, R13 and R14: pins, runs that share a cluster, and full disks."""

import pytest

import handout_dask as hd
from benchmarks.breaking import runs

pytestmark = pytest.mark.stress


def test_r10_a_pin_is_to_a_name_and_outlives_the_worker(play):
    assert play(runs.pin_restarts).exact


def test_r10_a_pin_to_a_node_that_is_gone_for_good_is_an_error(play):
    seen = play(runs.pin_lost)
    assert seen.exact
    error = seen.ended.errors["pinned"]
    assert isinstance(error, hd.NodeLostError)
    assert "n0" in str(error)


def test_r10_what_can_run_nowhere_is_refused(play):
    seen = play(runs.unsatisfiable)
    error = seen.ended.errors["a"]
    assert isinstance(error, hd.UnsatisfiableError)
    assert "camera" in str(error)


def test_r13_runs_with_the_same_ids_don_t_mix(play):
    assert play(runs.same_ids).exact


def test_r14_a_full_disk_loses_no_result_and_says_where_it_is(play):
    seen = play(runs.full_disk)
    assert seen.exact
    assert seen.more["there"] >= 8  # of 14 at most; two nodes share what disk there is
    for error in seen.ended.errors.values():
        assert isinstance(error, hd.ResourceExhaustedError)
        assert error.resource == "disk"

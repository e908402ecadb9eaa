"""Rows R1, R2, R4 and R5: nodes are killed and frozen, or only seem to be."""

import pytest

from benchmarks.breaking import nodes

pytestmark = pytest.mark.stress


def done(seen):
    return seen.said, seen.exact


def test_r1_a_kill_is_noticed_at_once_and_costs_what_was_on_the_node(play):
    seen = play(nodes.kill_one)
    assert done(seen) == ("done", True)
    assert seen.detect < 0.6
    assert seen.again <= 30


@pytest.mark.parametrize(
    "scenario", [nodes.kill_three, nodes.kill_each, nodes.kill_all]
)
def test_r1_many_kills_end_right(play, scenario):
    assert done(play(scenario)) == ("done", True)


def test_r2_no_function_is_blamed_for_kills_that_it_did_not_cause(play):
    assert done(play(nodes.kill_rolling)) == ("done", True)


@pytest.mark.parametrize("scenario", [nodes.freeze_worker, nodes.freeze_node])
def test_r4_a_frozen_node_is_given_up_and_taken_back_when_it_goes_on(play, scenario):
    seen = play(scenario)
    assert done(seen) == ("done", True)
    assert seen.detect < 12
    assert seen.back is not None


def test_r5_a_function_that_holds_the_gil_is_no_dead_node(play):
    seen = play(nodes.hold_gil)
    assert done(seen) == ("done", True)
    assert seen.more == {"ran": 1, "given up": 0}


def test_r5_nodes_of_a_busy_host_are_not_given_up(play):
    seen = play(nodes.burners)
    assert (*done(seen), seen.again) == ("done", True, 0)
    assert seen.more == {"given up": 0}

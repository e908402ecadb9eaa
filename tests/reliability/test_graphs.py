"""Row R15: graphs that make no sense are refused; large ones that do are run."""

import pytest

from benchmarks.breaking import graphs

pytestmark = pytest.mark.stress


def test_r15_odd_graphs_are_refused_with_who_which_and_what(play):
    seen = play(graphs.odd)
    assert seen.more["wrong"] == []
    assert seen.more["refused"] == len(graphs.ODD)
    assert seen.more["left"] == 0
    assert seen.more["slowest"] < 3


@pytest.mark.timeout(400)
@pytest.mark.parametrize("scenario", [graphs.fan_in, graphs.fan_out, graphs.chain])
def test_r15_graphs_of_ten_thousand_end_right(play, scenario):
    assert play(scenario).exact

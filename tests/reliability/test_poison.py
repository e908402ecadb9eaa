"""Row R3: a function ends its process; innocents don't pay, and the error says why."""

import pytest

import handout_dask as hd
from benchmarks.breaking import nodes

pytestmark = pytest.mark.stress

SAYS = {
    nodes.poison_exit: ("7",),
    nodes.poison_segv: ("SIGSEGV",),
    nodes.poison_sys_exit: ("7",),
}


@pytest.mark.parametrize("scenario", SAYS, ids=lambda scenario: scenario.__name__)
def test_r3_only_the_function_that_ends_its_process_fails_and_says_how(play, scenario):
    seen = play(scenario)
    assert seen.more["innocents"] == nodes.INNOCENTS
    assert set(seen.ended.errors) == {"bad"}
    assert seen.more["poison ran"] <= 3
    error = seen.ended.errors["bad"]
    assert isinstance(error, hd.FunctionError | SystemExit)
    text = "\n".join([str(error), *getattr(error, "__notes__", ())])
    for word in ("'bad'", "n0", *SAYS[scenario]):
        assert word in text


@pytest.mark.parametrize(
    "scenario", [nodes.poison_exit, nodes.poison_segv], ids=lambda s: s.__name__
)
def test_r3_the_error_has_pid_attempts_and_the_last_words_of_the_process(
    play, scenario
):
    text = play(scenario).more["text"]
    assert "pid" in text
    assert "attempt" in text or "times" in text
    assert "bad is about to end this process" in text

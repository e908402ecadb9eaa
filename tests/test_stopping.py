"""When a worker is started anew whose threads go on with what was cancelled."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handout_dask.stopping import DRAIN, LEAVE, RENEW, SILENT, Threads, what_to_do

NOW = 1000.0


def test_a_cancelled_function_may_go_on_for_its_time():
    assert what_to_do(Threads([(NOW - 1.9, 2.0)], 0, NOW), NOW) == LEAVE
    assert what_to_do(Threads([(NOW - 2.0, 2.0)], 0, NOW), NOW) == RENEW


def test_what_else_runs_there_ends_first():
    assert what_to_do(Threads([(NOW - 3.0, 2.0)], 1, NOW), NOW) == DRAIN


def test_a_worker_that_is_silent_is_not_spared_for_what_runs_beside():
    since = NOW - SILENT - 5.0
    assert what_to_do(Threads([(since, 2.0)], 1, NOW - 1.0), NOW) == DRAIN
    assert what_to_do(Threads([(since, 2.0)], 1, since), NOW) == RENEW
    # Silent before something was cancelled is another matter.
    assert what_to_do(Threads([(NOW - 3.0, 2.0)], 1, since), NOW) == DRAIN


def test_what_nobody_could_make_again_is_not_lost():
    threads = Threads([(NOW - 99.0, 2.0)], 0, NOW - 99.0, "an actor")
    assert what_to_do(threads, NOW) == LEAVE


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, NOW), st.floats(0, 50)), max_size=4),
    st.integers(0, 3),
    st.floats(0, NOW),
)
def test_nothing_is_ended_for_what_has_not_gone_on_too_long(cancelled, wanted, heard):
    found = what_to_do(Threads(cancelled, wanted, heard), NOW)
    over = [since for since, grace in cancelled if NOW - since >= grace]
    assert (found == LEAVE) == (not over)
    if found == RENEW and wanted:
        assert NOW - heard >= SILENT

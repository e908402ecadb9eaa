"""What nodes are promised to live runs: what holds them now, and what will."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handout_dask.begun import OVERDUE
from handout_dask.books import (
    DONE,
    ENDED,
    FAILED,
    GONE,
    READY,
    SENT,
    WAITING,
    RunBook,
)
from handout_dask.promised import promised
from handout_dask.runspec import RunSpec

STATES = (WAITING, READY, SENT, DONE, FAILED, GONE)
INF = float("inf")
CPU, CAMERA = {"cpu": 1.0}, {"cpu": 2.0, "camera": 1.0}


def run_of(*rows, priority=0, since=0.0):
    """The books of a run, of ``(state, node, start, end)`` of each function.

    Those of even number demand a core, the others more.
    """
    n = len(rows)
    state, node, start, end = (list(x) for x in zip(*rows, strict=True))
    spec = RunSpec(
        token="r", prefix=["f"] * n, cut_prefix="cut", node=node, rank=list(range(n)),
        need=[i % 2 for i in range(n)], demand=[CPU, CAMERA],
        able=[frozenset(node)] * 2, pinned=frozenset(), group={}, start=start, end=end,
        cuts=frozenset(), priority=priority,
    )  # fmt: skip
    run = RunBook(spec, [], since)
    run.state[:] = bytes(state)
    return run


def test_what_waits_is_promised_as_planned_from_now_on():
    run = run_of((WAITING, "a", 12.0, 15.0), (READY, "b", 20.0, 21.0))
    assert promised([run], 10.0) == [("a", 2.0, 5.0, CPU), ("b", 10.0, 11.0, CAMERA)]


def test_times_are_counted_from_when_the_run_began():
    run = run_of((WAITING, "a", 12.0, 15.0), (SENT, "b", 9.0, 13.0), since=100.0)
    assert promised([run], 110.0) == [("a", 2.0, 5.0, CPU), ("b", 0.0, 3.0, CAMERA)]


def test_what_should_have_begun_is_promised_whole_from_now():
    run = run_of((READY, "a", 2.0, 5.0))
    assert promised([run], 10.0) == [("a", 0.0, 3.0, CPU)]


def test_what_runs_holds_its_node_until_it_is_expected_to_end():
    run = run_of((SENT, "a", 8.0, 12.0), (SENT, "b", 5.5, 9.5))
    on_time, late = promised([run], 10.0)
    assert on_time == ("a", 0.0, 2.0, CPU)
    assert late == ("b", 0.0, pytest.approx(OVERDUE * 4.0), CAMERA)


def test_what_ended_or_can_run_nowhere_is_promised_nothing():
    rows = [(state, "a", 0.0, 20.0) for state in ENDED]
    rows += [(WAITING, "a", INF, INF), (READY, "a", 3.0, INF)]
    assert promised([run_of(*rows)], 1.0) == []


def test_nodes_are_those_of_the_books_not_of_the_first_plan():
    run = run_of((WAITING, "a", 1.0, 2.0))
    run.node[0] = "b"
    assert promised([run], 0.0) == [("b", 1.0, 2.0, CPU)]


def test_before_a_run_come_what_runs_and_what_is_of_higher_priority():
    rows = (SENT, "a", 0.0, 2.0), (WAITING, "a", 2.0, 3.0)
    mine = run_of(*rows, priority=1)
    rivals = {p: run_of(*rows, priority=p) for p in (0, 1, 2)}
    runs = ("a", 0.0, 1.0, CPU)
    assert promised([mine], 1.0, before=mine) == []
    assert promised([rivals[0], mine], 1.0, before=mine) == [runs]
    assert promised([mine, rivals[1]], 1.0, before=mine) == [runs]
    assert promised([rivals[2], mine], 1.0, before=mine) == [
        runs, ("a", 1.0, 2.0, CAMERA)
    ]  # fmt: skip
    assert len(promised([mine, *rivals.values()], 1.0)) == 8


@st.composite
def some_runs(draw):
    pick, times = st.sampled_from, st.floats(0, 50)
    runs = []
    for _ in range(draw(st.integers(1, 4))):
        rows = []
        for _ in range(draw(st.integers(1, 6))):
            start = draw(times)
            end = draw(pick([INF, None, None])) or start + draw(times)
            rows.append((draw(pick(STATES)), draw(pick("ab")), start, end))
        priority, since = draw(pick([-1, 0, 0, 5])), draw(times)
        runs.append(run_of(*rows, priority=priority, since=since))
    return runs, draw(st.floats(50, 100)), draw(st.integers(0, len(runs)))


@given(some_runs())
def test_each_function_left_of_each_run_that_counts_is_promised_once(case):
    runs, now, which = case
    before = runs[which] if which < len(runs) else None
    counted = [
        (run, i)
        for run in runs
        for i, state in enumerate(run.state)
        if run is not before
        and run.end[i] < INF
        and (
            state == SENT
            or (
                state in (WAITING, READY)
                and (before is None or run.spec.priority > before.spec.priority)
            )
        )
    ]
    made = promised(runs, now, before)
    assert [(row[0], row[3]) for row in made] == [
        (run.node[i], run.demand(i)) for run, i in counted
    ]
    for (run, i), (_, begin, end, _) in zip(counted, made, strict=True):
        seconds = run.end[i] - run.start[i]
        assert 0.0 <= begin <= end + 1e-9
        if run.state[i] == SENT:
            assert begin == 0.0
            assert end >= OVERDUE * seconds - 1e-9
        else:
            assert abs(end - begin - seconds) < 1e-9

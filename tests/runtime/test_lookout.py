"""Lookout looks often at young runs, seldom at old ones, and tells what it forgets."""

import numpy as np
import pytest

from handout_dask.runtime import lookout
from handout_dask.runtime.lookout import Lookout


class Loop:
    """What is to be called later, and when."""

    def __init__(self):
        self.later = []

    def call_later(self, delay, call):
        self.later.append((delay, call))


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(lookout, "time", lambda: now[0])
    monkeypatch.setattr(lookout, "perf_counter", lambda: now[0])
    return now


@pytest.fixture
def made(clock):
    held, busy, forgotten, loop = [0.0], [True], [], Loop()
    out = Lookout(
        lambda: {"n": {"cpu": (4.0, held[0], None)}},
        lambda: busy[0],
        lambda: forgotten.append(clock[0]),
        loop,
    )
    return out, held, busy, forgotten, loop


def test_each_change_of_a_run_that_is_young_is_seen(clock, made):
    out, held, _, _, loop = made
    for k in range(5):
        held[0] = k
        out.changed()
        clock[0] += 0.021
    found = out.samples(1000.0, 2000.0)
    assert found.claimed[:, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert not loop.later


def test_what_changes_too_soon_is_looked_at_when_it_is_time_and_once(clock, made):
    out, held, _, _, loop = made
    for k in range(5):
        held[0] = k
        out.changed()
        clock[0] += 0.001
    ((delay, call),) = loop.later
    assert delay == pytest.approx(0.019)
    clock[0] += delay
    call()
    assert out.samples(1000.0, 2000.0).claimed[:, 0, 0].tolist() == [0, 4]
    out.changed()
    assert len(loop.later) == 2


def test_old_runs_are_looked_at_twice_a_second_at_most(clock, made):
    out, _, _, _, loop = made
    due = 0.0
    for k in range(4000):  # 40 s
        clock[0] = 1000 + k / 100
        if loop.later and clock[0] >= due:
            loop.later.pop()[1]()
        out.changed()
        if loop.later and clock[0] >= due:
            due = clock[0] + loop.later[0][0]
    found = out.samples(1000.0, 2000.0)
    gaps = np.diff(found.time)
    assert gaps[:10].max() < 0.04
    assert gaps[-10:].min() > 0.45


def test_looks_that_take_long_are_made_seldom(clock, made):
    out, *_ = made

    def slow():
        clock[0] += 0.05
        return {}

    out._snapshot = slow
    begin = clock[0]
    for _ in range(200):  # all that ask for it, such as runs that are left at once
        out.look()
        out.changed()
    assert clock[0] - begin == pytest.approx(0.05)
    assert out._due - clock[0] == pytest.approx(5.0)
    clock[0] += 5
    out.look()
    assert clock[0] - begin == pytest.approx(5.1)


def test_the_end_is_seen_even_if_looks_take_long(clock, made):
    out, held, busy, _, _ = made

    def slow():
        clock[0] += 0.05
        return {"n": {"cpu": (4.0, held[0], None)}}

    out._snapshot, held[0] = slow, 3.0
    out.look()
    held[0], busy[0] = 0.0, False
    for _ in range(3):
        out.look()
    assert out.samples(1000.0, 2000.0).claimed[:, 0, 0].tolist() == [3, 0]
    assert clock[0] == pytest.approx(1000.1)


def test_a_clock_that_is_set_back_stops_no_looks(clock, made, monkeypatch):
    out, *_ = made
    out.look()
    monkeypatch.setattr(lookout, "time", lambda: clock[0] - 3600)
    clock[0] += 1
    out.look()
    assert out._due == pytest.approx(clock[0] + lookout.LEAST)


def test_the_end_is_seen_and_what_comes_after_idle_time_begins_anew(clock, made):
    out, held, busy, forgotten, _ = made
    held[0] = 3.0
    out.look()
    clock[0] += 0.1
    held[0], busy[0] = 0.0, False
    out.look()
    out.look()  # idle: nothing to note
    assert out.samples(1000.0, 2000.0).claimed[:, 0, 0].tolist() == [3, 0]
    kept = out.kept(1000.0, 2000.0)
    busy[0] = True
    clock[0] += 5
    assert forgotten == [1000.0]
    out.look()
    assert forgotten == [1000.0, clock[0]]
    assert len(out.samples(1000.0, 2000.0).time) == 1
    assert kept.claimed[:, 0, 0].tolist() == [3, 0]
    assert kept.version < 0


def test_what_is_kept_is_bounded(clock, made, monkeypatch):
    out, held, *_ = made
    monkeypatch.setattr(lookout, "KEPT", 10)
    for k in range(40):
        held[0] = k
        out.look()
        clock[0] += 1
    assert out.kept(1000.0, 2000.0).claimed[:, 0, 0].tolist() == [*range(0, 40, 5)]

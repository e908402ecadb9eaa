"""Laws of timelines: room is kept segment by segment, in the pool and on lists."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handout_dask.allocators import timeline, vector


class Pool:
    """One node of one or more resources, as the kernel keeps it."""

    def __init__(self, *room):
        arrays = timeline.empty(np.array([room], float), np.zeros(1, np.int64), 200)
        self.time, self.free, self.spot, self.edge = arrays
        self.slack = np.full(len(room), 1e-9)

    def _on(self, *rest):
        return self.time, self.free, self.spot, self.edge, 0, *rest

    def take(self, start, end, *need):
        need = np.array([need], float)
        timeline.take(*self._on(float(start), float(end), need, 0, self.slack))

    def find(self, ready, span, *need):
        need = np.array([need], float)
        args = self._on(float(ready), float(span), need, 0, self.slack)
        return float(timeline.find_start(*args)[0])

    @property
    def segments(self):
        first = self.spot[timeline.BEGIN, 0]
        stop = first + self.spot[timeline.COUNT, 0]
        time, free = self.time[first:stop].tolist(), self.free[first:stop].tolist()
        return [(t, *row) for t, row in zip(time, free, strict=True)]


class Lists:
    """The same, as the NumPy path keeps it."""

    def __init__(self, *room):
        self.slack = slack = [1e-9] * len(room)
        self.edge = np.zeros((5, 1))
        self.line = vector.Timeline(0, [float(x) for x in room], slack, self.edge)

    def take(self, start, end, *need):
        self.line.take(float(start), float(end), vector.needs(need, self.slack))

    def find(self, ready, span, *need):
        need = vector.needs(need, self.slack)
        found = self.line.find_start(float(ready), float(span), need, np.inf)
        return float(found[0])

    @property
    def segments(self):
        pairs = zip(self.line.time, self.line.free, strict=True)
        return [(t, *row) for t, row in pairs]


both = pytest.mark.parametrize("make", [Pool, Lists])


@both
def test_taking_cuts_segments_and_equal_neighbours_are_one(make):
    line = make(2)
    line.take(1, 3, 1)
    assert line.segments == [(0, 2), (1, 1), (3, 2)]
    line.take(3, 5, 1)
    assert line.segments == [(0, 2), (1, 1), (5, 2)]
    line.take(2, 4, 1)
    assert line.segments == [(0, 2), (1, 1), (2, 0), (4, 1), (5, 2)]
    line.take(0, 1, 1)
    assert line.segments == [(0, 1), (2, 0), (4, 1), (5, 2)]
    line.take(7, 7, 1)
    line.take(9, 8, 1)
    assert line.segments == [(0, 1), (2, 0), (4, 1), (5, 2)]


@both
def test_taking_from_unlimited_room_leaves_it_unlimited(make):
    line = make(2, np.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        line.take(1, 3, 1, 50)
        line.take(3, 4, 1, 0)
    inf = np.inf
    assert line.segments == [(0, 2, inf), (1, 1, inf), (4, 2, inf)]


@pytest.mark.parametrize(
    ("ready", "span", "need", "start"),
    [
        (0, 1, (1, 0), 0.0),
        (0, 1, (2, 0), 0.0),
        (0, 2, (2, 0), 5.0),
        (0, 9, (1, 0), 0.0),
        (0, 9, (1, 10), 4.0),
        (0, 9, (2, 10), 5.0),
        (1, 3, (1, 5), 4.0),
        (1, 3, (1, 4), 1.0),
        (2, 0, (2, 0), 5.0),
        (9, 1, (2, 10), 9.0),
        (0, 1, (3, 0), np.inf),
    ],
)
@both
def test_the_first_gap_that_fits_everything_is_found(make, ready, span, need, start):
    line = make(2, 10)
    line.take(1, 5, 1, 0)
    line.take(2, 4, 0, 6)
    assert line.find(ready, span, *need) == start


@both
def test_overdrawn_room_is_passed_by_who_needs_nothing_of_it(make):
    line = make(5, 1)
    for start, end in [(0, 4), (1, 3), (2, 6)]:
        line.take(start, end, 1, 1)
    assert min(row[2] for row in line.segments) == -2.0
    assert line.find(0, 3, 1, 0) == 0.0
    assert line.find(0, 3, 1, 1) == 6.0


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 4), st.integers(0, 2)), max_size=10
    ),
    st.integers(0, 9),
    st.integers(0, 5),
    st.integers(0, 3),
)
@both
def test_segments_are_the_room_less_all_that_was_taken(make, taken, ready, span, need):
    line = make(3)
    for start, length, amount in taken:
        line.take(start, start + length, amount)

    def free(t):
        return 3 - sum(a for s, length, a in taken if s <= t < s + length)

    times = [t for t, _ in line.segments]
    assert times == sorted(set(times))
    for t in range(15):
        assert [f for at, f in line.segments if at <= t][-1] == free(t)
    rows = [f for _, f in line.segments]
    assert all(a != b for a, b in pairwise(rows))
    first = next(
        t
        for t in range(ready, 99)
        if need == 0 or all(free(x) >= need for x in range(t, t + max(span, 1)))
    )
    assert line.find(ready, span, need) == first

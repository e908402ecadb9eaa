"""Laws of the kernel: compiled and plain agree, and room is kept segment by segment."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handout_dask import Cluster, Function, Graph, Node, Problem
from handout_dask.allocators import kernel
from handout_dask.allocators.engine import arrays, upward_rank


def run(place, p, key, rule, by_ready, in_order):
    """Call a kernel as the engine does."""
    a = arrays(p)
    return place(
        key, by_ready, rule, in_order, p.pred_ptr, p.pred_of, p.pred_mb, a.succ_ptr,
        a.succ_of, p.option_ptr, p.option_work, p.option_class, p.need, p.rate, p.kind,
        p.room, a.latency, a.slow, p.pin, p.group, *a.held, a.slack,
    )  # fmt: skip


RULES = [kernel.EARLIEST_END, kernel.EARLIEST_START, kernel.LEAST_LOAD]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_compiled_and_plain_kernels_give_identical_arrays(problems, data):
    p = data.draw(problems)
    if not p.functions:
        return
    _, place = kernel.compiled()
    how = (
        data.draw(st.sampled_from(RULES)),
        data.draw(st.booleans()),
        data.draw(st.booleans()),
    )
    key = np.array(data.draw(st.permutations(range(len(p.functions)))), dtype=float)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = run(kernel.place, p, key, *how)
    for one, two in zip(plain, run(place, p, key, *how), strict=True):
        assert one.dtype == two.dtype
        assert one.tolist() == two.tolist()


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_compiled_and_plain_ranks_are_identical(problems, data):
    p = data.draw(problems)
    if not p.functions:
        return
    a = arrays(p)
    args = (
        a.succ_ptr,
        a.succ_of,
        a.succ_mb,
        p.option_work[p.option_ptr[:-1]],
        0.3,
        0.1,
    )
    rank, _ = kernel.compiled()
    assert rank(*args).tolist() == kernel.upward_rank(*args).tolist()


def test_small_problems_need_no_compiler_and_large_ones_get_it():
    rank, place = kernel.functions(kernel.SMALL + 1)
    assert (rank, place) == kernel.compiled()


@pytest.mark.parametrize("place", [kernel.place, "compiled"])
def test_many_segments_make_the_arrays_grow(place):
    place = kernel.compiled()[1] if place == "compiled" else place
    functions = [
        Function(i, cost={"cpu_time": 1000 + i, "memory": i}) for i in range(200)
    ]
    nodes = [Node("n0", {"memory": 1000}, slots=3), Node("n1", slots=2)]
    p = Problem(Graph(functions), Cluster(nodes)).require_feasible()
    key = -upward_rank(p)
    node, _, start, end = run(place, p, key, kernel.EARLIEST_END, False, False)
    assert (node >= 0).all()
    assert (end - start).tolist() == pytest.approx((1 + np.arange(200) / 1000).tolist())


class Timeline:
    """One node of one or more resources, as the kernel keeps it."""

    def __init__(self, *room):
        self.time = np.zeros((1, 64))
        self.free = np.zeros((1, 64, len(room)))
        self.free[0, 0] = room
        self.count = np.ones(1, dtype=np.int64)
        self.slack = np.full(len(room), 1e-9)

    def take(self, start, end, *need):
        args = (self.time, self.free, self.count, 0, start, end, np.array(need, float))
        kernel.take(*args, self.slack)

    def find(self, ready, span, *need):
        args = (self.time, self.free, self.count, 0, ready, span, np.array(need, float))
        return float(kernel.find_start(*args, self.slack))

    @property
    def segments(self):
        k = int(self.count[0])
        return [
            (t, *row)
            for t, row in zip(
                self.time[0, :k].tolist(), self.free[0, :k].tolist(), strict=True
            )
        ]


def test_taking_cuts_segments_and_equal_neighbours_are_one():
    line = Timeline(2)
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


def test_taking_from_unlimited_room_leaves_it_unlimited():
    line = Timeline(2, np.inf)
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
def test_the_first_gap_that_fits_everything_is_found(ready, span, need, start):
    line = Timeline(2, 10)
    line.take(1, 5, 1, 0)
    line.take(2, 4, 0, 6)
    assert line.find(ready, span, *need) == start


def test_overdrawn_room_is_passed_by_who_needs_nothing_of_it():
    line = Timeline(5, 1)
    for start, end in [(0, 4), (1, 3), (2, 6)]:
        line.take(start, end, 1, 1)
    assert min(row[2] for row in line.segments) == -2.0
    assert line.find(0, 3, 1, 0) == 0.0
    assert line.find(0, 3, 1, 1) == 6.0


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 4), st.integers(0, 2)), max_size=10
    ),
    st.integers(0, 9),
    st.integers(0, 5),
    st.integers(0, 3),
)
def test_segments_are_the_room_less_all_that_was_taken(taken, ready, span, need):
    line = Timeline(3)
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

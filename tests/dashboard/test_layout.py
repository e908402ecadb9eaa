"""Laws of the layout: layers, distances, and how graphs are folded."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handout_dask.dashboard.lanes import lanes, level
from handout_dask.dashboard.layout import folded, grouped, layered

calm = settings(deadline=None)  # machines may be slow


@st.composite
def graphs(draw, most=40, circles=False):
    n = draw(st.integers(1, most))
    pairs = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))
    edges = {(a, b) for a, b in draw(st.sets(pairs, max_size=3 * n)) if a != b}
    if not circles:
        edges = {(min(e), max(e)) for e in edges}
    back = np.array(draw(st.permutations(range(n))))
    source, target = np.array(sorted(edges), dtype=int).reshape(-1, 2).T
    return n, back[source], back[target]


def random_graph(n, degree=2):
    rng = np.random.default_rng(1)
    target = np.repeat(np.arange(1, n), degree)
    return n, (rng.random(len(target)) * target).astype(int), target


def least_distance(x, y):
    order = np.lexsort((y, x))
    same = np.diff(x[order]) == 0
    return np.diff(y[order])[same].min(initial=np.inf)


@calm
@given(graphs())
def test_functions_stand_right_of_what_they_read_and_apart(graph):
    n, source, target = graph
    x, y = layered(*graph)
    assert (x[source] < x[target]).all()
    assert x.min() == 0
    assert (x == x.astype(int)).all()
    assert least_distance(x, y) > 1 - 1e-9


@calm
@given(graphs(circles=True))
def test_circles_are_drawn_all_the_same(graph):
    x, y = layered(*graph)
    assert np.isfinite(x).all()
    assert least_distance(x, y) > 1 - 1e-9


@calm
@given(graphs())
def test_no_layer_is_later_than_the_longest_path_asks(graph):
    n, source, target = graph
    x, _ = layered(*graph)
    for v in range(n):
        before, after = x[source[target == v]], x[target[source == v]]
        if len(before):
            assert x[v] == before.max() + 1
        elif len(after):
            assert x[v] == after.min() - 1
        else:
            assert x[v] == 0


def test_chains_beside_each_other_are_straight_lines():
    n, wide = 600, 20
    for some in (np.arange(n), np.random.default_rng(0).permutation(n)):
        source, target = some[: n - wide], some[wide:]
        _, y = layered(n, source, target)
        assert np.abs(y[source] - y[target]).max() < 1e-9


def test_what_nothing_links_stands_no_farther_apart_than_need_be():
    n = 14  # one reads twelve, beside a pair
    source = [*range(12), 12]
    target = [13] * 12 + [13]
    _, y = layered(n + 2, [*source, 14], [*target, 15])
    assert np.diff(np.unique(y)).max() <= 1 + 1e-9


@calm
@given(graphs(most=300))
def test_folding_layers_keeps_order_and_lets_nothing_overlap(graph):
    _, source, target = graph
    x, y = layered(*graph)
    column, row = folded(x, y)
    assert least_distance(column, row) > 1 - 1e-9
    assert (column[source] < column[target]).all()
    assert (np.diff(x[np.argsort(column, kind="stable")]) >= 0).all()


def test_a_wide_layer_is_folded_to_a_shape_that_can_be_looked_at():
    x, y = folded(*layered(1000, [], []))
    assert 1 <= (np.ptp(x) + 1) / (np.ptp(y) + 1) <= 3


@calm
@given(graphs(), st.integers(1, 30), st.data())
def test_a_folded_graph_counts_every_function_and_edge(graph, most, data):
    n, source, target = graph
    numbers = st.lists(st.integers(-1, 6), min_size=n, max_size=n)
    group, node = np.array(data.draw(numbers)), np.array(data.draw(numbers))
    fold = grouped(group, node, source, target, most)
    k = len(fold.count)
    assert k <= most
    assert np.bincount(fold.vertex, minlength=k).tolist() == fold.count.tolist()
    a, b = fold.vertex[source], fold.vertex[target]
    assert fold.weight.sum() == (a != b).sum()
    assert len({*zip(fold.source, fold.target, strict=True)}) == len(fold.source)
    for v in range(k):
        for told, of in ((fold.group[v], group), (fold.node[v], node)):
            assert told == -1 or {told} == {*of[fold.vertex == v].tolist()}


@pytest.mark.parametrize(("n", "limit"), [(10_000, 0.3), (100_000, 6.0)])
def test_large_graphs_are_laid_out_in_little_time(n, limit):
    graph = random_graph(n)
    begin = time.process_time()
    layered(*graph)
    assert time.process_time() - begin < limit  # three times what it shall take


@calm
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), max_size=40))
def test_nothing_overlaps_in_a_lane_and_none_is_without_need(rows):
    start = np.array([float(a) for a, _ in rows])
    end = start + np.array([float(b) for _, b in rows])
    lane = lanes(start, end)
    for k in range(int(lane.max(initial=-1)) + 1):
        mine = np.flatnonzero(lane == k)
        mine = mine[np.lexsort((end[mine], start[mine]))]
        assert (start[mine][1:] >= end[mine][:-1]).all()
    most = max((((start <= t) & (end > t)).sum() for t in start), default=0)
    empty = int((start == end).any())  # takes up a lane, but no time
    assert int(lane.max(initial=-1)) + 1 <= max(most + empty, most)


@calm
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), max_size=20))
def test_the_level_over_time_holds_all_that_was_held(rows):
    start = np.array([float(a) for a, _ in rows])
    end = start + np.array([float(b) for _, b in rows])
    edges = np.linspace(0.0, 30.0, 14)
    mean = level(start, end, np.full(len(rows), 2.0), edges)
    assert (mean * np.diff(edges)).sum() == pytest.approx(2.0 * (end - start).sum())

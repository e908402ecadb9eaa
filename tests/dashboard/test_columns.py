"""Columns and scenes: bars don't overlap, sums are right, parts take what they get."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from bokeh.document import Document
from hypothesis import given
from hypothesis import strategies as st

import handout_dask as hd
from handout_dask.dashboard.columns import (
    FAILED,
    LOST_BAR,
    ON_TIME,
    TOO_LATE,
    Slots,
    busy,
    crossings,
    headline,
    kinds_of,
    lanes_of,
    measured,
)
from handout_dask.dashboard.pages import PARTS
from handout_dask.dashboard.scene import MOST_BARS, MOST_VERTICES, Scene
from handout_dask.events import Span
from handout_dask.picture import Picture
from handout_dask.report import Report
from handout_dask.samples import SampleLog

BARS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 20), st.integers(0, 5)), max_size=30
)


def columns_of(bars):
    node = np.array([j for j, _, _ in bars], dtype=np.int64)
    start = np.array([a for _, a, _ in bars], dtype=float)
    return node, start, start + np.array([d for _, _, d in bars], dtype=float)


@given(BARS)
def test_bars_of_one_lane_do_not_overlap_and_no_lane_is_too_many(bars):
    node, start, end = columns_of(bars)
    lane, count = lanes_of(node, start, end, 3)
    for j in range(3):
        mine = node == j
        assert {*lane[mine].tolist()} == {*range(count[j])}
        for k in range(count[j]):
            here = mine & (lane == k)
            rows = sorted(zip(start[here], end[here], strict=True))
            assert all(a[1] <= b[0] for a, b in pairwise(rows))
        at_once = [((start[mine] <= t) & (t < end[mine])).sum() for t in range(26)]
        assert count[j] <= max([*at_once, *mine.astype(int)]) + (end == start).sum()


@given(BARS)
def test_what_ended_is_put_into_lanes_as_it_comes(bars):
    """As many as run at once are enough, where things are told as they end."""
    _, start, end = columns_of(bars)
    end = np.maximum(end, start + 1)
    most = max([((start <= t) & (t < end)).sum() for t in range(26)], default=1)
    slots, lanes = Slots(max(int(most), 1)), {}
    for i in np.lexsort((start, end)).tolist():
        lane = slots.end(i, start[i], end[i])
        for a, b in lanes.get(lane, ()):
            assert b <= start[i] or end[i] <= a
        lanes.setdefault(lane, []).append((start[i], end[i]))


def test_what_runs_keeps_its_lane_when_it_has_ended():
    slots = Slots(2)
    assert slots.run([(1, 0.0), (2, 0.0)]) == [0, 1]
    assert slots.run([(2, 0.0), (3, 1.0)]) == [1, 0]  # 1 has ended, but was not told
    assert slots.end(1, 0.0, 1.0) == 0
    assert slots.end(2, 0.0, 2.0) == 1
    assert slots.run([(3, 1.0)]) == [0]


@given(BARS, st.integers(1, 7))
def test_busy_is_what_one_counts_by_hand(bars, pieces):
    node, start, end = columns_of(bars)
    edges = np.linspace(0.0, 26.0, pieces + 1)
    found = busy(node, start, end, edges, 3)
    wanted = np.zeros((3, pieces))
    for j, a, b in zip(node, start, end, strict=True):
        for k in range(pieces):
            wanted[j, k] += max(0.0, min(b, edges[k + 1]) - max(a, edges[k]))
    np.testing.assert_allclose(found, wanted, atol=1e-9)


def plan_of(n, names=3):
    functions = [
        hd.Function(
            f"f{i}", [f"f{i - 5}"] if i >= 5 else [], name=f"g{i % names}",
            cost={"cpu_time": 100 + i % 7, "memory": 10, "output_size": 1},
        )
        for i in range(n)
    ]  # fmt: skip
    nodes = [hd.Node(f"n{j}", {"cpu": 2, "memory": 1000}) for j in range(3)]
    return hd.plan(hd.Graph(functions), nodes, allocator="load-balanced")


def run_of(plan, slower=1.0):
    spans = [Span(p.function, p.node, p.start * slower, p.end * slower) for p in plan]
    return Picture.of_report(Report.of(plan, spans), name="x")


def test_bars_say_whether_they_were_late_or_failed():
    plan = plan_of(4)
    first, second, third, fourth = plan
    spans = [
        Span(first.function, first.node, first.start, first.end),
        Span(second.function, second.node, second.start, second.end + 1),
        Span(third.function, third.node, 0, 1, outcome="failed"),
        Span(fourth.function, fourth.node, 0, 1, outcome="lost"),
    ]
    picture = Picture.of_report(Report.of(plan, spans), "running")
    kinds = [ON_TIME, TOO_LATE, FAILED, LOST_BAR]
    assert kinds_of(picture, 0).tolist() == kinds
    assert kinds_of(picture, 2).tolist() == kinds[2:]


def test_a_headline_tells_how_far_and_how_late():
    plan = plan_of(20)
    text = headline(run_of(plan, 1.5))
    assert text.startswith("done")
    assert "20 of 20 functions done" in text
    assert "late" in text
    assert "as planned" in headline(run_of(plan))
    assert "early" in headline(run_of(plan, 0.5))
    assert headline(Picture.of_plan(plan)).startswith("planned  ·  0 of 20")


def test_declared_is_set_against_measured():
    picture = run_of(plan_of(30), 2.0)
    rows = measured(picture, 2)
    assert len(rows["name"]) == 2
    for planned, took in zip(rows["planned"], rows["took"], strict=True):
        assert took == pytest.approx(2 * planned)
    assert rows["declared"] == [10, 10]
    assert np.isnan(rows["peak"]).all()


def test_transfers_between_nodes_are_links_and_never_too_many():
    picture = run_of(plan_of(200))
    away = picture.node[picture.source] != picture.node[picture.target]
    assert crossings(picture, 10**6).tolist() == np.flatnonzero(away).tolist()
    for k in crossings(picture, 3).tolist():
        assert away[k]
        assert picture.critical[picture.source[k]]


@pytest.mark.parametrize("n", [1, 3, MOST_VERTICES + 1, MOST_BARS + 1])
@pytest.mark.parametrize("names", [1, 3])
def test_parts_take_runs_of_every_size(n, names):
    class Nobody:
        is_live = True

        def runs(self):
            return []

        def waits(self, name, most):
            return []

    plan = plan_of(n, names)
    for picture in (Picture.of_plan(plan, "x"), run_of(plan, 1.3)):
        scene = Scene(picture)
        vertices = scene.vertices
        assert vertices.count.sum() == n
        assert vertices.states(picture).sum() == n
        assert len(vertices.count) <= MOST_VERTICES
        for part in PARTS:
            doc, made = Document(), part()
            doc.add_root(made.root)
            made.begin(scene, picture)
            made.update(scene, picture, Nobody())
            made.update(scene, picture, Nobody())
            assert doc.to_json()


def test_a_profile_counts_what_has_ended_once():
    plan = plan_of(MOST_BARS + 1)
    picture = run_of(plan, 1.2)
    scene = Scene(Picture.of_plan(plan, "x"))
    scene.advance(picture)
    once = scene.actual(picture)
    scene.advance(picture)
    np.testing.assert_array_equal(scene.actual(picture), once)
    spent = (once * np.diff(scene.edges) * np.diff(scene.begin)[:, None]).sum()
    took = (picture.spans.end - picture.spans.start).sum()
    assert spent == pytest.approx(took, rel=1e-6)


def test_charts_stay_when_samples_are_thinned_out_and_show_them_all():
    log = SampleLog(most=10)
    picture = replace(run_of(plan_of(3)), status="running")
    scene, part = Scene(picture), PARTS[2]()
    part.begin(scene, picture)
    charts = []
    for at in range(25):
        log.add(float(at), {"n0": {"cpu": (2.0, 1.0, 0.5)}})
        picture = replace(picture, samples=log.samples(0.0))
        part.update(scene, picture, None)
        charts.append(part._charts.get("cpu"))
        if at > 1:
            left = np.asarray(charts[-1]._data.data["left"])
            assert left.tolist() == picture.samples.time[:-1].tolist()
    assert len({*charts}) == 1
    part.update(scene, replace(picture, status="done", now=30.0), None)
    right = np.asarray(charts[-1]._data.data["right"])
    assert right.tolist() == [*picture.samples.time[1:], 30.0]
    for at in range(25, 34):  # of which some are kept
        log.add(at, {"n0": {"cpu": (2.0, 1.0, 0.5), "memory": (9.0, 1.0, None)}})
    part.update(scene, replace(picture, samples=log.samples(0.0)), None)
    assert [*part._charts] == ["cpu", "memory"]
    assert len(part._plots.children) == 2

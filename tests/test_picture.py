"""Picture: what there is to see is what plan and report say; samples are kept."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import handout_dask as hd
from handout_dask.events import Span
from handout_dask.picture import (
    AGAIN,
    BLOCKED,
    CANCELLED,
    DONE,
    FAILED,
    MEANINGS,
    STATES,
    WAITING,
    Picture,
)
from handout_dask.report import Report
from handout_dask.samples import SampleLog
from handout_dask.spanlog import MOST, SpanLog, short


@pytest.fixture(scope="module")
def plan():
    functions = [
        hd.Function("a", cost={"cpu_time": 1000, "memory": 100}, name="make"),
        hd.Function("b", ["a"], cost={"cpu_time": 2000, "memory": 50}, name="use"),
        hd.Function("c", ["a"], cost={"cpu_time": 500, "output_size": 3}, name="use"),
    ]
    nodes = [hd.Node("n0", {"cpu": 1, "memory": 200}, price=3600), hd.Node("n1")]
    return hd.plan(hd.Graph(functions, name="three"), nodes)


def states(picture):
    return [STATES[k] for k in picture.state.tolist()]


def test_a_picture_of_a_plan_is_the_plan(plan):
    picture = Picture.of_plan(plan)
    assert (picture.status, picture.now, picture.title) == ("planned", 0.0, "three")
    assert picture.labels == ("a", "b", "c")
    assert [picture.groups[g] for g in picture.group.tolist()] == ["make", "use", "use"]
    assert picture.makespan == picture.expected == plan.makespan
    assert picture.node.tolist() == plan.node.tolist()
    assert set(zip(picture.source.tolist(), picture.target.tolist(), strict=True)) == {
        (0, 1), (0, 2)
    }  # fmt: skip
    path = {picture.labels[i] for i in np.flatnonzero(picture.critical)}
    assert path == {*plan.critical_path}
    assert states(picture) == ["waiting"] * 3
    assert picture.declared_mb[:2].tolist() == [100, 50]
    assert np.isnan(picture.declared_mb[2])
    assert np.nan_to_num(picture.output_mb, nan=-1).tolist() == [-1, -1, 3]
    assert picture.planned_money == plan.money


@pytest.mark.parametrize(
    ("status", "rest", "failed"),
    [
        ("running", WAITING, AGAIN),
        ("failed", BLOCKED, FAILED),
        ("cancelled", CANCELLED, FAILED),
    ],
)
def test_states_follow_from_the_last_attempts(plan, status, rest, failed):
    spans = [
        Span("a", "n0", 0, 1, outcome="failed", error="ValueError: 7"),
        Span("a", "n2", 1, 3, attempt=2),
        Span("b", "n0", 3, 4, outcome="lost"),
    ]
    picture = Picture.of_report(Report.of(plan, spans), status)
    assert picture.state.tolist() == [DONE, failed, rest]
    assert picture.nodes == ("n0", "n1", "n2")  # which has joined
    assert [picture.nodes[j] for j in picture.where.tolist()][:2] == ["n2", "n0"]
    assert (picture.retries, picture.failed_attempts, picture.now) == (1, 2, 4)
    last, first = picture.failures
    assert (last.function, last.outcome, last.attempt) == ("b", "lost", 1)
    assert (first.cause, first.final) == ("ValueError: 7", False)
    assert last.final == (status != "running")
    assert picture.unpriced == ("n2",)


def test_nodes_stand_in_the_order_of_live_runs():
    names = ["n10", "without", "n2", "n1"]
    has = [{"cpu": 1, "camera": name != "without"} for name in names]
    graph = hd.Graph([hd.Function(x, cost={"camera": True}) for x in "abc"])
    cluster = hd.Cluster([hd.Node(*x, price=3.0) for x in zip(names, has, strict=True)])
    made = hd.plan(graph, cluster, "first-available")
    planned = {row.function: row.node for row in made}
    spans = [Span("c", "n2", 0, 1), Span("a", "n0", 0, 1), Span("b", "n10", 0, 1)]
    for picture in (
        Picture.of_plan(made), Picture.of_report(Report.of(made, spans)),
    ):  # fmt: skip
        assert picture.nodes[:4] == ("n1", "n2", "n10", "without")
        on = [picture.nodes[j] for j in picture.node.tolist()]
        assert dict(zip(picture.labels, on, strict=True)) == planned
    assert picture.nodes[4:] == ("n0",)
    assert [picture.nodes[j] for j in picture.where.tolist()] == ["n0", "n10", "n2"]
    assert Picture.of_plan(made, order=False).nodes == tuple(names)


def test_every_state_has_a_meaning():
    assert set(MEANINGS) == set(STATES)


def test_what_was_claimed_follows_from_what_ran(plan):
    spans = [Span("a", "n0", 0, 1), Span("b", "n0", 2, 4), Span("c", "n1", 1, 3)]
    picture = Picture.of_report(Report.of(plan, spans))
    times, held = picture.claimed("memory")["n0"]
    assert times.tolist() == [0, 1, 2, 4]
    assert held.tolist() == [100, 0, 50, 0]


@given(st.text())
def test_a_short_text_is_one_line_that_can_be_seen_and_sent(text):
    made = short(text)
    assert len(made) <= MOST
    assert made.isprintable()
    made.encode()


def test_of_an_id_that_is_no_text_the_repr_is_shown():
    class Sly(str):
        def __str__(self):
            raise RuntimeError("never called")

    assert short(("a", 1)) == "('a', 1)"
    assert short(Sly("x")) == "x"


def test_what_was_read_of_a_log_stays_as_it_is():
    log = SpanLog()
    for k in range(100):
        log.add(k, 0, k, k + 1)
        if k == 15:
            before = log.spans()
    assert before.function.tolist() == [*range(16)]
    assert log.spans().end.tolist() == [*range(1, 101)]


@given(st.integers(2, 20), st.integers(1, 300))
def test_thinned_samples_are_few_in_order_and_reach_back(most, count):
    log = SampleLog(most)
    for k in range(count):
        log.add(float(k), {"n0": {"cpu": (4.0, float(k), None)}})
    time = log.samples(0.0).time
    assert 1 <= len(time) <= most
    assert time[0] == 0
    assert time[-1] >= (count - 1) / 2 - 1 or count < 3
    assert len(set(np.diff(time).tolist())) <= 1  # as far from each other
    assert log.samples(0.0).claimed[:, 0, 0].tolist() == time.tolist()


def test_nodes_and_resources_that_come_later_were_unknown_before():
    log = SampleLog()
    log.add(1.0, {"n0": {"cpu": (4.0, 1.0, None)}})
    first = log.samples(0.0)
    log.add(2.0, {"n1": {"cpu": (2.0, 2.0, 1.5)}, "n0": {"memory": (9.0, 3.0, 2.0)}})
    found = log.samples(0.0)
    assert (found.nodes, found.resources) == (("n0", "n1"), ("cpu", "memory"))
    assert np.nan_to_num(found.claimed, nan=-1).tolist() == [
        [[1, -1], [-1, -1]], [[-1, 3], [2, -1]]
    ]  # fmt: skip
    assert found.observed[1, 1, 0] == 1.5
    assert first.claimed.shape == (1, 1, 1)
    assert found.version != first.version
    assert log.samples(1.5).time.tolist() == [0.5]

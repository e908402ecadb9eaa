"""Laws of run files: what is written is read again, and nothing else is believed."""

import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import handout_dask as hd
from handout_dask.events import DONE, FAILED, Hold, Span
from handout_dask.formats.runfile import run_from_dict, run_to_dict
from handout_dask.report import Report

calm = settings(deadline=None, max_examples=40)  # machines may be slow

MADE = {"written": "2026-01-02T03:04:05+00:00", "Python": "3.13"}


def played():
    functions = [
        hd.Function("a", cost={"cpu_time": 100, "output_size": {0: 5, 1: 7}}),
        hd.Function(("b", 1), [("a", 1)], cost=[{"gpu_time": 5}, {"memory": 50}]),
        hd.Function("<c>\n", ["a", (("b", 1), None)], name="last"),
    ]
    nodes = [
        hd.Node("n0", {"cpu": 2, "memory": 500, "ssd": True}, price=3.0, kind="k"),
        hd.Node("n1", speed=2.0, watts=5, slots=2),
    ]
    cluster = hd.Cluster(nodes, [[0, 10], [20, 0]], 2.0, billing="held", quantum=1.0)
    plan = hd.plan(hd.Graph(functions, "title"), cluster, network="oneport")
    spans = [
        Span("a", "n0", 0.0, 0.5, 1, FAILED, error="ValueError: 7"),
        Span("a", "n0", 0.5, 0.75, 2, nbytes=12, cpu_seconds=0.25, peak_mb=3.5),
        Span(("b", 1), "new", 1.0, 1.5, 1, DONE, peak_exact=True, bytes_in=3),
    ]
    return Report.of(
        plan, spans, replans=[(0.5, "late")], holds=[Hold("n0", 0.0, 1.0)], ended=1.75
    )


def written(report=None):
    text = json.dumps(
        run_to_dict(report or played(), "token", "failed", MADE), allow_nan=False
    )
    return json.loads(text)


def texts(value):
    """A document in which ids are texts, as they are after reading."""
    return json.loads(json.dumps(value))


def test_what_is_written_is_read_again():
    report = played()
    read, *about = run_from_dict(written(report))
    assert about == ["token", "failed", MADE]
    assert str(read) == str(report)
    assert texts(read.as_dict()) == texts(report.as_dict())
    plan, old = read.plan, report.plan
    assert (plan.makespan, plan.money, plan.transferred, plan.allocator) == (
        old.makespan, old.money, old.transferred, old.allocator
    )  # fmt: skip
    assert plan.problem.cluster.nodes == old.problem.cluster.nodes
    assert plan.problem.outline.title == "title"
    assert [*plan.problem.outline.names] == [*old.problem.outline.names]
    assert plan.problem.network == "oneport"
    assert written(read)["graph"] == written(report)["graph"]


@calm
@given(data=st.data())
def test_any_run_is_read_again(problems, data):
    problem = data.draw(problems)
    assume(len(problem.functions) and not problem.held)
    try:
        plan = hd.plan(problem.graph, problem.cluster, "first-available")
    except hd.AllocationError:
        assume(False)
    report = Report.of(plan, hd.simulate(plan, noise=0.5, seed=1))
    read, *_ = run_from_dict(written(report))
    assert read.plan.makespan == plan.makespan
    assert read.plan.transferred == pytest.approx(plan.transferred)
    assert read.makespan == report.makespan
    assert [str(row.function) for row in read] == [
        problem_label(plan, row.function) for row in report
    ]


def problem_label(plan, id):
    return plan.problem.outline.labels[plan.problem.where[id]]


def paths(value, at=()):
    """Where there is something in a document."""
    yield at
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*at, key))
    if isinstance(value, list):
        for key, inner in enumerate(value):
            yield from paths(inner, (*at, key))


JUNK = [None, True, -1, 2**70, 1e308, "x", [], {}, [[]], {"a": 1}, "\x00", "a", 0, 0.5]


@calm
@given(st.data())
def test_of_a_broken_document_is_said_that_it_is_broken(data):
    """And nothing else happens; some changes leave a document that makes sense."""
    doc = written()
    at = data.draw(st.sampled_from([*paths(doc)][1:]))
    inner = doc
    for key in at[:-1]:
        inner = inner[key]
    if data.draw(st.booleans()):
        del inner[at[-1]]
    else:
        inner[at[-1]] = data.draw(st.sampled_from(JUNK))
    try:
        report, *_ = run_from_dict(doc)
    except hd.GraphError:
        return
    str(report)
    report._repr_html_()


@pytest.mark.parametrize(
    ("doc", "why"),
    [
        ([], "is no saved run"),
        ({"format": "handout run", "version": 2}, "version 2; this package reads 1"),
        ({"format": "handout run", "version": 1}, "no whole run: KeyError: 'graph'"),
    ],
)
def test_an_error_says_what_is_wrong(doc, why):
    with pytest.raises(hd.GraphError, match=why):
        run_from_dict(doc)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda d: d["plan"].update(end=[float("nan")] * 3), "end nan must be finite"),
        (lambda d: d["plan"].update(end=[1e308] * 3), "end 1e.308 must be from"),
        (lambda d: d["spans"][0].update(attempt=10**30), "must be a whole number up"),
        (lambda d: d["plan"].update(end=[-1.0] * 3), "ends before it starts"),
        (lambda d: d["plan"].update(end=[1.0]), "1 x end of 3 functions"),
        (lambda d: d["spans"][0].update(function=9), "IndexError"),
        (lambda d: d["spans"][0].update(outcome="gone"), "outcome 'gone' is none of"),
        (lambda d: d["nodes"]["node"][0].update(speed=-1), "node 'n0': speed"),
        (lambda d: d["graph"]["functions"][1].update(id="a"), "'a' is in the graph"),
    ],
)
def test_values_that_make_no_sense_are_refused(change, why):
    doc = written()
    change(doc)
    with pytest.raises(hd.GraphError, match=why):
        run_from_dict(doc)

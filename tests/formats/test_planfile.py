"""Laws of plan files."""

import json

import pytest

from handout_dask.errors import AllocationError
from handout_dask.events import LOST, Span
from handout_dask.formats.planfile import (
    executed_plan,
    id_to_json,
    network_of,
    plan_from_dict,
    plan_to_dict,
)
from handout_dask.function import Function
from handout_dask.graph import Graph
from handout_dask.node import Cluster, Node
from handout_dask.plans import Plan
from handout_dask.problem import Problem


def small(billing="function", network="free"):
    """a -> ("b", 1) with 10 MB at 10 MB/s; the second has two variants."""
    graph = Graph(
        [
            Function("a", cost={"cpu_time": 2000, "output_size": 10}),
            Function(
                ("b", 1),
                ["a"],
                cost=[{"cpu_time": 4000, "has_cuda_requirement": True}, {}],
            ),
        ],
        name="small",
    )
    nodes = [
        Node("n0", price=3600.0, watts=100.0),
        Node("n1", price=7200.0, watts=300.0, speed=2.0),
    ]
    cluster = Cluster(nodes, 10.0, 500.0, billing=billing)
    return Problem(graph, cluster, network=network)


def planned(problem):
    return Plan.from_assignment(problem, {"a": "n0", ("b", 1): "n1"})


SCHEDULE = [
    {"task": "a", "node": "n0", "start": 0.0, "end": 2.0},
    {"task": "('b', 1)", "node": "n1", "start": 3.5, "end": 5.0, "variant": 1},
]


def test_document_has_schedule_and_sums():
    assert plan_to_dict(planned(small())) == {
        "schedule": SCHEDULE,
        "makespan": 5.0,
        "money": 2.0 + 3.0,
        "billing": "function",
        "energy": 200.0 + 450.0,
        "transferred": 10.0,
        "network": "free",
        "planning_time": 0.0,
        "allocator": "assignment",
        "guessed": 1,
        "estimates": {
            "time": {"declared": 1, "learned": 0, "guessed": 1},
            "memory": {"declared": 0, "learned": 0, "guessed": 2},
            "size": {"declared": 1, "learned": 0, "guessed": 1},
        },
        "workflow": "small",
    }


def test_plan_survives_a_file():
    problem = small()
    plan = planned(problem)
    doc = json.loads(json.dumps(plan_to_dict(plan)))
    back = plan_from_dict(doc, problem)
    assert [*back] == [*plan]
    assert plan_to_dict(back) == plan_to_dict(plan)


def test_document_tells_the_network_for_which_its_plan_is_made():
    plan = planned(small(network="oneport"))
    spans = [Span(p.function, p.node, p.start, p.end) for p in plan]
    assert network_of(plan_to_dict(plan)) == "oneport"
    assert network_of(executed_plan(plan, spans)) == "oneport"
    assert network_of(executed_plan(plan, spans, "free")) == "free"
    assert [network_of(doc) for doc in ({}, [], {"schedule": []})] == ["free"] * 3


def test_ids_without_json_form_become_their_repr():
    assert [*map(id_to_json, ["a", 1, 1.5, True, None, (1, "b"), float("inf")])] == [
        "a",
        1,
        1.5,
        "True",
        "None",
        "(1, 'b')",
        "inf",
    ]


def test_ids_that_read_alike_are_an_error():
    graph = Graph([Function((1,)), Function("(1,)")])
    problem = Problem(graph, Cluster([Node("n0")]))
    with pytest.raises(AllocationError, match=r"\(1,\) and '\(1,\)' are the same"):
        plan_from_dict({"schedule": []}, problem)


def changed(row, **fields):
    rows = [dict(r) for r in SCHEDULE]
    rows[row] |= fields
    return {"schedule": rows}


@pytest.mark.parametrize(
    ("doc", "text"),
    [
        ([], "the plan has no 'schedule' list"),
        ({"schedule": {}}, "the plan has no 'schedule' list"),
        ({"schedule": [1]}, "schedule[0] must be an object, not 1"),
        ({"schedule": SCHEDULE[:1]}, "the plan lacks function ('b', 1)"),
        ({"schedule": []}, "the plan lacks function 'a' and 1 more"),
        ({"schedule": SCHEDULE + SCHEDULE}, "the plan has task 'a' twice"),
        (changed(1, task="c"), "schedule[1]: there is no task 'c'; there are 'a', "),
        (changed(1, task=["b", 1]), "schedule[1] has task ['b', 1]"),
        (changed(1, node="n2"), "there is no node 'n2'; there are 'n0', 'n1'"),
        (changed(1, start="0"), "schedule[1]: start must be a number, not '0'"),
        (changed(1, end=None), "schedule[1]: end must be a number, not None"),
        (changed(1, variant=1.5), "schedule[1]: variant must be a number, not 1.5"),
        (changed(1, start=3.0, end=4.5), "arrives at 3.5 s"),
        (changed(1, variant=0), "can't run on node 'n1'"),
    ],
)
def test_bad_document_is_an_error_that_names_the_fault(doc, text):
    with pytest.raises(AllocationError) as caught:
        plan_from_dict(doc, small())
    assert text in str(caught.value)


def test_executed_plan_counts_what_really_happened():
    plan = planned(small(billing="held"))
    spans = (Span("a", "n0", 0.0, 3.0), Span(("b", 1), "n1", 5.0, 9.0))
    assert executed_plan(plan, spans) == {
        "schedule": [
            {"task": "a", "node": "n0", "start": 0.0, "end": 3.0},
            {"task": "('b', 1)", "node": "n1", "start": 5.0, "end": 9.0},
        ],
        "makespan": 9.0,
        "money": 3.0 + 4.0 * 2,
        "billing": "held",
        "energy": 300.0 + 1200.0,
        "transferred": 10.0,
        "network": "free",
        "planned_makespan": 5.0,
        "planning_time": 0.0,
        "allocator": "assignment",
        "workflow": "small",
    }


def test_executed_plan_lists_every_attempt_and_pays_for_it():
    plan = planned(small())
    spans = (
        Span("a", "n0", 0.0, 1.0, 1, LOST, None, "node 'n0' was lost"),
        Span("a", "n1", 1.0, 2.0, 2),
        Span(("b", 1), "n1", 2.0, 3.0),
    )
    doc = executed_plan(plan, spans)
    assert doc["schedule"] == [
        {"task": "a", "node": "n1", "start": 1.0, "end": 2.0},
        {"task": "('b', 1)", "node": "n1", "start": 2.0, "end": 3.0},
    ]
    assert (doc["money"], doc["transferred"]) == (1.0 + 2.0 + 2.0, 0.0)
    assert doc["energy"] == 100.0 + 300.0 + 300.0
    assert [(r["task"], r["attempt"], r["outcome"]) for r in doc["attempts"]] == [
        ("a", 1, "lost"),
        ("a", 2, "done"),
        ("('b', 1)", 1, "done"),
    ]


def test_row_is_the_last_attempt():
    spans = (
        Span("a", "n0", 0.0, 2.0),
        Span(("b", 1), "n1", 3.5, 5.0),
        Span(("b", 1), "n1", 6.0, 7.5, 2),
    )
    rows = executed_plan(planned(small()), spans)["schedule"]
    assert rows[1] == {"task": "('b', 1)", "node": "n1", "start": 6.0, "end": 7.5}


def test_row_is_no_attempt_that_reached_a_reader_too_late():
    spans = (
        Span("a", "n1", 0.0, 1.0),
        Span("a", "n0", 0.0, 2.0, 2),
        Span(("b", 1), "n1", 2.5, 4.0),
    )
    rows = executed_plan(planned(small()), spans)["schedule"]
    assert rows[0] == {"task": "a", "node": "n1", "start": 0.0, "end": 1.0}


def test_row_is_the_attempt_that_the_readers_can_have_read():
    plan = planned(small())
    spans = (
        Span("a", "n0", 0.0, 2.0),
        Span(("b", 1), "n1", 3.5, 5.0),
        Span("a", "n1", 6.0, 7.0, 2),
    )
    assert executed_plan(plan, spans)["schedule"] == [
        {"task": "a", "node": "n0", "start": 0.0, "end": 2.0},
        {"task": "('b', 1)", "node": "n1", "start": 3.5, "end": 5.0},
    ]

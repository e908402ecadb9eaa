"""Laws of reports: planned against measured, folded from a plan and spans."""

import json
import math
from functools import cache
from time import perf_counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from handout_dask import (
    Cluster,
    Function,
    Graph,
    GraphError,
    HandoutError,
    Node,
    Plan,
    Problem,
    Report,
    plan,
    simulate,
)
from handout_dask.events import FAILED, LOST, Hold, Span
from handout_dask.node import BILLINGS
from handout_dask.plans import allocate


def chain(billing="function", **network):
    """a (1 s) -> b (2 s) on n0, c (4 s) alone on n1 of speed 2; n2 idle."""
    functions = [
        Function("a", cost={"cpu_time": 1000}),
        Function("b", ["a"], cost={"cpu_time": 2000}),
        Function(("c", 1), cost={"cpu_time": 4000}),
    ]
    nodes = [
        Node("n0", price=3600),
        Node("n1", speed=2.0, price=7200),
        Node("n2", price=36000),
    ]
    problem = Problem(Graph(functions), Cluster(nodes, billing=billing, **network))
    where = {"a": "n0", "b": "n0", ("c", 1): "n1"}
    return Plan.from_assignment(problem, where)


def as_planned(made):
    return [Span(p.function, p.node, p.start, p.end) for p in made]


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_what_goes_as_planned_is_on_time_everywhere(problems, data):
    problem = data.draw(problems)
    try:
        made = allocate(problem, "load-balanced")
    except HandoutError:
        assume(False)
    report = Report.of(made, as_planned(made))
    assert report.makespan == report.planned_makespan == made.makespan
    assert report.planned_money == made.money
    assert report.money == pytest.approx(made.money)
    assert report.ratio in (None, 1.0)
    assert [row.lateness for row in report] == [0.0] * len(made)
    assert {row.ratio for row in report} <= {None, 1.0}
    assert [row.moved for row in report] == [False] * len(made)
    assert report.done == len(made)
    for node in report.nodes:
        assert node.busy == pytest.approx(node.planned_busy)
        assert node.functions == node.planned_functions
    assert sum(node.functions for node in report.nodes) == len(made)
    json.dumps(report.as_dict(), allow_nan=False)
    assert str(report)


def test_function_is_compared_with_its_placement():
    made = chain()
    spans = [
        Span("a", "n0", 0.0, 1.5),
        Span("b", "n2", 2.0, 6.0),
        Span(("c", 1), "n1", 0.5, 1.5),
    ]
    report = Report.of(made, spans)
    a, b, c = report["a"], report["b"], report["c", 1]
    assert (a.planned_node, a.planned_start, a.planned_end) == ("n0", 0.0, 1.0)
    assert (a.node, a.start, a.end, a.attempts) == ("n0", 0.0, 1.5, 1)
    assert (a.ratio, a.lateness, a.moved) == (1.5, 0.5, False)
    assert (b.ratio, b.lateness, b.moved) == (2.0, 3.0, True)
    assert (c.ratio, c.lateness, c.moved) == (0.5, -0.5, False)
    assert [row.function for row in report] == [f.id for f in made.problem.functions]
    assert [row.function for row in report.deviating()] == ["b", ("c", 1), "a"]
    assert report.deviating(1) == (b,)
    assert (report.makespan, report.planned_makespan, report.ratio) == (6.0, 3.0, 2.0)
    assert (report.done, report.moved, report.failures) == (3, 1, 0)
    # of those that ran where they were planned: 1.5 and 0.5
    assert report.duration_ratio == pytest.approx(math.sqrt(0.75))


def test_nodes_are_compared_with_what_the_plan_gives_them():
    made = chain()
    spans = [
        Span("a", "n0", 0.0, 1.5),
        Span("b", "n2", 2.0, 6.0),
        Span(("c", 1), "n1", 0.5, 1.5),
    ]
    n0, n1, n2 = Report.of(made, spans).nodes
    assert (n0.node, n0.planned_functions, n0.functions) == ("n0", 2, 1)
    assert (n0.planned_busy, n0.busy, n0.ratio) == (3.0, 1.5, pytest.approx(1.5))
    assert (n1.node, n1.planned_functions, n1.functions) == ("n1", 1, 1)
    assert (n1.planned_busy, n1.busy, n1.ratio) == (2.0, 1.0, pytest.approx(0.5))
    assert (n2.node, n2.planned_functions, n2.functions) == ("n2", 0, 1)
    assert (n2.planned_busy, n2.busy, n2.ratio) == (0.0, 4.0, None)


def test_money_is_billed_as_the_cluster_bills_and_for_every_attempt():
    spans = [
        Span("a", "n0", 0.0, 1.0, 1, FAILED, error="ValueError: no"),
        Span("a", "n0", 3.0, 4.0, 2),
        Span("b", "n0", 4.0, 6.0),
        Span(("c", 1), "n1", 0.0, 2.0),
    ]
    report = Report.of(chain(), spans)
    assert report.planned_money == pytest.approx(1 + 2 + 2 * 2)
    assert report.money == pytest.approx(1 + 1 + 2 + 2 * 2)
    assert [node.busy for node in report.nodes] == [4.0, 2.0, 0.0]
    held = Report.of(chain("held"), spans)
    assert held.planned_money == pytest.approx(3 + 2 * 2)
    assert held.money == pytest.approx(6 + 2 * 2)
    rounded = Report.of(chain("held", quantum=10), spans)
    assert rounded.money == pytest.approx(10 + 10 * 2)


def test_what_was_held_is_paid_whether_it_ran_something_or_not():
    spans = [Span("a", "n0", 3.0, 4.0), Span("b", "n0", 4.0, 6.0)]
    holds = [Hold("n0", 0, 6.5), Hold("n1", 0, 1), Hold("n1", 2, 3), Hold("n2", 7, 9)]
    by_use, by_hold = (Report.of(chain(b), spans, holds=holds) for b in BILLINGS)
    assert by_hold.holds == (Hold("n0", 0, 6), Hold("n1", 0, 1), Hold("n1", 2, 3))
    assert by_hold.money == by_hold.held_money == pytest.approx(6 + 1 * 2 + 1 * 2)
    assert by_use.held_money == by_hold.held_money
    assert by_use.money == pytest.approx(1 + 2)
    assert by_hold.whole_money == pytest.approx(6 * (1 + 2 + 10))
    assert "held for 8 s in all, money 10; all held all the time 78" in str(by_hold)
    assert by_hold.as_dict()["held_money"] == pytest.approx(10)
    rounded = Report.of(chain("held", quantum=5), spans, holds=holds)
    assert rounded.money == pytest.approx(10 + 5 * 2 + 5 * 2)
    untold = Report.of(chain("held"), spans)
    assert (untold.money, untold.holds) == (pytest.approx(3), ())
    assert untold.as_dict()["held_money"] is None
    assert "held for" not in str(untold)


def test_last_attempt_counts_and_the_others_are_counted():
    spans = [
        Span("a", "n2", 3.0, 4.0, 3),
        Span("a", "n0", 0.0, 1.0, 1, FAILED, error="ValueError: no"),
        Span("a", "n1", 1.0, 2.5, 2, LOST),
    ]
    report = Report.of(chain(), spans)
    a = report["a"]
    assert (a.node, a.start, a.end, a.outcome) == ("n2", 3.0, 4.0, "done")
    assert (a.attempts, a.failures, a.error) == (3, 2, None)
    assert [node.failures for node in report.nodes] == [1, 1, 0]
    assert [node.functions for node in report.nodes] == [0, 0, 1]
    assert report.failures == 2


def test_last_attempt_is_the_one_of_the_highest_number():
    spans = [Span("a", "n1", 2.0, 3.0, 2), Span("a", "n0", 0.0, 4.0, 1, LOST)]
    assert Report.of(chain(), spans)["a"].node == "n1"
    assert Report.of(chain(), spans).makespan == 4.0


def test_function_that_failed_is_neither_late_nor_slow():
    report = Report.of(chain(), [Span("a", "n0", 0, 9, 1, FAILED, error="E: no")])
    a = report["a"]
    assert (a.outcome, a.error, a.failures) == ("failed", "E: no", 1)
    assert a.ratio is a.lateness is a.duration is None
    assert report.done == 0
    assert report.deviating() == ()


def test_function_that_never_began_has_nothing_measured():
    report = Report.of(chain(), [Span("a", "n0", 0.0, 1.0)])
    b = report["b"]
    assert (b.node, b.start, b.end, b.outcome, b.attempts) == (None,) * 4 + (0,)
    assert b.ratio is b.lateness is b.duration is None
    assert not b.moved
    assert (report.done, report.moved, len(report)) == (1, 0, 3)
    assert "1 of 3 functions done, 0 moved" in str(report)


def test_run_in_which_nothing_ran_has_a_report():
    report = Report.of(chain(), [])
    assert (report.makespan, report.money, report.ratio) == (0.0, 0.0, 0.0)
    assert report.duration_ratio is None
    assert "function  " not in str(report)
    empty = Report.of(plan(Graph([]), [Node("n0")]), [])
    assert (empty.ratio, len(empty)) == (None, 0)
    json.dumps([report.as_dict(), empty.as_dict()], allow_nan=False)


def test_end_of_the_run_is_taken_where_it_is_told():
    spans = [Span("a", "n0", 0.0, 1.0)]
    assert Report.of(chain(), spans, ended=6.0).makespan == 6.0
    assert Report.of(chain(), spans, ended=6.0).ratio == 2.0
    assert Report.of(chain(), spans).makespan == 1.0


def test_node_that_joined_is_listed_and_paid_if_its_price_is_known():
    spans = [Span("a", "new", 0.0, 2.0), Span("b", "n0", 2.0, 3.0)]
    report = Report.of(chain(), spans)
    assert [node.node for node in report.nodes] == ["n0", "n1", "n2", "new"]
    assert (report.nodes[-1].busy, report.nodes[-1].functions) == (2.0, 1)
    assert report.unpriced == ("new",)
    assert report.money == pytest.approx(1.0)
    assert "without new" in str(report)
    priced = Report.of(chain(), spans, nodes=[Node("new", price=3600), Node("n0")])
    assert (priced.unpriced, priced.money) == ((), pytest.approx(3.0))


def test_function_of_no_time_has_no_ratio():
    made = plan(Graph([Function("a", cost={"cpu_time": 0})]), [Node("n0")])
    report = Report.of(made, [Span("a", "n0", 0.0, 1.0)])
    assert report["a"].ratio is None
    assert report["a"].lateness == 1.0
    assert "a " in str(report)


def test_span_of_another_graph_is_refused_by_name():
    with pytest.raises(GraphError, match="'stranger' ran, but is not in"):
        Report.of(chain(), [Span("stranger", "n0", 0.0, 1.0)])


def test_replans_are_told_with_time_and_reason():
    report = Report.of(chain(), [], replans=[(2, "n1 is lost"), (3.5, "late")])
    assert report.replans == ((2.0, "n1 is lost"), (3.5, "late"))
    assert "2 replans" in str(report)
    assert report.as_dict()["replans"][0] == {"when": 2.0, "why": "n1 is lost"}


def test_dict_has_all_that_was_measured_and_is_json():
    made = chain()
    report = Report.of(made, simulate(made, noise=0.3, seed=1), ended=9.0)
    told = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert told["makespan"] == 9.0
    assert told["planned_makespan"] == 3.0
    assert told["ratio"] == 3.0
    assert told["allocator"] == made.allocator
    assert [row["node"] for row in told["nodes"]] == ["n0", "n1", "n2"]
    rows = {row["function"]: row for row in told["functions"]}
    assert set(rows) == {"a", "b", "('c', 1)"}
    assert rows["a"]["ratio"] == report["a"].ratio
    assert rows["b"]["lateness"] == report["b"].lateness
    assert rows["b"]["planned_start"] == 1.0


@pytest.mark.parametrize("id", [math.nan, math.inf, True, ("x",)])
def test_id_that_json_lacks_is_told_by_its_repr(id):
    made = plan(Graph([Function(id)]), [Node("n0")])
    (row,) = Report.of(made, []).as_dict()["functions"]
    assert row["function"] == repr(id)


def test_text_is_short_however_large_the_run():
    nodes = [Node(f"n{j}") for j in range(40)]
    functions = [Function(i, cost={"cpu_time": 10 + i}) for i in range(500)]
    made = plan(Graph(functions), nodes)
    report = Report.of(made, simulate(made, noise=0.3))
    lines = str(report).splitlines()
    assert len(lines) == 2 + 1 + 10 + 1 + 1 + 10
    assert "... and 30 more nodes" in lines[13]
    assert len({len(line) for line in lines[2:13]}) == 1
    assert repr(report).startswith("<Report: makespan ")


def test_text_names_the_planned_node_of_what_moved():
    report = Report.of(chain(), [Span("a", "n2", 0.0, 3.0)])
    (row,) = (line for line in str(report).splitlines() if line.startswith("a "))
    assert row.split() == ["a", "n2", "(n0)", "3", "(1)", "3.000", "2"]


def test_nodes_that_deviate_most_are_the_ones_told():
    nodes = [Node(f"n{j}") for j in range(12)]
    made = plan(Graph([Function(i) for i in range(12)]), nodes)
    late = made[3].node
    spans = [Span(p.function, p.node, 0.0, 9.0 if p.node == late else 1) for p in made]
    report = Report.of(made, spans)
    rows = str(report).splitlines()[3:13]
    assert rows[0].split()[0] == late


@pytest.mark.slow
def test_report_of_a_hundred_thousand_functions_takes_seconds():
    n = 100_000
    functions = [Function(i, cost={"cpu_time": 10}) for i in range(n)]
    problem = Problem(Graph(functions), Cluster([Node(f"n{j}") for j in range(64)]))
    node, start = np.arange(n) % 64, np.arange(n) // 64 * 0.01
    made = Plan(problem, node, np.zeros(n, int), start, start + 0.01)
    spans = as_planned(made)
    begin = perf_counter()
    report = Report.of(made, spans)
    text = str(report)
    assert perf_counter() - begin < 10.0  # 1 s on an idle core; not quadratic
    assert "100000 of 100000 functions done" in text


@cache
def declaring(memory, n=3):
    """Functions of one name that declare memory [MB], on one node."""
    costs = [{"memory": memory}, {"memory": 10 * memory}]
    functions = [Function(i, cost=costs, name="same") for i in range(n)]
    return plan(Graph(functions), [Node("n0", {"memory": 1000 * memory})])


def seen(id, peak, **about):
    about = {"peak_alone": True, "cpu_seconds": 0.5, "bytes_in": 8, **about}
    return Span(id, "n0", 0.0, 1.0, nbytes=16, peak_mb=peak, **about)


def test_who_took_more_memory_than_declared_is_told_with_both():
    made = declaring(100)
    spans = [
        seen(0, 119.0),  # tolerated
        seen(1, 300.0, peak_exact=True),
        seen(2, 150.0),
        seen(2, 200.0),
    ]
    report = Report.of(made, spans)
    one, two = report.overuse
    assert (one.function, one.declared, one.measured, one.exact) == (1, 100, 300, True)
    assert (two.function, two.name, two.node) == (2, "same", "n0")
    assert (two.declared, two.measured, two.exact) == (100, 200, False)
    text = str(report)
    assert (
        "function 1 on node 'n0' took 300 MB of memory, but declared 100 MB\n"
        "function 2 on node 'n0' took about 200 MB of memory, but declared 100 MB\n"
    ) in text
    told = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert told["overuse"][1] == {
        "function": 2,
        "name": "same",
        "node": "n0",
        "declared": 100.0,
        "measured": 200.0,
        "exact": False,
    }


def test_what_others_took_meanwhile_is_nobodys_overuse():
    report = Report.of(declaring(100), [seen(0, 900.0, peak_alone=False)])
    assert report.overuse == ()


def test_what_was_ended_for_its_memory_took_too_much_however_little():
    span = Span(0, "n0", 0.0, 1.0, outcome=FAILED, peak_mb=101.0, peak_exact=True)
    assert [x.measured for x in Report.of(declaring(100), [span]).overuse] == [101.0]


def test_who_declares_nothing_can_not_take_too_much():
    made = plan(Graph([Function(0)]), [Node("n0")])
    assert Report.of(made, [seen(0, 900.0)]).overuse == ()


def test_what_a_function_used_is_in_its_row():
    report = Report.of(declaring(100), [seen(0, 50.0), seen(1, 60.0, peak_exact=True)])
    row = report[0].as_dict()
    used = {"declared_mb": 100.0, "cpu_seconds": 0.5, "peak_mb": 50.0, "bytes_in": 8}
    assert {name: row[name] for name in used} == used
    assert (row["nbytes"], row["gpu_peak_mb"], row["peak_exact"]) == (16, None, False)
    lines = str(report).splitlines()
    assert lines[4].endswith("CPU [s] peak (declared) [MB]")
    assert [line[len(lines[4]) - 29 :].split() for line in lines[5:]] == [
        ["0.5", "~50", "(100)"],
        ["0.5", "60", "(100)"],
    ]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 400), st.booleans())))
def test_the_worst_of_each_function_is_told_once_most_beyond_first(rows):
    made = declaring(100)
    spans = [seen(id, peak, peak_alone=alone) for id, peak, alone in rows]
    found = Report.of(made, spans).overuse
    most = {}
    for id, peak, alone in rows:
        if alone and peak > 120:
            most[id] = max(peak, most.get(id, 0.0))
    assert {x.function: x.measured for x in found} == most
    assert [x.measured for x in found] == sorted(most.values(), reverse=True)

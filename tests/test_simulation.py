"""Laws of `simulate`; test_referee.py compares it with the referee on real traces."""

import numpy as np
import pytest

import handout_dask as hd
from handout_dask.events import DONE, LOST, Span
from handout_dask.problem import Held
from handout_dask.simulation import noise_factors

THREE = ("n0", "n1", "n2")


def cluster(*names, slots=1, **more):
    """Nodes of speed 1; 10 MB/s and 1 s of latency between them."""
    nodes = [hd.Node(name, {"cpu": 4, "memory": 100}, slots=slots) for name in names]
    return hd.Cluster(nodes, 10.0, 1000.0, **more)


def function(id, args=(), seconds=1.0, mb=10.0, **more):
    cost = {"cpu_time": seconds * 1e3, "output_size": mb, **more.pop("cost", {})}
    return hd.Function(id, args, cost=cost, **more)


def planned(functions, where, nodes=THREE, order=None, held=(), slots=1):
    problem = hd.Problem(hd.Graph(functions), cluster(*nodes, slots=slots), held=held)
    return hd.Plan.from_assignment(problem, where, order)


def times(spans):
    return {s.function: (s.node, s.start, s.end) for s in spans}


def rows(spans):
    return [(s.function, s.node, s.start, s.end, s.attempt, s.outcome) for s in spans]


def test_without_noise_the_plan_itself_comes_out():
    plan = planned(
        [function("a"), function("b", ["a"]), function("c", ["a"], 2.0)],
        {"a": "n0", "b": "n1", "c": "n0"},
    )
    assert hd.simulate(plan) == (
        Span("a", "n0", 0.0, 1.0, 1, DONE, 10_000_000),
        Span("c", "n0", 1.0, 3.0, 1, DONE, 10_000_000),
        Span("b", "n1", 3.0, 4.0, 1, DONE, 10_000_000),
    )


def test_empty_graph_has_no_spans():
    assert hd.simulate(planned([], {})) == ()


def test_size_of_result_is_unknown_or_the_sum_of_its_elements():
    functions = [
        hd.Function("a", cost={"cpu_time": 1}),
        hd.Function("b", cost={"cpu_time": 1, "output_size": {"x": 1, "y": 0.5}}),
    ]
    spans = hd.simulate(planned(functions, {"a": "n0", "b": "n1"}))
    assert {s.function: s.nbytes for s in spans} == {"a": None, "b": 1_500_000}


def test_noise_is_one_factor_per_function_in_the_order_of_insertion():
    functions = [function("b", ["a"]), function("a"), function("c", ["b"])]
    plan = planned(functions, dict.fromkeys("abc", "n0"))
    draws = np.random.Generator(np.random.PCG64(5)).standard_normal(3)
    factor = dict(zip("bac", np.exp(0.4 * draws - 0.08), strict=True))
    spans = hd.simulate(plan, noise=0.4, seed=5)
    assert {s.function: s.end - s.start for s in spans} == pytest.approx(factor)
    assert spans == hd.simulate(plan, noise=0.4, seed=5)
    assert spans != hd.simulate(plan, noise=0.4, seed=6)


def test_noise_has_mean_one():
    graph = hd.Graph(function(i) for i in range(20_000))
    problem = hd.Problem(graph, cluster("n0"))
    assert noise_factors(problem, 0.5, 1).mean() == pytest.approx(1.0, abs=0.02)
    assert (noise_factors(problem, 0.0, 1) == 1.0).all()


WAITING = {"late": "n1", "first": "n0", "second": "n0"}


def waiting_plan():
    """By plan `first` goes before `second` on n0, but by a wrong plan: it is late."""
    functions = [
        function("late", seconds=4.0),
        function("first", ["late"]),
        function("second", seconds=9.0),
    ]
    plan = planned(functions, WAITING, order=["late", "first", "second"])
    assert times(plan_spans(plan))["second"] == ("n0", 7.0, 16.0)
    return plan


def plan_spans(plan):
    return [Span(p.function, p.node, p.start, p.end) for p in plan]


def test_ready_node_starts_what_is_there():
    assert times(hd.simulate(waiting_plan())) == {
        "late": ("n1", 0.0, 4.0),
        "second": ("n0", 0.0, 9.0),
        "first": ("n0", 9.0, 10.0),
    }


def test_strict_node_waits_for_the_next_by_plan():
    assert times(hd.simulate(waiting_plan(), order="strict")) == {
        "late": ("n1", 0.0, 4.0),
        "first": ("n0", 6.0, 7.0),
        "second": ("n0", 7.0, 16.0),
    }


def test_of_what_is_ready_the_first_by_plan_starts():
    functions = [function("a", seconds=2.0), function("b"), function("c")]
    plan = planned(functions, dict.fromkeys("abc", "n0"), order="cab")
    assert [s.function for s in hd.simulate(plan)] == ["c", "a", "b"]


def test_function_that_does_not_fit_lets_another_pass():
    functions = [
        function("a", seconds=4.0, cost={"memory": 60}),
        function("b", cost={"memory": 60}),
        function("c", cost={"memory": 40}),
    ]
    plan = planned(functions, dict.fromkeys("abc", "n0"), order="abc", slots=3)
    assert times(hd.simulate(plan)) == {
        "a": ("n0", 0.0, 4.0),
        "c": ("n0", 0.0, 1.0),
        "b": ("n0", 4.0, 5.0),
    }
    assert times(hd.simulate(plan, order="strict"))["c"] == ("n0", 4.0, 5.0)


def fan_out():
    """Of a on n0, b reads 10 MB and d the same on n1, c on n2; z ends meanwhile."""
    functions = [function("a"), *(function(id, ["a"]) for id in "bcd")]
    functions.append(function("z", seconds=1.5))
    return planned(functions, {"a": "n0", "b": "n1", "c": "n2", "d": "n1", "z": "n2"})


def test_free_transfers_do_not_compete():
    assert times(hd.simulate(fan_out())) == {
        "a": ("n0", 0.0, 1.0),
        "z": ("n2", 0.0, 1.5),
        "b": ("n1", 3.0, 4.0),
        "c": ("n2", 3.0, 4.0),
        "d": ("n1", 4.0, 5.0),
    }


def test_oneport_node_sends_one_result_at_a_time_and_once_to_each_node():
    assert times(hd.simulate(fan_out(), network="oneport")) == {
        "a": ("n0", 0.0, 1.0),
        "z": ("n2", 0.0, 1.5),
        "b": ("n1", 3.0, 4.0),
        "d": ("n1", 4.0, 5.0),
        "c": ("n2", 5.0, 6.0),
    }


def test_oneport_node_receives_one_result_at_a_time():
    functions = [function("a"), function("b"), function("c", ["a", "b"])]
    plan = planned(functions, {"a": "n0", "b": "n1", "c": "n2"})
    assert times(hd.simulate(plan))["c"] == ("n2", 3.0, 4.0)
    assert times(hd.simulate(plan, network="oneport"))["c"] == ("n2", 5.0, 6.0)


def test_what_is_held_is_respected():
    held = [Held("n0", 0.5, 3.0, {"slots": 1})]
    functions = [function("a"), function("b", seconds=0.5)]
    plan = planned(functions, dict.fromkeys("ab", "n0"), held=held)
    assert times(hd.simulate(plan)) == {
        "b": ("n0", 0.0, 0.5),
        "a": ("n0", 3.0, 4.0),
    }


def test_what_is_held_for_ever_is_an_error():
    functions = [function("a")]
    plan = planned(functions, {"a": "n0"})
    held = [Held("n0", 0.0, float("inf"), {"slots": 1})]
    problem = hd.Problem(plan.problem.graph, plan.problem.cluster, held=held)
    stuck = hd.Plan(problem, plan.node, plan.option, plan.start, plan.end)
    with pytest.raises(hd.AllocationError, match="'a' on node 'n0'"):
        hd.simulate(stuck)


# ------------------------------------------------------------------ lost nodes
def test_lost_node_moves_its_functions():
    functions = [function("a", seconds=4.0), function("b", ["a"])]
    plan = planned(functions, dict.fromkeys("ab", "n0"))
    spans = hd.simulate(plan, fail=[("n0", 1.5)])
    assert rows(spans) == [
        ("a", "n0", 0.0, 1.5, 1, LOST),
        ("a", "n1", 1.5, 5.5, 2, DONE),
        ("b", "n1", 5.5, 6.5, 1, DONE),
    ]
    assert (spans[0].nbytes, spans[0].error) == (None, "node 'n0' was lost")


def test_functions_move_to_where_they_end_first():
    functions = [
        function("a"),
        function("b", seconds=9.0),
        function("c"),
        function("d"),
    ]
    plan = planned(functions, {"a": "n0", "b": "n1", "c": "n2", "d": "n0"})
    assert times(hd.simulate(plan, fail=[("n0", 0.0)])) == {
        "b": ("n1", 0.0, 9.0),
        "a": ("n2", 0.0, 1.0),
        "c": ("n2", 1.0, 2.0),
        "d": ("n2", 2.0, 3.0),
    }


def test_result_that_lived_only_there_is_computed_again():
    functions = [function("a"), function("b", ["a"]), function("c", ["b"], seconds=4.0)]
    plan = planned(functions, {"a": "n0", "b": "n0", "c": "n1"})
    # b has ended at 2 and travels until 4; neither it nor a is anywhere else.
    assert rows(hd.simulate(plan, fail=[("n0", 3.0)])) == [
        ("a", "n0", 0.0, 1.0, 1, DONE),
        ("b", "n0", 1.0, 2.0, 1, DONE),
        ("a", "n2", 3.0, 4.0, 2, DONE),
        ("b", "n2", 4.0, 5.0, 2, DONE),
        ("c", "n1", 7.0, 11.0, 1, DONE),
    ]


def test_result_that_is_elsewhere_too_is_fetched_from_there():
    functions = [function("a"), function("b", ["a"]), function("c", ["a"], seconds=9.0)]
    plan = planned(functions, {"a": "n0", "b": "n1", "c": "n0"})
    # At 3 n1 has a.
    assert rows(hd.simulate(plan, fail=[("n0", 3.5)])) == [
        ("a", "n0", 0.0, 1.0, 1, DONE),
        ("c", "n0", 1.0, 3.5, 1, LOST),
        ("b", "n1", 3.0, 4.0, 1, DONE),
        ("c", "n1", 4.0, 13.0, 2, DONE),
    ]


def test_element_that_is_elsewhere_is_not_the_other_element():
    functions = [
        function("a", mb=20.0),
        function("b", [("a", 0)]),
        function("c", [("a", 1)], seconds=9.0),
    ]
    plan = planned(functions, {"a": "n0", "b": "n1", "c": "n0"})
    attempts = [s.attempt for s in hd.simulate(plan, fail=[("n0", 3.5)])
                if s.function == "a"]  # fmt: skip
    assert attempts == [1, 2]


def test_result_that_nobody_needs_any_more_is_not_computed_again():
    functions = [function("a"), function("b", ["a"]), function("z", seconds=9.0)]
    plan = planned(functions, {"a": "n0", "b": "n1", "z": "n2"})
    assert rows(hd.simulate(plan, fail=[("n0", 5.0)])) == [
        ("a", "n0", 0.0, 1.0, 1, DONE),
        ("z", "n2", 0.0, 9.0, 1, DONE),
        ("b", "n1", 3.0, 4.0, 1, DONE),
    ]


def test_result_that_nobody_reads_is_what_the_run_is_for():
    plan = planned([function("a"), function("z", seconds=9.0)], {"a": "n0", "z": "n1"})
    assert rows(hd.simulate(plan, fail=[("n0", 5.0)])) == [
        ("a", "n0", 0.0, 1.0, 1, DONE),
        ("z", "n1", 0.0, 9.0, 1, DONE),
        ("a", "n2", 5.0, 6.0, 2, DONE),
    ]


def test_node_that_is_lost_after_the_end_changes_nothing():
    plan = fan_out()
    assert plan.makespan == 5.0
    assert hd.simulate(plan, fail=[("n0", 5.0), ("n1", 6.0)]) == hd.simulate(plan)


def test_what_ends_when_its_node_is_lost_is_done():
    plan = planned([function("a")], {"a": "n0"})
    assert rows(hd.simulate(plan, fail=[("n0", 1.0)])) == [
        ("a", "n0", 0.0, 1.0, 1, DONE)
    ]


def test_functions_that_move_spread_over_the_nodes():
    functions = [function(id, seconds=4.0) for id in "abc"]
    plan = planned(functions, dict.fromkeys("abc", "n0"))
    assert rows(hd.simulate(plan, fail=[("n0", 1.0)])) == [
        ("a", "n0", 0.0, 1.0, 1, LOST),
        ("a", "n1", 1.0, 5.0, 2, DONE),
        ("b", "n2", 1.0, 5.0, 1, DONE),
        ("c", "n1", 5.0, 9.0, 1, DONE),
    ]


def test_what_has_run_for_a_while_ends_earlier():
    functions = [
        function("a", seconds=20.0),
        function("b", seconds=9.0),
        function("x", seconds=6.0),
        function("c", seconds=4.0),
    ]
    plan = planned(functions, {"a": "n0", "b": "n1", "x": "n2", "c": "n2"})
    # At 8 n1 has 1 s to go, n2 has 2.
    assert times(hd.simulate(plan, fail=[("n0", 8.0)]))["a"] == ("n1", 9.0, 29.0)


FOUR = (*THREE, "n3")


def test_oneport_node_is_free_again_when_its_receiver_is_lost():
    spans = hd.simulate(fan_out(), network="oneport", fail=[("n1", 2.0)])
    assert times(spans) == {
        "a": ("n0", 0.0, 1.0),
        "z": ("n2", 0.0, 1.5),
        "b": ("n0", 2.0, 3.0),
        "d": ("n0", 3.0, 4.0),
        "c": ("n2", 4.0, 5.0),
    }


def test_oneport_node_sends_nothing_to_a_lost_node():
    functions = [function("a"), *(function(id, ["a"]) for id in "cbd")]
    where = {"a": "n0", "b": "n1", "c": "n2", "d": "n3"}
    plan = planned(functions, where, FOUR)
    assert times(hd.simulate(plan, network="oneport"))["d"] == ("n3", 7.0, 8.0)
    spans = hd.simulate(plan, network="oneport", fail=[("n1", 2.0)])
    assert times(spans) == {
        "a": ("n0", 0.0, 1.0),
        "b": ("n0", 2.0, 3.0),
        "c": ("n2", 3.0, 4.0),
        "d": ("n3", 5.0, 6.0),
    }


def test_result_is_fetched_from_the_nearest_node_that_has_it():
    """a is on n1 and n2; d can run on n0 and n3 only."""
    has = {"n0": {"camera": 1}, "n1": {}, "n2": {}, "n3": {"camera": 1}}
    links = np.full((4, 4), 10.0)
    links[1, 3] = 1.0
    problem = hd.Problem(
        hd.Graph(
            [
                function("a"),
                function("b", ["a"]),
                function("c", ["a"]),
                function("d", ["a"], seconds=9.0, cost={"camera": 1}),
            ]
        ),
        hd.Cluster([hd.Node(*item) for item in has.items()], links, 0.0),
    )
    where = {"a": "n0", "b": "n1", "c": "n2", "d": "n0"}
    plan = hd.Plan.from_assignment(problem, where)
    assert times(hd.simulate(plan, fail=[("n0", 3.0)]))["d"] == ("n3", 4.0, 13.0)


def test_second_loss_moves_again():
    plan = planned([function("a", seconds=4.0)], {"a": "n0"})
    assert rows(hd.simulate(plan, fail=[("n1", 2.0), ("n0", 1.0)])) == [
        ("a", "n0", 0.0, 1.0, 1, LOST),
        ("a", "n1", 1.0, 2.0, 2, LOST),
        ("a", "n2", 2.0, 6.0, 3, DONE),
    ]


def test_functions_that_share_a_node_move_together():
    functions = [
        function("a", seconds=4.0),
        function("b", seconds=4.0, node=hd.with_function("a")),
    ]
    plan = planned(functions, dict.fromkeys("ab", "n0"))
    assert rows(hd.simulate(plan, fail=[("n0", 1.0)])) == [
        ("a", "n0", 0.0, 1.0, 1, LOST),
        ("a", "n1", 1.0, 5.0, 2, DONE),
        ("b", "n1", 5.0, 9.0, 1, DONE),
    ]


def test_functions_that_share_a_node_move_to_where_all_of_them_can_run():
    problem = hd.Problem(
        hd.Graph(
            [
                function("a"),
                function("b", node=hd.with_function("a"), cost={"camera": 1}),
            ]
        ),
        hd.Cluster(
            [
                hd.Node("n0", {"camera": 1}),
                hd.Node("n1"),
                hd.Node("n2", {"camera": 1}),
            ]
        ),
    )
    plan = hd.Plan.from_assignment(problem, dict.fromkeys("ab", "n0"))
    assert times(hd.simulate(plan, fail=[("n0", 0.5)])) == {
        "a": ("n2", 0.5, 1.5),
        "b": ("n2", 1.5, 2.5),
    }


def test_function_follows_those_that_share_its_node_and_moved_before():
    """a is on n2 for c when n0 is lost, and lost only with n2; b has moved to n1."""
    functions = [
        function("a"),
        function("b", seconds=9.0, node=hd.with_function("a")),
        function("z", seconds=9.0),
        function("c", ["a", "z"]),
    ]
    where = {"a": "n0", "b": "n0", "z": "n2", "c": "n2"}
    plan = planned(functions, where, FOUR)
    spans = hd.simulate(plan, fail=[("n0", 4.0), ("n2", 5.0)])
    assert [row for row in rows(spans) if row[0] in "ab"] == [
        ("a", "n0", 0.0, 1.0, 1, DONE),
        ("b", "n0", 1.0, 4.0, 1, LOST),
        ("b", "n1", 4.0, 13.0, 2, DONE),
        ("a", "n1", 13.0, 14.0, 2, DONE),
    ]


def test_pin_to_a_lost_node_is_an_error_that_names_both():
    plan = planned([function("a", seconds=4.0, node="n1")], {"a": "n1"})
    with pytest.raises(hd.NodeLostError, match="'a' is pinned to node 'n1'"):
        hd.simulate(plan, fail=[("n1", 1.0)])
    assert rows(hd.simulate(plan, fail=[("n0", 1.0)])) == [
        ("a", "n1", 0.0, 4.0, 1, DONE)
    ]


def test_function_that_fits_on_no_other_node_is_an_error_that_names_both():
    problem = hd.Problem(
        hd.Graph([function("a", cost={"camera": 1})]),
        hd.Cluster([hd.Node("n0"), hd.Node("n1", {"camera": 1})]),
    )
    plan = hd.Plan.from_assignment(problem, {"a": "n1"})
    with pytest.raises(hd.NodeLostError, match=r"'a' was on node 'n1'.*no other node"):
        hd.simulate(plan, fail=[("n1", 0.5)])


@pytest.mark.parametrize("network", ["free", "oneport"])
@pytest.mark.parametrize("order", ["ready", "strict"])
def test_whatever_is_lost_everything_ends_once_on_nodes_that_are_there(network, order):
    rng = np.random.default_rng(1)
    for trial in range(60):
        n = int(rng.integers(1, 25))
        functions = [
            function(
                i,
                [int(u) for u in np.flatnonzero(rng.random(i) < 0.2)],
                seconds=float(rng.integers(0, 5)),
                mb=float(rng.integers(0, 20)),
            )
            for i in range(n)
        ]
        plan = planned(functions, {i: THREE[int(rng.integers(3))] for i in range(n)})
        fail = {name: float(rng.random()) * plan.makespan for name in THREE[:2]}
        spans = hd.simulate(
            plan, network=network, order=order, fail=fail.items(), noise=0.2, seed=trial
        )
        assert {s.function for s in spans if s.outcome == DONE} == set(range(n))
        assert all(s.end <= fail.get(s.node, np.inf) for s in spans)
        for i in range(n):
            mine = [s for s in spans if s.function == i]
            assert [s.attempt for s in mine] == [*range(1, len(mine) + 1)]
            for span in mine:
                for u, _ in plan.problem.graph[i].inputs:
                    ends = [
                        s.end for s in spans if s.function == u and s.outcome == DONE
                    ]
                    assert min(ends) <= span.start


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"network": "fast"}, "network 'fast' must be one of free, oneport"),
        ({"order": "any"}, "order 'any' must be one of ready, strict"),
        ({"noise": -1.0}, "noise=-1.0 must be finite and not negative"),
        ({"fail": [("n9", 1.0)]}, "node 'n9' can't fail; the nodes are n0, n1, n2"),
        ({"fail": [("n0", -1.0)]}, "node 'n0' can't fail at -1.0 s"),
    ],
)
def test_unknown_option_is_an_error_that_names_it(options, text):
    with pytest.raises(hd.AllocationError) as caught:
        hd.simulate(planned([function("a")], {"a": "n0"}), **options)
    assert str(caught.value) == text


def test_a_late_node_starts_nothing_before_it_is_there():
    functions = [hd.Function(i, cost={"cpu_time": 1000}) for i in range(4)]
    made = hd.plan(hd.Graph(functions), [hd.Node("a"), hd.Node("b")], "first-available")
    spans = hd.simulate(made, late=[("b", 5.0)])
    assert sorted((s.node, s.start) for s in spans) == [
        ("a", 0.0), ("a", 1.0), ("b", 5.0), ("b", 6.0),
    ]  # fmt: skip
    with pytest.raises(hd.AllocationError, match="node 'c' can't be late"):
        hd.simulate(made, late=[("c", 5.0)])

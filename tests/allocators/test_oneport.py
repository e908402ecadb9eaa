"""Laws of the one-port decoder: it is `simulate`, only faster, and gives up truly."""

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from handout_dask import (
    Cluster,
    Function,
    Graph,
    HandoutError,
    Node,
    Plan,
    Problem,
    plan,
    simulate,
)
from handout_dask.allocators import oneport
from handout_dask.formats.nodes import read_nodes
from handout_dask.formats.wfformat import read_workflow

REFEREE, FOLDER = os.environ.get("HANDOUT_REFEREE"), os.environ.get("HANDOUT_TRACES")
TRACES = sorted(Path(FOLDER).glob("*.json")) if REFEREE and FOLDER else []
QUIET = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)


def rank_of(plan):
    """The order of the planned starts."""
    n = len(plan.start)
    rank = np.empty(n, dtype=np.int64)
    rank[np.lexsort((np.arange(n), plan.end, plan.start))] = np.arange(n)
    return rank


def decode(play, plan, cutoff=np.inf):
    """Makespan, starts and ends of what `play` makes of a plan."""
    p = plan.problem
    n, bandwidth = len(p.functions), p.cluster.bandwidth
    succ_ptr, succ_of = p.succs_arrays
    succ_mb = p.pred_mb[np.argsort(p.pred_of, kind="stable")]
    slow = np.divide(1.0, bandwidth, out=np.zeros_like(bandwidth), where=bandwidth > 0)
    option = p.option_ptr[:-1] + plan.option
    cls = p.option_class[option]
    span = p.option_work[option] / p.rate[cls, p.kind[plan.node]]
    position = np.array(p.graph.links().position, dtype=np.int64)
    start, end = np.full(n, np.nan), np.full(n, np.nan)
    makespan = play(
        rank_of(plan), plan.node, span, cls, p.need, p.room, p.kind, p.pred_ptr,
        succ_ptr, succ_of, succ_mb, p.cluster.latency / 1e3, slow, cutoff, start, end,
        oneport.workspace(position, succ_ptr, p.need, p.room, p.kind),
    )  # fmt: skip
    return makespan, start, end


def assert_it_is_simulate(plan, play):
    makespan, start, end = decode(play, plan)
    spans = simulate(plan, order="ready", network="oneport")
    where = plan.problem.where
    wanted = np.zeros((2, len(where)))
    for span in spans:
        wanted[:, where[span.function]] = span.start, span.end
    last = wanted[1].max(initial=0.0)
    assert np.array([start, end]) == pytest.approx(wanted, rel=0, abs=1e-9 * last)
    assert makespan == end.max(initial=0.0)


def with_order(plan, rank):
    """The plan with starts that say another order; it need not be a topological one."""
    start = np.asarray(rank, dtype=float)
    return Plan(plan.problem, plan.node, plan.option, start, start + 1)


def random_plan(problem, rng):
    """A node of those that can run it for each function, and a random order."""
    n, m = len(problem.functions), len(problem.nodes)
    node, option = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    for i in range(n):
        able = [j for j in range(m) if problem.time(i, j) < np.inf]
        if not able:
            return None
        node[i] = rng.choice(able)
        option[i] = problem.option(i, int(node[i]))[0]
    start = rng.permutation(n).astype(float)
    return Plan(problem, node, option, start, start + 1)


@cache
def planned(trace, nodes):
    import sys

    sys.path.insert(0, REFEREE)
    import referee

    nodeset = referee.read_nodes(nodes, referee.load_wfformat(trace))
    rows = []
    for node in nodeset.nodes:
        has = {"cpu": node.cores, "memory": node.memory_mb}
        has = {key: value for key, value in has.items() if value is not None}
        rows.append(
            {
                "name": node.id,
                "speed": node.speed,
                "slots": node.slots,
                "capabilities": has,
            }
        )
    links = {
        "bandwidth": [[x / 1e6 for x in row] for row in nodeset.bandwidth],
        "latency": [[x * 1e3 for x in row] for row in nodeset.latency],
    }
    return plan(read_workflow(trace), read_nodes({"node": rows, "network": links}))


by_set = pytest.mark.parametrize("nodes", ["strong8@1", "mixed6"])
by_trace = pytest.mark.parametrize("trace", TRACES, ids=lambda path: path.stem)


@by_set
@by_trace
def test_a_trace_is_played_as_simulate_does(trace, nodes):
    own = planned(trace, nodes)
    rng = np.random.default_rng(5)
    n = len(own.start)
    noisy = rank_of(own) + rng.normal(0, n / 10, n)
    topological = np.arange(n)  # functions of a Problem are in such an order
    for what in (
        own,
        with_order(own, np.argsort(np.argsort(noisy))),
        with_order(own, topological),
        with_order(own, rng.permutation(n)),
        random_plan(own.problem, rng),
        random_plan(own.problem, rng),
    ):
        assert_it_is_simulate(what, oneport.compiled())


@by_set
@by_trace
def test_a_trace_is_given_up_just_beyond_the_cutoff(trace, nodes):
    what = random_plan(planned(trace, nodes).problem, np.random.default_rng(6))
    play = oneport.compiled()
    makespan, _, _ = decode(play, what)
    for cutoff in (makespan, makespan * (1 + 1e-12), makespan * 1.5):
        assert decode(play, what, cutoff)[0] == makespan
    for cutoff in (
        np.nextafter(makespan, 0),
        makespan * (1 - 1e-10),
        makespan / 2,
        0.0,
    ):
        assert decode(play, what, cutoff)[0] == np.inf


@st.composite
def some_plan(draw, problems):
    """A random plan of a random problem without holds.

    Bandwidths are powers of two, so that MB times seconds per MB is exactly MB over
    MB per second: what is at one instant for `simulate` is so for `play`.
    """
    given = draw(problems)
    cluster = Cluster(
        given.nodes,
        bandwidth=draw(st.sampled_from([8, 1024])),
        latency=draw(st.sampled_from([0, 0.5, 10])),
    )
    p = Problem(given.graph, cluster)
    made = random_plan(p, np.random.default_rng(draw(st.integers(0, 2**32))))
    assume(made is not None)
    return made


@st.composite
def crowded_plan(draw):
    """Many readers, ties and few sizes, on nodes of one or more slots and cores."""
    pick = st.sampled_from
    nodes = [
        Node(f"n{j}", {"cpu": draw(pick([1, 2, 4]))}, slots=draw(pick([1, 1, 2, 3])))
        for j in range(draw(st.integers(1, 5)))
    ]
    n = draw(st.integers(1, 30))
    functions = []
    for i in range(n):
        reads = (
            draw(st.lists(st.integers(max(0, i - 9), i - 1), max_size=4)) if i else []
        )
        args = [(u, draw(pick([None, None, 0, 1]))) for u in reads]
        cost = {
            "cpu_time": draw(pick([0, 1000, 1000, 2000])),
            "cpu": draw(pick([0, 1, 1, 0.5])),
            "output_size": draw(pick([0, 8, 8, 16])),
        }
        functions.append(Function(i, args, cost=cost))
    links = {"bandwidth": draw(pick([8, 16])), "latency": draw(pick([0, 0, 500]))}
    graph = Graph(draw(st.permutations(functions)))
    p = Problem(graph, Cluster(nodes, **links))
    return random_plan(p, np.random.default_rng(draw(st.integers(0, 2**32))))


@QUIET
@given(data=st.data())
def test_any_plan_is_played_as_simulate_does(problems, data):
    made = data.draw(some_plan(problems))
    assert_it_is_simulate(made, oneport.play)


@QUIET
@given(crowded_plan())
def test_ties_fall_as_simulate_lets_them(made):
    assert_it_is_simulate(made, oneport.play)


@QUIET
@given(crowded_plan())
def test_compiled_and_plain_decoders_give_identical_arrays(made):
    plain, compiled = decode(oneport.play, made), decode(oneport.compiled(), made)
    assert [np.asarray(x).tolist() for x in plain] == [
        np.asarray(x).tolist() for x in compiled
    ]


@QUIET
@given(crowded_plan(), st.floats(0, 2))
def test_inf_comes_back_just_if_the_makespan_is_beyond_the_cutoff(made, part):
    makespan, start, end = decode(oneport.play, made)
    for cutoff in (part * makespan, makespan, np.nextafter(makespan, 0)):
        got, starts, ends = decode(oneport.play, made, cutoff)
        if makespan > cutoff:
            assert got == np.inf
        else:
            assert got == makespan
            assert (starts.tolist(), ends.tolist()) == (start.tolist(), end.tolist())


def test_a_workspace_serves_many_calls_whatever_was_given_up():
    functions = [Function(i, [i - 3] if i > 2 else [], cost={"cpu_time": 1000 + i})
                 for i in range(12)]  # fmt: skip
    p = Problem(Graph(functions), Cluster([Node("n0"), Node("n1", slots=2)]))
    made = [random_plan(p, np.random.default_rng(seed)) for seed in range(8)]
    work = []

    def play(*args):
        work.extend(args[-1:] if not work else [])
        return oneport.play(*args[:-1], work[0])

    for each in made:
        fresh = decode(oneport.play, each)[0]
        assert decode(play, each, fresh / 2)[0] == np.inf
        assert decode(play, each)[0] == fresh


def two_to_one():
    """Results of u0 (inserted last) and u1 for one reader, from one node."""
    functions = [
        Function("u1", cost={"cpu_time": 1000, "output_size": 8}),
        Function("v", ["u0", "u1"], cost={"cpu_time": 1000}),
        Function("w", ["u1"], cost={"cpu_time": 1000}),
        Function("u0", cost={"cpu_time": 1000, "output_size": 16}),
    ]
    nodes = [Node("a", slots=2), Node("b", slots=2)]
    p = Problem(Graph(functions), Cluster(nodes, bandwidth=8, latency=0))
    on = {"u0": 0, "u1": 0, "v": 1, "w": 1}
    return p, np.array([on[f.id] for f in p.functions])


@pytest.mark.parametrize(("first", "starts"), [("v", 2.0), ("w", 2.0)])
def test_a_result_travels_once_to_all_readers_of_a_node(first, starts):
    p, node = two_to_one()
    order = ["u0", "u1", first, "w" if first == "v" else "v"]
    start = np.array([order.index(f.id) for f in p.functions], dtype=float)
    made = Plan(p, node, np.zeros(4, dtype=int), start, start + 1)
    makespan, begins, _ = decode(oneport.play, made)
    by_id = {f.id: t for f, t in zip(p.functions, begins.tolist(), strict=True)}
    assert by_id == {"u0": 0.0, "u1": 0.0, "w": starts, "v": 4.0}
    assert makespan == 5.0
    assert_it_is_simulate(made, oneport.play)


def test_what_fits_nowhere_never_ends():
    p = Problem(
        Graph([Function(0, cost={"cpu": 1})]), Cluster([Node("n", {"cpu": 4}, slots=2)])
    )
    p.need = p.need * 9
    made = Plan(p, np.zeros(1, int), np.zeros(1, int), np.zeros(1), np.ones(1))
    with pytest.raises(HandoutError):
        simulate(made, network="oneport")
    assert decode(oneport.play, made)[0] == np.inf


def test_nothing_to_play_ends_at_once():
    p = Problem(Graph([]), Cluster([Node("n")]))
    nothing = np.zeros(0)
    made = Plan(p, nothing.astype(int), nothing.astype(int), nothing, nothing)
    assert decode(oneport.play, made)[0] == 0.0

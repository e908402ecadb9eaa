"""Laws of `time`: good plans or true refusals, near the optimum, the same each time."""

import math
import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from handout_dask import (
    AllocationError,
    Cluster,
    Function,
    Graph,
    Node,
    Problem,
    UnsatisfiableError,
    check_plan,
    plan,
)
from handout_dask.allocators import search
from handout_dask.allocators.cost import Cost
from handout_dask.allocators.makespan import Time, list_schedules
from handout_dask.allocators.objective import Objective
from handout_dask.allocators.search import least_makespan
from handout_dask.plans import allocate
from handout_dask.problem import Held

some = settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
few = settings(some, max_examples=25)
EXACT = 1 + 1e-9


def schedule(made):
    return [(x.function, x.node, x.start, x.end, x.option) for x in made]


def layered(n, m, seed=0):
    """A graph of some width with seconds of work and MB to move."""
    import random

    draw = random.Random(seed)
    functions = []
    for i in range(n):
        reads = draw.sample(range(max(0, i - 8), i), min(i, draw.randint(0, 3)))
        cost = {
            "cpu_time": draw.randint(1, 90) * 100,
            "output_size": draw.randint(0, 300),
        }
        functions.append(Function(i, reads, cost=cost))
    nodes = [
        Node(f"n{j}", speed=draw.choice([1, 1, 2, 4]), price=1 + j * j, watts=9 - j)
        for j in range(m)
    ]
    return Problem(Graph(functions), Cluster(nodes, bandwidth=50))


# ---------------------------------------------------------------------------- laws
@pytest.mark.parametrize(
    "made", [Time(iterations=60), Cost(iterations=60), Objective(iterations=60)]
)
@some
@given(data=st.data())
def test_any_problem_gets_a_good_plan_or_is_truly_unsatisfiable(
    problems, checks, made, data
):
    p = data.draw(checks.varied(problems))
    if not checks.is_solvable(p):
        with pytest.raises(UnsatisfiableError):
            allocate(p, made)
        return
    result = allocate(p, made)
    check_plan(result, p)
    checks.check_slowly(result)
    assert result.allocator == repr(made)


@pytest.mark.parametrize(
    "made", ["time", Cost(iterations=60), Cost(deadline=50), Objective(iterations=60)]
)
def test_what_is_held_is_waited_for_where_transfers_compete(checks, made):
    cost = {"cpu_time": 1000, "output_size": 10}
    functions = [Function(i, [0] if i else [], cost=cost) for i in range(4)]
    held = [Held("x", 0, 5, {}), Held("y", 0, 3, {})]
    cluster = Cluster([Node("x"), Node("y")], bandwidth=10)
    p = Problem(Graph(functions), cluster, held=held, network="oneport")
    result = allocate(p, made)
    checks.check_slowly(result)
    assert result.start.min() == 3.0


@some
@given(data=st.data())
def test_no_search_is_worse_than_none_and_none_than_a_list_schedule(
    problems, checks, data
):
    p = data.draw(checks.varied(problems, networks=["free"]))
    assume(checks.is_solvable(p))
    seed = data.draw(st.integers(0, 9))
    known = min(x.makespan for x in list_schedules(p))
    none = Time(iterations=0, seed=seed).allocate(p)
    assert none.makespan == known == Time(time_budget=0).allocate(p).makespan
    for moves in (1, 30, 200):
        assert Time(iterations=moves, seed=seed).allocate(p).makespan <= known


@few
@given(data=st.data())
def test_tiny_problems_are_solved_to_the_optimum(checks, data):
    p = data.draw(checks.tiny())
    best = min(makespan for makespan, *_ in checks.all_plans(p))
    made = Time(iterations=3000).allocate(p)
    checks.check_slowly(made)
    assert best / EXACT <= made.makespan <= best * 1.01
    assert least_makespan(p) <= best * EXACT


def test_a_search_depends_on_nothing_but_seed_and_number_of_moves():
    p = layered(40, 5)
    first, again = (schedule(Time(iterations=500, seed=3).allocate(p)) for _ in "ab")
    assert first == again
    assert (
        len({str(schedule(Time(iterations=500, seed=s).allocate(p))) for s in range(4)})
        > 1
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_time_budget_is_never_worse_than_none(seed):
    p = layered(60, 4, seed)
    none = Time(time_budget=0).allocate(p).makespan
    made = [Time(time_budget=s, seed=seed).allocate(p) for s in (1e-9, 0.001, 0.05)]
    assert all(x.makespan <= none for x in made)
    assert made[-1].makespan < none  # it does search


def test_more_moves_find_much_better_plans():
    p = layered(60, 4)
    none, some_, many = (
        Time(iterations=x).allocate(p).makespan for x in (0, 2000, 40_000)
    )
    assert many <= some_ < none


def test_the_search_ends_when_its_time_is_over():
    from time import thread_time

    p = layered(300, 8)
    Time(iterations=300).allocate(p)
    begin = thread_time()
    Time(time_budget=0.1).allocate(p)
    assert thread_time() - begin < 0.3


def test_nothing_to_place_is_a_plan():
    for network in ("free", "oneport"):
        p = Problem(Graph([]), Cluster([Node("x")]), network=network)
        assert len(allocate(p, Time(iterations=9))) == 0


def test_a_pinned_chain_leaves_nothing_to_search():
    functions = [Function(i, [i - 1] if i else [], node="y", cost={"cpu_time": 1000})
                 for i in range(5)]  # fmt: skip
    made = plan(Graph(functions), [Node("x", speed=9), Node("y")], Time(iterations=200))
    assert schedule(made) == [(i, "y", float(i), i + 1.0, 0) for i in range(5)]


@pytest.mark.parametrize(
    ("reads", "speeds", "makespan"),
    [
        ([[], [0], [1], [2]], [2, 1, 1], 2.0),  # a chain, on the fast node
        ([[], [], [], []], [1, 1], 2.0),
        ([[], [], []], [1, 1, 1], 1.0),
    ],
)
def test_what_can_t_be_shorter_is_not_searched(reads, speeds, makespan, monkeypatch):
    graph = Graph(Function(i, x, cost={"cpu_time": 1000}) for i, x in enumerate(reads))
    nodes = [Node(f"n{i}", speed=speed) for i, speed in enumerate(speeds)]
    monkeypatch.setattr(search, "search", pytest.fail)
    assert plan(graph, nodes, Time(iterations=200)).makespan == makespan


# -------------------------------------------------------------------------- effort
@pytest.mark.parametrize("kind", [Time, Cost, Objective])
@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"time_budget": 1.0, "iterations": 5}, "give time_budget or iterations"),
        ({"time_budget": -0.1}, "time_budget=-0.1 must be seconds"),
        ({"time_budget": math.nan}, "time_budget=nan must be seconds"),
        ({"time_budget": math.inf}, "time_budget=inf must be seconds"),
        ({"time_budget": True}, "time_budget=True must be seconds"),
        ({"time_budget": "1 s"}, "time_budget='1 s' must be seconds"),
        ({"iterations": -1}, "iterations=-1 must be a whole number"),
        ({"iterations": 1.5}, "iterations=1.5 must be a whole number"),
        ({"iterations": True}, "iterations=True must be a whole number"),
        ({"seed": -1}, "seed=-1 must be a whole number"),
        ({"seed": None}, "seed=None must be a whole number"),
        ({"seed": False}, "seed=False must be a whole number"),
    ],
)
def test_an_effort_that_makes_no_sense_is_refused(kind, wrong, text):
    with pytest.raises(AllocationError, match=text):
        kind(**wrong)


# ----------------------------------------------------------------------- late loading
def in_new_process(lines):
    env = {**os.environ, "PYTHONWARNINGS": "error::RuntimeWarning"}
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        capture_output=True, text=True, timeout=60, env=env, check=True,
    )  # fmt: skip
    return run.stdout.split()


def test_a_tiny_plan_loads_no_compiler():
    out = in_new_process([
        "import sys, handout_dask as hd",
        "f = [hd.Function(i, [i - 1] if i else [], cost={'cpu_time': 20})"
        " for i in range(9)]",
        "nodes = [hd.Node('x', price=1), hd.Node('y', speed=2)]",
        "for name in ('time', 'cost', hd.objective({'makespan': 1})):",
        "    hd.plan(hd.Graph(f), nodes, name)",
        "hd.plan(hd.Graph(f), nodes, 'time', network='oneport')",
        "print('numba' in sys.modules)",
    ])  # fmt: skip
    assert out == ["False"]


def test_a_long_plan_loads_it_and_one_without_search_does_not():
    out = in_new_process([
        "import sys, handout_dask as hd",
        "f = [hd.Function(i, cost={'cpu_time': 9000}) for i in range(50)]",
        "nodes = [hd.Node('x'), hd.Node('y', speed=2)]",
        "hd.plan(hd.Graph(f), nodes, hd.allocator('time', time_budget=0))",
        "print('numba' in sys.modules)",
        "hd.plan(hd.Graph(f), nodes)",
        "print('numba' in sys.modules)",
    ])  # fmt: skip
    assert out == ["False", "True"]

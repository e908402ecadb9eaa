"""Laws of plans for the one-port network: they promise what a play of them gives."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from handout_dask import (
    Cluster,
    Function,
    Graph,
    Node,
    Problem,
    check_plan,
    plan,
    simulate,
)
from handout_dask.allocators import contention, oneport
from handout_dask.allocators.contention import as_played, decode_ports
from handout_dask.allocators.cost import Cost
from handout_dask.allocators.engine import place, upward_rank
from handout_dask.allocators.instance import make_instance, schedule_of
from handout_dask.allocators.makespan import Time
from handout_dask.allocators.search import QUICK
from handout_dask.plans import allocate

some = settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))


def played(made):
    """Makespan of a play on the one-port network."""
    return max((span.end for span in simulate(made, network="oneport")), default=0.0)


def ported(data, problems, checks):
    p = data.draw(checks.varied(problems, networks=["oneport"]))
    assume(checks.is_solvable(p) and not p.held)
    return p


def busy_problem(seed, n=25, m=4, network="oneport"):
    """Transfers that take about as long as functions."""
    rng = np.random.default_rng(seed)
    functions = []
    for i in range(n):
        reads = rng.choice(np.arange(max(0, i - 6), i), min(i, 2), replace=False)
        cost = {
            "cpu_time": int(rng.integers(1, 9)) * 100,
            "output_size": int(rng.integers(0, 60)),
        }
        functions.append(Function(i, reads.tolist(), cost=cost))
    nodes = [Node(f"n{j}", speed=1 + j % 3) for j in range(m)]
    return Problem(Graph(functions), Cluster(nodes, bandwidth=50), network=network)


@some
@given(data=st.data())
def test_a_plan_promises_what_a_play_gives(problems, checks, data):
    p = ported(data, problems, checks)
    made = allocate(p, Time(iterations=60))
    checks.check_slowly(made)
    check_plan(made, p)
    assert played(made) <= made.makespan * 1.1 + 1e-9


def test_most_plans_are_played_as_promised_to_the_second():
    gaps = []
    for seed in range(12):
        made = allocate(busy_problem(seed), Time(iterations=400))
        gaps.append(abs(played(made) - made.makespan) / made.makespan)
    assert max(gaps) < 0.1
    assert sum(gap < 1e-9 for gap in gaps) >= 10


@some
@given(data=st.data())
def test_a_plan_is_no_worse_than_a_play_of_the_free_plan(problems, checks, data):
    p = ported(data, problems, checks)
    free = allocate(Problem(p.graph, p.cluster), Time(iterations=0))
    made = allocate(p, Time(iterations=60))
    assert made.makespan <= as_played(
        type(free)(p, free.node, free.option, free.start, free.end)
    ).makespan * (1 + 1e-9)


def test_planning_for_it_is_much_shorter_than_playing_free_plans():
    ratios = []
    for seed in range(6):
        free = allocate(busy_problem(seed, network="free"), Time(iterations=2000))
        made = allocate(busy_problem(seed), Time(iterations=2000))
        ratios.append(made.makespan / played(free))
        assert made.makespan <= played(free) * 1.05
    assert np.exp(np.mean(np.log(ratios))) < 0.85


@some
@given(data=st.data())
def test_playing_changes_no_node_and_breaks_no_rule(problems, checks, data):
    p = ported(data, problems, checks)
    key = np.array(data.draw(st.permutations(range(len(p.functions)))), float)
    first = place(p, key=key)
    made = as_played(first)
    checks.check_slowly(made)
    assert made.node.tolist() == first.node.tolist()
    assert made.option.tolist() == first.option.tolist()
    assert made.makespan <= played(first) * 1.5 + 1e-9
    again = as_played(made)
    assert again.makespan <= made.makespan * (1 + 1e-9)  # else a deadline slips


@some
@given(data=st.data())
def test_an_order_is_timed_as_it_is_played(problems, checks, data):
    p = ported(data, problems, checks)
    assume(p.functions)
    first = place(p, key=-upward_rank(p))
    instance, s = make_instance(p), schedule_of(first)
    found = decode_ports(instance, QUICK, *s, 0, np.zeros(4), np.inf)
    spans = {x.function: (x.start, x.end) for x in simulate(first, network="oneport")}
    wanted = [spans[f.id] for f in p.functions]
    assert found[1] == pytest.approx(played(first))
    times = np.stack([s.rows["start"], s.rows["end"]], axis=1)
    assert times == pytest.approx(np.array(wanted))
    before = s.rows.tolist()
    limit = found[0] * 0.99 - 1e-9
    assert decode_ports(instance, QUICK, *s, 0, np.zeros(4), limit)[0] == np.inf
    assert s.rows.tolist() == before


def test_one_result_at_a_time_leaves_a_node():
    """a's result of 10 s goes to x and y; on the free network both have it at once."""
    functions = [
        Function("a", node="w", cost={"cpu_time": 1000, "output_size": 10}),
        *(Function(n, ["a"], node=n, cost={"cpu_time": 1000}) for n in "xy"),
    ]
    cluster = Cluster([Node(n) for n in "wxy"], bandwidth=1, latency=0)
    free = plan(Graph(functions), cluster, Time(iterations=50))
    made = plan(Graph(functions), cluster, Time(iterations=50), network="oneport")
    assert (free.makespan, played(free)) == (12.0, 22.0)
    assert (made.makespan, played(made)) == (22.0, 22.0)


def test_small_plans_are_played_without_the_compiler(monkeypatch):
    p = busy_problem(0, n=contention.SMALL)
    asked = []
    monkeypatch.setattr(oneport, "is_compiled", lambda: False)
    monkeypatch.setattr(contention, "at_hand", lambda kernel: True)
    monkeypatch.setattr(oneport, "compiled", lambda: asked.append(1) or oneport.play)
    as_played(place(p))
    assert not asked
    as_played(place(busy_problem(0, n=contention.SMALL + 1)))
    assert asked


def crowded(seed):
    """Many ties, on which the order of starts depends."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(4, 25)), int(rng.integers(2, 5))
    functions = []
    for i in range(n):
        most = min(i, int(rng.integers(0, 4)))
        reads = rng.choice(np.arange(max(0, i - 6), i), most, replace=False)
        cost = {
            "cpu_time": int(rng.integers(0, 9)) * 1000,
            "output_size": int(rng.integers(0, 60)) * 10,
        }
        functions.append(Function(i, reads.tolist(), cost=cost))
    nodes = [
        Node(
            f"n{j}", speed=float(rng.choice([1, 1, 2, 4])),
            price=float(rng.choice([1, 2, 5, 9])), slots=int(rng.choice([1, 1, 2])),
        )
        for j in range(m)
    ]  # fmt: skip
    return Problem(Graph(functions), Cluster(nodes, bandwidth=100), network="oneport")


def test_a_deadline_that_is_promised_is_kept_when_it_is_played():
    for seed in range(40, 60):
        p = crowded(seed)
        deadline = allocate(p, Time(iterations=200)).makespan
        made = allocate(p, Cost(deadline=deadline, iterations=200))
        assert made.makespan <= deadline * (1 + 1e-9)
        assert played(made) <= made.makespan * (1 + 1e-9)

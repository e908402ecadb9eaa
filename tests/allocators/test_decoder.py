"""Laws of the decoder and of the moves: times are right, and moves break no rule."""

import itertools
import math

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
    with_function,
)
from handout_dask.allocators import decoder, moves
from handout_dask.allocators.annealing import Annealer, kernels
from handout_dask.allocators.decoder import Aim
from handout_dask.allocators.engine import Weights, place, upward_rank
from handout_dask.allocators.instance import (
    is_searchable,
    make_instance,
    plan_of,
    schedule_of,
)
from handout_dask.allocators.search import QUICK, value_of_plan
from handout_dask.problem import Held

some = settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
TASTE = np.zeros(4)
FAR = math.inf


def aim_of(p, time=1.0, money=2.0, moved=0.5):
    """Something of everything, as the cluster bills it."""
    held = p.cluster.billing == "held"
    return Aim(time, money, moved, FAR, 0.0, FAR, 0.0, held, p.cluster.quantum)


def searchable(data, problems, checks, **also):
    p = data.draw(checks.varied(problems, networks=["free"], **also))
    assume(p.functions and checks.is_solvable(p) and is_searchable(p))
    return p


def some_plan(data, p):
    key = np.array(data.draw(st.permutations(range(len(p.functions)))), float)
    weights = data.draw(
        st.sampled_from([Weights(end=1), Weights(money=1), Weights(load=1)])
    )
    return place(p, key=key, weights=weights)


def decoded(p, made, aim=QUICK, path="numpy", limit=FAR):
    """``(value, makespan, money), Plan, Schedule`` of a plan's own order."""
    instance = make_instance(p, held=aim.held)
    s = schedule_of(made)
    decode, _ = kernels("free", path == "compiled")
    return decode(instance, aim, *s, 0, TASTE, limit), plan_of(p, s, ""), s


# ---------------------------------------------------------------------------- decode
@some
@given(data=st.data())
def test_the_order_of_a_plan_gives_no_later_start(problems, checks, data):
    p = searchable(data, problems, checks)
    made = some_plan(data, p)
    # One of no time takes no room, so what is placed later may run around it.
    single = make_instance(p).nodes["single"][made.node]
    assume(((made.end > made.start) | single).all())
    (_, makespan, _), again, _ = decoded(p, made)
    tiny = 1e-9 * (1 + made.makespan)
    assert (again.start <= made.start + tiny).all()
    assert makespan == again.makespan <= made.makespan + tiny
    check_plan(again, p)
    checks.check_slowly(again)


@some
@given(data=st.data())
def test_a_value_is_that_of_the_plan(problems, checks, data):
    p = searchable(data, problems, checks)
    aim = aim_of(p)
    (value, makespan, money), made, _ = decoded(p, some_plan(data, p), aim)
    checks.check_slowly(made)
    assert makespan == made.makespan
    assert money == pytest.approx(made.money, rel=1e-9, abs=1e-12)
    assert made.money == pytest.approx(checks.billed(made), rel=1e-9, abs=1e-12)
    assert made.transferred == pytest.approx(checks.moved(made))
    expected = makespan + 2 * checks.billed(made) + 0.5 * checks.moved(made)
    assert value == pytest.approx(expected) == pytest.approx(value_of_plan(aim, made))


@some
@given(data=st.data())
def test_both_paths_decode_alike(problems, checks, data):
    p = searchable(data, problems, checks)
    made, aim = some_plan(data, p), aim_of(p)
    results = [decoded(p, made, aim, path) for path in ("numpy", "compiled")]
    assert results[0][0] == results[1][0]
    assert results[0][2].rows.tolist() == results[1][2].rows.tolist()


@some
@given(data=st.data())
def test_what_is_beyond_the_limit_is_given_up_and_nothing_else(problems, checks, data):
    p = searchable(data, problems, checks)
    aim = data.draw(st.sampled_from([QUICK, aim_of(p)]))
    if data.draw(st.booleans()):
        aim = aim._replace(deadline=data.draw(st.floats(0.0, 3.0)), late=7.0)
    if data.draw(st.booleans()):
        aim = aim._replace(budget=0.001, over=7.0)
    made = some_plan(data, p)
    value = decoded(p, made, aim)[0][0]
    loose, tight = value * 1.001 + 1e-9, value * 0.999 - 1e-9
    assert decoded(p, made, aim, limit=loose)[0][0] == value
    assert decoded(p, made, aim, limit=tight)[0][0] in (value, FAR)
    if aim.money == aim.moved == aim.over == 0:
        assert decoded(p, made, aim, limit=tight)[0][0] == FAR


def test_a_limit_on_time_is_seen_before_the_end():
    functions = [
        Function(i, [i - 1] if i else [], cost={"cpu_time": 1000}) for i in range(4)
    ]
    p = Problem(Graph(functions), Cluster([Node("x")]))
    made = place(p)
    instance, s = make_instance(p), schedule_of(made)
    s.rows["end"] = -1.0
    found = decoder.decode(instance, QUICK, *s, 0, TASTE, 3.5)
    assert found == (FAR, FAR, FAR)
    assert s.rows["end"].tolist() == [1.0, -1.0, -1.0, -1.0]  # its tail says enough
    late = QUICK._replace(time=1.0, deadline=2.0, late=10.0)
    assert decoder.decode(instance, late, *s, 0, TASTE, 24.5)[0] == 24.0
    assert decoder.decode(instance, late, *s, 0, TASTE, 23.5)[0] == FAR
    assert decoder.latest_end(late, 24.0, 0.0) == 4.0
    assert decoder.latest_end(late, 1.0, 0.0) == 1.0
    assert decoder.latest_end(late._replace(time=0.0), 20.0, 0.0) == 4.0
    assert decoder.latest_end(late._replace(time=0.0, money=1.0), 20.0, 10.0) == 3.0
    assert decoder.latest_end(late._replace(time=0.0, late=0.0), 20.0, 0.0) == FAR


def two_chains(**cluster):
    """a and b on x feed c on y; b takes 1 s, and c must wait for a's 10 s elsewhere."""
    functions = [
        Function("b", node="x", cost={"cpu_time": 1000}),
        Function("d", node="x", cost={"cpu_time": 1000}),
        Function("a", node="y", cost={"cpu_time": 10_000}),
        Function("c", ["a", "d"], node="x", cost={"cpu_time": 2000}),
    ]
    nodes = [Node("x", price=3600), Node("y")]
    links = Cluster(nodes, bandwidth=1, latency=0, **cluster)
    return Problem(Graph(functions), links)


def test_a_hold_begins_as_late_as_what_is_behind_it_allows():
    p = two_chains(billing="held")
    made = place(p)
    aim = aim_of(p, time=0.0, money=1.0, moved=0.0)
    assert made.money == 12.0
    (value, makespan, money), tight, _ = decoded(p, made, aim)
    assert (value, makespan, money, tight.money) == (4.0, 12.0, 4.0, 4.0)
    assert {x.function: x.start for x in tight} == {"b": 8, "d": 9, "a": 0, "c": 10}
    rounded = two_chains(billing="held", quantum=60)
    assert (
        decoded(rounded, place(rounded), aim_of(rounded, 0.0, 1.0, 0.0))[0][2] == 60.0
    )


@some
@given(data=st.data())
def test_holds_shrink_and_no_rule_breaks(problems, checks, data):
    p = searchable(data, problems, checks)
    made = some_plan(data, p)
    held = aim_of(p)._replace(held=True)
    (_, makespan, _), tight, _ = decoded(p, made, held)
    (_, before, _), loose, _ = decoded(p, made, held._replace(held=False))
    checks.check_slowly(tight)
    check_plan(tight, p)
    assert makespan == before
    assert (tight.start >= loose.start).all()
    for j in range(len(p.nodes)):
        mine = made.node == j
        if mine.any():
            assert tight.end[mine].max() == loose.end[mine].max()
            used = [x.end[mine].max() - x.start[mine].min() for x in (tight, loose)]
            assert used[0] <= used[1]


def test_free_functions_go_to_where_they_end_first_or_as_they_like():
    functions = [
        Function("a", node="y", cost={"cpu_time": 1000, "output_size": 3}),
        Function("b", ["a"], cost={"cpu_time": 8000}),
    ]
    nodes = [Node("x", speed=4, price=36), Node("y", price=3.6), Node("z", speed=2)]
    p = Problem(Graph(functions), Cluster(nodes, bandwidth=1, latency=0))

    def chosen(*taste, shut=()):
        instance = make_instance(p)
        s = schedule_of(place(p))
        instance.functions["free"][1] = 1
        instance.nodes["shut"][list(shut)] = 1
        decoder.decode(instance, QUICK, *s, 0, np.array(taste, float), FAR)
        return nodes[s.rows["node"][1]].name

    assert chosen(0, 0, 0, 0) == "x"  # ends at 1 + 3 + 2, y at 9, z at 8
    assert chosen(0, 0, 0, 0, shut=[0]) == "z"
    assert chosen(0, 0, 0, 0, shut=[0, 1, 2]) == "x"  # stays
    assert chosen(0, 1.5, 0, 0) == "y"  # 4.5 s for what moves
    assert chosen(150, 0, 0, 0) == "z"  # 3 s for the money of x
    assert chosen(150, 0, 1.0, 7.0) == "x"  # but not beyond 7 s


def test_what_is_held_is_respected_and_what_begins_later_is_not_searched():
    functions = [Function(i, cost={"cpu_time": 1000}) for i in range(3)]
    graph, cluster = Graph(functions), Cluster([Node("x", slots=2)])

    def with_held(*held, **also):
        return Problem(graph, cluster, held=held, **also)

    p = with_held(Held("x", 0, 5, {}), Held("x", -3, 2, {}))
    (_, makespan, _), made, _ = decoded(p, place(p))
    assert (makespan, sorted(made.start.tolist())) == (5.0, [2.0, 3.0, 4.0])
    assert is_searchable(p)
    later = with_held(Held("x", 1, 5, {}))
    assert not is_searchable(later)
    assert not is_searchable(later, now=0.5)
    assert is_searchable(later, now=1.0)
    assert not is_searchable(with_held(Held("x", 0, 5, {}), network="oneport"))
    assert is_searchable(with_held(network="oneport"))


# ---------------------------------------------------------------------- random numbers
def test_random_numbers_are_those_of_the_paper_and_even():
    state = np.array([1])
    for _ in range(10_000):
        last = moves.draw(state)
    assert state[0] == 399268537  # as std::minstd_rand gives
    assert last == 399268537 / 2147483647
    draws = np.array([moves.draw(state) for _ in range(20_000)])
    assert 0 < draws.min() < draws.max() < 1
    assert draws.mean() == pytest.approx(0.5, abs=0.01)
    counts = np.bincount([moves.below(state, 5) for _ in range(20_000)])
    assert len(counts) == 5
    assert counts == pytest.approx([4000] * 5, rel=0.1)


def test_an_excess_is_nearly_exponential():
    state = np.array([7])
    draws = np.array([moves.draw_excess(state) for _ in range(40_000)])
    assert draws.min() > 0
    assert draws.max() < 8
    assert draws.mean() == pytest.approx(1.0, abs=0.05)
    assert (draws > 1).mean() == pytest.approx(math.exp(-1), abs=0.02)


def test_compiled_code_draws_the_same():
    import numba

    from handout_dask.allocators.compiling import compile_kernel

    assert numba
    for function in (moves.draw, moves.draw_excess):
        made = compile_kernel(function, (moves.draw,))
        one, two = np.array([5]), np.array([5])
        assert [made(one) for _ in range(500)] == [function(two) for _ in range(500)]


# ------------------------------------------------------------------------------- moves
def test_a_shift_moves_one_and_keeps_the_others_in_order():
    for at in range(5):
        for to in range(5):
            order = np.arange(5)
            moves.shift(order, to, at, at)
            rest = [i for i in range(5) if i != at]
            assert order.tolist() == [*rest[:to], at, *rest[to:]]


@some
@given(data=st.data())
def test_sorting_keeps_what_starts_together_and_what_has_begun(problems, checks, data):
    p = searchable(data, problems, checks)
    instance, s = make_instance(p), schedule_of(some_plan(data, p))
    s.rows["start"] = data.draw(
        st.lists(st.integers(0, 4), min_size=len(s.order), max_size=len(s.order))
    )
    own = s.order[instance.fixed :].tolist()
    front = s.order[: instance.fixed].tolist()
    moves.sort_by_start(instance, s.order, s.rows)
    expected = front + sorted(own, key=lambda i: s.rows["start"][i])
    assert s.order.tolist() == expected
    places = instance.functions["place"][: len(s.order)]
    assert places[s.order].tolist() == list(range(len(s.order)))


@some
@given(data=st.data())
def test_a_critical_path_is_tight_to_the_end(problems, checks, data):
    p = searchable(data, problems, checks)
    (_, makespan, _), made, s = decoded(p, some_plan(data, p))
    instance = make_instance(p)
    moves.sort_by_start(instance, s.order, s.rows)
    path, random = (
        np.zeros(len(s.order), dtype=int),
        np.array([data.draw(st.integers(1, 99))]),
    )
    length = moves.trace(instance, s.order, s.rows, path, random)
    chain = path[:length].tolist()
    assert len(set(chain)) == length > 0
    assert made.end[chain[0]] == makespan
    tiny = 1e-9 * (1 + makespan)
    for i, u in itertools.pairwise(chain):
        came = made.end[u]
        if u in p.preds[i]:
            came += p.transfer(u, i, made.node[u], made.node[i])
        else:
            assert made.node[u] == made.node[i]
        assert came <= made.start[i] + tiny
        if instance.nodes["single"][made.node[i]]:
            assert came >= made.start[i] - tiny
    if all(instance.nodes["single"]) and not p.held:
        assert made.start[chain[-1]] <= tiny


def grouped():
    """p is pinned, g and h go together, f is free; x can run no h."""
    functions = [
        Function("p", node="x", cost={"cpu_time": 1000}),
        Function("g", ["p"], node=with_function("h"), cost={"cpu_time": 1000}),
        Function("h", cost={"cpu_time": 1000, "ssd": True}),
        Function("f", ["g"], cost=[{"cpu_time": 1000}, {"cpu_time": 500, "ssd": True}]),
    ]
    nodes = [Node("x"), Node("y", {"ssd": True}), Node("z", {"ssd": True}, speed=2)]
    return Problem(Graph(functions), Cluster(nodes))


def test_what_is_picked_together_is_put_together():
    p = grouped()
    where = p.where
    instance, s = make_instance(p), schedule_of(place(p))
    moves.sort_by_start(instance, s.order, s.rows)
    picked, random = np.zeros(4, dtype=moves.PICKED), np.array([1])

    def pick(id, count=0):
        return moves.pick(instance, s.rows, picked, count, where[id])

    assert pick("p") == 0
    assert pick("g") == 2
    assert pick("h", 2) == 2  # it is already
    assert {p.functions[i].id for i in picked["function"][:2]} == {"g", "h"}
    assert pick("f", 2) == 3
    assert not moves.put(instance, s.rows, picked, 0, 2, 0, random)  # no h on x
    assert moves.put(instance, s.rows, picked, 0, 3, 1, random)
    assert s.rows["node"][[where[id] for id in "pghf"]].tolist() == [0, 1, 1, 1]
    options = set()
    for _ in range(60):
        moves.put(instance, s.rows, picked, 2, 3, 2, random)
        options.add(int(s.rows["option"][where["f"]] - p.option_ptr[where["f"]]))
    assert options == {0, 1}  # mostly the fast one, but not always


@pytest.mark.parametrize("path", ["numpy", "compiled"])
@some
@given(data=st.data())
def test_any_walk_keeps_every_rule_and_knows_its_value(problems, checks, path, data):
    p = searchable(data, problems, checks)
    aim = data.draw(st.sampled_from([QUICK, aim_of(p), aim_of(p, 0.0, 1.0, 0.0)]))
    made = some_plan(data, p)
    annealer = Annealer(p, made, aim, data.draw(st.integers(0, 99)), path=path)
    for number in range(3):
        annealer.sow(number)
    x, s = annealer.x, annealer.pool[0][2]
    x.order[:] = x.trial_order[:] = s.order
    x.rows[:] = x.trial_rows[:] = s.rows
    annealer.p.functions["place"][s.order] = np.arange(len(s.order))
    x.values[:] = annealer.pool[0][0]
    for _ in range(6):
        annealer.anneal(annealer.p, aim, x, 10, 1.0 + x.values[0])  # hot: goes anywhere
        now = plan_of(p, decoder.Schedule(x.order, x.rows), "")
        check_plan(now, p)
        checks.check_slowly(now)
        assert x.order.tolist() == x.trial_order.tolist()
        assert x.rows.tolist() == x.trial_rows.tolist()
        assert x.values[0] == pytest.approx(value_of_plan(aim, now))
        assert not annealer.p.functions["free"].any()
        assert not annealer.p.nodes["shut"].any()


def test_upward_rank_is_what_tails_are_made_of():
    p = two_chains()
    tail = make_instance(p).functions["tail"]
    rank = upward_rank(p, "best", transfer=False)
    least = [min(p.time(i, j) for j in range(2)) for i in range(4)]
    assert tail[:4].tolist() == (rank - least).tolist()

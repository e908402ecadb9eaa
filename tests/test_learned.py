"""A Problem with times and sizes as history knows them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import handout_dask as hd
from handout_dask.allocators.engine import place
from handout_dask.demands import declared_memory
from handout_dask.events import DONE, FAILED, LOST, Span
from handout_dask.formats.planfile import plan_to_dict
from handout_dask.history import History
from handout_dask.learned import learn, mean_speed, with_learned
from handout_dask.problem import Held, Problem

NODES = [hd.Node("slow", {"cpu": 1}), hd.Node("fast", {"cpu": 1}, speed=3.0)]


def problem_of(*functions, nodes=NODES, **more):
    cluster = hd.Cluster(nodes, bandwidth=100, latency=0)
    return Problem(hd.Graph(functions), cluster, **more)


def seen(*rows, times=1):
    """A history of ``(name, label, seconds)`` and more, as `observe` takes it."""
    history = History()
    for _ in range(times):
        for name, label, seconds, more in rows:
            history.observe(name, label, "kind", seconds, **more)
    return history


def fn(id, args=(), name="blur", **cost):
    return hd.Function(id, args, name=name, cost=cost)


# ---------------------------------------------------------------------------- times
def test_a_declared_time_is_corrected_by_the_factor_of_its_name():
    p = problem_of(fn("a", cpu_time=2000), fn("b", cpu_time=500, name="load"))
    history = seen(("blur", "other", 3.0, {"declared": 1.0}), times=60)
    made = with_learned(p, history)
    assert history.factor("blur") == pytest.approx(3.0, rel=0.02)
    assert made.option_work == pytest.approx([2.0 * history.factor("blur"), 0.5])
    assert made.option_guessed.tolist() == [False, False]


def test_a_time_that_is_not_declared_is_that_of_its_label_else_of_its_name():
    p = problem_of(fn("a"), fn("b"), fn("c", name="new"), fn("d", cpu_time=700))
    history = seen(("blur", "a", 4.0, {}), ("blur", "other", 1.0, {}))
    by_name = history.seconds("blur")
    assert by_name not in (4.0, 1.0)
    made = with_learned(p, history)
    assert made.option_work == pytest.approx([4.0, by_name, 0.7, 0.7])
    assert made.option_guessed.tolist() == [False, False, True, False]
    assert p.option_guessed.tolist() == [True, True, True, False]  # as it was
    assert p.option_work == pytest.approx([0.7, 0.7, 0.7, 0.7])


def test_what_was_learned_is_no_guess_in_a_plan():
    p = problem_of(fn("a"), fn("b", name="new"))
    made = with_learned(p, seen(("blur", "a", 4.0, {})))
    plan = hd.plan(made.graph, NODES)
    assert plan.guessed.all()
    assert place(made).guessed.tolist() == [False, True]


def test_times_hold_on_every_node_by_its_speed():
    made = with_learned(problem_of(fn("a")), seen(("blur", "a", 6.0, {})))
    assert [made.time(0, j) for j in range(2)] == pytest.approx([6.0, 2.0])


def test_of_alternatives_only_declared_times_are_corrected():
    either = [{"cpu_time": 1000}, {"gpu_time": 100}, {"memory": 5}]
    p = problem_of(hd.Function("a", name="blur", cost=either))
    history = seen(("blur", "a", 8.0, {"declared": 2.0}), times=60)
    made = with_learned(p, history)
    factor, guess = history.factor("blur"), p.option_work[2]
    assert factor == pytest.approx(4.0, rel=0.02)
    assert made.option_work == pytest.approx([factor, 0.1 * factor, guess * factor])
    assert made.option_guessed.tolist() == [False, False, True]


def test_each_function_costs_some_seconds_on_a_node_of_mean_speed():
    p = problem_of(fn("a", cpu_time=1000), fn("b", cpu_time=0))
    assert mean_speed(p.cluster) == 2.0
    made = with_learned(p, History(), cost=0.25)
    assert made.option_work == pytest.approx([1.5, 0.5])
    nowhere = Problem(p.graph, hd.Cluster([]))
    assert with_learned(nowhere, History(), cost=0.25).option_work[1] == 0.25


def test_what_is_not_known_leaves_the_problem_itself():
    p = problem_of(fn("a", cpu_time=1000))
    assert with_learned(p, History()) is p
    assert with_learned(p, seen(("load", "a", 3.0, {"nbytes": 8}))) is p


def test_what_others_hold_stays_held():
    held = [Held("slow", 0.0, 5.0, {"cpu": 1})]
    made = with_learned(problem_of(fn("a"), held=held), seen(("blur", "a", 4.0, {})))
    assert made.held == tuple(held)
    assert place(made).start[0] == 0.0
    assert made.nodes == tuple(NODES)


# ---------------------------------------------------------------------------- sizes
def edges(p):
    """``{(u, v): MB}`` by id."""
    ids = [f.id for f in p.functions]
    return {(ids[u], ids[v]): p.size(u, v) for v in range(len(ids)) for u in p.preds[v]}


MB = 1_000_000


def sized(nbytes=12 * MB):
    return seen(("load", "a", 1.0, {"nbytes": nbytes}))


def test_a_whole_result_travels_with_the_size_that_was_seen():
    p = problem_of(fn("a", name="load"), fn("b", ["a"]), fn("c", ["a", "b"]))
    assert edges(with_learned(p, sized())) == {
        ("a", "b"): 12.0, ("a", "c"): 12.0, ("b", "c"): 0.0
    }  # fmt: skip
    assert edges(p) == dict.fromkeys([("a", "b"), ("a", "c"), ("b", "c")], 0.0)


def test_an_element_travels_with_its_share_of_the_size():
    parts = [fn(f"b{k}", [("a", k)]) for k in range(3)]
    made = with_learned(problem_of(fn("a", name="load"), *parts), sized())
    assert edges(made) == pytest.approx({("a", f"b{k}"): 4.0 for k in range(3)})


def test_who_reads_several_elements_gets_a_share_for_each():
    p = problem_of(
        fn("a", name="load"),
        fn("b", [("a", 0)]),
        fn("c", [("a", 1), ("a", 2), ("a", 1)]),
        fn("d", [("a", k) for k in range(3)]),
    )
    assert edges(with_learned(p, sized())) == pytest.approx(
        {("a", "b"): 4.0, ("a", "c"): 8.0, ("a", "d"): 12.0}
    )


def test_an_element_is_no_larger_where_others_read_the_whole():
    p = problem_of(
        fn("a", name="load"),
        fn("b", ["a", ("a", 2)]),
        fn("c", [("a", 0)]),
        fn("d", [("a", 1), "a"]),
    )
    assert edges(with_learned(p, sized())) == pytest.approx(
        {("a", "b"): 12.0, ("a", "c"): 4.0, ("a", "d"): 12.0}
    )


def test_declared_sizes_stay():
    whole = fn("a", name="load", output_size=2)
    made = with_learned(problem_of(whole, fn("b", ["a"])), sized())
    assert edges(made) == {("a", "b"): 2.0}
    nothing = fn("a", name="load", output_size=0)
    made = with_learned(problem_of(nothing, fn("b", ["a"])), sized())
    assert edges(made) == {("a", "b"): 0.0}
    parts = fn("a", name="load", output_size={0: 3, 1: 5})
    readers = [fn("b", [("a", 0)]), fn("c", [("a", 1)])]
    made = with_learned(problem_of(parts, *readers), sized())
    assert edges(made) == {("a", "b"): 3.0, ("a", "c"): 5.0}


def test_the_size_seen_last_counts():
    history = sized()
    history.observe("load", "a", "kind", 1.0, nbytes=3 * MB)
    p = problem_of(fn("a", name="load"), fn("b", ["a"]))
    assert edges(with_learned(p, history)) == {("a", "b"): 3.0}


def test_the_size_of_a_new_function_is_the_mean_of_its_name():
    p = problem_of(fn("new", name="load"), fn("b", ["new"]))
    assert edges(with_learned(p, sized())) == pytest.approx({("new", "b"): 12.0})


# --------------------------------------------------------------------------- memory
ROOMY = [hd.Node("small", {"memory": 500}), hd.Node("big", {"memory": 4000})]


def took(*rows):
    """A history of ``(name, label, MB)`` and what was declared."""
    history = History()
    for name, label, memory, claimed in rows:
        history.observe(name, label, "kind", 1.0, memory=memory, claimed=claimed)
    return history


def claims(p):
    return dict(zip([f.id for f in p.functions], declared_memory(p), strict=True))


def test_memory_that_is_not_declared_is_learned_by_label_and_by_name():
    p = problem_of(fn("a"), fn("new"), fn("c", name="other"), nodes=ROOMY)
    made = with_learned(p, took(("blur", "a", 100.0, 0.0), ("blur", "b", 600.0, 0.0)))
    assert claims(made) == {"a": 110.0, "new": 680.0, "c": 0.0}
    assert made.time(1, 0) == np.inf  # too large for that node now
    assert made.outline.declared is p.outline
    assert place(made).node[1] == 1


def test_declared_memory_is_raised_where_it_was_too_little_and_never_lowered():
    p = problem_of(
        fn("a", memory=100), fn("new", memory=200), fn("c", memory=900), nodes=ROOMY
    )
    history = took(("blur", "a", 150.0, 100.0), ("blur", "c", 400.0, 900.0))
    made = with_learned(p, history)
    assert claims(made) == {"a": 150.0, "new": 300.0, "c": 900.0}


def test_no_node_is_too_small_for_what_was_learned():
    p = problem_of(fn("a"), hd.Function("b", name="blur", node="small"), nodes=ROOMY)
    made = with_learned(p, took(("blur", "x", 9000.0, 0.0)))
    assert claims(made) == {"a": 4000.0, "b": 500.0}
    assert made.able.all()


def test_a_plan_says_which_estimates_were_declared_learned_and_guessed():
    p = problem_of(
        fn("a", cpu_time=1000, memory=50, output_size=1),
        fn("b"),
        fn("c", cpu_time=500, memory=50, name="new"),
        fn("d", cpu_time=1000, name="new"),
        nodes=ROOMY,
    )
    history = took(("blur", "a", 20.0, 50.0), ("blur", "b", 300.0, 0.0))
    history.observe("blur", "b", "kind", 2.0, nbytes=5 * MB)
    plan = place(with_learned(p, history))
    assert {id: [*plan.provenance(id).values()] for id in "abcd"} == {
        "a": ["declared", "declared", "declared"],
        "b": ["learned", "learned", "learned"],
        "c": ["declared", "declared", "guessed"],
        "d": ["declared", "guessed", "guessed"],
    }
    assert plan.estimates == {
        "time": {"declared": 3, "learned": 1, "guessed": 0},
        "memory": {"declared": 2, "learned": 1, "guessed": 1},
        "size": {"declared": 1, "learned": 1, "guessed": 2},
    }
    assert "estimates: time 1 learned; memory 1 learned; size 1 learned>" in repr(plan)
    said = plan.explain("b")
    assert said.provenance == plan.provenance("b")
    assert "  estimates: time learned, memory learned, size learned" in str(said)
    assert plan_to_dict(plan)["estimates"] == plan.estimates


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_learning_memory_makes_no_problem_unsatisfiable(problems, data):
    p = data.draw(problems)
    history = History()
    for name in data.draw(st.lists(st.sampled_from([*p.outline.names, "x"]))):
        mb, given = data.draw(
            st.sampled_from([(30.0, 0.0), (180.0, 50.0), (1e5, 60.0)])
        )
        history.observe(name, "l", "kind", 1.0, memory=mb, claimed=given, exact=True)
    made = with_learned(p, history)
    assert made.able.tolist() == p.able.tolist()
    assert (declared_memory(made) >= declared_memory(p)).all()
    if made.able.all() and len(p.functions):
        hd.check_plan(place(made), made)


# ------------------------------------------------------------------------- any graph
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_only_times_and_sizes_of_a_problem_change(problems, data):
    p = data.draw(problems)
    outline, history = p.outline, History()
    cost = data.draw(st.sampled_from([0.0, 0.5]))
    known = data.draw(st.lists(st.sampled_from([*outline.names, "x"]), max_size=3))
    for name in known:
        history.observe(name, "none of them", "kind", 2.0, declared=1.0)
    made = with_learned(p, history, cost)
    if not cost and not set(known) & set(outline.names):
        assert made is p
        return
    extra = cost * mean_speed(p.cluster)
    of = np.repeat(np.arange(outline.n), np.diff(outline.option_ptr))
    for o, i in enumerate(of.tolist()):
        name = outline.names[outline.name[i]]
        guessed = p.option_guessed[o] and (of == i).sum() == 1
        is_learned = guessed and name in known
        work = p.option_work[o] * (1.0 if guessed else history.factor(name))
        if is_learned:
            work = history.seconds(name)
        assert made.option_work[o] == pytest.approx(work + extra)
        assert made.option_guessed[o] == (p.option_guessed[o] and not is_learned)
    assert made.pred_mb.tolist() == p.pred_mb.tolist()  # no size was seen
    assert made.held == p.held
    assert (made.rate == p.rate).all()
    assert (made.room == p.room).all()
    assert made.pin.tolist() == p.pin.tolist()
    assert made.group.tolist() == p.group.tolist()


# ----------------------------------------------------------------------- observing
def plan_on(node, *functions):
    p = problem_of(*functions)
    names = {f.id: node for f in p.functions}
    return hd.Plan.from_assignment(p, names)


def span(id="a", node="fast", start=1.0, end=3.0, **more):
    return Span(id, node, start, end, **more)


def test_an_attempt_that_delivered_teaches_time_and_size():
    history = History()
    learn(history, plan_on("fast", fn("a")), span(nbytes=5), 0)
    assert history.seconds("blur", "a") == pytest.approx(6.0)  # at speed 1
    assert history.nbytes("blur", "a") == 5.0
    made = with_learned(problem_of(fn("a")), history)
    assert made.time(0, 1) == pytest.approx(2.0)


def test_memory_teaches_if_it_was_exact_or_nothing_else_ran():
    history = History()
    learn(history, plan_on("fast", fn("a")), span(peak_mb=90.0), 0)
    assert history.memory("blur", "a") is None
    learn(history, plan_on("fast", fn("a")), span(peak_mb=70.0, peak_alone=True), 0)
    assert history.memory("blur", "a") == 70.0
    learn(history, plan_on("fast", fn("a")), span(peak_mb=60.0, peak_exact=True), 0)
    assert history.memory("blur", "a") == 60.0  # an estimate counts less
    either = hd.Function("a", name="either", cost=[{"cpu_time": 1}, {"cpu_time": 2}])
    learn(history, plan_on("fast", either), span(peak_mb=60.0, peak_exact=True), 0)
    assert history.memory("either") is None


def test_declared_memory_is_taught_as_what_was_declared_even_after_it_was_raised():
    p = problem_of(fn("a", memory=100), nodes=ROOMY)
    history = took(("blur", "a", 150.0, 100.0))
    plan = place(with_learned(p, history))
    node = plan["a"].node
    learn(history, plan, span(node=node, peak_mb=300.0, peak_exact=True), 0)
    assert history.names["blur"].excess.level == pytest.approx(3.0)


def test_where_it_ran_counts_and_not_where_it_was_planned():
    history = History()
    learn(history, plan_on("slow", fn("a")), span(), 0)
    assert history.seconds("blur", "a") == pytest.approx(6.0)


def test_what_is_declared_is_taught_as_that():
    history = History()
    plan = plan_on("fast", fn("a", cpu_time=2000))
    for _ in range(60):
        learn(history, plan, span(), 0)
    # On the only node that is known it is the name that takes longer, or the node.
    assert history.factor("blur") * history.node_factor("fast") == pytest.approx(
        3.0, rel=0.05
    )
    guessed = History()
    learn(guessed, plan_on("fast", fn("a")), span(), 0)
    assert guessed.factor("blur") == 1.0


def test_a_function_on_a_gpu_is_taken_at_the_speed_of_that():
    node = hd.Node("fast", {"gpus": 1, "has_cuda": True}, speed=3.0, gpu_speed=5.0)
    p = problem_of(fn("a", gpu_time=100), nodes=[node])
    plan = hd.Plan.from_assignment(p, {"a": "fast"})
    history = History()
    learn(history, plan, span(), 0)
    # At the speed of the CPU it were 6; a part is put down to the node.
    assert history.seconds("blur", "a") == pytest.approx(10.0, rel=0.1)


@pytest.mark.parametrize(
    "other", [{"outcome": FAILED}, {"outcome": LOST}, {"node": "has joined"}]
)
def test_other_attempts_teach_nothing(other):
    history = History()
    learn(history, plan_on("fast", fn("a")), span(**other), 0)
    assert not history.knows(["blur"])
    learn(history, plan_on("fast", fn("a")), span(outcome=DONE), 0)
    assert history.knows(["blur"])

"""Laws of outlines: planning needs no objects of the user's; other nodes are quick."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import handout_dask as hd
from handout_dask.errors import AllocationError, UnsatisfiableError
from handout_dask.outline import ARRAYS, POINTERS, TEXTS, Outline
from handout_dask.plans import allocate
from handout_dask.problem import Problem

MESSY = {"deadline": None, "max_examples": 30}
TWO = hd.Cluster([hd.Node("n0"), hd.Node("n1")])


class Odd:
    """An id, or an index, of a type that no scheduler knows."""

    def __init__(self, number):
        self.number = number

    def __repr__(self):
        return f"Odd({self.number})"

    def __reduce__(self):
        raise TypeError("must not be pickled")


def sent(outline):
    """As it arrives at a scheduler."""
    return pickle.loads(pickle.dumps(outline))


def parts(outline):
    """All that an outline tells."""
    told = {what: getattr(outline, what) for what in (*POINTERS, *ARRAYS, *TEXTS)}
    return {
        "classes": [cost.key for cost in outline.classes],
        **{k: v.tolist() if hasattr(v, "tolist") else v for k, v in told.items()},
    }


def arrays(problem):
    """Every array of a problem, and what else differs between problems."""
    out = {k: v for k, v in vars(problem).items() if isinstance(v, np.ndarray)}
    out |= {f"held {k}": x for k, x in enumerate(problem.held_arrays)}
    out |= {f"succs {k}": x for k, x in enumerate(problem.succs_arrays)}
    told = {name: x.tolist() for name, x in out.items()}
    told |= {name: x.dtype for name, x in out.items()}
    told |= {"able": problem.able.tolist(), "resources": problem.resources}
    return told | {
        "network": problem.network, "nodes": problem.nodes, "kinds": problem.kinds,
        "classes": [cost.key for cost in problem.classes], "preds": problem.preds,
    }  # fmt: skip


@settings(**MESSY)
@given(st.data())
def test_a_problem_on_other_nodes_is_that_of_the_graph_on_them(problems, data):
    one, other = data.draw(problems), data.draw(problems)
    made = one.on(other.cluster, held=other.held)
    assert arrays(made) == arrays(Problem(one.graph, other.cluster, held=other.held))
    assert made.functions is one.functions
    assert made.graph is one.graph


@settings(**MESSY)
@given(st.data())
def test_an_outline_arrives_as_it_was_and_gives_the_same_problem(problems, data):
    p = data.draw(problems)
    outline = Outline.of(p.graph)
    if np.isnan(outline.output_mb).any():  # which is not equal to itself
        outline.output_mb = np.nan_to_num(outline.output_mb, nan=-1.0)
    arrived = sent(outline)
    assert parts(arrived) == parts(outline) == parts(sent(arrived))
    assert arrays(Problem(arrived, p.cluster, held=p.held)) == arrays(p)


@settings(**MESSY)
@given(st.data())
def test_stand_ins_make_a_graph_that_is_numbered_and_measured_alike(problems, data):
    p = data.draw(problems)
    made = Problem(sent(p.outline), p.cluster, held=p.held)
    again = Problem(made.graph, p.cluster, held=p.held)
    old, new = arrays(p), arrays(again)
    for what in ("pred_mb", "option_work"):  # of whole results; of times in ms
        old.pop(what), new.pop(what)
    classes = [p.classes[c].key for c in p.option_class]
    assert [again.classes[c].key for c in again.option_class] == classes
    for what in ("option_class", "classes", "need", "rate"):
        old.pop(what), new.pop(what)
    assert new == old
    assert again.option_work == pytest.approx(p.option_work)
    assert list(again.graph.links().position) == list(p.graph.links().position)


def test_objects_of_the_users_stay_at_home():
    odd = Odd(0)
    functions = [
        hd.Function(odd, cost={"output_size": {Odd("index"): 3, 1: 4}}, node="n1",
                    code=lambda: 1, name="load"),
        hd.Function("a", [odd, (odd, 1)], node=hd.with_function(odd),
                    cost=[{"cpu_time": 50, "code": lambda x, y: 1},
                          {"gpu_time": 2, "ssd": True}]),
        hd.Function(1), hd.Function("1"),
    ]  # fmt: skip
    outline = sent(Outline.of(hd.Graph(functions, "odd")))
    assert outline.labels == ("Odd(0)", "1", "1 (2)", "a")
    p = Problem(outline, TWO)
    first, last = p.functions[0], p.functions[-1]
    assert (first.id, first.name, first.node) == ("Odd(0)", "load", "n1")
    assert first.alternatives == ({"output_size": 7.0},)
    assert (last.args, last.node) == (("Odd(0)",), hd.with_function("Odd(0)"))
    assert last.alternatives == (
        {"cpu_time": 50.0}, {"gpu_time": 2.0, "ssd": True, "gpus": 1.0},
    )  # fmt: skip
    assert (len(p.functions), p.graph.name) == (4, "odd")
    assert [f.id for f in p.functions[1:3]] == ["1", "1 (2)"]
    assert p.where["a"] == 3
    assert p.functions[3] is last
    with pytest.raises(IndexError):
        p.functions[4]


def test_stand_ins_are_planned_explained_and_simulated():
    functions = [
        hd.Function(k, ["f0"] if k != "f0" else (), cost={"cpu_time": 100, "x": 1})
        for k in ("f0", "f1", "f2")
    ]
    cluster = hd.Cluster([hd.Node("n0", {"x": 1}), hd.Node("n1", {"x": 1})])
    own = Problem(hd.Graph(functions), cluster)
    stand_in = Problem(sent(own.outline), cluster)
    plans = [allocate(p, "time") for p in (own, stand_in)]
    assert [*plans[0]] == [*plans[1]]
    assert str(plans[0].explain("f1")) == str(plans[1].explain("f1"))
    assert hd.simulate(plans[0]) == hd.simulate(plans[1])


def test_stand_ins_are_refused_with_the_same_words():
    functions = [
        hd.Function("a", cost={"camera": 1}, node="n1"),
        hd.Function("b", cost={"ssd": True}, node=hd.with_function("a")),
        hd.Function("c", cost={"gpu_time": 5}),
        hd.Function("d", node="n9"),
    ]
    texts = []
    outline = sent(Outline.of(hd.Graph(functions)))
    for graph in (hd.Graph(functions), outline):
        with pytest.raises(UnsatisfiableError) as caught:
            Problem(graph, TWO).require_feasible()
        texts.append((str(caught.value), caught.value.refusals))
    assert texts[0] == texts[1]


def test_learned_times_and_sizes_take_the_place_of_declared_ones():
    functions = [hd.Function("a", cost={"cpu_time": 100, "output_size": 8})]
    functions += [hd.Function("b", ["a"])]
    p = Problem(hd.Graph(functions), TWO)
    learned = p.on(TWO, work=[0.5, 2.0], mb=[80.0])
    assert (learned.time(0, 0), learned.time(1, 1), learned.size(0, 1)) == (0.5, 2, 80)
    again = learned.on(TWO)
    assert (again.time(0, 0), again.size(0, 1)) == (0.5, 80)
    assert (p.time(0, 0), p.size(0, 1)) == (0.1, 8)
    for wrong in ({"work": [1.0]}, {"work": [1.0, -1.0]}, {"mb": [np.nan]}):
        with pytest.raises(AllocationError):
            p.on(TWO, **wrong)


def test_who_is_pinned_to_a_node_that_left_can_run_nowhere():
    functions = [
        hd.Function("a", node="n1"), hd.Function("b", node=hd.with_function("a")),
        hd.Function("c"),
    ]  # fmt: skip
    p = Problem(hd.Graph(functions), TWO)
    left = p.on(hd.Cluster([hd.Node("n0")]))
    assert left.pin.tolist() == [-2 if f.id in "ab" else -1 for f in p.functions]
    assert left.able.tolist() == [f.id == "c" for f in p.functions]
    assert left.on(TWO).pin.tolist() == p.pin.tolist()


def test_tasks_that_are_no_functions_have_the_outline_of_functions():
    costs = [{"cpu_time": 20}, {"memory": 5}, {"camera": 1}]
    costs = [{**cost, "output_size": k} for k, cost in enumerate(costs)]
    functions = [
        hd.Function("a", [], name="load", cost=costs[0]),
        hd.Function("b", ["a"], name="blur", cost=costs[1], node="n0"),
        hd.Function("c", ["a", "b"], name="blur", cost=costs[2]),
    ]
    made = Outline.of_tasks(
        ["a", "b", "c"],
        ["load", "blur", "blur"],
        [hd.Cost(cost) for cost in costs],
        [[], [0], [1, 0, 1]],
        {1: "n0"},
    )
    assert parts(made) == parts(Outline.of(hd.Graph(functions)))
    assert parts(sent(made)) == parts(made)
    assert [f.id for f in made.functions] == ["a", "b", "c"]
    assert made.functions[1].node == "n0"


def test_tasks_without_any_time_take_the_guess():
    made = Outline.of_tasks(["a"], ["a"], [hd.Cost()], [[]], guess=10.0)
    assert made.option_work.tolist() == [0.01]
    assert made.option_guessed.tolist() == [True]

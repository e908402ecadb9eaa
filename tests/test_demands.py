"""Laws of problems whose functions claim more memory than they declare."""

import pickle

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import handout_dask as hd
from handout_dask.demands import declared_memory, more_memory, most_memory, with_memory
from handout_dask.problem import Problem

NODES = [hd.Node("small", {"memory": 500}), hd.Node("big", {"memory": 2000})]


def problem_of(*functions, nodes=NODES):
    return Problem(hd.Graph(functions), hd.Cluster(nodes))


def fn(id, memory=None, **more):
    return hd.Function(id, cost=None if memory is None else {"memory": memory}, **more)


def claimed(problem):
    return declared_memory(problem).tolist()


def test_functions_claim_what_they_shall_and_run_where_that_fits():
    p = problem_of(fn("a"), fn("b", 100), fn("c", 700))
    made = with_memory(p, np.array([600.0, 300.0, 300.0]))
    assert claimed(made) == [600.0, 300.0, 700.0]
    assert claimed(p) == [0.0, 100.0, 700.0]
    assert [made.time(i, 0) < np.inf for i in range(3)] == [False, True, False]
    assert [str(lack) for lack in made.explain(0, 0)] == [
        "lacks memory (needs 600 MB, has 500)"
    ]
    assert p.explain(0, 0) == ()
    assert more_memory(made, made.option_ptr[:-1]) == {0: 600.0, 1: 300.0}
    assert more_memory(p, p.option_ptr[:-1]) == {}


def test_nothing_new_is_the_same_problem():
    p = problem_of(fn("a"), fn("b", 100))
    assert with_memory(p, np.array([0.0, 100.0])) is p
    assert with_memory(problem_of(), np.zeros(0)).functions == ()


def test_no_claim_is_more_than_the_largest_node_that_can_run_it():
    cuda = hd.Node("gpu", {"memory": 800, "has_cuda": True, "gpus": 1})
    p = problem_of(
        fn("a"),
        fn("pinned", node="small"),
        hd.Function("cuda", cost={"has_cuda_requirement": True}),
        fn("with", node=hd.with_function("cuda")),
        fn("nowhere", 9000),
        nodes=[*NODES, cuda],
    )
    made = with_memory(p, np.full(5, 10_000.0))
    ids = [f.id for f in p.functions]
    assert dict(zip(ids, claimed(made), strict=True)) == {
        "a": 2000.0, "pinned": 500.0, "cuda": 800.0, "with": 800.0, "nowhere": 9000.0
    }  # fmt: skip


def test_a_node_without_a_limit_takes_any_claim():
    made = with_memory(problem_of(fn("a"), nodes=[hd.Node("n")]), np.array([1e6]))
    assert claimed(made) == [1e6]
    assert made.able.all()


def test_alternatives_claim_what_they_declare():
    either = hd.Function("a", cost=[{"memory": 10}, {"memory": 20}])
    p = problem_of(either)
    assert with_memory(p, np.array([300.0])) is p


def test_the_outline_knows_what_was_declared_and_forgets_it_on_its_way():
    p = problem_of(fn("a"), fn("b", 100))
    made = with_memory(p, np.array([600.0, 0.0]))
    again = with_memory(made, np.array([0.0, 300.0]))
    assert claimed(again) == [600.0, 300.0]
    assert again.outline.declared is p.outline
    sent = pickle.loads(pickle.dumps(again.outline))
    assert sent.declared is None
    assert claimed(Problem(sent, p.cluster)) == [600.0, 300.0]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_claims_make_no_problem_unsatisfiable(problems, data):
    p = data.draw(problems)
    n = len(p.functions)
    choice = st.sampled_from([0.0, 40.0, 55.0, 99.0, 150.0, 1e6])
    memory = np.array(data.draw(st.lists(choice, min_size=n, max_size=n)))
    made = with_memory(p, memory)
    assert made.able.tolist() == p.able.tolist()
    assert (declared_memory(made) >= declared_memory(p)).all()
    assert (made.rate[made.option_class] <= p.rate[p.option_class]).all()
    most, before = most_memory(p), declared_memory(p)
    assert (declared_memory(made) <= np.maximum(before, most)).all()

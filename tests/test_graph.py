"""Laws of graphs: unique, complete, acyclic, ordered; whatever the ids are."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handout_dask import (
    CycleError,
    DuplicateFunctionError,
    Function,
    Graph,
    GraphError,
    MissingProducerError,
    with_function,
)


def graph(**reads):
    return Graph([Function(id, args) for id, args in reads.items()])


def test_an_empty_graph_is_a_graph():
    assert (len(Graph()), Graph().order(), list(Graph())) == (0, (), [])


def test_functions_are_kept_as_they_are():
    f = Function("f", code=abs)
    g = Graph([f], name="mine")
    assert (g["f"] is f, "f" in g, "x" in g, len(g), list(g)) == (
        True,
        True,
        False,
        1,
        [f],
    )
    assert repr(g) == "<Graph 'mine' of 1 functions>"
    with pytest.raises(KeyError, match="no function 'x' in <Graph 'mine' of 1"):
        g["x"]


def test_order_is_that_of_insertion_where_edges_allow():
    assert graph(d=["b", "c"], b=["a"], c=["a"], a=[], z=[]).order() == (
        "a",
        "z",
        "b",
        "c",
        "d",
    )


def test_producers_may_be_added_later():
    g = Graph()
    g.add(Function("b", ["a"]))
    with pytest.raises(MissingProducerError):
        g.validate()
    assert g.add(Function("a")).validate().order() == ("a", "b")


def test_what_is_added_is_in_the_order():
    g = graph(a=[])
    token = g.token
    g.add(Function("b", ["a"]))
    assert (g.order(), g.token != token) == (("a", "b"), True)


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ("a", "a", "function id 'a' is in the graph already; give each"),
        (1, 1.0, "function id 1.0 is in the graph already (as 1); give each"),
        (1, True, "function id True is in the graph already (as 1); give each"),
        (0, False, "function id False is in the graph already (as 0); give each"),
        (("a", 1), ("a", 1.0), "function id ('a', 1.0) is in the graph already (as"),
    ],
)
def test_equal_ids_are_duplicates(first, second, text):
    with pytest.raises(DuplicateFunctionError) as caught:
        Graph([Function(first), Function(second)])
    assert text in str(caught.value)


def test_ids_that_differ_only_by_type_are_different():
    g = Graph(
        [Function(1), Function("1"), Function(b"1"), Function("r", [1, "1", b"1"])]
    )
    assert g.order() == (1, "1", b"1", "r")
    assert list(g.links().producer) == [0, 1, 2]


class SameHash:
    """Equal only to itself, however its hash is; prints alike."""

    def __hash__(self):
        return 7

    def __repr__(self):
        return "same"


def test_ids_may_hash_and_print_alike():
    a, b = SameHash(), SameHash()
    g = Graph([Function(a), Function(b, [a])])
    assert g.order() == (a, b)
    with pytest.raises(MissingProducerError, match="reads the result of same"):
        Graph([Function(a), Function(b, [SameHash()])])


def test_what_is_no_function_is_refused():
    with pytest.raises(
        GraphError, match=r"^a graph holds Function objects, not dict: {}"
    ):
        Graph([{}])


@pytest.mark.parametrize(
    ("functions", "text"),
    [
        (
            [Function("b", ["a"])],
            "function 'b' reads the result of 'a', which the graph does not have; "
            "add it, or give literals as extra_args",
        ),
        (
            [Function("1"), Function("b", [1])],
            "function 'b' reads the result of 1, which the graph does not have; "
            "the graph has '1' of type str",
        ),
        (
            [Function(("a", 1)), Function("b", [("a", 1)])],
            "function 'b' reads the result of 'a', which the graph does not have; "
            "write (('a', 1), None) for the function whose id is that tuple",
        ),
        (
            [Function("b", [("a", [0, 1])])],
            "function 'b' reads the result of 'a', which the graph does not have; "
            "add it, or give literals as extra_args",
        ),
        (
            [Function("a", node=with_function("x"))],
            "function 'a' shall run with function 'x', which the graph does not have",
        ),
    ],
)
def test_a_missing_producer_is_named_with_a_hint(functions, text):
    with pytest.raises(MissingProducerError) as caught:
        Graph(functions)
    assert str(caught.value) == text


def test_a_literal_in_args_is_refused():
    with pytest.raises(GraphError) as caught:
        Graph([Function("b", [[1, 2]])])
    assert str(caught.value) == (
        "function 'b' reads [1, 2], which can't be an id: it is not hashable. "
        "Literals go into extra_args or kwargs"
    )


def test_tuple_ids_are_written_with_an_index():
    t = ("t", 1)
    g = Graph([Function("b", [(t, None), (t, 0)]), Function(t)])
    links = g.links()
    assert (g.order(), list(links.ptr), list(links.producer), links.index) == (
        (t, "b"),
        [0, 0, 2],
        [0, 0],
        [None, 0],
    )


def test_a_function_that_reads_itself_is_a_cycle():
    with pytest.raises(CycleError) as caught:
        graph(a=["a"], b=["a"])
    assert caught.value.cycle == ("a",)
    assert str(caught.value) == (
        "the functions depend on each other in a circle: 'a' -> 'a'; "
        "remove one of these dependencies"
    )


def test_all_of_a_cycle_is_named_and_nothing_else():
    with pytest.raises(CycleError) as caught:
        graph(start=[], a=["c", "start"], b=["a"], c=["b"], end=["c"])
    cycle = caught.value.cycle
    k = cycle.index("a")
    assert cycle[k:] + cycle[:k] == ("a", "b", "c")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.cycle, str(copy)) == (cycle, str(caught.value))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(0, 7), max_size=3), min_size=8, max_size=8))
def test_a_graph_is_ordered_or_its_cycle_is_one(reads):
    functions = [Function(i, args) for i, args in enumerate(reads)]
    try:
        order = Graph(functions).order()
    except CycleError as error:
        cycle = error.cycle
        assert all(cycle[k - 1] in reads[v] for k, v in enumerate(cycle))
        assert len(set(cycle)) == len(cycle)
    else:
        at = {id: k for k, id in enumerate(order)}
        assert sorted(order) == list(range(8))
        assert all(at[u] < at[v] for v in range(8) for u in reads[v])


def test_links_number_arguments_in_topological_order():
    g = graph(c=["b", ("a", 1), "a"], a=[], b=["a"])
    links = g.links()
    assert [f.id for f in links.functions] == ["a", "b", "c"]
    assert list(links.position) == [1, 2, 0]
    assert list(links.ptr) == [0, 0, 1, 4]
    assert list(links.producer) == [0, 1, 0, 0]
    assert links.index == [None, None, 1, None]


def test_a_graph_is_picklable():
    g = pickle.loads(pickle.dumps(graph(b=["a"], a=[])))
    assert g.order() == ("a", "b")


def test_a_chain_of_10_000():
    n = 10_000
    g = Graph(Function(i, [i + 1] if i < n else []) for i in range(n + 1))
    assert g.order() == tuple(range(n, -1, -1))
    with pytest.raises(CycleError) as caught:
        Graph(Function(i, [(i + 1) % n]) for i in range(n))
    assert sorted(caught.value.cycle) == list(range(n))


def test_a_fan_in_of_10_000():
    n = 10_000
    g = Graph([Function("sum", range(n)), *(Function(i) for i in range(n))])
    assert g.order() == (*range(n), "sum")


def test_100_000_functions_without_edges():
    n = 100_000
    g = Graph(Function(i) for i in range(n))
    assert g.order() == tuple(range(n))

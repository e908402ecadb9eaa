"""Graphs run on real worker processes: values, arguments, ids, what is kept."""

import operator
from collections import namedtuple

import pytest
from distributed import get_worker

import handout_dask as hd
from handout_dask import Function, Graph


def test_a_chain_gives_its_values(executor):
    run = executor.execute(
        Graph([Function("a", [], lambda: 20), Function("b", ["a"], lambda a: a + 1)])
    )
    assert dict(run.results) == {"a": 20, "b": 21}


def test_a_diamond_gives_its_values(executor):
    run = executor.execute(
        Graph(
            [
                Function("a", [], lambda: 5),
                Function("b", ["a"], lambda a: a + 2),
                Function("c", ["a"], lambda a: a * 2),
                Function("d", ["b", "c"], operator.add),
            ]
        )
    )
    assert dict(run.results) == {"a": 5, "b": 7, "c": 10, "d": 17}


def test_three_functions_in_any_order_of_insertion(executor):
    run = executor.execute(
        Graph(
            [
                Function("c", ["a", "b"], lambda a, b: [a, b]),
                Function("b", ["a"], lambda a: a - 40),
                Function("a", [], lambda: 42),
            ]
        )
    )
    assert run["c"] == [42, 2]


def test_a_function_that_needs_no_core_runs(executor):
    graph = Graph([Function("a", [], lambda: 1, cost={"cpu": 0})])
    run = executor.submit(graph)
    assert run.wait(60)["a"] == 1


def test_extra_args_and_kwargs_follow_the_results(executor):
    run = executor.execute(
        Graph(
            [
                Function("a", [], lambda *x, **y: (x, y), extra_args=[1, "a"]),
                Function(
                    "b",
                    ["a", ("a", 0)],
                    lambda *x, **y: (x, y),
                    extra_args=("a",),  # a literal, although a function bears this id
                    kwargs={"k": ("a", 0)},
                ),
            ]
        )
    )
    a = ((1, "a"), {})
    assert run["a"] == a
    assert run["b"] == ((a, (1, "a"), "a"), {"k": ("a", 0)})


def test_arguments_may_repeat(executor):
    graph = Graph(
        [
            Function("a", [], lambda: (1, 2)),
            Function("b", ["a", "a", ("a", 1), ("a", 1)], lambda *x: x, node="n1"),
        ]
    )
    assert executor.execute(graph)["b"] == ((1, 2), (1, 2), 2, 2)


@pytest.mark.parametrize("nodes", [("n0", "n0"), ("n0", "n1")], ids=["same", "other"])
def test_an_index_is_whatever_the_result_takes(executor, nodes):
    made = {"x": 1, 3: 2, (1, 2): 3, None: 4, 1.5: 5}
    here, there = nodes
    functions = [
        Function("map", [], lambda: made, node=here),
        Function("list", [], lambda: [10, 11, 12, 13], node=here),
        Function("none", [], lambda: {None: 1}, node=here),
    ]
    indexes = ["x", 3, (1, 2), 1.5]
    for k, index in enumerate(indexes):
        functions.append(Function(k, [("map", index)], lambda x: x, node=there))
    functions.append(
        Function(
            "slice", [("list", slice(1, 3)), ("list", -1)], lambda *x: x, node=there
        )
    )
    functions.append(Function("whole", [("none", None)], lambda x: x, node=there))
    run = executor.execute(Graph(functions))
    assert [run[k] for k in range(4)] == [1, 2, 3, 5]
    assert run["slice"] == ([11, 12], 13)
    assert run["whole"] == {None: 1}


def test_indexes_that_are_equal_but_differ_by_type_stay_apart(executor):
    class Echo:
        def __getitem__(self, index):
            return repr(index)

    indexes = [1, 1.0, True]
    graph = Graph(
        [
            Function("a", [], Echo, node="n0"),
            *(Function(f"b{i}", [("a", i)], lambda x: x, node="n1") for i in indexes),
        ]
    )
    run = executor.execute(graph)
    assert [run[f"b{i}"] for i in indexes] == ["1", "1.0", "True"]


def test_a_tuple_may_be_an_id(executor):
    graph = Graph(
        [
            Function(("x", 0), [], lambda: [1, 2]),
            Function(("x", 1), [(("x", 0), None)], sum),
            Function(("x", 2, 3), [(("x", 0), 1), ("x", 2)], lambda *x: x),
            Function("x", [], lambda: [3, 4, 5]),
        ]
    )
    run = executor.execute(graph)
    assert run["x", 0] == [1, 2]
    assert run["x", 1] == 3
    assert run["x", 2, 3] == (2, 5)


def test_ids_that_differ_only_by_type_are_different_functions(executor):
    ids = [1, "1", b"1", (1,), ("1",), None, "None", frozenset({1}), 1.5, "1.5"]
    graph = Graph(Function(id, [], lambda k=k: k) for k, id in enumerate(ids))
    run = executor.execute(graph)
    assert [run[id] for id in ids] == list(range(len(ids)))


class Strange:
    """All have one hash, print alike, and can't be pickled."""

    def __init__(self, name):
        self.name = name

    def __hash__(self):
        return 7

    def __eq__(self, other):
        return self is other

    def __repr__(self):
        return "<strange>"

    def __reduce__(self):
        raise TypeError("ids need not travel")


def test_nothing_depends_on_how_ids_hash_print_or_pickle(executor):
    ids = [Strange(k) for k in range(20)]
    functions = [Function(ids[0], [], lambda: 0, node="n0")]
    for k in range(1, 20):
        function = Function(
            ids[k], [(ids[k - 1], None)], lambda x: x + 1, node=f"n{k % 2}"
        )
        functions.append(function)
    run = executor.execute(Graph(functions))
    assert [run[id] for id in ids] == list(range(20))
    assert [run.where(id) for id in ids] == [f"n{k % 2}" for k in range(20)]


def test_where_a_function_ran_is_told_by_identity(executor):
    class Same:
        """Equal to everything, but with a hash of its own."""

        def __eq__(self, other):
            return True

        __hash__ = object.__hash__

    ids = [Same() for _ in range(6)]
    graph = Graph(Function(id, node=f"n{k % 2}", code=lambda: 1)
                  for k, id in enumerate(ids))  # fmt: skip
    run = executor.execute(graph)
    assert [run.where(id) for id in ids] == ["n0", "n1"] * 3


def test_ids_of_any_hashable_kind(executor):
    point = namedtuple("point", "x y z")
    ids = [point(1, 2, 3), ..., int, 1 + 2j, range(3), len, "ü\n'\"", ""]
    graph = Graph(Function(id, [], lambda k=k: k) for k, id in enumerate(ids))
    run = executor.execute(graph)
    assert [run[id] for id in ids] == list(range(len(ids)))


def test_an_empty_graph_is_done_at_once(executor):
    run = executor.execute(Graph())
    assert (run.status, run.progress, dict(run.results)) == ("done", (0, 0, 0), {})
    assert run.wait(10) is run


def test_results_of_any_kind_come_back(executor):
    values = [
        None,
        False,
        float("inf"),
        b"",
        "",
        (),
        [],
        {},
        {"a": {1}},
        Exception("x"),
    ]
    graph = Graph(Function(k, [], lambda v=value: v) for k, value in enumerate(values))
    run = executor.execute(graph)
    assert [repr(run[k]) for k in range(len(values))] == [repr(v) for v in values]


def test_a_result_that_is_a_key_or_a_task_stays_what_it_is(executor):
    """Dask would take tuples with a callable, or texts that are keys, for graph."""
    graph = Graph(
        [
            Function("a", [], lambda: (sum, [1, 2])),
            Function("b", ["a"], lambda a: a, extra_args=()),
            Function("c", ["b"], lambda b, e: (b, e), extra_args=[(sum, [3])]),
        ]
    )
    run = executor.execute(graph)
    assert run["c"] == ((sum, [1, 2]), (sum, [3]))


def test_coroutine_functions_are_awaited(executor):
    async def later(x):
        import asyncio

        await asyncio.sleep(0)
        return x + 1

    graph = Graph(
        [Function("a", [], later, extra_args=[1]), Function("b", ["a"], later)]
    )
    assert executor.execute(graph)["b"] == 3


def test_code_may_be_any_callable(executor):
    from functools import partial

    class Adder:
        def __init__(self, by):
            self.by = by

        def __call__(self, x):
            return x + self.by

        def method(self, x):
            return x * self.by

    graph = Graph(
        [
            Function("a", [], int),
            Function("b", ["a"], partial(operator.add, 1)),
            Function("c", ["b"], Adder(10)),
            Function("d", ["c"], Adder(2).method),
            Function("e", ["d"], str),
        ]
    )
    assert executor.execute(graph)["e"] == "22"


def test_of_cost_alternatives_the_chosen_ones_code_runs(executor):
    plain = {"cpu_time": 500, "code": lambda: "plain"}
    photo = {"cpu_time": 100, "camera": 1, "code": lambda: "photo"}
    graph = Graph(
        [
            Function("fast", [], cost=[plain, photo], node="wide"),
            Function("slow", [], cost=[plain, photo], node="n0"),
            Function(
                "own", [], lambda: "own", cost=[{"cpu_time": 1}, plain], node="n0"
            ),
        ]
    )
    run = executor.execute(graph)
    assert dict(run.results) == {"fast": "photo", "slow": "plain", "own": "own"}


def test_functions_run_together_where_one_is_with_another(executor):
    def where():
        return str(get_worker().name)

    functions = [Function("a", [], where, node="n1")]
    for k in range(8):
        functions.append(Function(k, [], where, node=hd.with_function("a")))
    run = executor.execute(Graph(functions))
    assert set(run.results.values()) == {"n1"}


def test_the_graph_given_in_is_never_changed(executor):
    graph = Graph([Function("a", [], lambda: [1]), Function("b", ["a"], len)])
    before, token = list(graph), graph.token
    run = executor.execute(graph)
    executed = run.functions["a"]
    assert [f is g for f, g in zip(graph, before, strict=True)] == [True, True]
    assert (graph.token, graph["a"].results) == (token, None)
    assert (executed.id, executed.results, executed is graph["a"]) == ("a", [1], False)
    assert {id: f.results for id, f in run.functions.items()} == {"a": [1], "b": 1}


def test_what_a_function_does_to_its_input_reaches_no_other_node(executor):
    def spoil(x):
        x.append(1)
        return len(x)

    graph = Graph(
        [
            Function("a", [], list, node="n0"),
            Function("b", ["a"], spoil, node="n1"),
            Function("c", ["a", "b"], lambda a, b: a, node="n0"),
        ]
    )
    assert executor.execute(graph)["c"] == []


def test_results_are_a_mapping_over_the_functions(executor):
    graph = Graph([Function(id, [], lambda id=id: id * 2) for id in "cab"])
    run = executor.execute(graph)
    assert (list(run.results), len(run.results)) == (["c", "a", "b"], 3)
    assert ("a" in run.results, "x" in run.results) == (True, False)
    assert run.results.get("x") is None
    with pytest.raises(KeyError, match="no function 'x' in"):
        run["x"]
    with pytest.raises(KeyError, match="no function 'x' in"):
        run.where("x")


def _chain():
    return Graph(
        [
            Function("a", [], lambda: 1),
            Function("b", ["a"], lambda a: a + 1),
            Function("c", ["b"], lambda b: b + 1),
            Function("d", ["b"], lambda b: b + 2),
        ]
    )


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ("all", {"a": 1, "b": 2, "c": 3, "d": 4}),
        ("sinks", {"c": 3, "d": 4}),
        (["a", "d"], {"a": 1, "d": 4}),
        ([], {}),
        (iter(["b"]), {"b": 2}),
    ],
    ids=["all", "sinks", "ids", "none", "iterator"],
)
def test_only_what_is_to_be_kept_outlives_its_consumers(executor, until, keep, kept):
    run = executor.execute(_chain(), keep=keep)
    got = {}
    for id in "abcd":
        try:
            got[id] = run[id]
        except hd.ResultReleasedError as error:
            assert str(error) == (  # noqa: PT017
                f"the result of function {id!r} is gone: it was not to be kept"
            )
    assert got == kept
    token, count = run.token, len(kept)
    until(
        executor.client,
        lambda s: (
            sum(
                token in str(key) and ts.state == "memory"
                for key, ts in s.tasks.items()
            )
            == count
        ),
    )
    assert (run.status, run.progress) == ("done", (4, 0, 4))


def test_keep_must_name_functions_of_the_graph(executor):
    graph = _chain()
    with pytest.raises(hd.GraphError, match="keep names function 'x', which the graph"):
        executor.submit(graph, keep=["a", "x"])
    with pytest.raises(hd.GraphError, match="must be 'all', 'sinks' or a list of ids"):
        executor.submit(graph, keep="a")
    with pytest.raises(hd.GraphError, match="must be 'all', 'sinks' or a list of ids"):
        executor.submit(graph, keep=None)


def test_only_a_graph_is_run(executor):
    with pytest.raises(hd.GraphError, match="runs a Graph, not list"):
        executor.submit([Function("a", [], int)])


def test_what_is_to_be_kept_without_a_journal_is_refused(executor):
    with pytest.raises(hd.GraphError, match="function 'a' is durable, but"):
        executor.submit(Graph([Function("a", [], int, durable=True)]))

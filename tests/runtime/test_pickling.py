"""What can't be pickled, received or indexed: an error that says so, never a hang."""

import threading

import pytest

import handout_dask as hd
from handout_dask import Function, Graph


def test_a_result_that_cant_be_pickled_is_an_error_where_another_node_needs_it(
    executor, caught
):
    graph = Graph(
        [
            Function("a", [], threading.Lock, node="n0"),
            Function("b", ["a"], lambda a: a.locked(), node="n1"),
        ]
    )
    run = executor.submit(graph)
    error = caught(hd.FunctionError, lambda: run["a"])
    assert str(error).startswith(
        "function 'a' returned a lock that can't be pickled, and function 'b' needs it "
        "on another node: "
    )
    assert str(error).endswith("or keep them together by node=with_function(...)")
    assert "function 'a'" in str(caught(hd.FunctionError, lambda: run["b"]))


def test_an_element_that_cant_be_pickled_is_an_error_too(executor, caught):
    graph = Graph(
        [
            Function("a", [], lambda: [1, threading.Lock()], node="n0"),
            Function("b", [("a", 1)], lambda a: a.locked(), node="n1"),
            Function("c", [("a", 0)], lambda a: a, node="n1"),
        ]
    )
    run = executor.submit(graph)
    error = caught(hd.FunctionError, lambda: run["b"])
    assert str(error).startswith(
        "element 1 of the result of function 'a' is a lock that can't be pickled, and "
        "function 'b' needs it on another node: "
    )
    assert run["c"] == 1


def test_a_result_that_cant_be_pickled_works_on_its_own_node(executor, caught):
    graph = Graph(
        [
            Function("a", [], lambda: (1, threading.Lock()), node="n0"),
            Function("b", ["a"], lambda a: a[1].locked(), node="n0"),
            Function("c", [("a", 1)], lambda a: a.locked(), node="n0"),
            Function("d", [("a", 0)], lambda a: a, node="n1"),
        ]
    )
    run = executor.execute(graph)
    assert (run["b"], run["c"], run["d"]) == (False, False, 1)
    error = caught(hd.UndeliverableError, lambda: run["a"])  # only the client can't
    assert str(error).startswith(
        "function 'a' ended on node 'n0', but its result, a tuple, can't be "
        "pickled, so that it can be read on that node alone: TypeError: cannot pickle "
        "'_thread.lock' object. Let it return what can be, or let another function on "
        "its node, by node=with_function('a'), make"
    )
    assert (error.handout, run.status) == (("a", "n0", 1), "done")


def test_a_result_that_cant_be_unpickled_by_the_client_is_an_error_that_says_so(
    executor, caught
):
    run = executor.execute(Graph([Function("a", [], Broken, node="n1")]))
    error = caught(hd.UndeliverableError, lambda: run["a"])
    assert f"a {__name__}.Broken, can't be brought here: RuntimeError: not here" in str(
        error
    )
    assert error.handout == ("a", "n1", 1)


class Broken:
    """Can be sent, but not received."""

    def __reduce__(self):
        return _refuse, ()


def _refuse():
    raise RuntimeError("not here")


def test_a_result_that_cant_be_received_is_an_error(executor, caught):
    graph = Graph(
        [
            Function("a", [], Broken, node="n0"),
            Function("b", ["a"], lambda a: 1, node="n1"),
            Function("c", ["a"], lambda a: 2, node="n0"),
        ]
    )
    run = executor.submit(graph)
    error = caught(Exception, lambda: run["b"])
    assert "not here" in str(error)
    assert run["c"] == 2


def test_what_cant_be_sent_is_an_error_at_submission(executor, claimed):
    lock = threading.Lock()
    graphs = {
        "its code can't be pickled": Function("b", ["a"], lambda a: lock),
        "its extra_args or kwargs can't be": Function(
            "b", ["a"], lambda a, x: 1, extra_args=[lock]
        ),
        "extra_args or kwargs can't be": Function(
            "b", ["a"], lambda a, x: 1, kwargs={"x": lock}
        ),
        "its index <unlocked _thread.lock": Function("b", [("a", lock)], lambda a: 1),
    }
    for text, function in graphs.items():
        with pytest.raises(hd.GraphError, match=r"^function 'b': ") as info:
            executor.submit(Graph([Function("a", [], lambda: 1), function]))
        assert text in str(info.value)
    with pytest.raises(hd.GraphError, match="function 'a' has no code to run"):
        executor.submit(Graph([Function("a", [])]))
    assert claimed(executor) == {}


def test_a_package_that_is_missing_on_a_node_is_an_error_that_says_so(
    executor, caught, tmp_path, monkeypatch
):
    (tmp_path / "only_here.py").write_text("def code(): return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    from importlib import import_module

    code = import_module("only_here").code
    run = executor.submit(Graph([Function("a", [], code)]))
    error = caught(hd.FunctionError, lambda: run["a"])
    assert str(error) == (
        "the code of function 'a' can't be loaded where it shall run: "
        "ModuleNotFoundError: No module named 'only_here'. Is its package installed "
        "there?"
    )


# ---------------------------------------------------------------------- indexes
class Numbered(dict):
    """An index whose class the scheduler can't rebuild."""

    __hash__ = object.__hash__

    def __reduce__(self):
        return _only_on_nodes, ()


def _only_on_nodes():
    from distributed import get_worker

    get_worker()
    return "x"


@pytest.mark.parametrize("there", ["n0", "n1"], ids=["same", "other"])
def test_the_scheduler_never_unpickles_an_index(executor, there):
    index = Numbered()
    sizes = {"output_size": {index: 1}}
    graph = Graph(
        [
            Function("a", [], lambda: {"x": 1}, node="n0", cost=sizes),
            Function("b", [("a", index)], lambda x: x, node=there),
        ]
    )
    assert executor.submit(graph).wait(30)["b"] == 1


@pytest.mark.parametrize("there", ["n0", "n1"], ids=["same", "other"])
@pytest.mark.parametrize(
    ("value", "index", "why"),
    [
        ((1, 2), 7, "a tuple that has none: IndexError: tuple index out of range"),
        ({"x": 1}, "y", "a dict that has none: KeyError: 'y'"),
        (3, 0, "a int that has none: TypeError: 'int' object is not subscriptable"),
        (None, 0, "a NoneType that has none: TypeError: 'NoneType' object is not "
                  "subscriptable"),
    ],
    ids=["IndexError", "KeyError", "TypeError", "None"],
)  # fmt: skip
def test_a_bad_index_names_both_functions(executor, caught, there, value, index, why):
    graph = Graph(
        [
            Function("a", [], lambda: value, node="n0"),
            Function("b", [("a", index)], lambda x: x, node=there),
            Function("c", ["b"], lambda x: x),
            Function("d", ["a"], lambda x: x, node=there),
        ]
    )
    run = executor.submit(graph)
    error = caught(hd.FunctionError, lambda: run["b"])
    assert str(error) == (
        f"function 'b' reads element {index!r} of the result of function 'a', {why}"
    )
    assert error.handout[:2] == ("b", there)
    cause = caught(hd.FunctionError, lambda: run["c"]).__cause__
    assert str(cause) == str(error)
    assert run["d"] == value
    run.wait(30)
    assert (run.status, run.progress) == ("failed", (2, 2, 4))

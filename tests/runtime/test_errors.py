"""What users see when functions fail: their own exceptions, and who was to blame."""

import asyncio
import os
import threading
import traceback
from dataclasses import dataclass

import numpy as np
import pytest

import handout_dask as hd
from handout_dask import Function, Graph
from handout_dask.problem import Lack


def _failing(code, **options):
    """a -> bad -> after -> last; beside is independent."""
    return Graph(
        [
            Function("a", [], lambda: 1),
            Function("bad", ["a"], code, **options),
            Function("after", ["bad"], lambda x: x),
            Function("last", ["after"], lambda x: x),
            Function("beside", ["a"], lambda x: x + 1),
        ]
    )


class OwnError(ValueError):
    """A user's own type, that the client knows."""


def _raise_own(x):
    raise OwnError("value", x)


def test_a_users_exception_arrives_itself(executor, caught):
    run = executor.submit(_failing(_raise_own, node="n1"))
    error = caught(OwnError, lambda: run["bad"])
    assert type(error) is OwnError
    assert error.args == ("value", 1)
    assert error.handout == ("bad", "n1", 1)
    assert error.__notes__ == [
        "in function 'bad' on node 'n1'",
        "function 'bad' failed on node 'n1', attempt 1",
    ]
    assert "_raise_own" in "".join(traceback.format_tb(error.__traceback__))


def test_each_look_up_gives_the_same_exception_anew(executor, caught):
    run = executor.submit(_failing(_raise_own))
    first, *others = (caught(OwnError, lambda: run["bad"]) for _ in range(3))
    assert [other.__notes__ for other in others] == [first.__notes__] * 2
    assert first is not others[0]


def test_results_functions_and_execute_raise_it_too(executor, caught):
    graph = _failing(_raise_own)
    error = caught(OwnError, executor.execute, graph)
    assert error.handout[0] == "bad"
    run = executor.execute(graph, raise_on_error=False)
    assert caught(OwnError, lambda: run.results["bad"]).args == ("value", 1)
    assert caught(OwnError, lambda: run.functions["bad"]).args == ("value", 1)
    assert (run.status, run.progress) == ("failed", (2, 3, 5))
    assert run["beside"] == 2


def test_dependents_say_which_function_failed_and_how(executor, caught):
    run = executor.submit(_failing(_raise_own))
    for id in ("after", "last"):
        error = caught(hd.FunctionError, lambda id=id: run[id])
        assert str(error) == (
            f"function {id!r} did not run: function 'bad', which it depends on, failed "
            "with OwnError: ('value', 1)"
        )
        assert type(error.__cause__) is OwnError
        assert error.__cause__.handout[0] == "bad"


def test_submit_never_raises_for_what_functions_raise(executor, caught):
    run = executor.submit(_failing(_raise_own))
    assert run.wait(30) is run
    assert run.status == "failed"


def test_a_failed_attempt_is_a_span_with_its_error(executor):
    run = executor.execute(_failing(_raise_own, node="n1"), raise_on_error=False)
    (span,) = [span for span in run.spans if span.function == "bad"]
    assert (span.node, span.attempt, span.outcome, span.nbytes, span.error) == (
        "n1", 1, "failed", None, "('value', 1)",
    )  # fmt: skip


class UnpicklableError(Exception):
    def __init__(self):
        super().__init__("it holds a lock")
        self.lock = threading.Lock()


class TwoArgumentsError(Exception):
    """Built from two arguments, of which it hands one on, as many do."""

    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code = code


class TwiceMadeError(Exception):
    """Can be rebuilt, but not alike."""

    def __init__(self, text, more="!"):
        super().__init__(text + more)


@dataclass(frozen=True)
class FrozenError(Exception):
    """Lets nothing be set, not even its traceback."""

    code: int


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (UnpicklableError, "UnpicklableError: it holds a lock"),
        (lambda: FrozenError(3), "FrozenError: 3"),
        (lambda: StopIteration(4), "builtins.StopIteration: 4"),
    ],
    ids=["lock", "frozen", "stop"],
)
def test_an_exception_that_cant_be_rebuilt_is_a_function_error(
    executor, caught, make, text
):
    def bad(x):
        raise make()

    run = executor.submit(_failing(bad, node="n0"))
    error = caught(hd.FunctionError, lambda: run["bad"])
    assert str(error).startswith("function 'bad' raised ")
    assert str(error).endswith(text)
    assert error.handout == ("bad", "n0", 1)
    cause = caught(hd.FunctionError, lambda: run["last"]).__cause__
    assert str(cause) == str(error)


class ReducedError(Exception):
    """Has arguments of its own, and says how it is rebuilt."""

    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text

    def __reduce__(self):
        return type(self), (self.code, self.text)


class Thing:
    """Equal only to itself."""


@pytest.mark.parametrize(
    "make",
    [
        lambda: ReducedError(7, "seven"),
        lambda: TwoArgumentsError(7, "seven"),
        lambda: TwiceMadeError("hey"),
        lambda: ValueError(Thing()),
        lambda: ValueError(np.arange(3), float("nan")),
        lambda: OSError(2, "no such", "file"),
        lambda: UnicodeDecodeError("utf8", b"x", 0, 1, "why"),
        lambda: KeyError("k"),
        lambda: ValueError("long " * 10_000),
        lambda: ExceptionGroup("two", [ValueError(1), TypeError(2)]),
    ],
    ids=[
        "reduced",
        "init",
        "twice",
        "thing",
        "array",
        "os",
        "unicode",
        "key",
        "long",
        "group",
    ],
)
def test_an_exception_that_can_be_rebuilt_keeps_its_type(executor, caught, make):
    def bad(x):
        raise make()

    run = executor.submit(_failing(bad))
    error = caught(Exception, lambda: run["bad"])
    assert type(error).__qualname__ == type(make()).__qualname__
    if "object at" not in str(make()) and len(str(make())) < 1000:
        assert str(error) == str(make())
    assert error.handout[0] == "bad"


def test_the_cause_of_an_exception_arrives_too(executor, caught):
    def bad(x):
        try:
            {}["k"]
        except KeyError as error:
            raise ValueError("outer") from error

    run = executor.submit(_failing(bad))
    error = caught(ValueError, lambda: run["bad"])
    assert repr(error.__cause__) == "KeyError('k')"


def test_a_cause_that_cant_be_pickled_leaves_a_note(executor, caught):
    def bad(x):
        try:
            raise UnpicklableError
        except UnpicklableError as error:
            raise ValueError("outer") from error

    run = executor.submit(_failing(bad))
    error = caught(ValueError, lambda: run["bad"])
    assert error.__notes__[0] == "caused by UnpicklableError: it holds a lock"


class MuteError(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


def test_an_exception_without_a_text_is_an_error_like_others(executor, caught):
    def bad(x):
        raise MuteError

    run = executor.submit(_failing(bad))
    run.wait(30)
    assert isinstance(
        caught(Exception, lambda: run["bad"]), (MuteError, hd.FunctionError)
    )
    assert isinstance(caught(hd.FunctionError, lambda: run["last"]), hd.FunctionError)
    assert run.progress == (2, 3, 5)


class Beyond(BaseException):
    """Not an Exception, as pytest's own outcomes aren't."""


@pytest.mark.parametrize(
    "make",
    [Beyond, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError],
)
def test_what_is_no_exception_is_a_function_error_and_ends_no_node(
    executor, caught, make
):
    def bad(x):
        raise make("stop")

    nodes = executor.client.scheduler_info()["workers"].keys()
    run = executor.submit(_failing(bad))
    error = caught(hd.FunctionError, lambda: run["bad"])
    name = f"{make.__module__}.{make.__qualname__}"
    assert str(error).startswith("function 'bad' raised ")
    assert str(error).endswith(f"{name.removeprefix('builtins.')}: stop") or (
        str(error).endswith(f"{name}: stop")
    )
    assert executor.client.scheduler_info()["workers"].keys() == nodes


def test_an_exception_of_a_module_that_only_nodes_have_is_a_function_error(
    executor, caught, tmp_path
):
    (tmp_path / "only_there.py").write_text("class Far(Exception): pass\n")
    path = str(tmp_path)

    def bad(x):
        import sys

        sys.path.insert(0, path)
        import only_there

        raise only_there.Far("away")

    run = executor.submit(_failing(bad))
    error = caught(hd.FunctionError, lambda: run["bad"])
    assert str(error) == (
        "function 'bad' raised an exception that can't be rebuilt here "
        "(ModuleNotFoundError: No module named 'only_there'): Far('away')"
    )
    assert run["beside"] == 2


def test_a_result_of_a_module_that_only_nodes_have_stays_there(
    executor, caught, tmp_path
):
    (tmp_path / "far_away.py").write_text("class Far: value = 7\n")
    path = str(tmp_path)

    def make():
        import sys

        sys.path.insert(0, path)
        import far_away

        return far_away.Far()

    graph = Graph(
        [
            Function("a", [], make, node="n0"),
            Function("b", ["a"], lambda a: a.value, node="n0"),
        ]
    )
    run = executor.execute(graph)
    assert run["b"] == 7
    error = caught(hd.FunctionError, lambda: run["a"])
    assert str(error).startswith("function 'a' ended, but its result can't be brought")


# ------------------------------------------------------- what can't be pickled
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
    error = caught(hd.FunctionError, lambda: run["a"])  # only the client can't have it
    assert str(error).startswith("function 'a' ended, but its result can't be brought")
    assert run.status == "done"


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
    graph = Graph(
        [
            Function("a", [], lambda: {"x": 1}, node="n0"),
            Function("b", [("a", Numbered())], lambda x: x, node=there),
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


# ---------------------------------------------------------------- impossible ones
def test_an_impossible_cost_is_refused_with_nothing_submitted(executor, claimed):
    executed = []
    graph = Graph(
        [
            Function("ok", [], lambda: executed.append(1)),
            Function("big", ["ok"], lambda x: x, cost={"memory": 5000, "licence": 1}),
        ]
    )
    before = executor.client.run_on_scheduler(lambda dask_scheduler: set(
        dask_scheduler.tasks))  # fmt: skip
    for refuse in (executor.submit, executor.execute, executor.plan):
        with pytest.raises(hd.UnsatisfiableError) as info:
            refuse(graph)
        error = info.value
        assert str(error) == (
            "function 'big' fits on no node: n0, n1, wide lacks licence (needs 1, has "
            "0), lacks memory (needs 5000 MB, has 1000). Lower its cost or add a node."
        )
        lacks = (Lack("licence", 1.0, 0.0), Lack("memory", 5000.0, 1000.0))
        assert error.refusals == {"big": dict.fromkeys(("n0", "n1", "wide"), lacks)}
    after = executor.client.run_on_scheduler(lambda dask_scheduler: set(
        dask_scheduler.tasks))  # fmt: skip
    assert (after - before, claimed(executor)) == (set(), {})


def test_explain_says_the_same_as_text_and_as_data(executor):
    graph = Graph(
        [
            Function("shot", [], int, cost={"camera": 1}),
            Function("big", [], int, cost={"memory": 5000}),
        ]
    )
    shot, big = executor.explain(graph, "shot"), executor.explain(graph, "big")
    lack = (Lack("camera", 1.0, 0.0),)
    assert (shot.fits, shot.refusals) == (("wide",), {"n0": lack, "n1": lack})
    assert str(shot) == (
        "function 'shot'\n  wide: can run it\n"
        "  n0: lacks camera (needs 1, has 0)\n  n1: lacks camera (needs 1, has 0)"
    )
    lack = (Lack("memory", 5000.0, 1000.0),)
    assert (big.fits, big.planned) == ((), None)
    assert big.refusals == dict.fromkeys(("n0", "n1", "wide"), lack)
    alone = executor.explain(Graph([Function("shot", [], int, cost={"camera": 1})]),
                             "shot")  # fmt: skip
    assert alone.planned == "wide"
    assert "wide: can run it (planned)" in str(alone)
    with pytest.raises(KeyError, match="no function 'x'"):
        executor.explain(graph, "x")


def test_a_pin_to_a_node_that_is_not_there_names_those_that_are(executor):
    with pytest.raises(hd.UnsatisfiableError) as info:
        executor.submit(Graph([Function("a", [], int, node="n7")]))
    assert str(info.value) == (
        "function 'a' must run on node 'n7', but the nodes are n0, n1, wide. Correct "
        "the name or add the node."
    )


def test_a_pin_that_does_not_fit_is_refused(executor):
    graph = Graph([Function("a", [], int, node="n0", cost={"camera": 1})])
    with pytest.raises(hd.UnsatisfiableError) as info:
        executor.submit(graph)
    assert info.value.refusals["a"]["n0"] == (Lack("camera", 1.0, 0.0),)
    assert str(info.value).startswith("function 'a' fits on no node: n0 lacks camera")


def test_an_allocator_that_plans_nonsense_is_refused(executor):
    class Nonsense:
        def allocate(self, problem):
            plan = hd.plan(Graph(problem.functions), problem.cluster)
            return hd.Plan(problem, plan.node + 17, plan.option, plan.start, plan.end)

    with hd.Executor(executor.client, allocator=Nonsense()) as other:
        with pytest.raises(hd.AllocationError, match="breaks 1 rule"):
            other.submit(Graph([Function("a", [], int)]))
        assert other.client is executor.client


# ----------------------------------------------------------- the executor itself
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"on_failure": "explode"}, "on_failure='explode' must be one of"),
        ({"max_concurrency": 0}, "max_concurrency=0 must be at least 1"),
        ({"max_concurrency": 1.5}, "max_concurrency=1.5 must be at least 1"),
        ({"allocator": "best"}, "there is no allocator 'best'; known: first-available"),
        ({"allocator": 7}, "7 is no allocator: it needs a method allocate"),
        ({"tracker": 7}, "7 is no ResourceTracker: it needs register"),
    ],
)
def test_a_bad_option_is_refused_before_anything_starts(options, text):
    with pytest.raises(hd.HandoutError) as info:
        hd.Executor("tcp://127.0.0.1:9", **options)
    assert text in str(info.value)


def test_a_tracker_that_cant_travel_is_refused():
    class Locked(hd.StaticTracker):
        def __reduce__(self):
            raise TypeError("stays here")

    with pytest.raises(hd.HandoutError, match="can't act on the scheduler: TypeError"):
        hd.Executor("tcp://127.0.0.1:9", tracker=Locked())


def test_an_address_where_nobody_is_is_an_error():
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "500ms"}),
        pytest.raises(OSError, match="Timed out trying to connect"),
    ):
        hd.Executor("tcp://127.0.0.1:9")


def test_a_closed_executor_says_so(executor):
    other = hd.Executor(executor.client)
    other.close()
    other.close()
    for use in (
        lambda: other.submit(Graph()),
        lambda: other.plan(Graph()),
        lambda: other.execute(Graph()),
        other.nodes,
    ):
        with pytest.raises(hd.HandoutError, match="the executor is closed"):
            use()


def test_a_function_that_ends_its_process_is_an_error_in_the_end(
    executor, caught, until
):
    """Dask's own allowance of deaths for now; it may not hang, nor hurt others."""

    def crash(x):
        os._exit(3)

    run = executor.submit(_failing(crash, node="n1"))
    error = caught(Exception, lambda: run["bad"])
    assert type(error).__name__ == "KilledWorker"
    assert run["beside"] == 2
    until(executor.client, lambda s: len(s.workers) == 3)

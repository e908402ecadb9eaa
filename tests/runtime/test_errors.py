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


def test_what_dask_logs_of_a_failure_names_the_function_and_is_short(executor):
    much = bytes(1_000_000)
    bad = Function("bad", [], lambda x: x[much], extra_args=[[1]], name="f")
    assert executor.submit(Graph([bad])).wait(30).status == "failed"
    told = [
        line
        for log in executor.client.get_worker_logs().values()
        for _, text in log
        for line in text.splitlines()
        if line.startswith("Task:  <Task ('f-")
    ]
    assert len(told) == 1
    assert told[0].endswith("call(<function 'bad'>)>")


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
        "n1", 1, "failed", None, "OwnError: ('value', 1)",
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
    assert "its result, a far_away.Far, can't be brought here: Module" in str(error)


def test_a_function_that_ends_its_process_is_an_error_in_the_end(
    executor, caught, until
):
    """It may not hang, nor hurt others."""

    def crash(x):
        os._exit(3)

    run = executor.submit(_failing(crash, node="n1", on_lost=hd.wait(60)))
    error = caught(Exception, lambda: run["bad"])
    assert isinstance(error, hd.FunctionCrashedError)
    assert "exit code 3" in str(error)
    assert run["beside"] == 2
    until(executor.client, lambda s: len(s.workers) == 3)

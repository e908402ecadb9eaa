"""Functions in processes of their own do as in a thread; pipes to them."""

import os
import sys
import threading
import traceback

import numpy as np
import psutil
import pytest

import handout_dask as hd
from handout_dask import Function, FunctionError, Graph
from handout_dask.runtime.faults import rebuilt
from handout_dask.runtime.pipes import ClosedError, dumps, loads, receive, send
from handout_dask.runtime.process_child import Answer, _frames_of

LIMIT = 60


def only(code, *extra, **about):
    return Graph([Function("f", [], code, extra_args=extra, **about)])


def worker_of(executor):
    (pid,) = executor.client.run(os.getpid).values()
    return pid


# -------------------------------------------------------------- as in a thread
def test_a_function_runs_beside_its_worker_in_a_process_that_is_used_again(own):
    pids = {own.execute(only(os.getpid))["f"] for _ in range(3)}
    assert len(pids) == 1
    (pid,) = pids
    assert psutil.Process(pid).ppid() == worker_of(own)


def test_inputs_and_results_are_what_they_are_in_threads(own):
    class Local:
        def __init__(self, x):
            self.x = x

    async def later(a, *, by):
        return a * by

    graph = Graph(
        [
            Function("array", [], lambda: (np.arange(10**6), "text")),
            Function("cut", [("array", 1)], str.upper),
            Function("changed", [("array", 0)], lambda a: np.add(a, 1, out=a)),
            Function("sum", [("array", 0)], np.sum),
            Function("later", ["sum"], later, kwargs={"by": 2}),
            Function("local", ["cut"], Local),
            Function("back", ["local"], lambda local: (local.x, local)),
            Function("code", [], lambda: lambda x: x + 1),
            Function("nothing", [], lambda: None),
        ]
    )
    run = own.execute(graph)
    assert run["cut"] == "TEXT"
    assert run["changed"][0] == 1
    assert run["changed"].flags.writeable
    assert run["array"][0][0] == 0  # the copy was changed
    assert run["later"] == 2 * run["sum"] == 10**6 * (10**6 - 1)
    assert run["back"][0] == "TEXT"
    assert isinstance(run["back"][1], type(run["local"]))
    assert run["code"](1) == 2
    assert run["nothing"] is None


def test_the_users_exception_comes_back_itself(own, caught):
    def fail():
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("no", 3) from error

    run = own.execute(only(fail), raise_on_error=False)
    error = caught(ValueError, run.__getitem__, "f")
    assert error.args == ("no", 3)
    assert error.handout == ("f", "n0", 1)
    assert isinstance(error.__cause__, KeyError)
    assert error.__notes__[0] == "in function 'f' on node 'n0'"
    frames, trace = [], error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert frames[-1] == "fail"


def test_what_can_not_come_back_is_a_function_error(own, caught):
    class Odd(Exception):
        def __init__(self, a, b):
            super().__init__(a)
            self.lock = __import__("threading").Lock()

    def fail():
        raise Odd(1, 2)

    for code, text in [
        (fail, "raised an exception that can't be pickled: "),
        (
            lambda: __import__("threading").Lock(),
            "returned a lock that can't be pickled",
        ),
        (sys.exit, "raised builtins.SystemExit"),
    ]:
        run = own.execute(only(code), raise_on_error=False)
        assert text in str(caught(FunctionError, run.__getitem__, "f"))


@pytest.mark.parametrize("cost", [{"memory": 100}, {}])
def test_a_recursion_error_comes_back_itself(held, caught, cost):
    """Its traceback is deeper than pickle goes; also in a thread."""

    def fall():
        return fall()

    def group():
        try:
            fall()
        except RecursionError as error:
            raise ExceptionGroup("some", [error]) from error

    run = held.submit(only(fall, cost=cost)).wait(LIMIT)
    error = caught(RecursionError, run.__getitem__, "f")
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert names[-40:] == ["fall"] * 40
    run = held.submit(only(group, cost=cost)).wait(LIMIT)
    error = caught(ExceptionGroup, run.__getitem__, "f")
    assert [type(one) for one in error.exceptions] == [RecursionError]
    assert isinstance(error.__cause__, RecursionError)


def test_an_exception_comes_back_without_a_traceback_that_can_not():
    import pickle

    lock = threading.Lock()
    about = "", ValueError("mine"), lock, False, 0.0, None, None
    answer = loads([bytes(x) for x in _frames_of(Answer(*about), "'f'")])
    assert (repr(answer.error), answer.traceback) == ("ValueError('mine')", None)
    text = pickle.dumps("File ...")  # as Dask sends one
    assert repr(rebuilt("f", pickle.dumps(answer.error), text, "")) == (
        "ValueError('mine')"
    )


def test_what_can_be_pickled_but_not_rebuilt_is_a_function_error(held, caught):
    class Never:
        def __reduce__(self):
            return int, ("x",)

    cost = {"memory": 100}
    run = held.execute(only(Never, cost=cost), raise_on_error=False)
    error = caught(FunctionError, run.__getitem__, "f")
    assert str(error).startswith(
        "function 'f' returned a Never that can be pickled in the process of the "
        "function's own, but not unpickled outside: ValueError: invalid literal"
    )
    graph = Graph([Function("a", [], Never), Function("f", ["a"], id, cost=cost)])
    run = held.execute(graph, raise_on_error=False, keep=["f"])
    error = caught(FunctionError, run.__getitem__, "f")
    assert str(error).startswith(
        "function 'f' runs in a process of its own and reads what can be pickled, but "
        "not unpickled there: ValueError: invalid literal"
    )
    assert held.execute(only(lambda: 3, cost=cost))["f"] == 3


def test_a_process_reads_what_is_of_a_module_that_came_later(held, tmp_path):
    cost = {"memory": 100}
    (tmp_path / "came_later.py").write_text("class Later:\n    x = 5\n")
    held.execute(only(int, cost=cost))  # its process is there

    def make(path):
        sys.path.append(path)
        return __import__("came_later").Later()

    graph = Graph(
        [
            Function("a", [], make, extra_args=[str(tmp_path)]),
            Function("f", ["a"], lambda a: a.x, cost=cost),
        ]
    )
    assert held.execute(graph, keep=["f"])["f"] == 5


@pytest.mark.parametrize("name", ["get_worker", "get_client", "secede", "rejoin"])
def test_why_dask_finds_no_worker_is_told(own, caught, name):
    def ask():
        import distributed

        getattr(distributed, name)()

    run = own.execute(only(ask), raise_on_error=False)
    notes = caught(Exception, run.__getitem__, "f").__notes__
    start = "function 'f' ran in a process of its own, where Dask's get_worker"
    assert len([note for note in notes if note.startswith(start)]) == 1
    run = own.execute(only(int, "x"), raise_on_error=False)
    notes = caught(ValueError, run.__getitem__, "f").__notes__
    assert not [note for note in notes if "process of its own" in note]


def test_an_input_that_can_not_come_is_told(held, caught):
    graph = Graph(
        [
            Function("lock", [], lambda: __import__("threading").Lock()),
            Function("f", ["lock"], id, cost={"memory": 10}),
        ]
    )
    run = held.execute(graph, raise_on_error=False, keep=["f"])
    error = caught(FunctionError, run.__getitem__, "f")
    assert "function 'f' runs in a process of its own and reads what can't" in str(
        error
    )


def test_many_at_once_on_a_wide_node_are_each_answered():
    nodes = [hd.Node("wide", {"cpu": 4, "memory": 4000})]
    with hd.Executor(nodes=nodes) as executor:
        executor._own_process = True
        functions = [
            Function(i, [i // 2] if i else [], lambda a=0: a + 1) for i in range(300)
        ]
        run = executor.execute(Graph(functions))
        assert [run[i] for i in range(300)] == [1 + i.bit_length() for i in range(300)]
        children = psutil.Process(worker_of(executor)).children()
        assert (
            len([c for c in children if "process_child" in " ".join(c.cmdline())]) <= 4
        )


def test_what_a_function_prints_is_no_answer(own):
    def talk():
        print("x" * 10**5, flush=True)
        os.write(1, b"y" * 100)
        return sys.stdin.read(), 7

    assert own.execute(only(talk))["f"] == ("", 7)


def test_a_function_may_fork(own):
    def fork():
        pid = os.fork()
        if not pid:
            os._exit(5)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert own.execute(only(fork))["f"] == 5


# --------------------------------------------------------------------- pipes
@pytest.mark.parametrize(
    "value",
    [None, "text", {"a": [1, (2,)]}, np.arange(10**5), np.array([]), b"", [b"x"] * 9],
)
def test_values_cross_a_pipe_as_they_are(value):
    source, sink = os.pipe()
    try:
        writer = threading.Thread(target=send, args=(sink, dumps(value)))
        writer.start()
        got = loads(receive(source))
        writer.join()
    finally:
        os.close(sink)
        np.testing.assert_equal(got, value)
        with pytest.raises(ClosedError):
            receive(source)
        os.close(source)

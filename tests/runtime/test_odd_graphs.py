"""Odd graphs: each runs right, or is refused before anything runs, by a precise error.

Reliability, R15: refused within a second, by function, field and value, with nothing
left on the scheduler.
"""

import math
import threading
import time

import pytest

import handout_dask as hd
from handout_dask import Function, Graph

pytestmark = pytest.mark.slow

SOON = 3.0  # s; the goal is 1


def plain(id="a", **options):
    return Function(id, [], int, **options)


def cyclic(*pairs):
    return Graph([Function(id, [read], lambda x: x) for id, read in pairs])


# What it is, how it is made, what the error says.
REFUSED = {
    "negative cost": (
        lambda: [plain(cost={"memory": -1})], "function 'a': memory.*-1",
    ),
    "nan cost": (
        lambda: [plain(cost={"cpu_time": math.nan})], "function 'a': cpu_time.*nan",
    ),
    "infinite cost": (
        lambda: [plain(cost={"memory": math.inf})], "function 'a': memory.*inf",
    ),
    "text as cost": (
        lambda: [plain(cost={"memory": "lots"})], "function 'a': memory.*lots",
    ),
    "bool as cost": (
        lambda: [plain(cost={"cpu_time": True})], "function 'a': cpu_time.*True",
    ),
    "list as cost value": (
        lambda: [plain(cost={"memory": [1]})], r"function 'a': memory.*\[1\]",
    ),
    "no map as cost": (lambda: [plain(cost=3)], "function 'a'.*cost.*3"),
    "no alternative": (lambda: [plain(cost=[])], "function 'a': cost is an empty"),
    "cost that nobody offers": (
        lambda: [plain(cost={"licence": 2})], "function 'a' fits.*licence.*needs 2",
    ),
    "more than any node has": (
        lambda: [plain(cost={"memory": 1e9})], r"function 'a' fits.*memory.*1e\+09",
    ),
    "CUDA where there is none": (
        lambda: [plain(cost={"has_cuda_requirement": True})], "function 'a' fits.*CUDA",
    ),
    "unknown node": (lambda: [plain(node="n9")], "function 'a'.*'n9'.*n0"),
    "node that can't": (
        lambda: [plain(node="n0", cost={"camera": 1})], "function 'a'.*n0.*camera",
    ),
    "no node's name": (lambda: [plain(node=3)], "function 'a': node must.*3"),
    "with an unknown function": (
        lambda: [plain(node=hd.with_function("z"))], "function 'a'.*'z'",
    ),
    "group whose node can't": (
        lambda: [plain(node="n0"), plain("b", node=hd.with_function("a")),
                 plain("c", node=hd.with_function("b"), cost={"camera": 1})],
        "'a'.*'c'.*'n0'.*camera|'c'.*camera",
    ),
    "duplicate id": (lambda: [plain("a"), plain("a")], "'a'"),
    "equal ids": (lambda: [plain(1), plain(True)], "function id.*True.*1|1.*True"),
    "id that can't be hashed": (lambda: [plain([1])], r"function id \[1\]"),
    "missing producer": (
        lambda: [Function("a", ["gone"], int)], "function 'a'.*'gone'",
    ),
    "literal in args": (lambda: [Function("a", [{"x": 1}], int)], "function 'a'.*x"),
    "text as args": (lambda: [Function("a", "bc", int)], "function 'a': args.*'bc'"),
    "reads itself": (lambda: cyclic(("a", "a")), "'a'"),
    "cycle": (
        lambda: cyclic(("a", "c"), ("b", "a"), ("c", "b")), "'a'.*'b'|'b'.*'a'",
    ),
    "code that can't be called": (
        lambda: [Function("a", [], 3)], "function 'a': code 3",
    ),
    "no code": (lambda: [Function("a")], "function 'a'.*code"),
    "code that can't travel": (
        lambda: [Function("a", [], threading.Lock().acquire)], "function 'a'.*pickle",
    ),
    "literal that can't travel": (
        lambda: [plain(extra_args=[threading.Lock()])], "function 'a'.*pickle",
    ),
    "kwargs without names": (lambda: [plain(kwargs={1: 2})], "function 'a': kwargs.*1"),
    "negative attempts": (
        lambda: [plain(retry=hd.RetryPolicy(-3))], "RetryPolicy: attempts=-3",
    ),
    "text as attempts": (
        lambda: [plain(retry=hd.RetryPolicy("3"))], "RetryPolicy: attempts='3'",
    ),
    "number as policy": (lambda: [plain(retry=3)], "function 'a': retry.*3"),
    "negative timeout": (lambda: [plain(timeout=-1)], "function 'a'.*timeout.*-1"),
    "nan timeout": (lambda: [plain(timeout=math.nan)], "function 'a'.*timeout.*nan"),
    "text as timeout": (lambda: [plain(timeout="1h")], "function 'a'.*timeout.*1h"),
    "policy of pins": (lambda: [plain(on_lost=5)], "function 'a': on_lost=5"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_bad_graph_is_refused_before_anything_runs(executor, journal, what):
    make, text = REFUSED[what]
    witness = Function("witness", [], lambda: journal("ran"))
    tasks = executor.client.run_on_scheduler(lambda dask_scheduler: set(
        dask_scheduler.tasks))  # fmt: skip
    begin = time.perf_counter()
    with pytest.raises(hd.HandoutError, match=f"(?s){text}"):
        executor.submit(Graph([*make(), witness]))
    assert time.perf_counter() - begin < SOON
    left = executor.client.run_on_scheduler(lambda dask_scheduler: set(
        dask_scheduler.tasks))  # fmt: skip
    assert (left - tasks, executor.runs(), journal.lines()) == (set(), [], [])


def ladder(n):
    """Each reads the two before it."""
    functions = [plain(0), plain(1)]
    functions += [Function(k, [k - 1, k - 2], lambda a, b: 1) for k in range(2, n)]
    return functions


class Same:
    """Ids that print and hash alike, and differ."""

    def __init__(self, number):
        self.number = number

    def __repr__(self):
        return "same"

    def __hash__(self):
        return 1

    def __eq__(self, other):
        return isinstance(other, Same) and other.number == self.number


IDS = ["x", "", "1", 1, 2.5, None, ("t", 1), ((),), frozenset([1]), b"x", "ä€\n"]
# What it is, how it is made, what comes of it.
ACCEPTED = {
    "nothing": (list, {}),
    "one": (lambda: [plain()], {"a": 0}),
    "no edges": (lambda: [plain(k) for k in range(50)], dict.fromkeys(range(50), 0)),
    "ids of all kinds": (lambda: [plain(id) for id in IDS], dict.fromkeys(IDS, 0)),
    "ids that look alike": (
        lambda: [Function(Same(k), [], lambda k=k: k) for k in range(3)],
        {Same(k): k for k in range(3)},
    ),
    "results that are odd": (
        lambda: [
            Function("none", [], lambda: None),
            Function("error", [], lambda: ValueError("a value")),
            Function("reads", ["none", "error"], lambda *x: [repr(y) for y in x]),
            Function("class", [], lambda: int),
        ],
        {"none": None, "reads": ["None", "ValueError('a value')"], "class": int},
    ),
    "the same twice": (
        lambda: [plain(), Function("b", ["a", "a"], lambda x, y: (x, y))],
        {"b": (0, 0)},
    ),
    "elements": (
        lambda: [
            Function("all", [], lambda: {"k": [1, 2], (1, None): 3}),
            Function("b", [("all", "k"), ("all", (1, None))], lambda *x: x),
        ],
        {"b": ([1, 2], 3)},
    ),
    "a diamond": (
        lambda: [
            plain(),
            *(Function(k, ["a"], lambda x: x + 1) for k in "bc"),
            Function("d", ["b", "c"], lambda x, y: x + y),
        ],
        {"d": 2},
    ),
    "a ladder": (lambda: ladder(300), {299: 1}),
    "readers before what they read": (
        lambda: [Function("b", ["a"], lambda x: x + 1), plain()],
        {"b": 1},
    ),
    "nothing that it costs": (
        lambda: [plain(cost={"cpu": 0, "memory": 0, "cpu_time": 0})],
        {"a": 0},
    ),
    "keys of Dask in literals": (
        lambda: [Function("a", [], lambda x: x, extra_args=[("a", 0)]), plain("b")],
        {"a": ("a", 0), "b": 0},
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", ACCEPTED)
def test_an_odd_graph_runs_right(executor, what):
    make, expected = ACCEPTED[what]
    run = executor.submit(Graph(make()))
    try:
        run.wait(20)
    except TimeoutError:
        pytest.fail(f"{run!r}: {[str(run.explain(f.id)) for f in run.graph][:3]}")
    assert run.status == "done"
    assert {id: run[id] for id in expected} == expected


@pytest.mark.parametrize("what", ["keep", "priority", "weight"])
def test_a_bad_option_of_a_good_graph_is_refused(executor, what):
    bad = {"keep": ["nobody"], "priority": "high", "weight": -1}
    with pytest.raises(hd.HandoutError, match=str(bad[what]).strip("[]'")):
        executor.submit(Graph([plain()]), **{what: bad[what]})
    assert executor.runs() == []

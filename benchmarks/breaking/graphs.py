"""Scenarios R15: graphs that make no sense, and large ones that do."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import handout_dask as hd
from benchmarks.breaking import work
from benchmarks.breaking.cluster import until
from benchmarks.breaking.scene import Seen, row, scene
from benchmarks.breaking.ways import Ended, Planned, Way

MANY = 10_000


def _zero(*read: Any) -> int:
    return 0


def _one_more(*read: int) -> int:
    return 1 + sum(read)


def _f(id: Any = "bad", args: Any = (), code: Any = _zero, **options: Any) -> Any:
    return hd.Function(id, args, code, **options)


def _costs(what: str, value: Any) -> Callable[[], hd.Graph]:
    return lambda: hd.Graph([_f(cost={what: value})])


class Odd(NamedTuple):
    """A graph that is to be refused.

    Attributes
    ----------
    name : str
        What is odd.
    make : callable
        The graph; may raise.
    words : tuple of str
        What the refusal has to say: who, which field, what value.
    keep : object
        What of it is to be kept.
    """

    name: str
    make: Callable[[], hd.Graph]
    words: tuple[str, ...]
    keep: Any = "all"


def _locked() -> Any:
    lock = threading.Lock()
    return lambda: lock


ODD = [
    Odd("negative cost", _costs("memory", -1), ("'bad'", "memory", "-1")),
    Odd("cost NaN", _costs("cpu_time", math.nan), ("'bad'", "cpu_time", "nan")),
    Odd("cost infinite", _costs("memory", math.inf), ("'bad'", "memory", "inf")),
    Odd("cost a word", _costs("memory", "much"), ("'bad'", "memory", "much")),
    Odd("cost a list", _costs("cpu", [1]), ("'bad'", "cpu", "[1]")),
    Odd("demand of a bool", _costs("memory", True), ("'bad'", "memory", "True")),
    Odd("unknown resource", _costs("camera", 1), ("'bad'", "camera", "1")),
    Odd("too many cores", _costs("cpu", 1000), ("'bad'", "cpu", "1000")),
    Odd("unknown unit", _costs("memory", "3 ells"), ("'bad'", "memory", "3 ells")),
    Odd("no alternatives", lambda: hd.Graph([_f(cost=[])]), ("'bad'", "cost")),
    Odd("unknown node", lambda: hd.Graph([_f(node="nowhere")]), ("'bad'", "nowhere")),
    Odd("node a number", lambda: hd.Graph([_f(node=3)]), ("'bad'", "node", "3")),
    Odd(
        "unknown companion",
        lambda: hd.Graph([_f(node=hd.with_function("nobody"))]),
        ("'bad'", "nobody"),
    ),
    Odd(
        "companions on two nodes",
        lambda: hd.Graph(
            [
                _f("a", node="n0"),
                _f("bad", node=hd.with_function("a")),
                _f("c", ["bad"], node="n1"),
                _f("d", node=hd.with_function("bad")),
                _f("e", node=hd.with_function("c")),
                _f("g", [], node="nowhere"),
            ]
        ),
        ("'g'", "nowhere"),
    ),
    Odd("same id twice", lambda: hd.Graph([_f(), _f()]), ("'bad'",)),
    Odd("1 and 1.0", lambda: hd.Graph([_f(1), _f(1.0)]), ("1",)),
    Odd("no producer", lambda: hd.Graph([_f("bad", ["gone"])]), ("'bad'", "'gone'")),
    Odd("reads itself", lambda: hd.Graph([_f("bad", ["bad"])]), ("'bad'",)),
    Odd(
        "a circle",
        lambda: hd.Graph([_f("a", ["bad"]), _f("bad", ["a"])]),
        ("'a'", "'bad'"),
    ),
    Odd("args a text", lambda: hd.Graph([_f(args="abc")]), ("'bad'", "args", "abc")),
    Odd("code a number", lambda: hd.Graph([_f(code=3)]), ("'bad'", "3")),
    Odd("no code", lambda: hd.Graph([_f(code=None)]), ("'bad'", "code")),
    Odd("id a list", lambda: hd.Graph([_f([1])]), ("[1]", "hashable")),
    Odd("kwargs a list", lambda: hd.Graph([_f(kwargs=[1])]), ("'bad'", "kwargs")),
    Odd(
        "attempts negative",
        lambda: hd.Graph([_f(retry=hd.RetryPolicy(attempts=-3))]),
        ("attempts", "-3"),
    ),
    Odd(
        "attempts a text",
        lambda: hd.Graph([_f(retry=hd.RetryPolicy(attempts="3"))]),  # type: ignore
        ("attempts", "'3'"),
    ),
    Odd("retry a number", lambda: hd.Graph([_f(retry=3)]), ("'bad'", "retry", "3")),
    Odd("timeout -1", lambda: hd.Graph([_f(timeout=-1)]), ("'bad'", "timeout", "-1")),
    Odd("on_lost", lambda: hd.Graph([_f(on_lost="never")]), ("on_lost", "never")),
    Odd("code can't travel", lambda: hd.Graph([_f(code=_locked())]), ("'bad'",)),
    Odd("keep unknown", lambda: hd.Graph([_f()]), ("gone",), ["gone"]),
]


@row("R15", f"{len(ODD)} odd graphs", "four", "each refused within 1 s, saying why", 93)
def odd(way: Way, limit: float) -> Seen:
    """None runs, and none leaves anything on the scheduler."""
    if not isinstance(way, Planned):
        raise NotImplementedError("has no such graphs")
    with scene(way, limit) as made:
        wrong, slowest = [], 0.0
        begin = time.perf_counter()
        for each in ODD:
            since = time.perf_counter()
            why = _refusal(way, each)
            slowest = max(slowest, time.perf_counter() - since)
            if why:
                wrong.append(f"{each.name}: {why}")
        client = made.cluster.client
        left = client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))
        ended = Ended(time.perf_counter() - begin)
        made.more.update(refused=len(ODD) - len(wrong), left=left, wrong=wrong)
        made.more["slowest"] = round(slowest, 2)
        seen = made.seen(ended, {})
        seen.exact = not wrong and not left
        return seen


def _refusal(way: Planned, odd: Odd) -> str:
    """What is wrong with how a graph is refused; empty if nothing."""
    try:
        run = way.executor.submit(odd.make(), keep=odd.keep)
    except hd.HandoutError as error:
        missing = [word for word in odd.words if word not in str(error)]
        return f"{error} lacks {missing}" if missing else ""
    except Exception as error:
        return f"no error of ours: {error!r}"
    run.cancel()
    run.release()
    until(lambda: run.status != "running", 10, "it was cancelled")
    return "it was taken"


# ----------------------------------------------------------------------- large graphs
def _large(way: Way, limit: float, graph: hd.Graph, right: dict[Any, int]) -> Seen:
    with scene(way, limit) as made:
        return made.seen(made.run(graph), right)


GOAL = "ends within 120 s"


@row("R15", "10,000 into one", "four", GOAL, 360)
def fan_in(way: Way, limit: float) -> Seen:
    """One function reads ten thousand."""
    functions = [hd.Function(k, [], _one_more) for k in range(MANY)]
    functions.append(hd.Function(work.SUM, list(range(MANY)), _one_more))
    return _large(way, limit, hd.Graph(functions, "fan-in"), {work.SUM: MANY + 1})


@row("R15", "one into 10,000", "four", GOAL, 360)
def fan_out(way: Way, limit: float) -> Seen:
    """Ten thousand read one."""
    functions = [hd.Function("a", [], _one_more)]
    functions += [hd.Function(k, ["a"], _one_more) for k in range(MANY)]
    right = dict.fromkeys(range(MANY), 2)
    return _large(way, limit, hd.Graph(functions, "fan-out"), right)


@row("R15", "10,000 in a chain", "four", GOAL, 360)
def chain(way: Way, limit: float) -> Seen:
    """Each reads the one before it."""
    functions = [hd.Function(0, [], _one_more)]
    functions += [hd.Function(k, [k - 1], _one_more) for k in range(1, MANY)]
    return _large(way, limit, hd.Graph(functions, "chain"), {MANY - 1: MANY})

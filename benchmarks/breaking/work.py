"""Functions whose executions are counted outside Dask, and graphs of known answers.

Whatever happens to the cluster, a file has a line for each begun execution. The same
functions run as plain Dask tasks and by plan.
"""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import cloudpickle

import handout_dask as hd
from benchmarks.breaking.cluster import until

# Workers of any kind can run them, wherever they were started.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

SUM = "sum"


def note(path: str, *words: Any) -> None:
    """Append a line, in one write, so that lines of many processes don't mix."""
    line = " ".join(map(str, words)) + "\n"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


class Counts:
    """The file of what began.

    Parameters
    ----------
    path : str, optional
        Default: a new temporary file.
    """

    def __init__(self, path: str | None = None) -> None:
        if path is None:
            handle, path = tempfile.mkstemp(prefix="breaking-", suffix=".starts")
            os.close(handle)
        self.path = path

    def lines(self) -> list[list[str]]:
        """``[name, pid, time]`` of what began; of `step` its attempt follows."""
        if not os.path.exists(self.path):
            return []
        return [line.split() for line in Path(self.path).read_text().splitlines()]

    def starts(self) -> Counter[str]:
        """How often each function began."""
        return Counter(line[0] for line in self.lines())

    def again(self) -> int:
        """How many executions were not a function's first."""
        counts = self.starts()
        return sum(counts.values()) - len(counts)

    def times(self, name: Hashable) -> list[float]:
        """When a function began [s of ``time.time()``]."""
        return [float(line[2]) for line in self.lines() if line[0] == str(name)]

    def attempts(self) -> dict[str, list[int]]:
        """The numbers that the executions of each function of `step` were told."""
        numbers: dict[str, list[int]] = {}
        for line in self.lines():
            if len(line) > 3:
                numbers.setdefault(line[0], []).append(int(line[3]))
        return numbers

    def until(self, count: int, limit: float = 60.0, name: str = "") -> None:
        """Wait until so many executions, of one function or all, began."""

        def enough() -> bool:
            starts = self.starts()
            return (starts[name] if name else sum(starts.values())) >= count

        until(enough, limit, f"{count} executions of {name or 'any'} began")

    def remove(self) -> None:
        """Remove the file."""
        Path(self.path).unlink(missing_ok=True)


# ------------------------------------------------------------------------ what runs
def step(path: str, name: Hashable, seconds: float, *read: Any) -> int:
    """Wait, and return a number that tells whether every input was right."""
    note(path, name, os.getpid(), time.time(), hd.attempt())
    time.sleep(seconds)
    return value_of(name) + sum(read)


def value_of(name: Hashable) -> int:
    """What a function adds by itself."""
    return sum((k + 1) * byte for k, byte in enumerate(str(name).encode()))


def add(*read: Any) -> int:
    """The sum of numbers."""
    return sum(read)


def spin(path: str, name: Hashable, seconds: float) -> int:
    """Compute for so long of the clock."""
    note(path, name, os.getpid(), time.time())
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))
    return value_of(name)


def hold_gil(path: str, name: Hashable, seconds: int) -> int:
    """Wait in C without letting any other thread of the process run."""
    note(path, name, os.getpid(), time.time())
    ctypes.PyDLL(None).sleep(seconds)
    return value_of(name)


def for_ever(path: str, name: Hashable) -> None:
    """Never return."""
    note(path, name, os.getpid(), time.time())
    while True:
        time.sleep(0.05)


def for_ever_in_c(path: str, name: Hashable) -> None:
    """Never return, and let no other thread of the process run."""
    note(path, name, os.getpid(), time.time())
    ctypes.PyDLL(None).sleep(10_000)


def poison(path: str, name: Hashable, how: str) -> None:
    """End the process that runs this: ``exit``, ``segv`` or ``sys.exit``."""
    note(path, name, os.getpid(), time.time())
    print(f"{name} is about to end this process", file=sys.stderr, flush=True)
    if how == "exit":
        os._exit(7)
    if how == "segv":
        ctypes.string_at(0)
    sys.exit(7)


def hog(path: str, name: Hashable, mb: int, seconds: float = 0.0) -> int:
    """Take memory, at once or during some seconds, and hold it for one more."""
    note(path, name, os.getpid(), time.time())
    kept = []
    for _ in range(max(1, mb // 20)):
        kept.append(bytearray(b"x") * (20 * 10**6))
        time.sleep(seconds / max(1, mb // 20))
    time.sleep(1.0)
    return len(kept)


def fails(path: str, name: Hashable, times: int, kind: type[BaseException]) -> int:
    """Raise the first so many times."""
    note(path, name, os.getpid(), time.time())
    begun = sum(
        line.startswith(f"{name} ") for line in Path(path).read_text().split("\n")
    )
    if begun <= times:
        raise kind(f"attempt {begun}")
    return value_of(name)


def large(path: str, name: Hashable, mb: int) -> bytes:
    """A result of so many MB."""
    note(path, name, os.getpid(), time.time())
    return os.urandom(1000) * (mb * 1000)


def size(path: str, name: Hashable, *read: Any) -> int:
    """How large the inputs are together."""
    note(path, name, os.getpid(), time.time())
    return sum(map(len, read))


# ----------------------------------------------------------------------- the graphs
def fan(path: str, n: int = 200, seconds: float = 0.05, **options: Any) -> hd.Graph:
    """So many alike, and their sum."""
    cost = {"cpu_time": seconds * 1000}
    functions = [
        hd.Function(
            f"f{k}", [], step, extra_args=[path, f"f{k}", seconds], cost=cost,
            **options,
        )
        for k in range(n)
    ]  # fmt: skip
    functions.append(hd.Function(SUM, [f"f{k}" for k in range(n)], add))
    return hd.Graph(functions, "fan")


def answer(n: int = 200) -> int:
    """The sum that `fan` gives."""
    return sum(value_of(f"f{k}") for k in range(n))


def shuffle(path: str, n: int = 20, seconds: float = 0.05) -> hd.Graph:
    """Each of n functions of the second layer reads all n of the first; their sum."""
    cost = {"cpu_time": seconds * 1000, "output_size": 0.001}
    functions = [
        hd.Function(f"a{k}", [], step, extra_args=[path, f"a{k}", seconds], cost=cost)
        for k in range(n)
    ]
    functions += [
        hd.Function(
            f"b{k}", [f"a{j}" for j in range(n)], _Reading(path, f"b{k}", seconds),
            cost=cost,
        )
        for k in range(n)
    ]  # fmt: skip
    functions.append(hd.Function(SUM, [f"b{k}" for k in range(n)], add))
    return hd.Graph(functions, "shuffle")


def shuffled(n: int = 20) -> int:
    """The sum that `shuffle` gives."""
    first = sum(value_of(f"a{k}") for k in range(n))
    return sum(value_of(f"b{k}") + first for k in range(n))


class _Reading:
    """`step` whose own arguments come first, as inputs do with functions."""

    def __init__(self, path: str, name: Hashable, seconds: float) -> None:
        self.own = (path, name, seconds)

    def __call__(self, *read: Any) -> int:
        return step(*self.own, *read)

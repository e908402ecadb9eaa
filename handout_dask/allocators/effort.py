"""How much is searched: an allocator's parameters, and the meter that enforces them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from numbers import Integral, Real

from handout_dask.errors import AllocationError
from handout_dask.problem import Problem

PATIENCE = 3.0  # wall seconds for each CPU second of a budget that are too many
FEW = 100_000  # functions x nodes up to which some list schedules are made in no time
SEARCH, SHARE = (
    0.1,
    0.05,
)  # s, and share of the makespan: what a search takes by default


@dataclass(frozen=True, repr=False)
class Effort:
    """How much an allocator searches: parameters that several of them have."""

    time_budget: float | None = None
    iterations: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises
        ------
        AllocationError
            If a parameter is of the wrong type, or negative.
        """
        if self.time_budget is not None and self.iterations is not None:
            raise AllocationError(f"{self!r}: give time_budget or iterations, not both")
        for name in ("time_budget", "iterations", "seed"):
            value = getattr(self, name)
            if value is None and name != "seed":
                continue
            whole = name != "time_budget"
            if not is_number(value, whole) or value < 0:
                what = "a whole number" if whole else "seconds"
                raise AllocationError(
                    f"{name}={value!r} must be {what}, finite and not negative"
                )

    def __repr__(self) -> str:
        """The class with what differs from the defaults."""
        own = [(f.name, getattr(self, f.name), f.default) for f in fields(self)]
        told = ", ".join(f"{name}={x!r}" for name, x, usual in own if x != usual)
        return f"{type(self).__name__}({told})"

    def limit(self, meter: Meter, makespan: float, longest: float = SEARCH) -> None:
        """Let a meter end a search for a plan of about this makespan."""
        if self.iterations is not None:
            meter.moves = self.iterations
        elif self.time_budget is not None:
            meter.seconds = self.time_budget
        else:
            meter.seconds = min(longest, SHARE * makespan)


def is_number(value: object, whole: bool = False) -> bool:
    """Whether a value is a finite number that fits a float; if `whole`, an integer."""
    if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


@dataclass
class Meter:
    """How far a search is, from 0 to 1: by number of moves, or by time."""

    seconds: float | None = None
    moves: int = 0
    done: int = 0
    cpu: float = field(default_factory=time.thread_time)
    wall: float = field(default_factory=time.perf_counter)

    def passed(self) -> float:
        """The share of the search that has passed."""
        if self.seconds is None:
            return self.done / self.moves if self.moves else 1.0
        if self.seconds <= 0:
            return 1.0
        cpu = time.thread_time() - self.cpu
        wall = time.perf_counter() - self.wall
        return max(cpu, wall / PATIENCE) / self.seconds

    def is_overdrawn(self, problem: Problem) -> bool:
        """Whether half of the time is gone, for a problem where that is soon so.

        Up to FEW functions x nodes all list schedules are made, so that a search with
        little time does not begin with worse ones than a search with none.
        """
        large = len(problem.functions) * len(problem.nodes) > FEW
        return large and self.seconds is not None and self.passed() >= 0.5

    def is_short(self, most: tuple[float, int]) -> bool:
        """Whether the search has at most so many seconds, or moves."""
        if self.seconds is None:
            return self.moves <= most[1]
        return self.seconds <= most[0]

    @contextmanager
    def paused_once(self, what: str) -> Iterator[None]:
        """Don't count what happens here, the first time that it does in a process."""
        cpu, wall = time.thread_time(), time.perf_counter()
        yield
        if what not in _HAPPENED:
            _HAPPENED.add(what)
            self.cpu += time.thread_time() - cpu
            self.wall += time.perf_counter() - wall


_HAPPENED: set[str] = set()

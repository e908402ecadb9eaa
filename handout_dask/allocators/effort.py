"""How much is searched: an allocator's parameters, and the meter that enforces them."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from handout_dask.errors import AllocationError

PATIENCE = 3.0  # wall seconds for each CPU second of a budget that are too many
SEARCH, SHARE = (
    0.1,
    0.05,
)  # s, and share of the makespan: what a search takes by default


@dataclass(frozen=True)
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
            kinds = (int, float) if name == "time_budget" else (int,)
            if value is None and name != "seed":
                continue
            good = isinstance(value, kinds) and not isinstance(value, bool)
            if not good or not 0 <= value < math.inf:
                what = "seconds" if name == "time_budget" else "a whole number"
                raise AllocationError(
                    f"{name}={value!r} must be {what}, not negative and finite"
                )

    def limit(self, meter: Meter, makespan: float, longest: float = SEARCH) -> None:
        """Let a meter end a search for a plan of about this makespan."""
        if self.iterations is not None:
            meter.moves = self.iterations
        elif self.time_budget is not None:
            meter.seconds = self.time_budget
        else:
            meter.seconds = min(longest, SHARE * makespan)


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

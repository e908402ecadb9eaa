"""Pictures: what pages ask of those who know the runs; a protocol. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from handout_dask.picture import Picture


@dataclass(frozen=True, slots=True)
class Summary:
    """One run in a list of runs.

    Attributes
    ----------
    name, title : str
        Its token, and the name of its graph; "" is none.
    status : str
        As of a Picture.
    functions, done, running, failed, retries : int
        How many functions there are, and are done, run, have failed; attempts beyond
        the first of each.
    now, makespan, expected : float [s]
        As of a Picture.
    money, planned_money : float
        Up to now, and as planned; nan is not known.
    """

    name: str
    title: str
    status: str
    functions: int
    done: int
    running: int
    failed: int
    retries: int
    now: float
    makespan: float
    expected: float
    money: float
    planned_money: float


class Pictures(Protocol):
    """Where pages get what they show; asked in the scheduler's event loop."""

    is_live: bool  # whether there is still an executor that uses the scheduler

    def runs(self) -> list[Summary]:
        """Runs that are known, the latest first; in little time."""
        ...

    def picture(self, name: str) -> Picture | None:
        """A run as it is now; None if it is not known, or not yet made ready."""
        ...

    def waits(self, name: str, most: int) -> list[tuple[str, str]]:
        """Functions that wait, and for what; the first that should have begun first."""
        ...

"""What happened, as records. Knows no clock: who emits a record says when."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

DONE, FAILED, LOST = OUTCOMES = ("done", "failed", "lost")


@dataclass(frozen=True, slots=True)
class Hold:
    """A node that was held: paid, whether it ran something or not.

    Attributes
    ----------
    node : str
        Its name.
    start, end : float
        Seconds since the run began.
    """

    node: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Span:
    """One attempt of one function on one node; simulated and real runs emit the same.

    Attributes
    ----------
    function : hashable
        Its id.
    node : str
        Where it ran.
    start, end : float
        Seconds since the run began.
    attempt : int
        1 for the first.
    outcome : {"done", "failed", "lost"}
        Whether it delivered, raised, or went down with its node.
    nbytes : int, optional
        Size of the result in bytes; None is unknown.
    error : str, optional
        What went wrong.
    """

    function: Hashable
    node: str
    start: float
    end: float
    attempt: int = 1
    outcome: str = DONE
    nbytes: int | None = None
    error: str | None = None

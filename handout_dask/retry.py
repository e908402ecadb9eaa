"""RetryPolicy: how often a failing function is tried. Pure; no clock, no Dask."""

from __future__ import annotations

from dataclasses import dataclass

from handout_dask.errors import GraphError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How failures of a function's own code are answered.

    Parameters
    ----------
    attempts : int
        How often it may run in all; 1 is no retry. The loss of a node is not charged.

    Raises
    ------
    GraphError
        If attempts is not an integer of at least 1.
    """

    attempts: int = 1

    def __post_init__(self) -> None:
        ok = isinstance(self.attempts, int) and not isinstance(self.attempts, bool)
        if not ok or self.attempts < 1:
            raise GraphError(
                f"RetryPolicy: attempts={self.attempts!r} must be an integer above 0"
            )

"""Scaling: how a cluster may grow and shrink, and what can be decided about a node."""

from __future__ import annotations

from dataclasses import dataclass

from handout_dask.costs import parse_quantity
from handout_dask.errors import HandoutError


@dataclass(frozen=True, slots=True)
class Elastic:
    """How a cluster grows and shrinks by plan.

    Parameters
    ----------
    idle : float
        Seconds without need after which a node is ended; and so long, beyond the time
        that a start takes, has the next need to be away.
    least : int
        How many of the cheapest nodes are always held; at least 1, for kept results.
    startup : float
        Seconds that a node is believed to take to start, until one did.
    patience : float
        Seconds after which a node that does not come is given up; it is tried again
        after as long.

    Raises
    ------
    HandoutError
        If a value makes no sense.
    """

    idle: float = 5.0
    least: int = 1
    startup: float = 2.0
    patience: float = 60.0

    def __post_init__(self) -> None:
        for what in ("idle", "startup", "patience"):
            number = parse_quantity("elastic", what, getattr(self, what))
            object.__setattr__(self, what, float(number))
        if type(self.least) is not int or self.least < 1:
            raise HandoutError(
                f"elastic: least={self.least!r} must be an integer above 0"
            )

    @classmethod
    def of(cls, given: object) -> Elastic | None:
        """What a user gave as `elastic`: False, True, or an Elastic."""
        if isinstance(given, cls):
            return given
        if not isinstance(given, bool):
            raise HandoutError(f"elastic={given!r} must be a bool or an Elastic")
        return cls() if given else None


@dataclass(frozen=True, slots=True)
class Start:
    """A decision: start this node."""

    node: str


@dataclass(frozen=True, slots=True)
class End:
    """A decision: end this node, with its results brought elsewhere before."""

    node: str


@dataclass(frozen=True, slots=True)
class Lose:
    """A decision: count no more on this node; `why` is for people."""

    node: str
    why: str


@dataclass(frozen=True, slots=True)
class Expect:
    """A decision: count on this node again, though it is not there."""

    node: str


Decision = Start | End | Lose | Expect

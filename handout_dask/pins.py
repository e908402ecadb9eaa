"""Pins: what functions do that are bound to a node when it is gone. Pure.

Knows neither graphs nor nodes: values, what they mean, and which of several counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from handout_dask.errors import GraphError

ELSEWHERE, FAIL = "elsewhere", "fail"


@dataclass(frozen=True, slots=True)
class Wait:
    """A bound function waits for its node to return. Made by :func:`wait`.

    Attributes
    ----------
    seconds : float
        For so long; then it fails with NodeLostError.
    """

    seconds: float

    def __repr__(self) -> str:
        return f"wait({self.seconds:g})"


OnLost = Wait | str  # a text is ELSEWHERE or FAIL
DEFAULT = Wait(10.0)


def wait(seconds: float) -> Wait:
    """A value for ``Function(on_lost=...)``: wait so long for the node to return.

    Raises
    ------
    GraphError
        If that is no finite number of seconds, at least 0.

    Examples
    --------
    >>> wait(30)
    wait(30)
    """
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 <= seconds < math.inf:
        raise GraphError(f"wait({seconds!r}): seconds must be a number of at least 0")
    return Wait(float(seconds))


def parse_on_lost(who: str, value: Any) -> OnLost | None:
    """What a user gave as `on_lost`; None is nothing.

    Raises
    ------
    GraphError
        If it is none of the values there are; the error names `who` said so.
    """
    if value is None or isinstance(value, Wait):
        return value
    if isinstance(value, str) and value in (ELSEWHERE, FAIL):
        return value
    hint = ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        hint = f"; did you mean wait({value!r})?"
    raise GraphError(
        f"{who}: on_lost={value!r} must be 'elsewhere', 'fail' or wait(seconds){hint}"
    )


def joint(said: Iterable[OnLost | None]) -> OnLost | None:
    """What counts for functions that must share a node: the strictest that one says.

    Examples
    --------
    >>> joint([None, "elsewhere", wait(3), wait(5)]), joint([None, None])
    (wait(3), None)
    """
    return min((one for one in said if one is not None), key=_leniency, default=None)


def _leniency(policy: OnLost) -> float:
    return math.inf if policy == ELSEWHERE else patience(policy)


def patience(policy: OnLost) -> float:
    """Seconds that a function waits for a node that is gone, if no other can run it.

    Examples
    --------
    >>> patience("fail"), patience(wait(3)), patience("elsewhere")
    (0.0, 3.0, 10.0)
    """
    if isinstance(policy, Wait):
        return policy.seconds
    return 0.0 if policy == FAIL else DEFAULT.seconds

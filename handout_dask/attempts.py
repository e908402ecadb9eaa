"""Attempts: a function can ask how often it was tried. Knows no Dask."""

from __future__ import annotations

from contextvars import ContextVar

_number: ContextVar[int] = ContextVar("handout_attempt", default=1)


def attempt() -> int:
    """Which attempt this is to run the function that asks: 1 is the first.

    Of the attempts of one run the latest has the highest number. Attempts may be under
    way at the same time, when a node is taken for lost that is not, or a function began
    anew elsewhere; with the number, what a function writes can be told apart.

    Returns
    -------
    int
        1 also outside of functions, and where they are not run by plan.

    Examples
    --------
    >>> attempt()
    1
    """
    return _number.get()


class numbered:  # noqa: N801
    """What runs within is this attempt.

    A generator would not do: contextlib sets the traceback of an exception that passes,
    and one may let nothing be set.
    """

    def __init__(self, number: int) -> None:
        self._number = number

    def __enter__(self) -> None:
        self._token = _number.set(self._number)

    def __exit__(self, *exception: object) -> None:
        _number.reset(self._token)

"""Estimates: where what a plan believes of its functions comes from. Knows no plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DECLARED, LEARNED, GUESSED = SOURCES = ("declared", "learned", "guessed")


@dataclass(frozen=True)
class Learned:
    """Which estimates are what was observed; o cost alternatives, n functions.

    Attributes
    ----------
    time : (o,) bool
        Seconds that were not declared, or turned out otherwise.
    memory : (n,) bool
        Memory that was not declared, or more than declared.
    size : (n,) bool
        Sizes of results that were not declared.
    """

    time: np.ndarray
    memory: np.ndarray
    size: np.ndarray

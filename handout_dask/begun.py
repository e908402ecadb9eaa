"""Begun: how far a plan has been carried out; what of it can't be changed any more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GONE = -2  # where something has run that ended, and whose node is no more
OVERDUE = 0.1  # of its run time that a function which is late is expected to take yet
LATER = 0.5  # of the time that it has taken beyond twice that, where this is more


@dataclass(frozen=True, slots=True)
class Begun:
    """What has begun, and stays as it is while the rest is planned.

    Functions that have not begun have node -1; their other entries are not read. Node
    `GONE` is for what has ended on a node that is no more, and is read by none that
    waits; only `allocators.controller.reconsider` takes it.
    """

    node: np.ndarray  # (n,) int
    option: np.ndarray  # (n,) int, the cost alternative that runs
    start: np.ndarray  # (n,) float [s]
    end: np.ndarray  # (n,) float [s], known or expected


def expected_end(start: float, seconds: float, now: float) -> float:
    """When a function that runs since `start` ends, if it is to take so many seconds.

    What is late already is expected to take a tenth of its time more. In simulations
    with lognormal noise that was better than what such a function has left in the mean.
    Of what takes more than twice its time that was wrong: what is left grows with it.
    """
    beyond = now - start - 2.0 * seconds
    return max(start + seconds, now + max(OVERDUE * seconds, LATER * beyond))

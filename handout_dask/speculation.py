"""Speculation: whether a function that runs late shall run elsewhere instead. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

SLOWEST = 8.0  # times slower than declared a node may become, before more is seen
GAIN = 1.25  # times the time elsewhere that must be left where it runs


def elsewhere(
    passed: float, believed: float, slower: float, offers: Mapping[str, float]
) -> str | None:
    """The node where a late function would end clearly earlier, if begun anew there.

    Parameters
    ----------
    passed : float
        Seconds for which it runs already.
    believed : float
        Seconds that it should take on its node, were that as declared.
    slower : float
        How many times slower than declared its node is, by what is known.
    offers : mapping of str to float
        Seconds from now until it would end on other nodes, by name.

    Returns
    -------
    str or None
        None if it had better stay.

    Notes
    -----
    Of a node that is known to be slow it is known what is left. If all that is known is
    that the function itself is late by a ratio, how slow its node is has a log-uniform
    prior from that ratio to `SLOWEST`, or to twice the ratio. The rule is that of LATE
    (M. Zaharia and others: Improving MapReduce performance in heterogeneous
    environments, OSDI 2008): act on the estimated time to finish, not on progress.
    """
    best = min(offers, key=lambda name: (offers[name], name), default=None)
    ratio = max(passed / believed, 1.0)
    slowest = max(SLOWEST, 2.0 * ratio)
    mean = (slowest - ratio) / math.log(slowest / ratio)
    left = max(slower, mean) * believed - passed
    return best if best is not None and left > GAIN * offers[best] else None

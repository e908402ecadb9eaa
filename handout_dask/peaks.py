"""Peaks: the most memory that functions were seen to take, and what to claim for it.

Pure numbers [MB]; knows no functions and no nodes.
"""

from __future__ import annotations

import numpy as np

FADE = 0.99  # of a name: share of its level that each later observation leaves
LABEL_FADE = 0.9  # of a label, which is seen once a run
MARGIN = 1.1  # what is claimed where nothing is declared, of what was seen
LEAST = 10.0  # MB; below it memory is an interpreter's noise, and not claimed
# Of each decade so many sizes are claimed, that functions have few classes (the E24
# series of preferred numbers, IEC 60063).
SERIES = np.array([
    1.0, 1.1, 1.2, 1.3, 1.5, 1.6, 1.8, 2.0, 2.2, 2.4, 2.7, 3.0, 3.3, 3.6, 3.9, 4.3, 4.7,
    5.1, 5.6, 6.2, 6.8, 7.5, 8.2, 9.1, 10.0,
])  # fmt: skip


class Peak:
    """The largest of some values, the latest of which count most.

    Parameters
    ----------
    fade : float
        Share of the level that each later observation leaves.

    Attributes
    ----------
    level : float
        The largest value, each by ``fade`` to the number of those after it.
    count : int
        How many values it is of.
    exact : bool
        Whether they are exact; estimates count until there is an exact value.

    Notes
    -----
    Too little memory ends a node and all that it runs, too much only lets fewer
    functions run at once; hence the largest value, and not a mean: that of a window
    of latest values as for memory in K. Rzadca et al.: Autopilot: workload autoscaling
    at Google, EuroSys 2020, doi:10.1145/3342195.3387524, but with a window that fades
    so that nothing has to be kept. With `FADE` a value weighs half after 69 others.

    Examples
    --------
    >>> peak = Peak()
    >>> for mb in (100.0, 400.0, 100.0, 100.0):
    ...     peak.add(mb)
    >>> round(peak.level, 2)
    392.04
    """

    __slots__ = ("count", "exact", "fade", "level")

    def __init__(
        self,
        fade: float = FADE,
        level: float = 0.0,
        count: int = 0,
        exact: bool = False,
    ) -> None:
        self.fade, self.level, self.count, self.exact = fade, level, count, exact

    def add(self, value: float, exact: bool = True) -> None:
        """One more value was seen."""
        if exact and not self.exact:
            self.level, self.count, self.exact = value, 1, True
        elif exact == self.exact:
            self.level = max(value, self.level * self.fade)
            self.count += 1

    def merge(self, later: Peak) -> None:
        """What another saw, as if it came after what is known here."""
        if later.exact and not self.exact:
            self.level, self.count, self.exact = later.level, later.count, True
        elif later.exact == self.exact:
            faded = self.level * self.fade**later.count
            self.level = max(faded, later.level)
            self.count += later.count


def coarse(mb: np.ndarray) -> np.ndarray:
    """The next larger of few sizes [MB]; 0 below `LEAST`.

    >>> coarse(np.array([3.0, 10.0, 101.0, 1234.0])).tolist()
    [0.0, 10.0, 110.0, 1300.0]
    """
    mb = np.asarray(mb, dtype=float)
    counts = (mb >= LEAST) & np.isfinite(mb)
    safe = np.where(counts, mb, 1.0)
    decade = 10.0 ** np.floor(np.log10(safe))
    at = np.searchsorted(SERIES, safe / decade * (1 - 1e-12))
    return np.where(counts, np.round(SERIES[at] * decade, 6), 0.0)


def to_claim(
    declared: np.ndarray, seen: np.ndarray, level: np.ndarray, ratio: np.ndarray
) -> np.ndarray:
    """What functions shall claim [MB].

    Parameters
    ----------
    declared : (n,) float [MB]
        0 where nothing is.
    seen : (n,) float [MB]
        What the very function was seen to take; nan is unknown.
    level : (n,) float [MB]
        What functions of its name took at most, of late; 0 is unknown.
    ratio : (n,) float
        What functions of its name took at most of what they declared; 0 is unknown.

    Returns
    -------
    (n,) float [MB]
        Never less than declared. Where nothing is, what was seen of the function, else
        of its name, with `MARGIN`. Where something is, and was too little: what was
        seen; of a function that was not seen itself by as much more than declared as
        its name, but not more than was ever seen of that.
    """
    known = np.isfinite(seen)
    absent = np.where(known, seen, level) * MARGIN
    by_name = np.minimum(declared * ratio, np.maximum(declared, level))
    more = np.where(known, seen, by_name)
    wanted = np.where(declared > 0, np.where(more > declared, more, 0.0), absent)
    out: np.ndarray = np.maximum(declared, coarse(wanted))
    return out

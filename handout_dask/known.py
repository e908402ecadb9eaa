"""What is known of the functions of one name, and of one function. Pure state.

Times are logarithms of seconds at speed 1, memory is in MB, sizes are in bytes. Written
by `history.History` alone.
"""

from __future__ import annotations

import math
from typing import Any

from handout_dask.peaks import FADE, LABEL_FADE, Peak

MEMORY = 0.95  # of a name: weight that an observation keeps with each later one
LABEL_MEMORY = 0.7  # of a label, which is seen once a run
PRIOR = 1.0  # observations that "as declared" is worth, for a name
KIND_PRIOR = 3.0  # observations that the other kinds are worth, for a name on a kind
DECLARED = 0.5  # spread (std of the log) of names around what is declared
TELLING = 0.5  # largest spread of a name whose times tell something of a node
ENOUGH = 5  # functions of a name that show its spread


class Logs:
    """Recency-weighted mean and variance of logarithms."""

    __slots__ = ("count", "mean", "variance", "weight")

    def __init__(
        self,
        weight: float = 0.0,
        mean: float = 0.0,
        variance: float = 0.0,
        count: int = 0,
    ) -> None:
        self.weight, self.mean, self.variance = weight, mean, variance
        self.count = count

    def add(self, x: float) -> None:
        """One more value was seen."""
        old = self.weight * MEMORY
        self.weight = old + 1.0
        step = (x - self.mean) / self.weight
        # A prior is no observation: what leads away from it is no spread.
        spread = step * (x - self.mean) * old / self.weight if self.count else 0.0
        self.variance = self.variance * old / self.weight + spread
        self.mean += step
        self.count += 1

    def merge(self, later: Logs) -> None:
        """What another saw, as if it came after; `later` has no prior.

        Means and variances of two parts add as in T. Chan, G. Golub, R. LeVeque:
        Updating formulae and a pairwise algorithm for computing sample variances,
        COMPSTAT 1982, doi:10.1007/978-3-642-51461-6_3.
        """
        if not later.count:
            return
        old = self.weight * MEMORY**later.count
        whole = old + later.weight
        step = later.mean - self.mean
        share = later.weight / whole
        spread = step * step * share * (1 - share) if self.count else 0.0
        within = self.variance * (1 - share) + later.variance * share
        self.variance = within + spread
        self.mean += step * share
        self.weight = whole
        self.count += later.count

    def expected(self) -> float:
        """Log of the mean of a lognormal distribution with these moments."""
        return self.mean + min(self.variance, 1.0) / 2


class Label:
    """One function as it was seen: log of seconds at speed 1, size, memory."""

    __slots__ = ("count", "mean", "nbytes", "peak", "weight")

    def __init__(self) -> None:
        self.weight, self.mean, self.count = 0.0, 0.0, 0
        self.nbytes: float | None = None
        self.peak: Peak | None = None

    def add(self, work: float) -> None:
        """It took so long."""
        self.weight = self.weight * LABEL_MEMORY + 1.0
        self.mean += (work - self.mean) / self.weight
        self.count += 1

    def add_peak(self, mb: float, exact: bool) -> None:
        """It took so much memory."""
        if self.peak is None:
            self.peak = Peak(LABEL_FADE)
        self.peak.add(mb, exact)

    def merge(self, later: Label) -> None:
        """What another saw, as if it came after."""
        if later.count:
            whole = self.weight * LABEL_MEMORY**later.count + later.weight
            self.mean += (later.mean - self.mean) * later.weight / whole
            self.weight = whole
            self.count += later.count
        if later.nbytes is not None:
            self.nbytes = later.nbytes
        if later.peak is not None:
            if self.peak is None:
                self.peak = Peak(LABEL_FADE)
            self.peak.merge(later.peak)


class OnKind:
    """The functions of one name on one kind of node.

    Attributes
    ----------
    work : Logs
        Seconds at speed 1.
    factor : Logs
        Of those with a declared time, by how much longer they took.
    peak : Peak
        Memory [MB].
    """

    __slots__ = ("factor", "peak", "work")

    def __init__(self) -> None:
        self.work, self.factor, self.peak = Logs(), Logs(), Peak(FADE)

    def merge(self, later: OnKind) -> None:
        """What another saw, as if it came after."""
        self.work.merge(later.work)
        self.factor.merge(later.factor)
        self.peak.merge(later.peak)


class Name:
    """The functions of one name: on any kind, and on each.

    Parameters
    ----------
    prior : float
        Observations that "as declared" is worth; 0 for what is to be merged into
        another.
    """

    __slots__ = ("excess", "factor", "on", "size", "work")

    def __init__(self, prior: float = PRIOR) -> None:
        self.work, self.factor = Logs(), Logs(prior)
        self.size = Logs()  # log of bytes
        self.excess = Peak(FADE)  # memory, as a share of what was declared
        self.on: dict[str, OnKind] = {}

    def work_on(self, kind: str | None) -> Logs:
        """Seconds on a kind, or on any if it has not run there."""
        known = self.on.get(kind) if kind is not None else None
        return self.work if known is None or not known.work.count else known.work

    def factor_on(self, kind: str | None) -> float:
        """Log of the factor on a kind: what the kind says, led by what all say."""
        known = self.on.get(kind) if kind is not None else None
        if known is None:
            return self.factor.expected()
        logs = known.factor
        prior = KIND_PRIOR * MEMORY**logs.count
        mine, all_ = logs.weight * logs.expected(), prior * self.factor.expected()
        return (mine + all_) / (logs.weight + prior)

    def level(self, kind: str | None = None) -> float:
        """The most memory [MB] of late, on a kind or on any; 0 if none was measured.

        What is exact on one kind counts more than what is estimated on others.
        """
        known = self.on.get(kind) if kind is not None else None
        peaks = [one.peak for one in (self.on.values() if known is None else [known])]
        peaks = [peak for peak in peaks if peak.count]
        exact = [peak for peak in peaks if peak.exact]
        return max((peak.level for peak in exact or peaks), default=0.0)

    def believed(
        self, kind: str, given: float | None, seen: Label, noise: float
    ) -> tuple[float, float] | None:
        """Log of the seconds at speed 1 that a function should take, and its doubt.

        Of a name that is new nobody knows whether it or the node takes so long.
        """
        if given is not None:
            known = DECLARED**-2 + self.factor.count / noise**2
            return given + self.factor_on(kind), known**-0.5
        if seen.weight:
            return seen.mean, noise * seen.weight**-0.5
        work = self.work_on(kind)
        if work.count < ENOUGH or work.variance > TELLING**2:
            return None
        return work.expected(), math.sqrt(work.variance)

    def add(self, kind: str, work: float, given: float | None) -> None:
        """One took so long on a kind; `given` is the log of the declared time."""
        known = self.on_kind(kind)
        self.work.add(work)
        known.work.add(work)
        if given is not None:
            self.factor.add(work - given)
            known.factor.add(work - given)

    def add_peak(self, kind: str, mb: float, given: float, exact: bool) -> None:
        """One took so much memory; `given` is what it declared, 0 is nothing."""
        self.on_kind(kind).peak.add(mb, exact)
        if given > 0:
            self.excess.add(mb / given, exact)

    def merge(self, later: Name) -> None:
        """What another saw, as if it came after."""
        self.work.merge(later.work)
        self.factor.merge(later.factor)
        self.size.merge(later.size)
        self.excess.merge(later.excess)
        for kind, one in later.on.items():
            self.on_kind(kind).merge(one)

    def on_kind(self, kind: str) -> OnKind:
        """What is known on a kind, from now on."""
        known = self.on.get(kind)
        if known is None:
            known = self.on[kind] = OnKind()
        return known

    def told(self, kind: str | None) -> dict[str, Any]:
        """What is known, for people and for JSON."""
        work = self.work_on(kind)
        return {
            "seconds": math.exp(work.expected()),
            "spread": math.sqrt(work.variance),
            "factor": math.exp(self.factor_on(kind)),
            "observations": work.count,
            "memory": self.level(kind) or None,
        }

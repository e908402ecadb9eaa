"""Slowness: how much slower than believed each node is at the moment.

Pure: ratios of seconds taken to seconds believed in, factors out. Knows no functions.
"""

from __future__ import annotations

import math

NOISE = 0.3  # spread (std of the log) of single functions, until it is known
NOISE_WORTH = 15.0  # observations that this prior is worth
NOISE_MEMORY = 0.99
LEAST, LARGEST = 0.1, 1.0  # bounds of the spread
MEMORY = 0.975  # weight that an observation keeps with each later one of its node
CALM = 20.0  # observations that "as believed" is worth
DRIFT = 1.0  # spreads by which an observation must deviate to count as evidence
CLIP = 4.0  # spreads that one observation counts for at most
ALARM = 4.5  # evidence in spreads that makes a change: two functions far off
FASTEST = 0.7  # factor; what is faster still was believed too slow itself
DOUBT = 0.15  # observations that "as believed" is worth after a change
LATE = 3.2  # spreads by which a running function must be late to be evidence alone

Evidence = tuple[float, float, float]
NONE: Evidence = (0.0, 0.0, 0.0)


class Slowness:
    """How many times longer than believed functions take, node by node.

    Attributes
    ----------
    noise : float
        Spread (standard deviation of the logarithm) of single functions on all nodes.

    Notes
    -----
    Of each node the recency-weighted mean of ``log(ratio) + noise² / 2`` is kept, which
    is 0 for lognormal noise of mean 1, with `CALM` observations of 0 as a prior and
    deviations clipped at `CLIP` spreads (P. Huber: Robust estimation of a location
    parameter, Ann. Math. Stat. 35(1), 1964, doi:10.1214/aoms/1177703732). A change is
    found by a two-sided cumulative sum of the clipped deviations beyond `DRIFT` (E.
    Page: Continuous inspection schemes, Biometrika 41, 1954,
    doi:10.1093/biomet/41.1-2.100): where it passes `ALARM`, the mean begins anew from
    the observations of that sum, or at 0 if they say that the node is as believed. One
    function alone is no change, however late: its estimate may be wrong. But one that
    runs on past `LATE` spreads is believed at once, for waiting costs more; the node is
    then at least so slow, until a function ends on it.

    Examples
    --------
    >>> nodes = Slowness()
    >>> for ratio in (1.1, 0.9, 4.2):
    ...     nodes.observe("n0", ratio)
    >>> round(nodes.factor("n0"), 1)
    1.1
    >>> nodes.observe("n0", 3.9)
    >>> round(nodes.factor("n0"), 1)
    3.8
    """

    def __init__(self) -> None:
        self.noise = NOISE
        self._weight = NOISE_WORTH
        self._nodes: dict[str, _Node] = {}

    def observe(self, node: str, ratio: float, doubt: float = 0.0) -> None:
        """Learn that a function took `ratio` times what was believed.

        Parameters
        ----------
        node : str
            Where it ran.
        ratio : float
            Above 0; the node's own factor is no part of what was believed.
        doubt : float
            How uncertain that belief was, as a standard deviation of its logarithm,
            besides the noise of the single function. The more, the less is learned.
        """
        if not 0.0 < ratio < math.inf:
            return
        state = self._nodes.get(node)
        if state is None:
            state = self._nodes[node] = _Node()
        x = math.log(ratio) + self.noise * self.noise / 2
        spread = math.hypot(self.noise, doubt)
        share = (self.noise / spread) ** 2
        z = (x - state.mean) / spread
        state.add(x, z, share, spread, self.noise)
        self._weight = self._weight * NOISE_MEMORY + share
        squared = (min(z * z, 9.0) - 1.0) * share
        variance = self.noise**2 * (1.0 + squared / self._weight)
        self.noise = min(max(math.sqrt(variance), LEAST), LARGEST)

    def overdue(self, node: str, ratio: float) -> None:
        """Learn that a function runs for `ratio` times what was believed, and goes on.

        May be told again and again, of each that runs. Once another function has ended
        in time on the node, it takes twice the ratio to be believed, until one ends
        that was slow too.
        """
        state = self._nodes.get(node)
        if state is None:
            state = self._nodes[node] = _Node()
        if 0.0 < ratio < math.inf:
            state.wait(ratio, self.noise)

    def relax(self, node: str, share: float = 1.0) -> None:
        """Forget a share of how slow a node is believed; all of it by default.

        A node that is believed slow gets no work, so that nothing shows when it has
        recovered: relax it as time passes, and wholly when it was restarted.
        """
        state = self._nodes.get(node)
        if state is None:
            return
        if share >= 1.0:
            del self._nodes[node]
            return
        state.mean *= 1.0 - share
        state.bound **= 1.0 - share

    def factor(self, node: str) -> float:
        """How many times longer than believed functions take; 1.0 if unknown."""
        state = self._nodes.get(node)
        if state is None:
            return 1.0
        return max(math.exp(state.mean), state.bound, FASTEST)

    def snapshot(self) -> dict[str, float]:
        """The factor of each node that was observed."""
        return {node: self.factor(node) for node in sorted(self._nodes)}


class _Node:
    """One node: the mean, the evidence above and below it, and what is overdue."""

    __slots__ = ("bound", "down", "excused", "mean", "up", "weight")

    def __init__(self) -> None:
        self.weight, self.mean = CALM, 0.0
        # evidence in spreads, weight of what it is of, and their weighted sum
        self.up = self.down = NONE
        self.bound = 0.0  # ratio that a running function has passed; 0 is none
        self.excused = 0.0  # such a ratio that others on the node contradict

    def add(
        self, x: float, z: float, share: float, spread: float, noise: float
    ) -> None:
        clipped = min(max(z, -CLIP), CLIP)
        self.up = _more(self.up, clipped - DRIFT, x, share)
        self.down = _more(self.down, -clipped - DRIFT, x, share)
        was, self.bound = self.bound, 0.0
        told = was > 0.0 and x >= math.log(was)  # it was this one that was overdue
        if self.up[1]:  # slow as well: no contradiction
            self.excused = 0.0
        elif was:
            self.excused = was
        if self.up[0] >= ALARM or (told and self.up[1]):
            self._change(self.up, noise)
        elif self.down[0] >= ALARM:
            self._change(self.down, noise)
        else:
            self.weight = self.weight * MEMORY + share
            self.mean += share * clipped * spread / self.weight

    def _change(self, run: Evidence, noise: float) -> None:
        _, weight, total = run
        self.up = self.down = NONE
        calm = abs(total / weight) < 1.5 * noise
        self.weight = weight + (CALM if calm else DOUBT)
        self.mean = total / self.weight

    def wait(self, ratio: float, noise: float) -> None:
        late = (math.log(ratio) - self.mean) / noise
        evidence = self.up[0] + min(late, CLIP) - DRIFT
        if (late >= LATE or evidence >= ALARM) and ratio > 2.0 * self.excused:
            self.bound = max(self.bound, ratio)


def _more(run: Evidence, by: float, x: float, share: float) -> Evidence:
    """One more observation in a cumulative sum that begins anew at 0."""
    evidence = run[0] + by
    return (evidence, run[1] + share, run[2] + share * x) if evidence > 0 else NONE

"""Traffic: how long results take from node to node, as measured. Pure.

Starts from what is declared of the links, and leaves it as measurements come in.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from handout_dask.node import Cluster

SMALL, LARGE = 0.1, 1.0  # MB that tell the cost of a transfer, and the bandwidth
PRIOR = 4.0  # measurements that what is declared counts as
RECENT = 0.9  # of their weight that measurements keep with each new one
FIRST_COST = 0.002  # s for a transfer besides the latency, before anything is measured


@dataclass(slots=True)
class _Mean:
    """A mean in which recent values weigh more, and a first guess weighs some."""

    total: float
    weight: float

    def add(self, value: float) -> None:
        self.total = RECENT * self.total + value
        self.weight = RECENT * self.weight + 1.0

    @property
    def value(self) -> float:
        return self.total / self.weight


@dataclass
class Traffic:
    """Measured times of transfers.

    A transfer of x MB from node a to b takes latency(a, b) + cost + x / bandwidth(a, b)
    seconds. The cost of one is the same for all pairs: it is what asking for it, and
    hearing that it came, takes.

    Parameters
    ----------
    bandwidth : float
        MB/s of pairs that nothing is declared of, and nothing measured.

    Examples
    --------
    >>> traffic = Traffic(bandwidth=100.0)
    >>> round(traffic.seconds("a", "b", 10.0), 3)
    0.102
    >>> for _ in range(40):
    ...     traffic.observe("a", "b", mb=10.0, seconds=0.202)
    >>> round(traffic.seconds("a", "b", 10.0), 2)
    0.2
    """

    bandwidth: float = 100.0
    declared: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    _cost: _Mean = field(default_factory=lambda: _Mean(PRIOR * FIRST_COST, PRIOR))
    _slow: dict[tuple[str, str], _Mean] = field(default_factory=dict)  # s per MB

    def declare(self, cluster: Cluster) -> None:
        """Take over the links of a cluster, by the names of its nodes."""
        names = [node.name for node in cluster.nodes]
        for a, one in enumerate(names):
            for b, other in enumerate(names):
                if a != b:
                    link = float(cluster.latency[a, b]), float(cluster.bandwidth[a, b])
                    self.declared[one, other] = link

    def observe(self, a: str, b: str, mb: float, seconds: float) -> None:
        """A transfer from node a to node b took some seconds, all in all."""
        latency, bandwidth = self._declared(a, b)
        left = seconds - latency
        if mb <= SMALL:
            self._cost.add(max(0.0, left - mb / bandwidth))
        elif mb >= LARGE:
            slow = self._slow.get((a, b))
            if slow is None:
                slow = self._slow[a, b] = _Mean(PRIOR / bandwidth, PRIOR)
            slow.add(max(0.0, left - self._cost.value) / mb)

    def seconds(self, a: str, b: str, mb: float) -> float:
        """Seconds that so many MB are expected to take from node a to node b."""
        latency, bandwidth = self.link(a, b)
        return latency + mb / bandwidth

    def link(self, a: str, b: str) -> tuple[float, float]:
        """Seconds for each transfer, and MB/s, from node a to node b."""
        latency, bandwidth = self._declared(a, b)
        slow = self._slow.get((a, b))
        if slow is not None and slow.value > 0.0:
            bandwidth = 1.0 / slow.value
        return latency + self._cost.value, bandwidth

    def _declared(self, a: str, b: str) -> tuple[float, float]:
        latency, bandwidth = self.declared.get((a, b), (0.0, self.bandwidth))
        return latency / 1e3, bandwidth

    def links(self, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """``(bandwidth, latency)``: (m, m) [MB/s] and (m, m) [ms] between nodes."""
        m = len(names)
        bandwidth = np.full((m, m), self.bandwidth)
        latency = np.full((m, m), 1e3 * self._cost.value)
        known = {name: j for j, name in enumerate(names)}
        for a, b in {**self.declared, **self._slow}:
            if a in known and b in known:
                seconds, mbs = self.link(a, b)
                latency[known[a], known[b]] = 1e3 * seconds
                bandwidth[known[a], known[b]] = mbs
        return bandwidth, latency

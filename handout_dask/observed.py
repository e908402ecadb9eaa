"""Observed: what other processes of a host leave to its nodes, and what plans see.

Pure: is told what workers measured and when; knows no clock, no Dask, no claims.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from handout_dask.history import kind_of
from handout_dask.node import TOLERANCE, Cluster, Node
from handout_dask.outline import Outline

LEAST = 3  # samples in a row that a change needs
ROUNDING = 0.01  # share by which declared memory may be above the host's


@dataclass(frozen=True, slots=True)
class Sample:
    """What one worker measured of late, of itself and of its host.

    Attributes
    ----------
    node, host, process : str
        Where; workers of one process measure the same.
    at : float
        When [s]; of two samples of a host the later one tells of the host.
    cpu, memory : float
        Cores used, and MB held, by the process of the worker and those it started.
    cores, busy : float
        Cores of the host, and how many of them are busy.
    total, available : float
        MB of the host, and MB of it that can be had without swapping.
    """

    node: str
    host: str
    process: str
    at: float
    cpu: float
    memory: float
    cores: float
    busy: float
    total: float
    available: float


@dataclass(frozen=True, slots=True)
class Play:
    """How what is usable follows what is left: in steps, and late.

    Attributes
    ----------
    share, least : float
        A step is this share of what is declared, but not less than `least`.
    spare : float
        So many steps, at least one and a half, may others have, and it counts nothing.
    shrink, grow : float
        For how long [s] less, or more, has to be left before it counts.
    """

    share: float
    least: float
    spare: float
    shrink: float
    grow: float

    def step(self, declared: float) -> float:
        """The step of a node that declares so much."""
        return max(self.share * declared, self.least)


# Memory that is gone ends processes; cores that are busy are only shared.
PLAYS = {
    "memory": Play(1 / 32, 1.0, 3.0, shrink=2.0, grow=10.0),
    "cpu": Play(1 / 16, 0.5, 1.5, shrink=5.0, grow=10.0),
}


class Level:
    """What is usable of one resource of one node.

    Parameters
    ----------
    declared : float
        The capacity; where it starts, and what it never exceeds.
    play : Play
        How it follows.

    Notes
    -----
    A play operator (M. Krasnosel'skii, A. Pokrovskii: Systems with Hysteresis,
    Springer, 1989, doi:10.1007/978-3-642-61302-9) between two bounds, a step apart:
    the level falls to the largest upper bound of the last seconds, and rises to the
    smallest lower bound of the last, and more, seconds. Both rise with what is left,
    hence so does the level; what jitters by less than a step moves it in one direction
    at most.

    Examples
    --------
    >>> level = Level(1000.0, Play(1 / 10, 1.0, 1.5, shrink=2.0, grow=10.0))
    >>> [level.follow(320.0, float(at)) for at in range(4)]
    [1000.0, 1000.0, 400.0, 400.0]
    >>> [level.follow(990.0, 4.0 + at) for at in range(0, 12, 5)]
    [400.0, 400.0, 1000.0]
    """

    def __init__(self, declared: float, play: Play) -> None:
        self.declared, self.value, self._play = declared, declared, play
        self._seen: deque[tuple[float, float, float]] = deque()

    def follow(self, left: float, now: float) -> float:
        """Take in how much is left at a time, later than the last; what is usable."""
        step = self._play.step(self.declared)
        full = self.declared - self._play.spare * step
        high = self.declared if left >= full else _on_grid(left + step, step)
        low = self.declared if left >= full + step else _on_grid(left, step)
        self._seen.append((now, low, high))
        horizon = max(self._play.shrink, self._play.grow)
        while len(self._seen) > LEAST and self._seen[1][0] <= now - horizon:
            self._seen.popleft()
        rise = min(self._since(now - self._play.grow, 1), default=0.0)
        fall = max(self._since(now - self._play.shrink, 2), default=math.inf)
        self.value = min(max(self.value, rise), fall)
        return self.value

    def _since(self, begin: float, which: int) -> list[float]:
        """One bound in each sample from `begin` on; none if they don't reach back."""
        if self._seen[0][0] > begin or len(self._seen) < LEAST:
            return []
        last = [row[which] for row in self._seen if row[0] > begin]
        last_few = [row[which] for row in list(self._seen)[-LEAST:]]
        return max(last, last_few, key=len)


def _on_grid(amount: float, step: float) -> float:
    return max(0.0, math.floor(amount / step) * step)


class Usable:
    """What is usable of the cores and the memory of every node, as samples come in."""

    def __init__(self) -> None:
        self._levels: dict[tuple[str, str], Level] = {}
        self._last: dict[str, Sample] = {}

    def follow(
        self, samples: Iterable[Sample], nodes: Mapping[str, Node], now: float
    ) -> set[str]:
        """Take in the last sample of every node; the names of those that changed.

        Parameters
        ----------
        samples : iterable of Sample
            One of each node. Where it is the same as before for all of a host, nothing
            was measured and nothing changes.
        nodes : mapping of str to Node
            What each declares.
        now : float
            When [s].
        """
        last = {sample.node: sample for sample in samples if sample.node in nodes}
        hosts: dict[str, list[Sample]] = {}
        for sample in last.values():
            hosts.setdefault(sample.host, []).append(sample)
        before = self.limits()
        for key in [key for key in self._levels if key[0] not in last]:
            del self._levels[key]
        for together in hosts.values():
            if any(self._last.get(sample.node) != sample for sample in together):
                self._follow(together, nodes, now)
        self._last = last
        after = self.limits()
        return {
            n for n in before.keys() | after.keys() if before.get(n) != after.get(n)
        }

    def _follow(
        self, samples: Sequence[Sample], nodes: Mapping[str, Node], now: float
    ) -> None:
        left = left_of(samples, nodes)
        for sample in samples:
            for resource, play in PLAYS.items():
                key, declared = (sample.node, resource), nodes[sample.node]
                if resource not in left[sample.node]:
                    self._levels.pop(key, None)
                    continue
                capacity = declared.capacity(resource)
                level = self._levels.get(key)
                if level is None or level.declared != capacity:
                    level = self._levels[key] = Level(capacity, play)
                level.follow(left[sample.node][resource], now)

    def limits(self) -> dict[str, dict[str, float]]:
        """``{node: {resource: usable}}``, only where that is below what is declared."""
        out: dict[str, dict[str, float]] = {}
        for (node, resource), level in self._levels.items():
            if level.value < level.declared:
                out.setdefault(node, {})[resource] = level.value
        return out


def left_of(
    samples: Sequence[Sample], nodes: Mapping[str, Node]
) -> dict[str, dict[str, float]]:
    """What other processes leave to the nodes of one host.

    Parameters
    ----------
    samples : sequence of Sample
        One of each node on the host.
    nodes : mapping of str to Node
        What each declares.

    Returns
    -------
    dict
        By node: ``memory`` [MB], what it holds and an even part of what is available;
        ``cpu`` [cores], its part, by what it declares, of those that no other process
        keeps busy. Neither where the nodes together declare more than the host has:
        such declarations are not of real cores, or not of real memory.
    """
    host = max(samples, key=lambda sample: sample.at)
    ours = own_use(samples)
    out: dict[str, dict[str, float]] = {sample.node: {} for sample in samples}
    memory = sum(nodes[name].capacity("memory") for name in out)
    if memory <= host.total * (1 + ROUNDING):
        for name, used in ours.items():
            out[name]["memory"] = used["memory"] + host.available / len(out)
    cores = sum(nodes[name].capacity("cpu") for name in out)
    if 0 < cores <= host.cores:
        others = max(0.0, host.busy - sum(used["cpu"] for used in ours.values()))
        share = max(0.0, host.cores - others) / cores
        for name in out:
            out[name]["cpu"] = share * nodes[name].capacity("cpu")
    return out


def own_use(samples: Iterable[Sample]) -> dict[str, dict[str, float]]:
    """``{node: {"cpu": cores, "memory": MB}}`` of nodes of one host.

    Workers that are threads of one process have an even part of what it uses.
    """
    listed = list(samples)
    sharing: dict[str, int] = {}
    for sample in listed:
        sharing[sample.process] = sharing.get(sample.process, 0) + 1
    return {
        sample.node: {
            "cpu": sample.cpu / sharing[sample.process],
            "memory": sample.memory / sharing[sample.process],
        }
        for sample in listed
    }


def narrowed(
    cluster: Cluster, limits: Mapping[str, Mapping[str, float]], outline: Outline
) -> Cluster:
    """The cluster as a plan shall see it while other processes use its hosts.

    Parameters
    ----------
    cluster : Cluster
        As declared.
    limits : mapping
        ``{node: {resource: usable}}``.
    outline : Outline
        What is to be planned. A node keeps room for each of its functions that fits
        what the node declares, so that none becomes impossible.
    """
    if not any(name in limits for name in cluster.index):
        return cluster
    names, need = outline.demand
    nodes = []
    for node in cluster.nodes:
        less = {
            resource: max(usable, largest_fitting(node, resource, names, need))
            for resource, usable in limits.get(node.name, {}).items()
        }
        less = {r: x for r, x in less.items() if x < node.capacity(r)}
        nodes.append(_with(node, less) if less else node)
    return Cluster(
        nodes, cluster.bandwidth, cluster.latency,
        billing=cluster.billing, quantum=cluster.quantum,
    )  # fmt: skip


def largest_fitting(
    node: Node, resource: str, names: Sequence[str], need: np.ndarray
) -> float:
    """The most that a class of functions asks of a resource and a node declares.

    Parameters
    ----------
    names, need : sequence of q str, (c, q) float
        As ``Outline.demand``.
    """
    if resource not in names:
        return 0.0
    asked = need[:, list(names).index(resource)]
    fits = asked[asked <= node.capacity(resource) * (1 + TOLERANCE)]
    return float(fits.max(initial=0.0))


def _with(node: Node, capabilities: Mapping[str, float]) -> Node:
    """The node with less; what is learned of it is still that of its kind."""
    return Node(
        node.name, {**node.capabilities, **capabilities}, speed=node.speed,
        gpu_speed=node.gpu_speed, price=node.price, watts=node.watts,
        slots=node.slots, kind=kind_of(node),
    )  # fmt: skip

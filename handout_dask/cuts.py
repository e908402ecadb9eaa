"""Cuts: which nodes can't reach each other, and which are left out for it. Pure.

Knows what was tried between two nodes, and who asked in vain for which result; time is
an argument, Dask is unknown here.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

STRIKES = 2  # tries in a row after which two nodes count as cut off, or as healed


@dataclass(slots=True)
class _Pair:
    failed: int = 0  # tries in a row
    worked: int = 0
    cut: bool = False


class Cuts:
    """Keeps which pairs of nodes are cut off from each other.

    Nodes that all reach the scheduler, but not each other, can't all have a part in one
    graph. Those left out are a vertex cover of the cut pairs: the one that most others
    can't reach goes first, of equals the one with the least in hand; who is out already
    stays out as long as it is cut off from anybody.
    """

    def __init__(self) -> None:
        self._pairs: dict[frozenset[str], _Pair] = {}
        self._out: list[str] = []

    def tried(self, one: str, other: str, reached: bool) -> bool:
        """One node tried to reach another; whether it is news that they are cut off, or
        that they no longer are.
        """
        pair = self._pairs.setdefault(frozenset((one, other)), _Pair())
        pair.failed, pair.worked = (
            (0, pair.worked + 1) if reached else (pair.failed + 1, 0)
        )
        before = pair.cut
        if (pair.worked if pair.cut else pair.failed) >= STRIKES:
            pair.cut = not pair.cut
        return pair.cut != before

    def is_cut(self, one: str, other: str) -> bool:
        """Whether two nodes can't reach each other."""
        pair = self._pairs.get(frozenset((one, other)))
        return pair is not None and pair.cut

    def cut_from(self, name: str) -> list[str]:
        """The nodes from which one is cut off."""
        return sorted(
            other
            for pair, about in self._pairs.items()
            if about.cut and name in pair
            for other in pair - {name}
        )

    def forget(self, name: str) -> None:
        """A node is gone for good."""
        for pair in [pair for pair in self._pairs if name in pair]:
            del self._pairs[pair]

    def out(self, weight: Mapping[str, float]) -> list[str]:
        """The nodes that are left out, in order of their names.

        Parameters
        ----------
        weight : mapping
            What each node has in hand; others have nothing.
        """
        left = [set(pair) for pair, about in self._pairs.items() if about.cut]
        self._out = [name for name in self._out if any(name in pair for pair in left)]
        left = [pair for pair in left if pair.isdisjoint(self._out)]
        while left:
            degree: dict[str, int] = {}
            for pair in left:
                for name in pair:
                    degree[name] = degree.get(name, 0) + 1
            chosen = min(degree, key=lambda x: (-degree[x], weight.get(x, 0.0), x))
            self._out.append(chosen)
            left = [pair for pair in left if chosen not in pair]
        return sorted(self._out)


@dataclass(slots=True)
class _Round:
    first: float
    last: float
    count: int


class Questions:
    """Keeps who asks where a result is, again and again, and so does not get it.

    Parameters
    ----------
    pause : float
        Seconds without a question after which the next one is a first one again.
    """

    def __init__(self, pause: float = 10.0) -> None:
        self._pause = pause
        self._rounds: dict[tuple[str, Hashable], _Round] = {}

    def asked(self, who: str, what: Hashable, now: float) -> tuple[int, float]:
        """Somebody asks; how often that makes, and for how long [s] they do."""
        about = self._rounds.get((who, what))
        if about is None or now - about.last > self._pause:
            about = self._rounds[who, what] = _Round(now, now, 0)
        about.count, about.last = about.count + 1, now
        return about.count, now - about.first

    def forget(self, who: str, what: Hashable) -> None:
        """What was asked for is on its way, or nobody's fault."""
        self._rounds.pop((who, what), None)

    def sweep(self, now: float) -> None:
        """Forget what nobody asks for any more."""
        for key in [k for k, v in self._rounds.items() if now - v.last > self._pause]:
            del self._rounds[key]

"""History: what was observed of functions, as estimates for the next plan.

In memory and pure: it is told what happened, and knows no clock, no run, no Dask. How
slow nodes are at the moment is `slowness`; whom an observation teaches is decided here.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from handout_dask.node import Node
from handout_dask.slowness import Slowness

SHORTEST = 1e-6  # s; below it a measured time is the clock's
MEMORY = 0.95  # of a name: weight that an observation keeps with each later one
LABEL_MEMORY = 0.7  # of a label, which is seen once a run
PRIOR = 1.0  # observations that "as declared" is worth, for a name
KIND_PRIOR = 3.0  # observations that the other kinds are worth, for a name on a kind
DECLARED = 0.5  # spread (std of the log) of names around what is declared
TELLING = 0.5  # largest spread of a name whose times tell something of a node
ENOUGH = 5  # functions of a name that show its spread


class History:
    """What functions took, by name, label and node kind.

    Parameters
    ----------
    most : int
        How many functions (name and label), and how many names, are remembered; those
        not seen for longest go first.

    Notes
    -----
    Times are those at speed 1: a node's declared speed, and how much slower than
    believed it is at the moment, are divided out. Of each name, and of each name on
    each kind, the mean and the variance of logarithms are kept, with weights that
    fall by `MEMORY` with each later observation (T. Finch: Incremental calculation of
    weighted mean and variance, University of Cambridge, 2009). The estimate is the mean
    of the lognormal distribution with these moments, ``exp(mean + variance / 2)``, for
    a plan adds expected times. A name's factor begins at its declared times, that of a
    name on a kind at what the name does anywhere; either counts as a few observations,
    and fades as they do: a wrong declaration isn't averaged with the truth for ever. A
    label's estimate is the plain geometric mean: of one observation it is unbiased.

    Examples
    --------
    >>> history = History()
    >>> for k in range(40):
    ...     history.observe("blur", f"blur-{k}", "fast", 0.5, declared=0.5, speed=2.0)
    >>> round(history.factor("blur", "fast"), 2)
    2.0
    >>> history.observe("load", "load-1", "fast", 3.0, speed=2.0, nbytes=80)
    >>> history.seconds("load", "load-1"), history.nbytes("load", "load-1")
    (6.0, 80.0)
    """

    def __init__(self, most: int = 100_000) -> None:
        self.most = most
        self.nodes = Slowness()
        self._labels: dict[tuple[str, str], _Label] = {}
        self._names: dict[str, _Name] = {}

    # ------------------------------------------------------------- observations
    def observe(
        self,
        name: str,
        label: str,
        kind: str,
        seconds: float,
        *,
        declared: float | None = None,
        speed: float = 1.0,
        node: str | None = None,
        nbytes: float | None = None,
        bytes_of: Mapping[Hashable, float] | None = None,
    ) -> None:
        """Learn from one finished function.

        Parameters
        ----------
        name, label, kind : str
            What durations are learned under; the text of the id; the kind of the node.
        seconds : float
            How long it ran [s]. Times that are no time (negative, NaN) teach nothing.
        declared : float, optional
            Seconds at speed 1 that the user declared; None if none were.
        speed : float
            Declared speed of the node for this function.
        node : str, optional
            Where it ran. Then it also tells how slow the node is, if it is known how
            long the function should take, and its name learns what is left.
        nbytes : float, optional
            Size of the whole result.
        bytes_of : mapping, optional
            Size of elements of the result, by index.
        """
        known = self._names.pop(name, None) or _Name()
        self._names[name] = known
        if len(self._names) > self.most:
            del self._names[next(iter(self._names))]
        seen = self._labels.pop((name, label), None) or _Label()
        self._labels[name, label] = seen
        if len(self._labels) > self.most:
            del self._labels[next(iter(self._labels))]
        if nbytes is not None:
            seen.nbytes = float(nbytes)
        if bytes_of is not None:
            seen.bytes_of = dict(bytes_of)
        if not 0.0 <= seconds < math.inf:
            return
        work = math.log(max(seconds, SHORTEST) * speed)
        given = math.log(declared) if declared and declared > SHORTEST else None
        if node is not None:
            believed = known.believed(kind, given, seen, self.nodes.noise)
            if believed is not None:
                ratio = math.exp(min(max(work - believed[0], -50.0), 50.0))
                self.nodes.observe(node, ratio, believed[1])
            work -= math.log(self.nodes.factor(node))
        seen.add(work)
        known.add(kind, work, given)

    def observe_node(self, node: str, ratio: float) -> None:
        """Learn that a function took `ratio` times what was believed, on a node.

        Believed without the node's own `node_factor`. `observe` with a node does it.
        """
        self.nodes.observe(node, ratio)

    def overdue(self, node: str, ratio: float) -> None:
        """Learn that a function runs for `ratio` times what was believed, and on."""
        self.nodes.overdue(node, ratio)

    def relax(self, node: str, share: float = 1.0) -> None:
        """Forget a share of how slow a node is believed; see `Slowness.relax`."""
        self.nodes.relax(node, share)

    # ---------------------------------------------------------------- estimates
    def knows(self, names: Iterable[str]) -> bool:
        """Whether functions of one of these names were observed."""
        return any(name in self._names for name in names)

    def factor(self, name: str, kind: str | None = None) -> float:
        """How many times longer than declared the functions of a name take.

        On a kind of node, or on any if None or the kind has not run it; 1.0 if unknown.
        """
        known = self._names.get(name)
        return 1.0 if known is None else math.exp(known.factor_on(kind))

    def seconds(
        self, name: str, label: str | None = None, kind: str | None = None
    ) -> float | None:
        """Seconds at speed 1 that a function takes; None if its name was never seen.

        From its label; else from its name on the kind; else from its name anywhere.
        """
        seen = self._labels.get((name, label)) if label is not None else None
        if seen is not None and seen.weight:
            return math.exp(seen.mean)
        known = self._names.get(name)
        if known is None or not known.work.weight:
            return None
        return math.exp(known.work_on(kind).expected())

    def believed(
        self, name: str, label: str, declared: float | None = None
    ) -> float | None:
        """Seconds at speed 1, if they are declared or this very function was seen."""
        if declared is not None:
            return declared * self.factor(name)
        return self.seconds(name, label) if (name, label) in self._labels else None

    def node_factor(self, node: str) -> float:
        """How many times slower than believed a node is at the moment; 1.0 if calm."""
        return self.nodes.factor(node)

    def nbytes(self, name: str, label: str) -> float | None:
        """Bytes of the whole result that was seen last; None if none was."""
        seen = self._labels.get((name, label))
        return None if seen is None else seen.nbytes

    def bytes_of(self, name: str, label: str) -> Mapping[Hashable, float]:
        """Bytes of the elements of the result that were seen last, by index."""
        seen = self._labels.get((name, label))
        return {} if seen is None or seen.bytes_of is None else seen.bytes_of

    def work(
        self,
        names: Sequence[str],
        labels: Sequence[str],
        guessed: np.ndarray,
        declared: np.ndarray,
    ) -> np.ndarray:
        """What functions take at speed 1, as far as is known.

        Parameters
        ----------
        names, labels : sequence of n str
            As in `observe`.
        guessed : (n,) bool
            Whose time is not declared.
        declared : (n,) float [s]
            The declared time, or the guess.

        Returns
        -------
        (n,) float [s]
            The declared time by the name's factor; of a guess, what was seen of label
            or name; the guess itself if nothing was.
        """
        out = np.array(declared, dtype=float)
        if not self._names:
            return out
        guess = np.asarray(guessed, dtype=bool)
        used = set(names)
        factors = {name: self.factor(name) for name in used}
        out *= np.where(guess, 1.0, [factors[name] for name in names])
        by_name = {name: self.seconds(name) for name in used}
        labelled = self._labels
        for i in np.flatnonzero(guess).tolist():
            seen = labelled.get((names[i], labels[i]))
            if seen is not None and seen.weight:
                out[i] = math.exp(seen.mean)
            elif (known := by_name[names[i]]) is not None:
                out[i] = known
        return out

    def snapshot(self) -> dict[str, Any]:
        """What is known, ready for JSON.

        Returns
        -------
        dict
            ``functions``, the number of labels; ``names``, of each name ``seconds`` [s]
            at speed 1, ``spread`` (standard deviation of the logarithm), ``factor``,
            ``observations`` and the same for each of its ``kinds``; ``nodes``, how slow
            each is; ``noise``, the spread of single functions.
        """
        return {
            "functions": len(self._labels),
            "names": {
                name: {
                    **known.told(None),
                    "kinds": {kind: known.told(kind) for kind in sorted(known.on)},
                }
                for name, known in sorted(self._names.items())
            },
            "nodes": self.nodes.snapshot(),
            "noise": self.nodes.noise,
        }


def kind_of(node: Node) -> str:
    """The kind that a node's observations are kept under: given, or what it is like."""
    if node.kind is not None:
        return node.kind
    has = sorted((name, float(value)) for name, value in node.capabilities.items())
    texts = [f"speed={node.speed:g}", f"gpu_speed={node.gpu_speed:g}"]
    return " ".join(texts + [f"{name}={value:g}" for name, value in has])


class _Logs:
    """Recency-weighted mean and variance of logarithms; a prior is of mean 0."""

    __slots__ = ("count", "mean", "variance", "weight")

    def __init__(self, prior: float = 0.0) -> None:
        self.weight, self.mean, self.variance, self.count = prior, 0.0, 0.0, 0

    def add(self, x: float) -> None:
        old = self.weight * MEMORY
        self.weight = old + 1.0
        step = (x - self.mean) / self.weight
        # A prior is no observation: what leads away from it is no spread.
        spread = step * (x - self.mean) * old / self.weight if self.count else 0.0
        self.variance = self.variance * old / self.weight + spread
        self.mean += step
        self.count += 1

    def expected(self) -> float:
        """Log of the mean of a lognormal distribution with these moments."""
        return self.mean + min(self.variance, 1.0) / 2


class _Label:
    """One function as it was seen: log of seconds at speed 1, sizes."""

    __slots__ = ("bytes_of", "mean", "nbytes", "weight")

    def __init__(self) -> None:
        self.weight, self.mean = 0.0, 0.0
        self.nbytes: float | None = None
        self.bytes_of: dict[Hashable, float] | None = None

    def add(self, work: float) -> None:
        self.weight = self.weight * LABEL_MEMORY + 1.0
        self.mean += (work - self.mean) / self.weight


class _Name:
    """The functions of one name: on any kind, and on each."""

    __slots__ = ("factor", "on", "work")

    def __init__(self) -> None:
        self.work, self.factor = _Logs(), _Logs(PRIOR)
        self.on: dict[str, tuple[_Logs, _Logs]] = {}

    def work_on(self, kind: str | None) -> _Logs:
        both = self.on.get(kind) if kind is not None else None
        return self.work if both is None else both[0]

    def factor_on(self, kind: str | None) -> float:
        """Log of the factor on a kind: what the kind says, led by what all say."""
        both = self.on.get(kind) if kind is not None else None
        if both is None:
            return self.factor.expected()
        logs = both[1]
        prior = KIND_PRIOR * MEMORY**logs.count
        mine, all_ = logs.weight * logs.expected(), prior * self.factor.expected()
        return (mine + all_) / (logs.weight + prior)

    def believed(
        self, kind: str, given: float | None, seen: _Label, noise: float
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
        both = self.on.get(kind)
        if both is None:
            both = self.on[kind] = _Logs(), _Logs()
        for logs in (self.work, both[0]):
            logs.add(work)
        if given is not None:
            for logs in (self.factor, both[1]):
                logs.add(work - given)

    def told(self, kind: str | None) -> dict[str, Any]:
        work = self.work_on(kind)
        return {
            "seconds": math.exp(work.expected()),
            "spread": math.sqrt(work.variance),
            "factor": math.exp(self.factor_on(kind)),
            "observations": work.count,
        }

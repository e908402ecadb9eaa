"""History: what was observed of functions, as estimates for the next plan.

In memory and pure: it is told what happened, and knows no clock, no run, no Dask. How
slow nodes are at the moment is `slowness`; whom an observation teaches is decided here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from handout_dask.known import PRIOR, Label, Name
from handout_dask.node import Node
from handout_dask.peaks import to_claim
from handout_dask.slowness import Slowness

SHORTEST = 1e-6  # s; below it a measured time is the clock's


class History:
    """What functions took, by name, label and node kind: time, memory, bytes.

    Parameters
    ----------
    most : int
        How many functions (name and label), and how many names, are remembered; those
        not seen for longest go first.

    Attributes
    ----------
    names : dict of str to Name
        What is known of functions by name; those seen last are last.
    labels : dict of (str, str) to Label
        The same of single functions, by name and label.
    nodes : Slowness
        How slow nodes are at the moment.
    fresh : History or None
        What was observed since it was last taken away; None: it is not kept apart.

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

    Of memory the largest value is kept, for it is claimed: see `peaks`. Of sizes the
    last is kept of a label, and the mean, as of times, of a name.

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
        self.labels: dict[tuple[str, str], Label] = {}
        self.names: dict[str, Name] = {}
        self.fresh: History | None = None
        self._prior = PRIOR

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
        memory: float | None = None,
        exact: bool = True,
        claimed: float = 0.0,
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
        memory : float, optional
            The most memory that it took [MB].
        exact : bool
            Whether that is exact; an estimate counts until something exact is known.
        claimed : float
            Memory that the user declared [MB]; 0 if none was.
        """
        work = given = None
        if 0.0 <= seconds < math.inf:
            work = math.log(max(seconds, SHORTEST) * speed)
            given = math.log(declared) if declared and declared > SHORTEST else None
            if node is not None:
                work = self._apart(node, name, label, kind, work, given)
        peak = (memory, claimed, exact)
        self._note(name, label, kind, work, given, nbytes, peak)
        if self.fresh is not None:
            self.fresh._note(name, label, kind, work, given, nbytes, peak)

    def _apart(
        self, node: str, name: str, label: str, kind: str,
        work: float, given: float | None,
    ) -> float:  # fmt: skip
        """What is left for the function, when its node has learned from the time."""
        known = self.names.get(name) or Name()
        seen = self.labels.get((name, label)) or Label()
        believed = known.believed(kind, given, seen, self.nodes.noise)
        if believed is not None:
            ratio = math.exp(min(max(work - believed[0], -50.0), 50.0))
            self.nodes.observe(node, ratio, believed[1])
        return work - math.log(self.nodes.factor(node))

    def _note(
        self, name: str, label: str, kind: str,
        work: float | None, given: float | None,
        nbytes: float | None, peak: tuple[float | None, float, bool],
    ) -> None:  # fmt: skip
        """Take what one function took, as logarithm, bytes and MB."""
        known = self.names.pop(name, None) or self.new_name()
        self.names[name] = known
        seen = self.labels.pop((name, label), None) or Label()
        self.labels[name, label] = seen
        self._forget()
        if nbytes is not None and 0 <= nbytes < math.inf:
            seen.nbytes = float(nbytes)
            known.size.add(math.log(max(nbytes, 1.0)))
        memory, claimed, exact = peak
        if memory is not None and 0 <= memory < math.inf:
            seen.add_peak(memory, exact)
            known.add_peak(kind, memory, claimed, exact)
        if work is not None:
            seen.add(work)
            known.add(kind, work, given)

    def _forget(self) -> None:
        """Forget what was not seen for longest, of what is too many."""
        while len(self.names) > self.most:
            del self.names[next(iter(self.names))]
        while len(self.labels) > self.most:
            del self.labels[next(iter(self.labels))]

    def overdue(self, node: str, ratio: float) -> None:
        """Learn that a function runs for `ratio` times what was believed, and on."""
        self.nodes.overdue(node, ratio)

    def relax(self, node: str, share: float = 1.0) -> None:
        """Forget a share of how slow a node is believed; see `Slowness.relax`."""
        self.nodes.relax(node, share)

    # ---------------------------------------------------------------- estimates
    def knows(self, names: Iterable[str]) -> bool:
        """Whether functions of one of these names were observed."""
        return any(name in self.names for name in names)

    def factor(self, name: str, kind: str | None = None) -> float:
        """How many times longer than declared the functions of a name take.

        On a kind of node, or on any if None or the kind has not run it; 1.0 if unknown.
        """
        known = self.names.get(name)
        return 1.0 if known is None else math.exp(known.factor_on(kind))

    def seconds(
        self, name: str, label: str | None = None, kind: str | None = None
    ) -> float | None:
        """Seconds at speed 1 that a function takes; None if its name was never seen.

        From its label; else from its name on the kind; else from its name anywhere.
        """
        seen = self.labels.get((name, label)) if label is not None else None
        if seen is not None and seen.weight:
            return math.exp(seen.mean)
        known = self.names.get(name)
        if known is None or not known.work.weight:
            return None
        return math.exp(known.work_on(kind).expected())

    def believed(
        self, name: str, label: str, declared: float | None = None
    ) -> float | None:
        """Seconds at speed 1, if they are declared or this very function was seen."""
        if declared is not None:
            return declared * self.factor(name)
        return self.seconds(name, label) if (name, label) in self.labels else None

    def node_factor(self, node: str) -> float:
        """How many times slower than believed a node is at the moment; 1.0 if calm."""
        return self.nodes.factor(node)

    def nbytes(self, name: str, label: str | None = None) -> float | None:
        """Bytes of the whole result: those seen last of the label, else the mean of its
        name; None if none were seen.
        """
        seen = self.labels.get((name, label)) if label is not None else None
        if seen is not None and seen.nbytes is not None:
            return seen.nbytes
        known = self.names.get(name)
        if known is None or not known.size.count:
            return None
        return math.exp(known.size.expected())

    def memory(self, name: str, label: str | None = None) -> float | None:
        """The most memory [MB] of late, of the label, else of its name; None if none
        was measured.
        """
        known = self.names.get(name)
        if known is None:
            return None
        seen = self.labels.get((name, label)) if label is not None else None
        if seen is not None and seen.peak is not None:
            return seen.peak.level
        return known.level() or None

    def claims(
        self,
        names: Sequence[str],
        name: np.ndarray,
        labels: Sequence[str],
        declared: np.ndarray,
    ) -> np.ndarray | None:
        """The memory that functions shall claim, as far as is known.

        Parameters
        ----------
        names : sequence of str
            Each once.
        name : (n,) int
            Which of them each function bears.
        labels : sequence of n str
            As in `observe`.
        declared : (n,) float [MB]
            0 where nothing is.

        Returns
        -------
        (n,) float [MB] or None
            As `peaks.to_claim` says; None if nothing of these names was measured.
        """
        known = [self.names.get(one) for one in names]
        level = np.array([0.0 if one is None else one.level() for one in known])
        if not level.any():
            return None
        ratio = np.array([0.0 if one is None else one.excess.level for one in known])
        sure = [
            one is not None and any(on.peak.exact for on in one.on.values())
            for one in known
        ]
        seen = np.full(len(name), np.nan)
        for i in np.flatnonzero(level[name] > 0).tolist():
            k = int(name[i])
            label = self.labels.get((names[k], labels[i]))
            peak = None if label is None else label.peak
            if peak is not None and (peak.exact or not sure[k]):
                seen[i] = peak.level
        return to_claim(declared, seen, level[name], ratio[name])

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
        if not self.names:
            return out
        guess = np.asarray(guessed, dtype=bool)
        used = set(names)
        factors = {name: self.factor(name) for name in used}
        out *= np.where(guess, 1.0, [factors[name] for name in names])
        by_name = {name: self.seconds(name) for name in used}
        labelled = self.labels
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
            ``observations``, ``memory`` [MB] (None: not measured) and the same for each
            of its ``kinds``; ``nodes``, how slow each is; ``noise``, the spread of
            single functions.
        """
        return {
            "functions": len(self.labels),
            "names": {
                name: {
                    **known.told(None),
                    "kinds": {kind: known.told(kind) for kind in sorted(known.on)},
                }
                for name, known in sorted(self.names.items())
            },
            "nodes": self.nodes.snapshot(),
            "noise": self.nodes.noise,
        }

    # -------------------------------------------------------------- other histories
    def keep_apart(self) -> History | None:
        """Keep what is observed from now on in `fresh` too; returns what was there."""
        before, self.fresh = self.fresh, History(self.most)
        self.fresh._prior = 0.0
        return before

    def new_name(self) -> Name:
        """What is known of a name of which nothing was observed."""
        return Name(self._prior)

    def replace(
        self, names: dict[str, Name], labels: dict[tuple[str, str], Label]
    ) -> None:
        """Know this from now on, instead of what was known."""
        self.names, self.labels = names, labels
        self._forget()


def kind_of(node: Node) -> str:
    """The kind that a node's observations are kept under: given, or what it is like."""
    if node.kind is not None:
        return node.kind
    has = sorted((name, float(value)) for name, value in node.capabilities.items())
    texts = [f"speed={node.speed:g}", f"gpu_speed={node.gpu_speed:g}"]
    return " ".join(texts + [f"{name}={value:g}" for name, value in has])

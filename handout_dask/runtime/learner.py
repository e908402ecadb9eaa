"""Learner: what functions of live runs took, learned on the scheduler as they end.

Knows no plan: who plans again asks it what is known by now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from handout_dask.books import READY, SENT, WAITING, NodeBook
from handout_dask.demands import memory_of
from handout_dask.histories import fill
from handout_dask.history import History, kind_of
from handout_dask.learned import learned_sizes, observe
from handout_dask.node import Node
from handout_dask.peaks import LEAST
from handout_dask.runtime.measuring import measures_of
from handout_dask.runtime.records import LiveRun

BRIEF, SAMPLED = 0.02, 4  # s; of functions that take less one in so many is learned


class Learner:
    """Learns time, memory and sizes of functions, and lets others claim what is seen.

    Attributes
    ----------
    history : History
        Of all runs on this scheduler.
    """

    def __init__(self) -> None:
        self.history = History()
        self._kinds: dict[str, tuple[Node, str]] = {}
        # what was known of names when it was claimed last
        self._claimed: WeakKeyDictionary[LiveRun, dict[str, tuple[float, float]]] = (
            WeakKeyDictionary()
        )

    def meet(self, run: LiveRun) -> None:
        """A run begins, whose client may know something."""
        if run.spec.known is not None:
            fill(self.history, run.spec.known)

    def took(
        self, run: LiveRun, i: int, node: Node, seconds: float, about: Mapping[str, Any]
    ) -> bool:
        """A function ended; whether others claim more memory for what it took.

        Parameters
        ----------
        run, i : LiveRun, int
            The function; the run has an outline.
        node : Node
            Where it ran.
        seconds : float
            For how long [s].
        about : mapping
            What Dask says of its task.
        """
        measures = measures_of(about)
        memory = None
        if measures is not None and (measures.exact or measures.alone):
            memory = measures.peak_mb
        outline = run.spec.outline
        assert outline is not None
        least = run.spec.demand[run.book.need[i]].get("memory", 0.0)
        exceeds = memory is not None and memory > max(least, LEAST)
        if seconds <= BRIEF and i % SAMPLED and not exceeds:
            return False
        known = self._kinds.get(node.name)
        if known is None or known[0] is not node:
            known = self._kinds[node.name] = node, kind_of(node)
        observe(
            self.history,
            outline,
            i,
            run.book.option(i),
            known[1],
            seconds,
            speed=speed_of(run, i, node),
            node=node.name,
            nbytes=about.get("nbytes"),
            memory=memory,
            exact=measures is not None and measures.exact,
        )
        return exceeds and self._is_news(run, i) and self._claim_more(run, i)

    def _is_news(self, run: LiveRun, i: int) -> bool:
        """Whether more is known of the name of function i than when it was claimed."""
        outline = run.spec.outline
        assert outline is not None
        name = outline.names[outline.name[i]]
        known = self.history.names[name]
        now = known.level(), known.excess.level
        before = self._claimed.setdefault(run, {}).get(name, (0.0, 0.0))
        if now[0] <= before[0] and now[1] <= before[1]:
            return False
        self._claimed[run][name] = now
        return True

    def _claim_more(self, run: LiveRun, i: int) -> bool:
        """Let what has not ended of the name of function i claim what was seen."""
        outline = run.spec.outline
        assert outline is not None
        state = np.frombuffer(bytes(run.book.state), dtype=np.uint8)
        left = (state == WAITING) | (state == READY) | (state == SENT)
        left &= np.diff(outline.option_ptr) == 1
        who = np.flatnonzero(left & (outline.name == outline.name[i]))
        if not len(who):
            return False
        wanted = self._claims(run, who)
        if wanted is None:
            return False
        more = {
            k: mb
            for k, mb in zip(who.tolist(), wanted.tolist(), strict=True)
            if mb > run.book.demand(k).get("memory", 0.0)
        }
        run.book.claim_memory(more)
        return bool(more)

    def _claims(self, run: LiveRun, who: np.ndarray) -> np.ndarray | None:
        """(len(who),) [MB] that these functions shall claim; None: as declared."""
        outline = run.spec.outline
        assert outline is not None
        declared = memory_of(outline)[outline.option_class[outline.option_ptr[who]]]
        labels, name = outline.labels, outline.name[who]
        numbers, name = np.unique(name, return_inverse=True)
        return self.history.claims(
            [outline.names[k] for k in numbers.tolist()],
            name.reshape(-1),
            [labels[k] for k in who.tolist()],
            declared,
        )

    # ----------------------------------------------------- what planning again needs
    def memory(self, run: LiveRun, nodes: Mapping[str, NodeBook]) -> np.ndarray | None:
        """(n,) [MB] that functions claim now, with what was learned; None: as declared.

        `nodes` are those of the books: what was sent claims no more than its node has.
        """
        claims, book = run.book.claims, run.book
        if len(claims.demand) == len(run.spec.demand):
            return None
        of_class = np.array([demand.get("memory", 0.0) for demand in claims.demand])
        out: np.ndarray = of_class[np.array(claims.need)]
        state = np.frombuffer(bytes(book.state), dtype=np.uint8)
        for i in np.flatnonzero(state == SENT).tolist():
            out[i] = book.demand(i, nodes[book.node[i]].node).get("memory", 0.0)
        return out

    def work(self, run: LiveRun, chosen: np.ndarray) -> np.ndarray:
        """(n,) [s]: what functions take at speed 1, by their `chosen` alternatives."""
        outline = run.spec.outline
        assert outline is not None
        return self.history.work(
            [outline.names[k] for k in outline.name.tolist()],
            outline.labels,
            outline.option_guessed[chosen],
            outline.option_work[chosen],
        )

    def sizes(self, run: LiveRun) -> np.ndarray:
        """(e,) [MB]: what travels along each edge."""
        outline = run.spec.outline
        assert outline is not None
        return learned_sizes(outline, self.history, outline.pred_mb)[0]


def declared_of(run: LiveRun, i: int) -> float | None:
    """Seconds at speed 1 that a function is declared to take; None if they are not."""
    outline = run.spec.outline
    assert outline is not None
    option = outline.option_ptr[i] + run.book.option(i)
    guessed = outline.option_guessed[option]
    return None if guessed else float(outline.option_work[option])


def speed_of(run: LiveRun, i: int, node: Node) -> float:
    """The speed of a node for a function."""
    outline = run.spec.outline
    assert outline is not None
    option = outline.option_ptr[i] + run.book.option(i)
    by_gpu = outline.by_gpu[outline.option_class[option]]
    return node.gpu_speed if by_gpu else node.speed

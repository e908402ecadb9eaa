"""Learned: a Problem with times, memory and sizes as history knows them. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np

from handout_dask.demands import declared_memory, with_memory
from handout_dask.estimates import Learned
from handout_dask.events import DONE, Span
from handout_dask.history import History, kind_of
from handout_dask.node import Cluster
from handout_dask.outline import Outline
from handout_dask.plans import Plan
from handout_dask.problem import Problem


def with_learned(problem: Problem, history: History, cost: float = 0.0) -> Problem:
    """The problem with what was observed of its functions.

    Declared times are corrected by what the functions of that name took; times that
    are not declared, and sizes, are those seen last. Memory is what was seen, where it
    was not declared or was more than declared: `peaks.to_claim` and
    `demands.with_memory` say how much. Of functions with alternatives only declared
    times are corrected, since it is not known which one was seen.

    Parameters
    ----------
    problem : Problem
        As declared.
    history : History
        Without anything of its functions, and no cost, the same problem comes back.
    cost : float
        Seconds that a function takes besides its own, on a node of mean speed.
    """
    outline = problem.outline
    if not cost and not history.knows(outline.names):
        return problem
    each = np.diff(outline.option_ptr)
    of = np.repeat(np.arange(outline.n), each)
    guessed = problem.option_guessed & (each[of] == 1)
    labels, names = outline.labels, [outline.names[k] for k in outline.name.tolist()]
    work = history.work(
        [names[i] for i in of.tolist()],
        [labels[i] for i in of.tolist()],
        guessed,
        problem.option_work,
    )
    other = work != problem.option_work
    work += cost * mean_speed(problem.cluster)
    mb, sized = learned_sizes(outline, history, problem.pred_mb)
    out = problem.on(problem.cluster, held=problem.held, work=work, mb=mb)
    out.option_guessed = problem.option_guessed & ~(guessed & other)
    memory = learned_memory(problem, history)
    claims = np.zeros(outline.n, dtype=bool)
    if memory is not None:
        before = out.option_class
        out = with_memory(out, memory)
        claims[of[out.option_class != before]] = True
    out.learned = Learned(time=other, memory=claims, size=sized)
    return out


def mean_speed(cluster: Cluster) -> float:
    """The mean speed of nodes."""
    return float(np.mean([node.speed for node in cluster.nodes] or [1.0]))


def learned_memory(problem: Problem, history: History) -> np.ndarray | None:
    """(n,) [MB] that functions shall claim, as declared or seen; None: as declared."""
    outline = problem.outline
    return history.claims(
        outline.names, outline.name, outline.labels, declared_memory(problem)
    )


def learned_sizes(
    outline: Outline, history: History, mb: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """MB of each edge; of what is not declared the share of the result that was seen.

    Returns
    -------
    (e,) float [MB], (n,) bool
        The sizes, and of which functions that of the result was learned.
    """
    learned = np.zeros(outline.n, dtype=bool)
    unknown = np.isnan(outline.output_mb)
    if not unknown.any():
        return mb, learned
    size = np.zeros(outline.n)
    of_name = [history.nbytes(name) for name in outline.names]
    some = np.array([nbytes is not None for nbytes in of_name], dtype=bool)
    for i in np.flatnonzero(unknown & some[outline.name]).tolist():
        nbytes = history.nbytes(outline.names[outline.name[i]], outline.labels[i])
        learned[i] = nbytes is not None
        size[i] = (nbytes or 0.0) / 1e6
    if not learned.any():
        return mb, learned
    seen = learned[outline.pred_of]
    return np.where(seen, size[outline.pred_of] * outline.pred_share, mb), learned


def learn(history: History, plan: Plan, span: Span, i: int) -> None:
    """Take one attempt of function i into a history, if it delivered."""
    problem = plan.problem
    j = problem.cluster.index.get(span.node)
    if span.outcome != DONE or j is None:
        return
    o = int(problem.option_ptr[i] + plan.option[i])
    rate = float(problem.rate[problem.option_class[o], problem.kind[j]])
    observe(
        history,
        problem.outline,
        i,
        int(plan.option[i]),
        kind_of(problem.nodes[j]),
        span.end - span.start,
        speed=rate or 1.0,
        node=span.node,
        nbytes=span.nbytes,
        memory=span.peak_mb if span.peak_exact or span.peak_alone else None,
        exact=span.peak_exact,
    )


def observe(
    history: History,
    outline: Outline,
    i: int,
    option: int,
    kind: str,
    seconds: float,
    *,
    memory: float | None = None,
    **about: Any,
) -> None:
    """Take what function i took, by this alternative, into a history.

    Parameters
    ----------
    history, outline : History, Outline
        Who learns; what the function declared.
    i, option : int
        The function, and which of its alternatives ran.
    kind : str
        Of the node.
    seconds : float
        How long it ran [s].
    memory : float, optional
        The most memory [MB] that it took; None also where others ran in its process. Of
        functions with alternatives none is learned.
    **about
        As for `History.observe`.
    """
    declared = outline.declared or outline
    o = int(outline.option_ptr[i]) + option
    one = outline.option_ptr[i + 1] - outline.option_ptr[i] == 1
    history.observe(
        outline.names[outline.name[i]],
        outline.labels[i],
        kind,
        seconds,
        declared=None if outline.option_guessed[o] else float(outline.option_work[o]),
        memory=memory if one else None,
        claimed=declared.memory_of(o) if memory is not None else 0.0,
        **about,
    )

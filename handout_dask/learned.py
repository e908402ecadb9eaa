"""Learned: a Problem with times and sizes as history knows them. Pure."""

from __future__ import annotations

import numpy as np

from handout_dask.events import DONE, Span
from handout_dask.history import History, kind_of
from handout_dask.node import Cluster
from handout_dask.plans import Plan
from handout_dask.problem import Problem


def with_learned(problem: Problem, history: History, cost: float = 0.0) -> Problem:
    """The problem with what was observed of its functions.

    Declared times are corrected by what the functions of that name took; times that
    are not declared, and sizes, are those seen last. Of functions with alternatives
    only declared times are corrected, since it is not known which one was seen.

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
    learned = guessed & (work != problem.option_work)
    work += cost * mean_speed(problem.cluster)
    out = problem.on(
        problem.cluster, held=problem.held, work=work, mb=_sizes(problem, history)
    )
    out.option_guessed = problem.option_guessed & ~learned
    return out


def mean_speed(cluster: Cluster) -> float:
    """The mean speed of nodes."""
    return float(np.mean([node.speed for node in cluster.nodes] or [1.0]))


def _sizes(problem: Problem, history: History) -> np.ndarray:
    """(e,) MB of each edge; of what is not declared the share of the result seen."""
    outline, mb = problem.outline, problem.pred_mb.copy()
    unknown = np.isnan(outline.output_mb)
    edges = np.flatnonzero(unknown[problem.pred_of] & (mb == 0.0))
    if not len(edges):
        return mb
    shares = _shares(problem)
    reader = np.repeat(np.arange(outline.n), np.diff(problem.pred_ptr))
    for e in edges.tolist():
        u = int(problem.pred_of[e])
        name = outline.names[outline.name[u]]
        seen = history.nbytes(name, outline.labels[u])
        if seen is not None:
            mb[e] = seen / 1e6 * shares[u, int(reader[e])]
    return mb


def _shares(problem: Problem) -> dict[tuple[int, int], float]:
    """What each function reads of which others: of the elements that anybody reads
    so many, or the whole result, 1.
    """
    links = problem.graph.links()
    read: dict[tuple[int, int], set[str] | None] = {}
    parts: dict[int, set[str]] = {}
    for v in range(len(links.functions)):
        for a in range(links.ptr[v], links.ptr[v + 1]):
            u, index = links.producer[a], links.index[a]
            mine = read.setdefault((u, v), set())
            if index is None:
                read[u, v] = None
                continue
            part = repr(index)
            parts.setdefault(u, set()).add(part)
            if mine is not None:
                mine.add(part)
    return {
        (u, v): 1.0 if mine is None else len(mine) / len(parts[u])
        for (u, v), mine in read.items()
    }


def learn(history: History, plan: Plan, span: Span, i: int) -> None:
    """Take one attempt of function i into a history, if it delivered."""
    problem = plan.problem
    j = problem.cluster.index.get(span.node)
    if span.outcome != DONE or j is None:
        return
    outline = problem.outline
    o = int(outline.option_ptr[i] + plan.option[i])
    rate = float(problem.rate[problem.option_class[o], problem.kind[j]])
    history.observe(
        outline.names[outline.name[i]],
        outline.labels[i],
        kind_of(problem.nodes[j]),
        span.end - span.start,
        declared=None if outline.option_guessed[o] else float(outline.option_work[o]),
        speed=rate or 1.0,
        node=span.node,
        nbytes=span.nbytes,
    )

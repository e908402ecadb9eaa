"""Demands: a Problem whose functions claim more memory than was declared. Pure.

Never more than what leaves them a node: a problem that can be solved stays so.
"""

from __future__ import annotations

import numpy as np

from handout_dask.costs import Cost, parse_cost
from handout_dask.outline import Outline
from handout_dask.problem import Problem

MEMORY = "memory"


def memory_of(outline: Outline) -> np.ndarray:
    """(c,) [MB]: what functions of each class claim; 0 is nothing."""
    names, need = outline.demand
    if MEMORY not in names:
        return np.zeros(len(need))
    out: np.ndarray = need[:, names.index(MEMORY)]
    return out


def declared_memory(problem: Problem) -> np.ndarray:
    """(n,) [MB]: what each function's first alternative declares; 0 is nothing."""
    out: np.ndarray = memory_of(problem.outline)[
        problem.option_class[problem.option_ptr[:-1]]
    ]
    return out


def more_memory(problem: Problem, option: np.ndarray) -> dict[int, float]:
    """Memory [MB] of those functions that claim more than they declare.

    `option` (n,) are the cost alternatives that run.
    """
    outline = problem.outline
    if outline.declared is None:
        return {}
    mine = memory_of(outline)[outline.option_class[option]]
    given = memory_of(outline.declared)[outline.declared.option_class[option]]
    return {i: float(mine[i]) for i in np.flatnonzero(mine > given).tolist()}


def most_memory(problem: Problem) -> np.ndarray:
    """(n,) [MB]: the memory of the largest node that can run each function.

    With all of its group, and with any of their alternatives; 0 if none can.
    """
    runs = problem.rate > 0  # (c, k)
    has = np.array([node.capacity(MEMORY) for node in problem.kinds])
    of_class = np.where(runs, has, 0.0).max(axis=1, initial=0.0)
    options = of_class[problem.option_class]
    if not len(options):
        return np.zeros(len(problem.functions))
    out: np.ndarray = np.maximum.reduceat(options, problem.option_ptr[:-1])
    pinned = np.flatnonzero(problem.pin >= 0)
    out[pinned] = np.minimum(out[pinned], has[problem.kind[problem.pin[pinned]]])
    out[problem.pin == -2] = 0.0
    for members in problem.groups:
        fit = np.ones(len(has), dtype=bool)
        for i in members.tolist():
            lo, hi = problem.option_ptr[i : i + 2]
            fit &= runs[problem.option_class[lo:hi]].any(axis=0)
            if problem.pin[i] >= 0:
                fit &= np.arange(len(has)) == problem.kind[problem.pin[i]]
        out[members] = np.minimum(out[members], has[fit].max(initial=0.0))
    return out


def with_memory(problem: Problem, memory: np.ndarray) -> Problem:
    """The problem in which functions claim at least so much memory.

    Of functions with alternatives nothing changes.

    Parameters
    ----------
    problem : Problem
        As declared.
    memory : (n,) float [MB]
        What each shall claim; less than declared changes nothing, and more than what
        the largest node has that can run the function counts as that.

    Returns
    -------
    Problem
        The same one if nothing changes.
    """
    one = np.diff(problem.option_ptr) == 1
    more = one & (memory > declared_memory(problem))
    if not more.any():
        return problem
    claimed = np.minimum(memory, most_memory(problem))
    who = np.flatnonzero(more & (claimed > declared_memory(problem)))
    if not len(who):
        return problem
    at = problem.option_ptr[who]
    pairs = np.stack([problem.option_class[at], claimed[who]], axis=1)
    rows, number = np.unique(pairs, axis=0, return_inverse=True)
    classes = [*problem.classes]
    option_class = problem.option_class.copy()
    option_class[at] = len(classes) + number.reshape(-1)
    classes += [_claiming(classes[int(c)], float(mb)) for c, mb in rows.tolist()]
    outline = problem.outline.claiming(tuple(classes), option_class)
    return problem.on(problem.cluster, held=problem.held, outline=outline)


def _claiming(cost: Cost, mb: float) -> Cost:
    """The same cost with so much memory."""
    return parse_cost({**cost, MEMORY: mb}, "cost")

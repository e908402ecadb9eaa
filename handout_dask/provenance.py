"""Provenance: which estimates of a problem were declared, learned or guessed.

What is guessed is what nobody knows: the time is the median of those declared, or 1 s;
memory and size count as 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from handout_dask.demands import memory_of
from handout_dask.estimates import DECLARED, GUESSED, LEARNED, SOURCES
from handout_dask.problem import Problem

TIME, MEMORY, SIZE = ESTIMATES = ("time", "memory", "size")


def provenance_of(problem: Problem, option: np.ndarray, i: int) -> dict[str, str]:
    """Of function i, whose alternative is ``option[i]``, where each estimate is from.

    Returns
    -------
    dict
        ``time``, ``memory`` and ``size``, each "declared", "learned" or "guessed".
    """
    return {what: SOURCES[row[i]] for what, row in _sources(problem, option).items()}


def count_provenance(problem: Problem, option: np.ndarray) -> dict[str, dict[str, int]]:
    """How many of all functions have each estimate from where.

    Returns
    -------
    dict
        ``{"time": {"declared": n, "learned": n, "guessed": n}, ...}``, as well of
        ``memory`` and ``size``.
    """
    return {
        what: dict(zip(SOURCES, np.bincount(row, minlength=3).tolist(), strict=True))
        for what, row in _sources(problem, option).items()
    }


def provenance_text(sources: Mapping[str, str]) -> str:
    """The estimates of one function, for people.

    >>> provenance_text({"time": "learned", "memory": "declared", "size": "guessed"})
    'time learned, memory declared, size guessed'
    """
    return ", ".join(f"{what} {source}" for what, source in sources.items())


def counts_text(counts: Mapping[str, Mapping[str, int]]) -> str:
    """What of a plan is not as declared, for people; "" if nothing.

    Memory and sizes that nobody knows are left out.

    >>> counts_text({"time": {"declared": 2, "learned": 1, "guessed": 3}})
    'time 1 learned, 3 guessed'
    """
    parts = []
    for what, of in counts.items():
        told = (LEARNED, GUESSED) if what == TIME else (LEARNED,)
        some = [f"{of[source]} {source}" for source in told if of[source]]
        if some:
            parts.append(f"{what} {', '.join(some)}")
    return "; ".join(parts)


def _sources(problem: Problem, option: np.ndarray) -> dict[str, np.ndarray]:
    """(n,) of each estimate: the number of its source in `SOURCES`."""
    chosen = problem.option_ptr[:-1] + option
    learned = problem.learned
    declared = problem.outline.declared or problem.outline
    known = {
        TIME: ~problem.outline.option_guessed[chosen],
        MEMORY: memory_of(declared)[declared.option_class[chosen]] > 0,
        SIZE: ~np.isnan(problem.outline.output_mb),
    }
    seen = {}
    if learned is not None:
        seen = {TIME: learned.time[chosen], MEMORY: learned.memory, SIZE: learned.size}
    out = {}
    for what in ESTIMATES:
        row = np.where(known[what], SOURCES.index(DECLARED), SOURCES.index(GUESSED))
        if what in seen:
            row[seen[what]] = SOURCES.index(LEARNED)
        out[what] = row
    return out

"""Copies: what CUDA functions take longer, for what comes to the device and leaves it.

Pure. What functions read of others that run on a device too, and what only such read of
them, stays there; but in a process of a function's own all goes through the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from handout_dask.costs import CUDA, Cost
from handout_dask.problem import Problem

HOST = 800.0  # MB/s through a pipe (1000), off the device and on another's (6000 each)
DEVICE = 6000.0  # MB/s between a device and NumPy's arrays
ON_DEVICE = ("gpus", "gpu_memory")


def with_copies(problem: Problem, *, timeout: float | None = None) -> Problem:
    """The problem with the time that these copies take, for the nodes that are fastest.

    Parameters
    ----------
    problem : Problem
        As declared.
    timeout : float or None
        Seconds for functions that have none of their own; those with one have processes
        of their own.
    """
    on_device = [_on_device(cost) for cost in problem.classes]
    if not any(on_device):
        return problem
    work = problem.option_work.copy()
    best = problem.rate.max(axis=1, initial=0.0)
    comes, goes = _across(problem, np.array(on_device)[problem.option_class])
    for i, function in enumerate(problem.functions):
        own = function.timeout is not None or timeout is not None
        reads = float(problem.pred_mb[slice(*problem.pred_ptr[i : i + 2])].sum())
        for o in range(*problem.option_ptr[i : i + 2].tolist()):
            k = int(problem.option_class[o])
            cost = function.alternatives[o - problem.option_ptr[i]]
            if on_device[k]:
                seconds = (comes[i] + goes[i]) / DEVICE
                if own:
                    seconds = (reads + _size(cost.output_size)) / HOST
                work[o] += seconds * (best[k] or 1.0)
    return problem.on(problem.cluster, work=work, held=problem.held)


def _across(problem: Problem, on_device: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,), (n,) [MB]: what each reads, and what others read of it, that run on none.

    `on_device` is of each alternative; a function counts as on a device if one is.
    """
    n, mb, of = len(problem.functions), problem.pred_mb, problem.pred_of
    can: np.ndarray = np.logical_or.reduceat(on_device, problem.option_ptr[:-1])
    reader = np.repeat(np.arange(n), np.diff(problem.pred_ptr))
    comes = np.bincount(reader, weights=np.where(can[of], 0.0, mb), minlength=n)
    goes = np.zeros(n)
    np.maximum.at(goes, of, np.where(can[reader], 0.0, mb))  # it leaves once, for all
    return comes, goes


def _on_device(cost: Cost) -> bool:
    demand = dict(cost.demand)
    return CUDA in cost.capabilities or any(demand.get(x) for x in ON_DEVICE)


def _size(size: Any) -> float:
    """The megabytes of a result; unknown is none."""
    if isinstance(size, Mapping):
        return float(sum(size.values()))
    return float(size or 0.0)

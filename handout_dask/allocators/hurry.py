"""Hurry: buy speed back for a plan that runs late, if the deadline can be met. Pure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from handout_dask.allocators.decoder import Aim
from handout_dask.allocators.effort import Meter
from handout_dask.allocators.instance import is_searchable
from handout_dask.allocators.remains import remains_of
from handout_dask.allocators.search import search
from handout_dask.begun import Begun
from handout_dask.plans import Plan

SECONDS = 0.1  # CPU, of a search
MANY = 500  # functions that NumPy takes too long to decode
STERN = 10.0  # a share beyond the deadline costs so many times that share of the money
TIE = 1e-4  # of the money, for the time until the deadline


def hurried(
    kept: Plan,
    fresh: Plan,
    begun: Begun,
    now: float,
    deadline: float,
    home: np.ndarray,
    slower: np.ndarray | None = None,
    path: str | None = None,
) -> Plan:
    """The plan that is kept if it is in time; else the cheapest found that is.

    Parameters
    ----------
    kept, fresh : Plan
        Of one problem, with the times expected now; the latter to end early.
    begun : Begun
        What has begun, as `controller.reconsider` takes it.
    now, deadline : float
        Seconds since the beginning.
    home : (n,) int
        The nodes to which inputs have been sent so far.
    slower : (m,) float, optional
        By what factor run times on each node are longer than the problem says.
    path : {"numpy", "compiled"}, optional
        Who computes; by NumPy, plans of more than MANY functions are not searched.

    Returns
    -------
    Plan
        If nothing found is in time, the one that ends first.
    """
    if kept.makespan <= deadline:
        return kept
    best = min((kept, fresh), key=lambda plan: plan.makespan)
    rest = remains_of(best, begun, now, slower)
    ended = np.isfinite(best.end) & (best.node >= 0)
    if not ended.all() or not is_searchable(rest.problem, now):
        return best
    if path == "numpy" and len(ended) > MANY:
        return best
    cluster = kept.problem.cluster
    held = cluster.billing == "held"
    money = max(kept.money, 1e-9)
    aim = Aim(
        TIE * money / deadline, 1.0, 0.0, deadline, STERN * money / deadline, np.inf,
        0.0, held, cluster.quantum if held else 0.0,
    )  # fmt: skip
    plans = [replace(plan, problem=rest.problem) for plan in (best, kept)]
    valid = [plan for plan in plans if (plan.node >= 0).all()]
    found = search(
        rest.problem,
        valid,
        aim,
        Meter(SECONDS),
        begun=rest.begun,
        now=now,
        home=home,
        path=path,
    )
    return best if found is None else replace(found, problem=best.problem)

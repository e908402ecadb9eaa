"""Play a Plan on its Problem, with noise, late and lost nodes: spans out. Pure.

A discrete-event simulation: the time jumps from event to event, and all that happens at
one instant happens before a node decides what it starts next.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from handout_dask.errors import AllocationError
from handout_dask.events import Span
from handout_dask.loss import Losses
from handout_dask.plans import Plan
from handout_dask.player import Player
from handout_dask.problem import NETWORKS, Problem
from handout_dask.steering import Controller, Steering

ORDERS = ("ready", "strict")


def simulate(
    plan: Plan,
    *,
    noise: float = 0.0,
    seed: int = 0,
    network: str | None = None,
    order: str = "ready",
    fail: Iterable[tuple[str, float]] = (),
    late: Iterable[tuple[str, float]] = (),
    controller: Controller | None = None,
) -> tuple[Span, ...]:
    """What happens when the plan's nodes run what the plan gives them.

    Parameters
    ----------
    plan : Plan
        Of it the nodes, the cost alternatives and the order of the starts are used.
    noise : float
        Standard deviation of the logarithm of a factor on each run time, of mean 1.
    seed : int
        Of the noise: one factor per function, in the order of insertion in the graph,
        the same for every plan of the graph.
    network : {"free", "oneport"}, optional
        Whether transfers don't compete, or each node sends one result at a time and
        receives one at a time; then a result travels once to each node. Default: as the
        plan's problem has it.
    order : {"ready", "strict"}
        Whether a node starts, of the functions whose inputs have arrived and that fit,
        the one of the earliest planned start, or exactly the next one by plan.
    fail : iterable of (str, float)
        Nodes that are gone from a time [s] on.
    late : iterable of (str, float)
        Nodes that start nothing before a time [s].
    controller : callable, optional
        ``(plan, begun, now) -> plan``, asked whenever functions have ended: what has
        not begun follows the plan that it returns.
        `handout_dask.allocators.controller.replan` is one.

    Returns
    -------
    tuple of Span
        Every attempt, by start.

    Raises
    ------
    NodeLostError
        If what was bound to a lost node can run nowhere else.
    AllocationError
        If an option is unknown, or a function can never start.

    Notes
    -----
    When a node is lost, what ran there is lost; unfinished functions move, in the order
    of their planned starts, each to the node where it would end first behind the work
    that is waiting there. A result that is on no other node (be it for another reader)
    is computed again if an unfinished function reads it, or none reads it at all, for
    then it is what the run is for.
    """
    network = network or plan.problem.network
    _check_choice("network", network, NETWORKS)
    _check_choice("order", order, ORDERS)
    if not math.isfinite(noise) or noise < 0:
        raise AllocationError(f"noise={noise!r} must be finite and not negative")
    factor = noise_factors(plan.problem, noise, seed)
    player = Player(plan, factor, network, order)
    losses = Losses(player)
    if controller is not None:
        player.steer = Steering(player, plan, controller).ask
    for j, when in _check_times(plan.problem, fail, "fail"):
        player.post(when, losses.lose, j, late=True)
    for j, when in _check_times(plan.problem, late, "be late"):
        player.hold_back(j, when)
    return player.run()


def noise_factors(problem: Problem, noise: float, seed: int) -> np.ndarray:
    """(n,) factor of the run time of each function: lognormal of mean 1."""
    n = len(problem.functions)
    if not noise:
        return np.ones(n)
    draws = np.random.Generator(np.random.PCG64(seed)).standard_normal(n)
    inserted = np.array(problem.graph.links().position, dtype=np.int64)
    out: np.ndarray = np.exp(noise * draws[inserted] - noise * noise / 2)
    return out


def _check_choice(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise AllocationError(f"{what} {value!r} must be one of {', '.join(known)}")


def _check_times(
    problem: Problem, times: Iterable[tuple[str, float]], what: str
) -> list[tuple[int, float]]:
    checked = []
    for name, when in times:
        if name not in problem.cluster.index:
            names = ", ".join(node.name for node in problem.nodes[:10])
            raise AllocationError(f"node {name!r} can't {what}; the nodes are {names}")
        if not when >= 0:
            raise AllocationError(f"node {name!r} can't {what} at {when!r} s")
        checked.append((problem.cluster.index[name], float(when)))
    return checked

"""Held: what is taken on a node while a plan begins; by whom does not matter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

WHOLE = "whole gpus"  # the resource of devices that no other function shares

HeldArrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True)
class Held:
    """What is taken on a node already, while a plan begins: by whom does not matter.

    ``start`` and ``end`` are seconds from the beginning of the plan. One slot and one
    core are held where the demand does not say otherwise.
    """

    node: str
    start: float
    end: float
    demand: Mapping[str, float]


def held_arrays(
    held: Sequence[Held], index: Mapping[str, int], resources: Sequence[str]
) -> HeldArrays:
    """``(node, start, end, need)`` of what is held on known nodes at or after time 0.

    Parameters
    ----------
    held : sequence of Held
        h of them count.
    index : mapping
        From a node's name to its number.
    resources : sequence of str
        The r columns of ``need`` (h, r).
    """
    rows = [h for h in held if h.node in index and h.end > max(h.start, 0.0)]
    need = np.zeros((len(rows), len(resources)))
    for row, h in enumerate(rows):
        demand: Mapping[str, float] = {"slots": 1.0, "cpu": 1.0, **h.demand}
        if "gpus" in demand:
            demand = {**demand, WHOLE: math.ceil(demand["gpus"])}
        need[row] = [demand.get(name, 0.0) for name in resources]
    return (
        np.array([index[h.node] for h in rows], dtype=np.int64),
        np.array([max(h.start, 0.0) for h in rows], dtype=float),
        np.array([h.end for h in rows], dtype=float),
        need,
    )


def split_devices(
    columns: dict[str, tuple[np.ndarray, np.ndarray]], devices: np.ndarray
) -> None:
    """Count shares of a device where a node has one, whole devices where it has more.

    Two functions of 0.6 devices must not share one; with whole devices any set that
    fits in number has an assignment to devices.
    """
    need, _ = columns["gpus"]
    one = devices <= 1
    columns["gpus"] = need, np.where(one, devices, np.inf)
    columns[WHOLE] = np.ceil(need), np.where(one, np.inf, devices)
    if "gpu_memory" in columns:
        need, room = columns["gpu_memory"]
        columns["gpu_memory"] = need, np.where(one, room, np.inf)

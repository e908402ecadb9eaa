"""Billing: what nodes cost for what ran on them."""

from __future__ import annotations

from typing import Any

import numpy as np

from handout_dask.node import Cluster


def bill(cluster: Cluster, node: Any, start: Any, end: Any) -> float:
    """Money for functions that ran on these nodes (indexes) in these times [s]."""
    price = np.array([x.price for x in cluster.nodes]) / 3600.0
    if cluster.billing == "function":
        return float(((end - start) * price[node]).sum()) if len(node) else 0.0
    money = 0.0
    for j in np.unique(node):
        held = float(end[node == j].max() - start[node == j].min())
        if cluster.quantum:
            held = np.ceil(held / cluster.quantum - 1e-9) * cluster.quantum
        money += held * float(price[j])
    return money

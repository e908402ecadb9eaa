"""Accounts: a row for each resource of each node: what it has, who holds it, its use.

Pure: puts together what trackers and nodes say; claims nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SHOWN = 3  # holders that a text names; of more it says how many

Snapshot = Mapping[str, Mapping[str, tuple[float, float, float | None]]]
Holder = tuple[str, str | None, str, Mapping[str, float]]  # run, graph, function, what


def resource_rows(
    names: Iterable[str],
    snapshot: Snapshot,
    limits: Mapping[str, Mapping[str, float]],
    holders: Mapping[str, Sequence[Holder]],
) -> list[dict[str, Any]]:
    """Rows of the nodes that are named, in that order; then of others that are held.

    Parameters
    ----------
    names : iterable of str
        Nodes.
    snapshot : mapping
        ``{node: {resource: (capacity, claimed, observed)}}``.
    limits : mapping
        ``{node: {resource: usable}}``, where that is less than the capacity.
    holders : mapping
        By node what functions hold: run, graph, function, ``{resource: amount}``.

    Returns
    -------
    list of dict
        ``node``, ``resource`` (sorted), ``capacity`` (inf is unlimited), ``claimed``,
        ``free`` (of what is usable), ``observed`` (None: not measured), ``usable``
        (None: all of the capacity), and ``holders``: dicts of ``run``, ``graph`` (None:
        without a name), ``function`` and ``amount``.

    Examples
    --------
    >>> rows = resource_rows(
    ...     ["n0"],
    ...     {"n0": {"cpu": (4.0, 1.0, 0.9)}},
    ...     {},
    ...     {"n0": [("r", "g", "f", {"cpu": 1})]},
    ... )
    >>> rows[0]["free"], rows[0]["holders"]
    (3.0, [{'run': 'r', 'graph': 'g', 'function': 'f', 'amount': 1}])
    """
    order = dict.fromkeys(names)
    order |= dict.fromkeys(node for node in holders if node in snapshot)
    return [
        _row(node, resource, row, limits.get(node, {}), holders.get(node, ()))
        for node in order
        if node in snapshot
        for resource, row in sorted(snapshot[node].items())
    ]


def _row(
    node: str,
    resource: str,
    row: tuple[float, float, float | None],
    limits: Mapping[str, float],
    holders: Sequence[Holder],
) -> dict[str, Any]:
    capacity, claimed, observed = row
    usable = limits.get(resource)
    return {
        "node": node,
        "resource": resource,
        "capacity": capacity,
        "claimed": claimed,
        "free": max(0.0, (capacity if usable is None else usable) - claimed),
        "observed": observed,
        "usable": usable,
        "holders": [
            {"run": run, "graph": graph, "function": what, "amount": held[resource]}
            for run, graph, what, held in holders
            if held.get(resource)
        ],
    }


def holders_text(holders: Sequence[Mapping[str, Any]]) -> str:
    """Who holds a resource, and how much each.

    Examples
    --------
    >>> row = {"run": "0ab1", "graph": "blur", "function": "f1", "amount": 1.5}
    >>> holders_text([row])
    'blur/f1 1.5'
    >>> holders_text([{**row, "graph": None}] * 5)
    '0ab1/f1 1.5, 0ab1/f1 1.5, 0ab1/f1 1.5 and 2 more'
    """
    names = [
        f"{row['graph'] or row['run']}/{row['function']} {row['amount']:.6g}"
        for row in holders[:SHOWN]
    ]
    more = len(holders) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON takes it: what is unlimited is null."""
    return {k: None if v == math.inf else v for k, v in row.items()}

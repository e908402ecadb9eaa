"""Lack: why a node refuses a function, as a value and as text. Knows no graph."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handout_dask.costs import CUDA, UNIT_NAMES, Cost
from handout_dask.node import TOLERANCE, Node

MOST = 10  # reasons in one text


@dataclass(frozen=True, slots=True)
class Lack:
    """Why a node refuses a function: what is needed of one thing, and what it has.

    ``of`` is the repr of the id of the function that needs it, where functions must
    share a node.
    """

    resource: str
    need: Any
    has: Any
    of: str = ""

    def __str__(self) -> str:
        mate = f" for function {self.of}" if self.of else ""
        if isinstance(self.need, str):  # a pin
            mate = f", the node of function {self.of}" if self.of else ""
            return f"is not {self.need!r}{mate}"
        if self.need is True:
            return f"lacks {'CUDA' if self.resource == CUDA else self.resource}{mate}"
        unit = UNIT_NAMES.get(self.resource, "")
        return (
            f"lacks {self.resource} (needs {self.need:g}{unit and ' ' + unit}, "
            f"has {self.has:g}){mate}"
        )


def explain_refusal(cost: Cost, node: Node) -> tuple[Lack, ...]:
    """Why the empty node can't run a function of this cost; () if it can."""
    lacks = [Lack(c, True, False) for c in cost.capabilities if not node.has(c)]
    demand = dict(cost.demand)
    demand.setdefault("cpu", 1.0)
    for name, need in sorted(demand.items()):
        if need > node.capacity(name) * (1 + TOLERANCE):
            lacks.append(Lack(name, need, node.capacity(name)))
    return tuple(lacks)


def explain_all(alternatives: Iterable[Cost], node: Node) -> tuple[Lack, ...]:
    """Why the empty node can run none of the alternatives; () if it can run one.

    Of several alternatives the one that lacks least is explained.
    """
    return min((explain_refusal(cost, node) for cost in alternatives), key=len)


def join_lacks(why: Mapping[str, tuple[Lack, ...]]) -> str:
    """One text for what all nodes lack, by node; nodes that lack the same together."""
    if not why:
        return "there is no node"
    texts: dict[str, list[str]] = {}
    for name, lacks in why.items():
        texts.setdefault(", ".join(map(str, lacks)), []).append(name)
    parts = []
    for text, names in list(texts.items())[:MOST]:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        parts.append(f"{', '.join(names[:3])}{more} {text}")
    if len(texts) > MOST:
        parts.append(f"and {len(texts) - MOST} more reasons")
    return "; ".join(parts)


def refusal_text(
    ids: Sequence[Hashable],
    pin: str | None,
    nodes: Sequence[str],
    why: Mapping[str, tuple[Lack, ...]],
) -> str:
    """What to tell of functions that must share a node, or of one, that fit on none.

    Parameters
    ----------
    ids : sequence
        Of the functions.
    pin : str, optional
        The node to which one of them is pinned.
    nodes : sequence of str
        All that there are.
    why : mapping
        What each node lacks.
    """
    more = f" and {len(ids) - 4} more" if len(ids) > 4 else ""
    who = ("function " if len(ids) == 1 else "functions ") + ", ".join(
        map(repr, ids[:4])
    )
    if pin is not None and pin not in nodes:
        known = ", ".join(nodes[:MOST]) + (", ..." if len(nodes) > MOST else "")
        return (
            f"{who}{more} must run on node {pin!r}, but the nodes are "
            f"{known or 'none'}. Correct the name or add the node."
        )
    lacks, remedy = "fits on no node", "Lower its cost or add a node."
    if len(ids) > 1:
        lacks = "must share a node, and no node fits all"
        remedy = "Lower a cost, part them or add a node."
    return f"{who}{more} {lacks}: {join_lacks(why)}. {remedy}"

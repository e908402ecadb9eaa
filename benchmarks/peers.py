"""The allocators of another library, anrg-saga, on problems of the judge.

Knows how saga (2.0.2) wants its graphs and networks; its plans are judged like ours.
Its nodes run one task at a time and its network has no latency, so other node sets are
refused. It breaks ties by the order of sets of texts, so its plans differ a little from
run to run unless PYTHONHASHSEED is set. Source: https://github.com/ANRGUSC/saga
"""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

# PEFT is not in 2.0.2.
SCHEDULERS = {
    "HEFT": "HeftScheduler",
    "CPoP": "CpopScheduler",
    "MinMin": "MinMinScheduler",
    "MaxMin": "MaxMinScheduler",
    "ETF": "ETFScheduler",
    "MCT": "MCTScheduler",
}
SLOW = ("MinMin", "MaxMin", "ETF")  # take minutes from about a thousand tasks on
# saga 2.0.2 puts a task beside one of no time on its wrong side when rounding has moved
# its start, and then raises ValueError.
LEAST_SECONDS = 1e-6
SOURCE, SINK = "__super_source__", "__super_sink__"  # added by saga; of no time


class UnsuitedError(Exception):
    """The problem is not one that saga can state."""


def why_absent() -> str | None:
    """Why saga can't be used here; None if it can."""
    if importlib.util.find_spec("saga") is None:
        return "anrg-saga is not installed (pip install anrg-saga==2.0.2)"
    return None


def as_saga(problem: Any, nodeset: Any) -> tuple[Any, Any]:
    """The network and the task graph in saga's types [bytes, seconds].

    Raises
    ------
    UnsuitedError
        If a node has several slots, or a link latency or two bandwidths.
    """
    from saga import Network, TaskGraph

    if any(node.slots != 1 for node in nodeset.nodes):
        raise UnsuitedError(f"{nodeset.name} has nodes of several slots")
    if any(map(any, nodeset.latency)):
        raise UnsuitedError(f"{nodeset.name} has latencies")
    names = [node.id for node in nodeset.nodes]
    # A node's link to itself is given no speed, which saga reads as infinite.
    links = []
    for a, row in enumerate(nodeset.bandwidth):
        for b in range(a):
            if row[b] != nodeset.bandwidth[b][a]:
                raise UnsuitedError(f"{nodeset.name} has links of two bandwidths")
            links.append((names[a], names[b], row[b]))
    network = Network.create([(node.id, node.speed) for node in nodeset.nodes], links)
    logging.disable(logging.WARNING)  # one for each super source and sink
    try:
        graph = TaskGraph.create(
            [(t.id, max(t.runtime, LEAST_SECONDS)) for t in problem.tasks],
            [(edge.src, edge.dst, edge.bytes) for edge in problem.edges],
        )
    finally:
        logging.disable(logging.NOTSET)
    return network, graph


def schedule(name: str, network: Any, graph: Any) -> list[dict[str, Any]]:
    """The rows that the judge reads of what saga's scheduler of this name plans."""
    import saga.schedulers

    made = getattr(saga.schedulers, SCHEDULERS[name])().schedule(network, graph)
    return [
        {"task": row.name, "node": row.node, "start": row.start, "end": row.end}
        for _, rows in made.items()
        for row in rows
        if row.name not in (SOURCE, SINK)
    ]

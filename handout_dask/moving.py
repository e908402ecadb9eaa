"""Moving: to which other nodes functions go that wait for one they can't have. Pure.

Knows what is planned and in hand; sends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from handout_dask.books import READY, SENT, WAITING, NodeBook, RunBook

Nodes = Mapping[str, NodeBook]
Runs = Mapping[str, RunBook]


def is_due(nodes: Nodes, name: str) -> bool:
    """Whether functions may wait for a node: it is there, or expected."""
    return name in nodes and (nodes[name].up or nodes[name].expected)


def move_from(
    run: RunBook, name: str, nodes: Nodes, runs: Runs, unable: bool = False
) -> set[str]:
    """Move what waits for a node that is gone to nodes that can run it.

    Or what the node is `unable` to run, if it is there. Returns the nodes that got
    work.
    """
    touched: set[str] = set()
    for i, state in enumerate(run.state):
        if run.node[i] != name or state not in (WAITING, READY):
            continue
        if unable and name in run.able(i):
            continue
        together = run.spec.group.get(i, (i,))
        if any(k in run.spec.pinned or run.state[k] == SENT for k in together):
            continue
        able = [run.able(k) for k in together]
        choice = min(
            (nodes[n] for n in set.intersection(*able) if is_due(nodes, n)),
            key=lambda book: (not book.up, _load(book, runs), book.node.name),
            default=None,
        )
        if choice is None:
            continue
        for k in together:
            run.node[k] = choice.node.name
            if run.state[k] in (WAITING, READY):
                run.put(k)
        touched.add(choice.node.name)
    return touched


def move(run: RunBook, i: int, name: str) -> bool:
    """Let a function that waits, wait for another node; whether it does now."""
    if run.node[i] != name and run.state[i] in (WAITING, READY):
        run.node[i] = name
        run.put(i)
    return run.node[i] == name


def _load(book: NodeBook, runs: Runs) -> float:
    queued = sum(run.length(book.node.name) for run in runs.values())
    return (book.used + len(book.ahead) + queued) / (book.slots * book.node.speed)

"""Moving: to which other nodes functions go that wait for one they can't have. Pure.

Knows what is planned and in hand; sends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from handout_dask.books import READY, SENT, WAITING, NodeBook, RunBook
from handout_dask.pins import ELSEWHERE

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
        if any(run.state[k] == SENT for k in together):
            continue
        if not (_may_leave(run, together) if unable else _can_leave(run, together)):
            continue
        choice = _best(run, together, nodes, runs)
        if choice is None:
            continue
        _put(run, together, choice)
        touched.add(choice.node.name)
    return touched


def shun(run: RunBook, i: int, nodes: Nodes, runs: Runs) -> bool:
    """Let a function wait for a node that it doesn't shun and that is not left out.

    With those that must share its node; returns whether it does now.
    """
    together = run.spec.group.get(i, (i,))
    here = nodes.get(run.node[i])
    if here is None or not any(_penalty(run, together, here)):
        return False
    if any(run.state[k] == SENT or k in run.bound for k in together):
        return False
    choice = _best(run, together, nodes, runs)
    if choice is None or not _may_leave(run, together):
        return False
    if _penalty(run, together, choice) >= _penalty(run, together, here):
        return False
    _put(run, together, choice)
    return True


def find_able(run: RunBook, i: int, nodes: Nodes, runs: Runs) -> None:
    """Let a function that runs as another variant wait for a node that can run that."""
    tied = i in run.pinned or i in run.bound or len(run.spec.group.get(i, ())) > 1
    if i not in run.switched or tied or run.node[i] in run.able(i):
        return
    if run.state[i] in (WAITING, READY):
        choice = _best(run, (i,), nodes, runs)
        if choice is not None:
            _put(run, (i,), choice)


def _best(
    run: RunBook, together: Sequence[int], nodes: Nodes, runs: Runs
) -> NodeBook | None:
    """The node that is best for functions that must share one; None if none can."""
    able = [run.able(k) for k in together]
    return min(
        (nodes[n] for n in set.intersection(*able) if is_due(nodes, n)),
        key=lambda book: (
            not book.up, _penalty(run, together, book), _load(book, runs),
            book.node.name,
        ),
        default=None,
    )  # fmt: skip


def _penalty(run: RunBook, together: Sequence[int], book: NodeBook) -> tuple[int, bool]:
    """How bad a node is for functions that failed there, or elsewhere."""
    shunned = [run.shunned[k] for k in together if k in run.shunned]
    name = book.node.name
    return max((x.index(name) + 1 for x in shunned if name in x), default=0), bool(
        book.barred
    )


def _put(run: RunBook, together: Sequence[int], book: NodeBook) -> None:
    for k in together:
        run.node[k] = book.node.name
        if run.state[k] in (WAITING, READY):
            run.put(k)


def _may_leave(run: RunBook, together: Sequence[int]) -> bool:
    """Whether functions may leave a node that is there."""
    return run.pinned.isdisjoint(together)


def _can_leave(run: RunBook, together: Sequence[int]) -> bool:
    """Whether functions, all or none, leave a node that is gone.

    Those that are bound to it do if that is what they say; pins go with it.
    """
    pinned = [k for k in together if k in run.pinned]
    if pinned and run.spec.when_lost(pinned[0]) == ELSEWHERE:
        run.unpin(pinned)
        return True
    if pinned or together[0] not in run.spec.lost:
        return not pinned
    began = any(run.attempts[k] for k in together)
    return not began or run.spec.lost[together[0]] == ELSEWHERE


def move(run: RunBook, i: int, name: str) -> bool:
    """Let a function that waits, wait for another node; whether it does now."""
    if run.node[i] != name and run.state[i] in (WAITING, READY):
        run.node[i] = name
        run.put(i)
    return run.node[i] == name


def _load(book: NodeBook, runs: Runs) -> float:
    queued = sum(run.length(book.node.name) for run in runs.values())
    return (book.used + len(book.ahead) + queued) / (book.slots * book.node.speed)

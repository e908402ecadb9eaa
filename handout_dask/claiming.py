"""Claiming: what functions hold of nodes, taken and given back in all trackers. Pure.

A function has one claim on a node at most, named (token, i, node): what was taken back
from one node and runs on another holds both until the first has let it go.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress

from handout_dask.books import Member, NodeBook, RunBook
from handout_dask.errors import TrackerError
from handout_dask.linger import Linger
from handout_dask.tracker import ResourceTracker

Trackers = Sequence[ResourceTracker]


def claim_of(member: Member, name: str) -> Hashable:
    """The name under which a function holds what it has of a node."""
    return (*member, name)


def take(run: RunBook, i: int, book: NodeBook, full: bool) -> bool:
    """Take the demand of a function in the books of every tracker, or of none.

    What is sent ahead takes its cores when it gets a slot. What lingers on the node has
    its demand already: its thread is the one that goes on.

    Raises
    ------
    TrackerError
        If a user's tracker raises.
    """
    member, demand = (run.spec.token, i), run.demand(i, book.node)
    linger = book.lingering.get(member)
    if linger is not None:
        if linger.demand != demand:  # it asks for more than then, and begins anew
            return False
        if linger.slot or full:
            return True
        demand = {"cpu": run.cores(i)}
    elif full:
        demand = {k: v for k, v in demand.items() if k != "cpu"}
    more = linger is not None
    refusing = _ask(run.trackers, member, book.node.name, demand, more)
    if refusing is None:
        run.refusing.pop(run.need[i], None)
        return True
    if refusing:
        run.refusing[run.need[i]] = refusing
    return False


def take_cores(
    trackers: Trackers, member: Member, book: NodeBook, cores: float
) -> None:
    """Take the cores of what gets a slot; it runs without if the node has shrunk."""
    try:
        refusing = _ask(trackers, member, book.node.name, {"cpu": cores}, True)
    except TrackerError:  # a user's; the node runs it all the same
        refusing = 0
    if refusing is None:
        book.owing.discard(member)
    else:
        book.owing.add(member)


def give_back(trackers: Trackers, member: Member, book: NodeBook) -> None:
    """Give back all that a function holds of a node."""
    claim = claim_of(member, book.node.name)
    trackers[0].release(claim)
    for tracker in trackers[1:]:
        with suppress(Exception):  # a user's; the function has ended all the same
            tracker.release(claim)
    book.owing.discard(member)


def linger_of(
    run: RunBook, i: int, book: NodeBook, slot: bool, lone: bool, now: float
) -> Linger:
    """What function i goes on holding that is taken back now."""
    outline = run.spec.outline
    return Linger(
        run.trackers,
        run.demand(i, book.node),
        run.cores(i),
        slot,
        lone,
        run.since + run.start[i],
        run.seconds(i),
        now,
        str(i) if outline is None else outline.labels[i],
        None if outline is None else outline.title,
    )


def held_of(
    book: NodeBook, runs: Mapping[str, RunBook]
) -> Iterator[tuple[Member, dict[str, float]]]:
    """Who holds what of a node, by the books; all trackers have the same."""
    for member in (*book.running, *book.ahead, *book.lingering):
        linger = book.lingering.get(member)
        if linger is not None:
            demand, begun = linger.demand, linger.slot
        else:
            run = runs[member[0]]
            demand, begun = run.demand(member[1], book.node), member in book.running
        if begun and member not in book.owing:
            yield member, demand
        else:
            yield member, {k: v for k, v in demand.items() if k != "cpu"}


def _ask(
    trackers: Trackers, member: Member, name: str, demand: Mapping[str, float],
    more: bool = False,
) -> int | None:  # fmt: skip
    """Ask one after the other; which of them refuses, None if nobody does.

    What the claim holds already, if it asks for `more`, it keeps in any case.
    """
    claim = claim_of(member, name)
    for k, tracker in enumerate(trackers):
        why: Exception | None = None
        try:
            taken = tracker.request(claim, name, demand)
        except Exception as error:
            taken, why = False, error
        if taken:
            continue
        for other in trackers[:k]:
            other.release(claim, demand if more else None)
        if why is not None:
            raise TrackerError(
                f"the tracker {type(tracker).__name__} raised when it was asked: "
                f"{type(why).__name__}: {why}",
                member,
            ) from why
        return k
    return None

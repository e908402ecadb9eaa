"""Slots: who has one of a node, who gets the next, and who lets go of it. Pure.

Knows no plan: what is sent next is decided in `dispatch`, which alone calls this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from handout_dask.begun import expected_end
from handout_dask.books import Member, NodeBook, RunBook
from handout_dask.choosing import is_lone
from handout_dask.claiming import give_back, linger_of, take_cores

Runs = Mapping[str, RunBook]


def enter(book: NodeBook, run: RunBook, i: int, full: bool, now: float) -> None:
    """Function i, whose demand is claimed, is sent: it has a slot, or is ahead."""
    member, seconds = (run.spec.token, i), run.seconds(i)
    linger = book.lingering.pop(member, None)
    if linger is None:
        book.lone += is_lone(run, i)
    elif linger.slot:  # its thread goes on
        full = False
    if full:
        book.ahead[member] = seconds
        book.ahead_seconds += seconds
    else:
        book.running[member] = run.cores(i)
        run.begin(i, now)
        run.running += 1


def free(
    book: NodeBook, run: RunBook, i: int, lingers: bool, runs: Runs, now: float
) -> None:
    """Function i is no longer sent; what it holds goes, or lingers there."""
    member = run.spec.token, i
    book.unsure.discard(member)
    lone, slot = is_lone(run, i), member in book.running
    if slot:
        del book.running[member]
        run.running -= 1
    else:
        book.ahead_seconds -= book.ahead.pop(member)
    if lingers:
        book.lingering[member] = linger_of(run, i, book, slot, lone, now)
    else:
        give_back(run.trackers, member, book)
        book.lone -= lone
    promote(book, runs, now)


def let_go(book: NodeBook, member: Member) -> None:
    """Give back what lingers of a function."""
    linger = book.lingering.pop(member)
    give_back(linger.trackers, member, book)
    book.lone -= linger.lone


def forget(book: NodeBook) -> None:
    """Nothing lingers on a node that is gone."""
    for member in list(book.lingering):
        let_go(book, member)


def promote(book: NodeBook, runs: Runs, now: float) -> None:
    """Give free slots to what was sent ahead, in the order in which it was.

    First to what was taken back: perhaps it has begun, of which no word comes.
    """
    for member in list(book.owing):
        held = book.lingering.get(member)
        trackers = held.trackers if held else runs[member[0]].trackers
        take_cores(trackers, member, book, held.cores if held else book.running[member])
    for member, linger in list(book.lingering.items()):
        if not linger.slot and not book.is_full:
            book.lingering[member] = replace(linger, slot=True)
            take_cores(linger.trackers, member, book, linger.cores)
    while book.ahead and not book.is_full:
        member = next(iter(book.ahead))
        book.ahead_seconds -= book.ahead.pop(member)
        run, i = runs[member[0]], member[1]
        run.begin(i, now)
        run.running += 1
        cores = book.running[member] = run.cores(i)
        take_cores(run.trackers, member, book, cores)
    if not book.ahead:
        book.ahead_seconds = 0.0


def first_end(book: NodeBook, runs: Runs, now: float) -> float:
    """Seconds until the first slot is expected to get free.

    Of what was taken back nothing is known; inf if there is nothing else.
    """
    left = []
    for token, i in book.running:
        run = runs[token]
        at = now - run.since
        left.append(expected_end(run.start[i], run.seconds(i), at) - at)
    return min(left, default=float("inf"))

"""Histories of several, or of several times, as one; and a part of one. Pure."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from handout_dask.history import History
from handout_dask.known import Label, Name

MANY = 5000  # functions of a graph beyond which an excerpt has names alone


def merge(history: History, later: History) -> None:
    """Take in what another saw, as if it came after what is known.

    Nothing that was observed is lost, or counted twice, as long as each observation is
    in one of both. Of nodes nothing is taken: they are slow at the moment, or not.
    """
    names = _merged(history.names, later.names, history.new_name)
    history.replace(names, _merged(history.labels, later.labels, Label))


def put_before(history: History, older: History) -> None:
    """Take in what another saw before all that is known; `older` is used up.

    What is known must all be in ``history.fresh``, where that is kept.
    """
    merge(older, history if history.fresh is None else history.fresh)
    history.replace(older.names, older.labels)


def fill(history: History, other: History) -> None:
    """Take what another knows of names and functions of which nothing is known."""
    history.replace(
        {**other.names, **history.names}, {**other.labels, **history.labels}
    )


def excerpt(
    history: History, names: Sequence[str], pairs: Iterable[tuple[str, str]]
) -> History | None:
    """What is known of these names, and of these functions unless they are many.

    A copy; None if nothing is known.
    """
    known = {x: copy.deepcopy(history.names[x]) for x in names if x in history.names}
    if not known:
        return None
    found: dict[tuple[str, str], Label] = {}
    for pair in pairs:
        if len(found) > MANY:
            found = {}
            break
        if pair in history.labels:
            found[pair] = copy.deepcopy(history.labels[pair])
    out = History(history.most)
    out.replace(known, found)
    return out


def _merged(
    older: dict[Any, Any], later: dict[Any, Any], new: Callable[[], Any]
) -> dict[Any, Any]:
    """Both tables as one; those seen later are last. Entries of `older` are used up."""
    out = dict(older)
    for key, one in later.items():
        known: Label | Name = out.pop(key, None) or new()
        known.merge(one)
        out[key] = known
    return out

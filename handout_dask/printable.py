"""Printable: any value as one short line of text that no terminal or page acts on.

Knows no markup: who writes HTML escapes the text besides.
"""

from __future__ import annotations

import re
from typing import Any
from unicodedata import category, east_asian_width

JOINER = "\u200d"  # holds emoji together, and does nothing else
MORE = "…"


def printable(value: object, most: int = 60) -> str:
    """What a value is called: a text is itself, of anything else it is the repr.

    Parameters
    ----------
    value : object
        Often the id of a function.
    most : int
        Columns of a terminal that it takes up at most; of what is longer the middle is
        left out. At least 2.

    Returns
    -------
    str
        Without control characters, those that change the direction of text, and lone
        surrogates: they stand as Python writes them.

    Examples
    --------
    >>> printable("two" + chr(10) + "lines" + chr(27) + "[2J"), printable(("a", 1))
    ('two\\\\nlines\\\\x1b[2J', "('a', 1)")
    >>> printable("a" * 50 + "b" * 50, 12)
    'aaaaaaaa…bbb'
    """
    text = value if isinstance(value, str) else _repr(value)
    if len(text) <= most and text.isascii() and text.isprintable():
        return text
    if len(text) > 8 * most:  # more than enough of both ends
        text = text[: 4 * most] + MORE + text[-4 * most :]
    text = "".join(map(_plain, text))
    if columns(text) <= most and len(text) <= 4 * most:
        return text
    tail = (most - 1) // 3
    return _within(text, most - 1 - tail) + MORE + _within(text[::-1], tail)[::-1]


def columns(text: str) -> int:
    """How many columns of a terminal a printable text takes up."""
    return len(text) if text.isascii() else sum(map(_column, text))


def padded(text: str, width: int, right: bool = False) -> str:
    """A printable text with spaces before or behind it, so that it is so wide."""
    space = " " * (width - columns(text))
    return space + text if right else text + space


def natural(name: str) -> tuple[Any, ...]:
    """A key by which names are sorted so that n2 stands before n10.

    Examples
    --------
    >>> sorted(["n10", "n2", "gpu"], key=natural)
    ['gpu', 'n2', 'n10']
    """
    parts = re.split(r"(\d{1,18})", name)
    return tuple((int(p), "") if p.isdecimal() else (-1, p) for p in parts)


def _plain(character: str) -> str:
    if character.isprintable() or character == JOINER:
        return character
    return repr(character)[1:-1]


def _column(character: str) -> int:
    if character == JOINER or category(character) in ("Mn", "Me"):
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def _within(text: str, width: int) -> str:
    """The beginning of a text that is no wider."""
    taken = 0
    for k, character in enumerate(text):
        taken += _column(character)
        if taken > width or k >= 4 * width:
            return text[:k]
    return text


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:  # whose it is may raise anything
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"

"""Sealed files: bytes with what they are, a digest, and a signature. Pure: no IO.

Nothing in a file is taken before all of it was checked; what it holds is none of this
module's business.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from handout_dask.errors import JournalError, UntrustedError

MAGIC = b"handout-sealed "
VERSION = 1
LONGEST = 1 << 20  # bytes of a head; a longer one is none


def seal(about: Mapping[str, Any], parts: Sequence[Any], key: bytes) -> list[Any]:
    """A file as parts to be written one after the other.

    Parameters
    ----------
    about : mapping
        What JSON can hold, with text keys; says what the file is.
    parts : sequence of bytes-like
        What it holds.
    key : bytes
        Whose signature it bears.
    """
    views = [memoryview(part).cast("B") for part in parts]
    head = {
        "about": dict(about),
        "sizes": [view.nbytes for view in views],
    }
    made = _digest(head)
    for view in views:
        made.update(view)
    head["sha256"] = made.hexdigest()
    head["hmac"] = _signature(head, key)
    text = json.dumps(head, separators=(",", ":")).encode()
    return [MAGIC + b"%d\n" % VERSION + text + b"\n", *views]


def unseal(
    data: Any, key: bytes | None, name: str, expected: Mapping[str, Any]
) -> tuple[dict[str, Any], list[memoryview]]:
    """What a file says that it is, and its parts.

    Parameters
    ----------
    data : bytes-like
        The whole file.
    key : bytes or None
        Whose signature it has to bear; None takes any, and none.
    name : str
        Of the file, for errors.
    expected : mapping
        What it has to say that it is.

    Raises
    ------
    JournalError
        If it is no such file, torn, changed, or another one than expected.
    UntrustedError
        If it is whole, but the signature is not by this key.
    """
    whole = memoryview(data).cast("B")
    head, at = _head(bytes(whole[:LONGEST]), name)
    made = _digest(head)
    made.update(whole[at:])
    _check(head, whole.nbytes - at, made.hexdigest(), key, name, expected)
    parts = []
    for size in head["sizes"]:
        parts.append(whole[at : at + size])
        at += size
    return head["about"], parts


def verify(
    chunks: Iterable[bytes], key: bytes | None, name: str, expected: Mapping[str, Any]
) -> None:
    """Raise what `unseal` would of a file that is too large to be held in memory.

    Parameters
    ----------
    chunks : iterable of bytes
        The file, piece by piece.
    key, name, expected
        As of `unseal`.
    """
    source, start = iter(chunks), b""
    while start.count(b"\n") < 2 and len(start) < LONGEST:
        chunk = next(source, b"")
        if not chunk:
            break
        start += chunk
    head, at = _head(start, name)
    made, size = _digest(head), len(start) - at
    made.update(start[at:])
    for chunk in source:
        made.update(chunk)
        size += len(chunk)
    _check(head, size, made.hexdigest(), key, name, expected)


def _check(
    head: Mapping[str, Any], size: int, digest: str, key: bytes | None, name: str,
    expected: Mapping[str, Any],
) -> None:  # fmt: skip
    """Compare what a file says of itself with what it is, and with what it shall be."""
    if size != sum(head["sizes"]):
        raise JournalError(
            f"file {name!r} is torn: it holds {size} bytes of {sum(head['sizes'])}"
        )
    if digest != head["sha256"]:
        raise JournalError(f"file {name!r} is corrupt: its checksum is another one")
    for what, value in expected.items():
        if head["about"].get(what) != value:
            raise JournalError(
                f"file {name!r} is another one than it should be: its {what} is "
                f"{head['about'].get(what)!r}, not {value!r}"
            )
    if key is not None and not hmac.compare_digest(head["hmac"], _signature(head, key)):
        raise UntrustedError(
            f"file {name!r} was not written by this user. What it holds is pickled, "
            "and to unpickle it may run any code: pass trust=True only if you trust "
            "whoever could write there"
        )


def _head(start: bytes, name: str) -> tuple[dict[str, Any], int]:
    """The head of a file that begins so, and where it ends."""
    first, _, rest = start.partition(b"\n")
    if not first.startswith(MAGIC):
        raise JournalError(f"file {name!r} is none of handout_dask's")
    if first != MAGIC + b"%d" % VERSION:
        version = first[len(MAGIC) :][:20].decode("ascii", "replace")
        raise JournalError(
            f"file {name!r} is of version {version}; this handout_dask reads {VERSION}"
        )
    text, newline, _ = rest.partition(b"\n")
    head: dict[str, Any] = {}
    try:
        head = json.loads(text) if newline else {}
        known = isinstance(head, dict) and (
            isinstance(head["about"], dict)
            and isinstance(head["sha256"], str)
            and isinstance(head["hmac"], str)
            and head["hmac"].isascii()
            and all(type(size) is int and size >= 0 for size in head["sizes"])
        )
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise JournalError(f"file {name!r} is torn or corrupt: its head can't be read")
    return head, len(first) + len(text) + 2


def _digest(head: Mapping[str, Any]) -> Any:
    """The digest of a file, to be updated by what it holds."""
    return hashlib.sha256(_text(head, "about", "sizes"))


def _signature(head: Mapping[str, Any], key: bytes) -> str:
    return hmac.new(key, _text(head, "about", "sizes", "sha256"), "sha256").hexdigest()


def _text(head: Mapping[str, Any], *names: str) -> bytes:
    """Fields of a head as bytes, always the same."""
    known = {what: head[what] for what in names}
    return json.dumps(known, separators=(",", ":"), sort_keys=True).encode()

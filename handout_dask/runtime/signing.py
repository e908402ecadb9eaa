"""Signing: the user's own key, by which files are known that this user wrote.

It lies beside a list of the journals that this user has used, in the user's folder for
state, and never leaves this host; runs get keys that are made of it.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from handout_dask.errors import HandoutError

SIZE = 32  # bytes
MOST = 100  # journals that are remembered


def folder() -> Path:
    """Where this user's state is kept."""
    given = os.environ.get("XDG_STATE_HOME")
    return (Path(given) if given else Path.home() / ".local" / "state") / "handout"


def user_key() -> bytes:
    """This user's key; it is made when it is first asked for.

    Raises
    ------
    HandoutError
        If it can't be made, or others could read it.
    """
    path = folder() / "key"
    try:
        return _read(path) if path.exists() else _make(path)
    except OSError as error:
        raise HandoutError(
            f"the key by which your journals are signed can't be kept in {str(path)!r}:"
            f" {type(error).__name__}: {error}. Let XDG_STATE_HOME name a folder where "
            "you can write"
        ) from error


def _read(path: Path) -> bytes:
    about = path.stat()
    others = stat.S_IMODE(about.st_mode) & 0o077
    if os.name == "posix" and (others or about.st_uid != os.getuid()):
        raise HandoutError(
            f"the key {str(path)!r} is not only yours, so it proves nothing: delete it "
            "(files that were signed by it need trust=True then), or chmod 600 it"
        )
    data = path.read_bytes()
    if len(data) != SIZE:
        raise HandoutError(
            f"the key {str(path)!r} holds {len(data)} bytes, not {SIZE}: delete it "
            "(files that were signed by it need trust=True then)"
        )
    return data


def _make(path: Path) -> bytes:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = path.with_name(f"key.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SIZE))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process was first
            os.link(aside, path)
    finally:
        os.unlink(aside)
    return _read(path)


def key_of(what: str) -> bytes:
    """The key of a run, or of another thing; nobody gets from it to the user's."""
    return hmac.new(user_key(), what.encode(), "sha256").digest()


def remember(journal: str) -> None:
    """Note that this user has a journal there, as far as that can be done."""
    known = [url for url in journals() if url != journal]
    text = "\n".join([*known[1 - MOST :], journal]) + "\n"
    with suppress(OSError):
        path = folder() / "journals"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = path.with_name(f"journals.{secrets.token_hex(4)}")
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)


def journals() -> list[str]:
    """Where this user has journals; the last that was used is the last."""
    try:
        return (folder() / "journals").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []

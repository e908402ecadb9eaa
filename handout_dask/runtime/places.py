"""Places: files at paths, and at URLs that fsspec knows; written at once or not at all.

Knows nothing of what is in them.
"""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import fsspec

from handout_dask.errors import HandoutError, ResourceExhaustedError

CHUNK = 1 << 20  # bytes that are read at once
SMALL = 1 << 16  # bytes that are copied to be written at once
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


class Place:
    """A file, or a folder of files.

    Parameters
    ----------
    what : str
        What it is to the user, in errors: "history".
    where : str or path
        A path, or a URL such as "s3://bucket/history.json".

    Attributes
    ----------
    url : str
        As given.
    path : str
        As its file system has it.
    is_local : bool
        Whether it is on this host's file systems.
    """

    def __init__(self, what: str, where: Any) -> None:
        self.what = what
        try:
            self.url = os.fspath(where)
            self.fs, path = fsspec.core.url_to_fs(self.url)
        except Exception as error:
            raise HandoutError(
                f"{what}={where!r} is no path, and fsspec can't open it: {error}"
            ) from error
        self.is_local = "file" in _protocols(self.fs)
        self.path = os.path.realpath(path) if self.is_local else path

    def __truediv__(self, name: str) -> Place:
        """A file in this folder."""
        made = object.__new__(Place)
        made.what, made.fs, made.is_local = self.what, self.fs, self.is_local
        made.path = f"{self.path.rstrip('/')}/{name}"
        made.url = made.path if self.is_local else f"{self.url.rstrip('/')}/{name}"
        return made

    @property
    def address(self) -> str:
        """What finds it from another process of this host, or from anywhere."""
        return self.path if self.is_local else self.url

    def read(self) -> bytes | None:
        """What is there; None if there is no such file."""
        try:
            return bytes(self.fs.cat_file(self.path))
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self.failed("read", error) from error

    def chunks(self) -> Iterator[bytes]:
        """What is there, piece by piece."""
        try:
            with self.fs.open(self.path, "rb") as file:
                while chunk := file.read(CHUNK):
                    yield chunk
        except Exception as error:
            raise self.failed("read", error) from error

    def write(self, *parts: Any, sync: bool = True) -> None:
        """Replace the file at once, or leave it as it was; folders are made.

        Without `sync` it may be lost, or torn, should the host lose its power.
        """
        try:
            if self.is_local:
                try:
                    replace(self.path, parts, sync)
                except FileNotFoundError:
                    os.makedirs(os.path.dirname(self.path), exist_ok=True)
                    replace(self.path, parts, sync)
            else:
                self.fs.pipe_file(self.path, b"".join(map(bytes, parts)))
        except Exception as error:
            raise self.failed("written", error) from error

    def names(self) -> list[str]:
        """The files of this folder, sorted; none if there is no such folder."""
        try:
            self.fs.invalidate_cache()
            found = self.fs.ls(self.path, detail=False)
        except FileNotFoundError:
            return []
        except Exception as error:
            raise self.failed("listed", error) from error
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)

    def failed(self, what: str, error: BaseException) -> HandoutError:
        """An error that says what could not be done."""
        why = f"{type(error).__name__}: {error}"
        text = f"{self.what} {self.url!r} can't be {what}: {why}"
        if isinstance(error, OSError) and error.errno in FULL:
            return ResourceExhaustedError(f"{text}. Make room there", "disk")
        return HandoutError(text)

    def __repr__(self) -> str:
        return f"<Place {self.url}>"


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def replace(path: str, parts: Sequence[Any], sync: bool = True) -> None:
    """Write aside, and take the name over at once."""
    aside = f"{path}.{uuid.uuid4().hex[:8]}.part"
    try:
        with open(aside, "xb", buffering=0) as file:
            for part in _fewer(parts):
                left = memoryview(part)
                while left:
                    left = left[file.write(left) :]
            if sync:
                os.fsync(file.fileno())
        if os.path.exists(path):
            os.chmod(aside, stat.S_IMODE(os.stat(path).st_mode))
        os.replace(aside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(aside)
        raise


def _fewer(parts: Sequence[Any]) -> Sequence[Any]:
    """The same as one, if it is small."""
    return [b"".join(parts)] if sum(map(len, parts)) < SMALL else parts

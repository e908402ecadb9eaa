"""Last words: what a worker said and ran last, kept beyond its death.

What it said is what it wrote to standard error.
In memory that its nanny owns, so there is no file to be left behind. The worker finds
it among what its parent has open. Where that is impossible (no Linux, no nanny) nothing
is kept, and nothing fails.
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

SIZE = 4096  # bytes that are kept
TOLD = 2000  # bytes that are told
HEAD = 8  # bytes before them: how many were written in all
KEYS = HEAD + SIZE  # from where on it has the keys of what runs
LENGTH, MOST = 2, 1022  # bytes that tell how long these are, and may be
FAULTS = KEYS + LENGTH + MOST  # from where on Python itself writes of a fatal signal


class Kept:
    """The nanny's side: memory for the words of the worker that it has now.

    Parameters
    ----------
    name : str
        By which the worker finds it; unlike that of any other nanny of this process.
    """

    def __init__(self, name: str) -> None:
        self._fd = -1
        with suppress(AttributeError, OSError):  # not on all systems
            self._fd = os.memfd_create(_title(name))
            os.ftruncate(self._fd, FAULTS)

    def read(self) -> str:
        """The last words of the worker, as text; "" if there are none."""
        if self._fd < 0:
            return ""
        data = os.pread(self._fd, 1 << 16, 0)
        count, ring = int.from_bytes(data[:HEAD], "little"), data[HEAD:KEYS]
        at = count % SIZE
        words = ring[:at] if count <= SIZE else ring[at:] + ring[:at]
        return (words + data[FAULTS:])[-TOLD:].decode("utf-8", "replace").strip("\n")

    def running(self) -> list[Any] | None:
        """Keys of what the worker ran last, tuples as lists; None if not known."""
        if self._fd < 0:
            return None
        data = os.pread(self._fd, LENGTH + MOST, KEYS)
        length = int.from_bytes(data[:LENGTH], "little")
        try:
            found = json.loads(data[LENGTH : LENGTH + length])
        except ValueError:  # nothing, or it died as it wrote
            return None
        return list(found)

    def clear(self) -> None:
        """Forget them; another worker begins."""
        if self._fd >= 0:
            os.pwrite(self._fd, bytes(HEAD), 0)
            os.pwrite(self._fd, bytes(LENGTH), KEYS)
            os.ftruncate(self._fd, FAULTS)

    def close(self) -> None:
        """Give the memory back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Keeping:
    """The worker's side: what this process writes to standard error is kept as well.

    Python's own ``sys.stderr`` is, not what C code writes; of a fatal signal, the
    traceback, unless somebody else had enabled `faulthandler`.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._memory: mmap.mmap | None = None
        self._tee: _Tee | None = None
        self._faults: Any = None
        self.seek()

    def seek(self) -> None:
        """Begin, if the nanny has the memory by now."""
        path = _find(self._name) if self._memory is None else None
        if path is None:
            return
        with suppress(OSError, ValueError):
            with open(path, "r+b", buffering=0) as file:
                self._memory = mmap.mmap(file.fileno(), FAULTS)
            self._tee = _Tee(sys.stderr, self._memory)
            sys.stderr = self._tee
            if not faulthandler.is_enabled():
                self._faults = open(path, "r+b", buffering=0)  # noqa: SIM115
                self._faults.seek(FAULTS)
                faulthandler.enable(self._faults, all_threads=False)

    def run(self, keys: Iterable[Any]) -> None:
        """These run now, or are about to."""
        memory = self._memory
        if memory is None:
            return
        memory[KEYS : KEYS + LENGTH] = bytes(LENGTH)  # not known, meanwhile
        data = json.dumps(list(keys), default=repr).encode()
        if len(data) <= MOST:
            at = KEYS + LENGTH
            memory[at : at + len(data)] = data
            memory[KEYS:at] = len(data).to_bytes(LENGTH, "little")

    def stop(self) -> None:
        """Leave the process as it was found."""
        if self._faults is not None:
            faulthandler.disable()
            self._faults.close()
            self._faults = None
        if self._tee is not None:
            self._tee.memory = None
            if sys.stderr is self._tee:  # else somebody has put theirs over it
                sys.stderr = self._tee.stream
            self._tee = None
        if self._memory is not None:
            self._memory.close()
            self._memory = None


class _Tee:
    """A stream whose last bytes are kept in memory."""

    def __init__(self, stream: Any, memory: mmap.mmap) -> None:
        self.stream = stream
        self.memory: mmap.mmap | None = memory

    def write(self, text: str) -> Any:
        memory = self.memory
        if memory is not None:
            with suppress(Exception):
                _append(memory, text.encode("utf-8", "replace")[-SIZE:])
        return self.stream.write(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _append(memory: mmap.mmap, data: bytes) -> None:
    count = int.from_bytes(memory[:HEAD], "little")
    at = count % SIZE
    first = min(len(data), SIZE - at)
    memory[HEAD + at : HEAD + at + first] = data[:first]
    memory[HEAD : HEAD + len(data) - first] = data[first:]
    memory[:HEAD] = (count + len(data)).to_bytes(HEAD, "little")


def _title(name: str) -> str:
    return f"handout-{name}"[:240]


def _find(name: str) -> str | None:
    """The path of the memory of that name among what the parent process has open."""
    folder, wanted = f"/proc/{os.getppid()}/fd", f"/memfd:{_title(name)} (deleted)"
    with suppress(OSError):
        for entry in os.listdir(folder):
            with suppress(OSError):
                if os.readlink(f"{folder}/{entry}") == wanted:
                    return f"{folder}/{entry}"
    return None

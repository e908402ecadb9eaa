"""Words: what a process says on stderr: passed on, and the last of it kept. No Dask."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

KEPT = 4000  # bytes
LINES, WIDE = 6, 120  # of the last words: lines, characters in each
BEFORE = 2  # lines before what Python says of a signal: perhaps what led to it
FATAL = "Fatal Python error"  # how faulthandler begins


class Words:
    """The stderr of a process that is about to be started.

    Attributes
    ----------
    sink : int
        For the process to write to; `passed` when it has it.
    """

    def __init__(self) -> None:
        self._source, self.sink = os.pipe()
        self._tail = b""
        self._reader = threading.Thread(
            target=self._pass_on, name="handout-words", daemon=True
        )

    def passed(self) -> None:
        """The process has the sink: close it here, and begin to read."""
        os.close(self.sink)
        self._reader.start()

    def forget(self) -> None:
        """What was said so far is another function's."""
        self._tail = b""

    def last(self, wait: float) -> str:
        """The last words, when the process has ended; waits for them for so long."""
        self._reader.join(wait)
        return last_words(self._tail.decode(errors="replace"))

    def _pass_on(self) -> None:
        try:
            while data := os.read(self._source, 2**16):
                self._tail = (self._tail + data)[-KEPT:]
                with suppress(OSError):  # nobody hears us either
                    _write(data)
        except OSError:
            pass
        finally:
            os.close(self._source)


def last_words(text: str) -> str:
    """The lines that tell why a process ended, of the last that it wrote."""
    lines = [line.rstrip()[:WIDE] for line in text.splitlines() if line.strip()]
    fatal = [k for k, line in enumerate(lines) if line.startswith(FATAL)]
    first = max(0, fatal[-1] - BEFORE) if fatal else max(0, len(lines) - LINES)
    return "\n".join(lines[first : first + LINES])


def _write(data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(2, left) :]

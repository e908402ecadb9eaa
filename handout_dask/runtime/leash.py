"""Leash: what this process started ends with it, however it dies. No Dask.

Linux ends a process with the thread that began it, but not what it has started. At
the other end of the leash is a shell that waits at a pipe, which the kernel closes with
the last breath.
"""

from __future__ import annotations

import os
import subprocess
import threading
from contextlib import suppress

SHELL = "/bin/sh"
SCRIPT = (
    "while read -r line; do pids=$line; done; "
    'for pid in $pids; do kill -s KILL -- "-$pid"; done'
)


class Leash:
    """Knows the leaders of process groups; its shell lives while there are some."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leaders: set[int] = set()
        self._shell: subprocess.Popen[bytes] | None = None

    def add(self, leader: int) -> None:
        """End the group of this process if we die."""
        with self._lock:
            self._leaders.add(leader)
            self._tell()

    def remove(self, leader: int) -> None:
        """It has ended; its number may be another's soon."""
        with self._lock:
            if leader in self._leaders:
                self._leaders.discard(leader)
                self._tell()

    def _tell(self) -> None:
        if not self._leaders:
            self._end()
            return
        line = " ".join(map(str, sorted(self._leaders))).encode() + b"\n"
        with suppress(OSError):  # no shell here, or somebody ended it
            if self._shell is None or self._shell.poll() is not None:
                self._end()
                self._shell = subprocess.Popen(
                    [SHELL, "-c", SCRIPT],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    bufsize=0,
                    cwd="/",
                    env={},
                    start_new_session=True,  # signals for us are not for it
                )
            assert self._shell.stdin is not None
            self._shell.stdin.write(line)

    def _end(self) -> None:
        shell, self._shell = self._shell, None
        if shell is None:
            return
        assert shell.stdin is not None
        with suppress(OSError):
            shell.stdin.write(b"\n")  # the last line is none
        with suppress(OSError):
            shell.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            shell.wait(1.0)

    def _forked(self) -> None:
        """This is a copy of the process: it must not hold the pipe open."""
        self._lock = threading.Lock()
        shell, self._shell = self._shell, None
        self._leaders = set()
        if shell is not None and shell.stdin is not None:
            shell.returncode = 0  # it is no child of this process
            with suppress(OSError):
                os.close(shell.stdin.fileno())


LEASH = Leash()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: LEASH._forked())

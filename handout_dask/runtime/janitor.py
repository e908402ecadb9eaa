"""Janitor: a small process that outlives what it watches, and cleans up behind it.

Run as a script it waits until whoever started it has ended, however that was. Then it
kills the processes that it was told of and those that bear its mark, and removes their
folder. It imports nothing but the standard library.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress

MARK = "HANDOUT_NODES"  # in the environment of what nodes start; the folder's path
PATIENCE = 5.0  # s for which the janitor tries
AGAIN = 0.05  # s between two tries
LIMIT = 3.0  # s that an orderly end waits for the janitor


class Scratch:
    """A folder for temporary files of nodes, which ends with this process.

    Parameters
    ----------
    base : str, optional
        Where to make it.

    Attributes
    ----------
    path : str
        The folder.
    """

    def __init__(self, base: str | None = None) -> None:
        if base is not None:
            os.makedirs(base, exist_ok=True)
        self.path = tempfile.mkdtemp(prefix="handout-", dir=base)
        others = {name: x for name, x in os.environ.items() if name != MARK}
        self._janitor = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, self.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is not for it
            env=others,
            cwd="/",
        )

    @property
    def mark(self) -> dict[str, str]:
        """Environment of nodes, by which what they start is known."""
        return {MARK: self.path}

    def watch(self, pid: int) -> None:
        """This process shall not outlive this one."""
        self._tell(f"+{pid}")

    def forget(self, pid: int) -> None:
        """This process has ended."""
        self._tell(f"-{pid}")

    def _tell(self, line: str) -> None:
        assert self._janitor.stdin is not None
        with suppress(OSError, ValueError):  # it was killed; nothing depends on it
            self._janitor.stdin.write(f"{line}\n".encode())

    def release(self) -> None:
        """Let the janitor begin; `is_done` says when it is ready."""
        assert self._janitor.stdin is not None
        with suppress(OSError):
            self._janitor.stdin.close()

    @property
    def is_done(self) -> bool:
        """Whether the janitor has ended."""
        return self._janitor.poll() is not None

    def close(self) -> None:
        """Kill what is left of the nodes and remove the folder."""
        self.release()
        try:
            self._janitor.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self._janitor.kill()
            self._janitor.wait()
        shutil.rmtree(self.path, ignore_errors=True)


def birth(pid: int) -> str | None:
    """When a process began, as its kernel tells; None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            rest = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if rest[0] == b"Z" else rest[19].decode()


def marked(path: str) -> list[int]:
    """The processes that nodes with this folder have started."""
    wanted = f"{MARK}={path}".encode()
    found = []
    with suppress(OSError):  # no /proc here
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
                if wanted in file.read().split(b"\0"):
                    found.append(int(name))
    return found


def kill(pid: int) -> None:
    """End a process, if it is there."""
    with suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def main(path: str) -> None:
    """Wait for the end of who started this, and clean up."""
    born: dict[int, str | None] = {}
    for line in sys.stdin:
        pid = int(line[1:])
        if line[0] == "+":
            born[pid] = birth(pid)
        else:
            born.pop(pid, None)
    for pid, when in born.items():
        if when is not None and birth(pid) == when:  # not another of that number
            kill(pid)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        left = marked(path)
        for pid in left:
            kill(pid)
        shutil.rmtree(path, ignore_errors=True)
        if not left and not os.path.exists(path):
            return
        time.sleep(AGAIN)


if __name__ == "__main__":
    main(sys.argv[1])

"""Child: one process for functions, as its worker sees it. Knows no Dask worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Any, NamedTuple

from distributed.protocol import pickle

from handout_dask.errors import UndeliverableError
from handout_dask.runtime.calling import text_of
from handout_dask.runtime.evidence import fair_bytes, held_bytes, kills
from handout_dask.runtime.leash import LEASH
from handout_dask.runtime.measuring import MB, maximum
from handout_dask.runtime.pipes import (
    frames_of,
    has_word,
    loads,
    receive,
    send,
)
from handout_dask.runtime.process_child import Answer, Begun, Ended, Got, Request
from handout_dask.runtime.words import Words

BLOATED = 100.0  # MB that functions may leave behind in a process
POLL = 0.01  # s between looks at what a function holds that has a limit
RECENT = 1.0  # s for which it is known how often the kernel killed: to count is dear
LONGEST = 3600.0  # s between looks at the clock
PATIENCE = 0.5  # s for the last words of a process
PIPE = 2**20  # bytes that a pipe takes before who writes must wait
BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from handout_dask.runtime.process_child import main; main(int(sys.argv[2]))"
)


class Death(NamedTuple):
    """How a process ended."""

    code: int  # negative is a signal
    peak_mb: float | None  # the most that it held in its life
    words: str  # the last that it wrote to stderr

    @property
    def how(self) -> str:
        """The exit code or the signal's name."""
        if self.code < 0:
            with suppress(ValueError):
                return f"killed by {signal.Signals(-self.code).name}"
        return f"exit code {self.code}"


class Child:
    """One process, as the worker sees it.

    Attributes
    ----------
    over : float or None
        What a function held beyond its limit [MB], for which the process was ended.
    late : bool
        Whether it was ended because a function took longer than it may.
    killed : bool
        Whether it was ended from here, for whatever reason.
    got : bool
        Whether it has all that it was asked last.
    within : bool
        Whether what was asked last ended, and within its limit of memory.
    is_bloated : bool
        By what functions left behind.
    kills : tuple of int
        How often the kernel had killed for want of memory when it was asked last, or
        shortly before.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # between ending it and forgetting its number
        self._floor = maximum()  # counts for its peak, too: it began as a copy of us
        self._path, self._words = list(sys.path), Words()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", BOOT, json.dumps(self._path), str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._words.sink,
                bufsize=0,
                start_new_session=True,  # with what it starts it is ended as one
            )
        finally:
            self._words.passed()
        LEASH.add(self._process.pid)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._out = self._process.stdin.fileno()
        self._in = self._process.stdout.fileno()
        _widen(self._out, self._in)
        self.over: float | None = None
        self.late = self.killed = self.got = self.within = self.is_bloated = False
        self._first = 0  # bytes that it held when its first function began
        self._base: int | None = None  # and when this one did, while it is watched
        self._peak_mb: float | None = None
        self.kills, self._counted = kills(), monotonic()

    def ask(self, request: Request, values: tuple[Any, ...]) -> tuple[Answer, Any]:
        """Send a call and wait for what comes of it; returns the result, too.

        After an UndeliverableError, and only then, the process can be asked again.
        """
        label = request.call.label
        path = list(sys.path)
        if path != self._path:
            self._path = path
            request = request._replace(path=path)
        try:
            parts = [frames_of(part, pickle.dumps) for part in (request, values)]
        except Exception as error:
            raise UndeliverableError(
                f"function {label} runs in a process of its own and reads "
                f"what can't be pickled: {type(error).__name__}: {error}"
            ) from error
        self._words.forget()
        if monotonic() - self._counted > RECENT:
            self.kills, self._counted = kills(), monotonic()
        self.got = self.within = False
        for frames in parts:
            send(self._out, frames)
        ended = threading.Event()
        try:
            while True:
                answer = self._read(f"function {label} raised an exception that")
                if isinstance(answer, Answer):
                    ended.set()
                    what = f"function {label} returned a {answer.kind} that"
                    return answer, self._read(what) if answer.error is None else None
                self._hear(answer, request, ended)
        finally:
            ended.set()
            self._base = None

    def _hear(self, word: Any, request: Request, ended: threading.Event) -> None:
        """Take in how far it is with what it was asked."""
        limit, timeout = request.call.limit, request.call.timeout
        if isinstance(word, Got):
            self.got = True
            if limit is not None or timeout is not None:
                about = limit, timeout, ended
                threading.Thread(target=self._watch, args=about, daemon=True).start()
        elif isinstance(word, Begun):
            self._first = self._first or word.held
            self.is_bloated = word.held - self._first > BLOATED * MB
            if limit is not None:
                self._base = word.held
        elif isinstance(word, Ended):
            self._base = None
            peak = word.peak_mb
            self.within = limit is None or (peak is not None and peak <= limit)

    def _read(self, what: str) -> Any:
        """The next thing that it tells; the text is for one that can't be had."""
        frames = receive(self._in)
        try:
            return loads(frames)
        except Exception as error:
            raise UndeliverableError(
                f"{what} can be pickled in the process of the function's own, but not "
                f"unpickled outside: {type(error).__name__}: {text_of(error)}"
            ) from error

    def _watch(
        self, limit: float | None, timeout: float | None, ended: threading.Event
    ) -> None:
        """End the process when a function takes longer, or holds more, than it may."""
        until = inf if timeout is None else monotonic() + timeout
        pause = POLL if limit is not None else min(until - monotonic(), LONGEST)
        while not ended.wait(max(0.0, pause)):
            late = monotonic() >= until
            more = None if limit is None else self._more_than(limit)
            if late or more is not None:
                if not has_word(self._in):
                    self.late, self.over = more is None, more
                    self.kill()
                    return
                pause = POLL  # perhaps it ended just in time: that comes first
            elif limit is None:
                pause = min(until - monotonic(), LONGEST)

    def _more_than(self, limit: float) -> float | None:
        """What the function holds [MB], if that is more than it may."""
        base, pid = self._base, self._process.pid
        if base is None:
            return None
        held = held_bytes(pid) or _resident(pid)
        if held - base <= limit * MB:
            return None
        fair = fair_bytes(pid)  # exact, and dear
        more = ((held if fair is None else fair) - base) / MB
        return more if more > limit else None

    def lives(self) -> bool:
        """Whether it can be asked."""
        with self._lock:
            return not (self.killed or self._reap(wait=False))

    def kill(self) -> None:
        """End it, and what it started, at once."""
        with self._lock:
            self.killed = True
            if self._process.returncode is not None:
                return  # its number may be another's by now
            self._end_group()

    def _end_group(self) -> None:
        with suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()

    def end(self) -> Death:
        """End it and leave nothing of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            if self._process.returncode is None:
                self._end_group()  # what has ended by itself keeps its own code
        self._process.stdin.close()
        self._process.stdout.close()
        with self._lock:
            self._reap(wait=True)
        code = self._process.returncode
        words = "" if self.killed else self._words.last(PATIENCE)
        return Death(0 if code is None else code, self._peak_mb, words)

    def _reap(self, wait: bool) -> bool:
        """Whether it has ended; then its number is free. The lock is held."""
        process = self._process
        if process.returncode is not None:
            return True
        if not wait:
            if not _has_ended(process):
                return False
            self._end_group()  # what it has left behind
        if hasattr(os, "wait4"):
            with suppress(ChildProcessError):  # somebody waited for any process
                _, status, used = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
                self._peak_mb = peak / MB if peak > self._floor else None
        process.wait()
        LEASH.remove(process.pid)
        return True


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process has, which keeps its number until it is waited for."""
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    how = os.WEXITED | os.WNOHANG | os.WNOWAIT
    try:
        return os.waitid(os.P_PID, process.pid, how) is not None
    except ChildProcessError:
        return True


def _resident(pid: int) -> int:
    """What a process holds in memory, where the system is not Linux [bytes]."""
    import psutil

    with suppress(psutil.Error):
        return int(psutil.Process(pid).memory_info().rss)
    return 0


def _widen(*pipes: int) -> None:
    """Let pipes take more at once, as far as this user may."""
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError):
            for fd in pipes:
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE)

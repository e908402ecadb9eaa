"""Processes of functions' own on a worker: one for each slot, used again and warm.

One of a worker's executors, which Dask's annotation ``executor`` selects. A function in
such a process can be ended at once, can't take its node down, and is measured exactly.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import Executor, Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from distributed import Reschedule
from distributed.protocol import pickle

from handout_dask.errors import FunctionError, ResourceExhaustedError
from handout_dask.runtime.calling import Call, text_of
from handout_dask.runtime.measuring import MB, Measures
from handout_dask.runtime.pipes import ClosedError, frames_of, loads, receive, send
from handout_dask.runtime.process_child import Answer, Begun, Ended, Request

EXECUTOR = "handout"  # its name among a worker's executors
BLOATED = 100.0  # MB that functions may leave behind in a process
POLL = 0.01  # s between looks at what a function holds that has a limit
PIPE = 2**20  # bytes that a pipe takes before who writes must wait
BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from handout_dask.runtime.process_child import main; main(int(sys.argv[2]))"
)

_local = threading.local()


def here() -> Own | None:
    """The process for the function that this thread shall run; None for most."""
    found: Own | None = getattr(_local, "own", None)
    return found


class Own:
    """One function that runs in a process of its own.

    Parameters
    ----------
    worker : distributed.Worker
        Where it runs.
    key : object
        Its Dask key.
    """

    def __init__(self, worker: Any, key: Any) -> None:
        self.worker, self.key = worker, key
        self.slot: Slot | None = None
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """End it at once, wherever it is."""
        with self._lock:
            self._cancelled = True
            if self._child is not None:
                self._child.kill()

    def run(self, spec: Call, values: tuple[Any, ...]) -> tuple[Any, Measures]:
        """Make the call in the process; returns the result and what was measured."""
        assert self.slot is not None
        child = self.slot.child_now()
        with self._lock:
            if self._cancelled:
                raise Reschedule
            self._child = child
        try:
            answer, result = child.ask(Request(spec), values)
        except FunctionError:
            raise
        except ClosedError:
            code = self.slot.end_child()
            if self._cancelled:  # nobody waits for it, or it begins anew elsewhere
                raise Reschedule from None
            if child.over is not None:
                raise self._exhausted(spec, child.over) from None
            raise FunctionError(
                f"the process of function {spec.label} ended while it ran: {code}"
            ) from None
        except BaseException:  # it may be anywhere in what it has to say
            self.slot.end_child()
            raise
        finally:
            with self._lock:
                self._child = None
        if answer.exhausted:
            raise self._exhausted(spec, answer.peak_mb, answer.error) from answer.error
        if answer.error is not None:
            raise answer.error.with_traceback(answer.traceback)
        used = answer.cpu_seconds, answer.peak_mb, True, None, answer.gpu_peak_mb
        return result, Measures(*used)

    def _exhausted(
        self, spec: Call, measured: float | None, error: Exception | None = None
    ) -> ResourceExhaustedError:
        assert spec.limit is not None
        held = "" if measured is None else f"it held {measured:.4g} MB"
        if error is not None:
            held += f" and was refused more ({repr(error)[:200]})"
        return ResourceExhaustedError(
            f"function {spec.label} was ended on node {str(self.worker.name)!r}: it "
            f"declared memory={spec.limit:g} MB, and {held}. Declare more, let it "
            "take less, or leave out enforce_memory",
            "memory",
            spec.limit,
            measured,
        )


class OwnProcesses(Executor):
    """Runs what Dask gives it, each in a thread that has a process beside it.

    Parameters
    ----------
    worker : distributed.Worker
        Whose executor it is.
    """

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self._lock = threading.Lock()
        self._slots: list[Slot] = []
        self._idle: list[Slot] = []
        self._running: dict[Any, Own] = {}
        self._closed = False

    def submit(self, work: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run ``work(task, ...)``, as Dask's worker does with its executors."""
        own = Own(self._worker, getattr(args[0] if args else None, "key", None))
        future: Future[Any] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the processes of functions' own are closed")
            self._running[own.key] = own
            slot = self._idle.pop() if self._idle else None
            if slot is None:
                slot = Slot(self)
                self._slots.append(slot)
        own.slot = slot
        slot.jobs.put((future, own, lambda: work(*args, **kwargs)))
        return future

    def cancel(self, key: Any) -> None:
        """End the function of a key at once, if it runs here."""
        own = self._running.get(key)
        if own is not None:
            own.cancel()

    def done(self, own: Own) -> None:
        """A function ended; its slot is free."""
        assert own.slot is not None
        with self._lock:
            if self._running.get(own.key) is own:
                del self._running[own.key]
            if not self._closed:
                self._idle.append(own.slot)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End all processes, also those of functions that run."""
        with self._lock:
            self._closed = True
            slots, running = self._slots, list(self._running.values())
            self._slots, self._idle = [], []
        for own in running:
            own.cancel()
        for slot in slots:
            slot.jobs.put(None)
        if wait:
            for slot in slots:
                slot.join(5.0)


class Slot(threading.Thread):
    """A thread and the process beside it; both end together.

    Linux ends the process when the thread goes that began it.
    """

    def __init__(self, processes: OwnProcesses) -> None:
        super().__init__(name="handout-own-process", daemon=True)
        self.jobs: SimpleQueue[Any] = SimpleQueue()
        self._processes = processes
        self._child: Child | None = None
        self.start()

    def run(self) -> None:
        """Serve until told to end."""
        try:
            while True:
                job = self.jobs.get()
                if job is None:
                    return
                self._work(*job)
                del job
        finally:
            self.end_child()

    def _work(self, future: Future[Any], own: Own, work: Any) -> None:
        if not future.set_running_or_notify_cancel():
            self._processes.done(own)
            return
        _local.own = own
        result, fault = None, None
        try:
            result = work()
        except BaseException as error:
            fault = error
        finally:
            _local.own = None
            self._processes.done(own)
        if fault is None:
            future.set_result(result)
        else:
            future.set_exception(fault)

    def child_now(self) -> Child:
        """The process; begun if there is none, or functions left too much behind."""
        child = self._child
        if child is not None and (child.is_bloated or not child.lives()):
            self.end_child()
        if self._child is None:
            self._child = Child()
        return self._child

    def end_child(self) -> str:
        """End the process if there is one; returns how it ended, as text."""
        child, self._child = self._child, None
        return "" if child is None else child.end()


class Child:
    """One process, as the worker sees it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # between ending it and forgetting its number
        self._path = list(sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-c", BOOT, json.dumps(self._path), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # with what it starts it is ended as one
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._out = self._process.stdin.fileno()
        self._in = self._process.stdout.fileno()
        _widen(self._out, self._in)
        self.over: float | None = None  # [MB] that a function held beyond its limit
        self._first = 0  # bytes that it held when its first function began
        self.is_bloated = False  # by what functions left behind

    def ask(self, request: Request, values: tuple[Any, ...]) -> tuple[Answer, Any]:
        """Send a call and wait for what comes of it; returns the result, too.

        After a FunctionError, and only then, the process can be asked again.
        """
        label, limit = request.call.label, request.call.limit
        path = list(sys.path)
        if path != self._path:
            self._path = path
            request = request._replace(path=path)
        try:
            parts = [frames_of(part, pickle.dumps) for part in (request, values)]
        except Exception as error:
            raise FunctionError(
                f"function {label} runs in a process of its own and reads "
                f"what can't be pickled: {type(error).__name__}: {error}"
            ) from error
        for frames in parts:
            send(self._out, frames)
        ended = threading.Event()
        try:
            while True:
                answer = self._read(f"function {label} raised an exception that")
                if isinstance(answer, Begun):
                    self._first = self._first or answer.held
                    self.is_bloated = answer.held - self._first > BLOATED * MB
                if isinstance(answer, Begun) and limit is not None:
                    about = answer.held, limit, ended
                    threading.Thread(
                        target=self._watch, args=about, daemon=True
                    ).start()
                elif isinstance(answer, Ended):
                    ended.set()
                elif isinstance(answer, Answer):
                    what = f"function {label} returned a {answer.kind} that"
                    return answer, self._read(what) if answer.error is None else None
        finally:
            ended.set()

    def _read(self, what: str) -> Any:
        """The next thing that it tells; the text is for one that can't be had."""
        frames = receive(self._in)
        try:
            return loads(frames)
        except Exception as error:
            raise FunctionError(
                f"{what} can be pickled in the process of the function's own, but not "
                f"unpickled outside: {type(error).__name__}: {text_of(error)}"
            ) from error

    def _watch(self, held: int, limit: float, ended: threading.Event) -> None:
        """End the process when it holds more than a function may, above `held`."""
        import psutil

        with suppress(psutil.Error):
            process = psutil.Process(self._process.pid)
            while not ended.wait(POLL):
                more = (process.memory_info().rss - held) / MB
                if more > limit:
                    self.over = more
                    self.kill()
                    return

    def lives(self) -> bool:
        """Whether it can be asked."""
        with self._lock:
            return self._process.poll() is None

    def kill(self) -> None:
        """End it, and what it started, at once."""
        with self._lock:
            if self._process.returncode is not None:
                return  # its number may be another's by now
            with suppress(OSError):
                if hasattr(os, "killpg"):
                    os.killpg(self._process.pid, signal.SIGKILL)
                else:
                    self._process.kill()

    def end(self) -> str:
        """End it and leave nothing of it; returns how it ended, as text."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.kill()  # what has ended by itself keeps its own code
        self._process.stdin.close()
        self._process.stdout.close()
        with self._lock:
            code = self._process.wait()
        if code < 0:
            with suppress(ValueError):
                return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"


def _widen(*pipes: int) -> None:
    """Let pipes take more at once, as far as this user may."""
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError):
            for fd in pipes:
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE)

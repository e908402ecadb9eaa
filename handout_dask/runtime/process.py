"""Processes of functions' own on a worker: one for each slot, used again and warm.

One of a worker's executors, which Dask's annotation ``executor`` selects. A function in
such a process can be ended at once, can't take its node down, and is measured exactly.
"""

from __future__ import annotations

import signal
import threading
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any

from distributed import Reschedule

from handout_dask.errors import (
    FunctionCrashedError,
    FunctionTimeoutError,
    ResourceExhaustedError,
    UndeliverableError,
)
from handout_dask.runtime.calling import Call
from handout_dask.runtime.child import Child, Death
from handout_dask.runtime.evidence import allowed_mb, kills
from handout_dask.runtime.measuring import Measures
from handout_dask.runtime.pipes import ClosedError
from handout_dask.runtime.process_child import Answer, Request

EXECUTOR = "handout"  # its name among a worker's executors
_local = threading.local()


class TakenBackError(Reschedule):
    """What ran is not waited for any more, or begins anew; Dask is to forget of it."""


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

    Attributes
    ----------
    fault : dict or None
        What the process told of an exception that the function raised.
    """

    def __init__(self, worker: Any, key: Any) -> None:
        self.worker, self.key = worker, key
        self.slot: Slot | None = None
        self.fault: dict[str, Any] | None = None  # what it failed of, told there
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """End it at once, wherever it is."""
        with self._lock:
            self._cancelled = True
            if self._child is not None:
                self._child.kill()

    def run(
        self, spec: Call, values: tuple[Any, ...], attempt: int = 1
    ) -> tuple[Any, Measures]:
        """Make the call in the process; returns the result and what was measured."""
        answer, result = self._ask(Request(spec, attempt), values)
        self.fault = answer.fault
        if answer.exhausted:
            error = self._over(spec, answer.peak_mb, answer.error)
            self.fault = None
            raise error from answer.error
        if answer.error is not None:
            raise answer.error.with_traceback(answer.traceback)
        used = answer.cpu_seconds, answer.peak_mb, True, None, answer.gpu_peak_mb
        return result, Measures(*used)

    def _ask(self, request: Request, values: tuple[Any, ...]) -> tuple[Answer, Any]:
        """Ask the process; once more if it died before the function was there."""
        assert self.slot is not None
        again = False
        while True:
            child = self._child_now(request.call)
            try:
                return child.ask(request, values)
            except UndeliverableError:
                raise
            except ClosedError:
                death = self.slot.end_child()
                if not (again or child.got or child.killed):
                    again = True
                    continue
                raise self._why(request.call, child, death) from None
            except BaseException:  # it may be anywhere in what it has to say
                self.slot.end_child()
                raise
            finally:
                with self._lock:
                    self._child = None

    def _child_now(self, spec: Call) -> Child:
        assert self.slot is not None
        try:
            child = self.slot.child_now()
        except OSError as error:
            raise FunctionCrashedError(
                f"the process for function {spec.label} can't be started on node "
                f"{str(self.worker.name)!r}: {error}"
            ) from error
        with self._lock:
            if self._cancelled:
                raise TakenBackError
            self._child = child
        return child

    def _why(self, spec: Call, child: Child, death: Death) -> Exception:
        """What the death of its process means."""
        node = str(self.worker.name)
        if self._cancelled:  # nobody waits for it, or it begins anew elsewhere
            return TakenBackError()
        if child.late:
            assert spec.timeout is not None
            return FunctionTimeoutError(
                f"function {spec.label} was ended on node {node!r}: it ran for longer "
                f"than its timeout of {spec.timeout:g} s. Let it have more, or do less",
                spec.timeout,
            )
        if child.over is not None:
            # It had ended by itself just then, and what it held was within its limit.
            return TakenBackError() if child.within else self._over(spec, child.over)
        how = death.how + (f"; last words: {death.words}" if death.words else "")
        if death.code == -signal.SIGKILL and kills() != child.kills:
            used, most = death.peak_mb, allowed_mb()
            held = "" if used is None else f"; it held up to {used:.4g} MB"
            room = "" if most is None else f" of {most:.4g} MB that may be taken there"
            return ResourceExhaustedError(
                f"the process of function {spec.label} was killed on node {node!r} by "
                f"the kernel for want of memory{held}{room}. Declare the memory that "
                "it takes, let fewer functions run at once, or let it take less",
                "memory",
                most,
                used,
            )
        return FunctionCrashedError(
            f"the process of function {spec.label} ended on node {node!r} while it "
            f"ran: {how}",
            death.code,
        )

    def _over(
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

    def end_child(self) -> Death:
        """End the process if there is one; returns how it ended."""
        child, self._child = self._child, None
        return Death(0, None, "") if child is None else child.end()

"""A process of a function's own: reads calls, makes them, writes results. No Dask.

Without Dask it begins within tens of milliseconds, and in little memory.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import select
import signal
import sys
import threading
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from handout_dask.attempts import numbered
from handout_dask.errors import FunctionError, UndeliverableError
from handout_dask.runtime.calling import Call, annotate, gist, load, portable, text_of
from handout_dask.runtime.evidence import held_bytes
from handout_dask.runtime.faulting import MEMORY, fault_data
from handout_dask.runtime.measuring import MB, Meter
from handout_dask.runtime.pipes import ClosedError, dumps, loads, receive, send

# A wall behind the worker's watch on what is held: address space that is taken but not
# touched counts here too, and what libraries take for their threads.
WALL, ROOM = 1.25, 256.0  # of the limit, and [MB] beyond
PR_SET_PDEATHSIG = 1  # prctl(2)
SACRIFICE = 500  # of 1000, proc(5): which process the kernel ends first


class Request(NamedTuple):
    """What a worker asks for; the results that the function reads follow it."""

    call: Call
    attempt: int = 1
    path: list[str] | None = None  # where modules are, if that is new


class Got(NamedTuple):
    """All that was asked for has arrived; from now on the function's time counts."""


class Begun(NamedTuple):
    """The function begins; told of those that are held to a limit."""

    held: int  # bytes


class Ended(NamedTuple):
    """The function ended; its result may take a while to come. Told as Begun is."""

    peak_mb: float | None


class Answer(NamedTuple):
    """What came of a call; without an error the result follows it."""

    kind: str  # the name of the result's type
    error: Exception | None
    traceback: Any
    exhausted: bool  # the error is that it was given no more memory
    cpu_seconds: float
    peak_mb: float | None
    gpu_peak_mb: float | None
    fault: dict[str, Any] | None = None  # of the error as it was, before it was pickled


def main(parent: int) -> None:
    """Serve until the worker goes."""
    source, sink = os.dup(0), os.dup(1)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)  # what the user prints is no answer
    if hasattr(os, "register_at_fork"):  # a copy must not hold the pipes open
        for fd in (source, sink):
            os.register_at_fork(after_in_child=partial(os.close, fd))
    _end_with(parent, source)
    _be_first_to_go()
    with suppress(Exception):  # a death by a signal says where; no stderr, no words
        faulthandler.enable(all_threads=False)
    meter = Meter(whole=True)
    with suppress(ClosedError):
        while True:
            _serve(meter, source, sink)


def _end_with(parent: int, source: int) -> None:
    """End when the worker does, whatever runs here."""
    if hasattr(select, "poll"):
        threading.Thread(target=_guard, args=(source,), daemon=True).start()
    if sys.platform == "linux":  # also while C code keeps the thread from running
        import ctypes

        with suppress(Exception):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)


def _be_first_to_go() -> None:
    """If memory runs out, the kernel shall end this, and not the worker."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "r+") as file:
        if int(file.read()) < SACRIFICE:
            file.write(str(SACRIFICE))


def _guard(source: int) -> None:
    watch = select.poll()
    watch.register(source, 0)  # tells of the other end's closing alone
    watch.poll()
    os._exit(1)


def _serve(meter: Meter, source: int, sink: int) -> None:
    """Take one call and answer it; nothing of it is kept."""
    request: Request = loads(receive(source))
    if request.path is not None:
        sys.path[:] = request.path  # where what comes next may need it
    frames = receive(source)
    send(sink, dumps(Got()))
    with numbered(request.attempt):
        answer, result = _answer(meter, request.call, frames, sink)
    parts = None
    if answer.error is None:
        try:
            parts = dumps(result)
        except Exception as error:
            made = UndeliverableError(
                f"function {request.call.label} runs in a process of its own and "
                f"returned a {answer.kind} that can't be pickled: "
                f"{type(error).__name__}: {text_of(error)}"
            )
            answer = answer._replace(error=made, fault=fault_data(None, made))
    send(sink, _frames_of(answer, request.call.label))
    if parts is not None:
        send(sink, parts)


def _frames_of(answer: Answer, label: str) -> list[Any]:
    """An answer as frames, with as much of its error as can go."""
    with suppress(Exception):
        return dumps(answer)
    assert answer.error is not None
    with suppress(Exception):
        bare = answer.error.with_traceback(None)
        return dumps(answer._replace(error=bare, traceback=None))
    text = f"{type(answer.error).__qualname__}: {text_of(answer.error)}"
    made = FunctionError(f"function {label} raised what can't be pickled: {text}")
    return dumps(answer._replace(error=made, traceback=None))


def _values(label: str, frames: list[Any]) -> tuple[Any, ...]:
    """What the function reads."""
    try:
        values: tuple[Any, ...] = loads(frames)
        return values
    except Exception as error:
        raise UndeliverableError(
            f"function {label} runs in a process of its own and reads what can be "
            f"pickled, but not unpickled there: {type(error).__name__}: "
            f"{text_of(error)}"
        ) from error


def _answer(
    meter: Meter, spec: Call, frames: list[Any], sink: int
) -> tuple[Answer, Any]:
    limit = spec.limit
    result: Any = None
    fault: BaseException | None = None
    mark = None
    try:
        ready = load(spec, _values(spec.label, frames))
        frames.clear()
        if limit is not None:
            _wall(limit)
        mark = meter.begin()
        if limit is not None:
            send(sink, dumps(Begun(held_bytes() or mark.held)))
        result = ready()
    except ClosedError:
        raise
    except BaseException as error:
        fault = error
    if mark is None:
        used: tuple[Any, ...] = (0.0, None, None)
    else:
        used = meter.end(mark)[:3]
        if limit is not None:
            _wall(None)
            send(sink, dumps(Ended(used[1])))
    if fault is None:
        return Answer(type(result).__name__, None, None, False, *used), result
    about = fault_data(None, fault)
    exhausted = limit is not None and about["resource"] == MEMORY
    lonely = _needs_worker(fault)
    made = portable(fault, spec.label, _survives)
    if lonely:
        annotate(
            made,
            f"function {spec.label} ran in a process of its own, where Dask's "
            "get_worker, get_client, worker_client and secede don't work, nor what "
            "needs them; it has none if it declares no memory, or memory isn't "
            "enforced, and no timeout",
        )
    answer = Answer("", made, _traceback_of(made), exhausted, *used)
    return answer._replace(fault=about), None


def _needs_worker(error: BaseException) -> bool:
    """Whether Dask raised it, as it does where it finds no worker and no client."""
    kinds = ValueError, RuntimeError, AttributeError
    for one in (error, error.__cause__, error.__context__):
        trace = one.__traceback__ if isinstance(one, kinds) else None
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = {} if trace is None else trace.tb_frame.f_globals
        if str(where.get("__name__")).startswith("distributed."):
            return True
    return False


def _wall(limit: float | None) -> None:
    """Let the process take so many megabytes more than now; None lifts the wall."""
    if sys.platform != "linux":
        return
    import resource

    with suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = hard
        if limit is not None:
            with open("/proc/self/statm") as file:
                taken = int(file.read().split()[5]) * resource.getpagesize()
            most = taken + int((limit * WALL + ROOM) * MB)
            if hard != resource.RLIM_INFINITY:
                most = min(most, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _survives(error: Exception) -> bool:
    """Whether an exception is still itself at the other end."""
    try:
        _install(error)
        copy = loads([bytes(frame) for frame in dumps(error)])
        return type(copy) is type(error) and gist(copy) == gist(error)
    except Exception:
        return False


def _install(error: BaseException | None) -> None:
    """Let tracebacks be pickled, also those of causes."""
    from tblib import pickling_support

    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        error = error.__cause__ or error.__context__
    pickling_support.install(*seen)


def _traceback_of(error: Exception) -> Any:
    try:
        _install(error)
        return pickle.loads(pickle.dumps(error.__traceback__))
    except Exception:
        return None

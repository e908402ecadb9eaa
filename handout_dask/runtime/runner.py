"""What runs on a worker around each function. Knows no plan, no scheduler.

The user's code and literals travel as bytes, so that the scheduler never unpickles them
and needs none of the user's packages.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, NamedTuple

from distributed.protocol import pickle

from handout_dask.errors import FunctionError

ANNOUNCE = "handout_announce"  # annotation: tell the scheduler when the function starts
STARTED = "handout-started"  # the topic on which it does


class Call(NamedTuple):
    """One call of a function, as it travels to a worker."""

    label: str  # the function's id, as text
    code: bytes
    literals: bytes | None  # (extra_args, kwargs)
    indexes: tuple[tuple[str, Any] | None, ...] | None  # (producer, index) to cut here
    elsewhere: str  # who reads the result on another node, as text; "" is nobody


class Cut(NamedTuple):
    """One element of a result that another node needs."""

    producer: str
    readers: str
    index: Any


def call(spec: Call, *values: Any) -> Any:
    """Call the function with the results it depends on; what it returns is its result."""
    worker, key = _where()
    if worker is not None:
        _announce(worker, key)
    try:
        code = _load(spec, spec.code, "code")
        extra: Any = ()
        kwargs: Any = {}
        if spec.literals is not None:
            extra, kwargs = _load(spec, spec.literals, "extra_args and kwargs")
        args = list(values)
        for place, index in enumerate(spec.indexes or ()):
            if index is not None:
                args[place] = cut(Cut(index[0], spec.label, index[1]), args[place])
        result = code(*args, *extra, **kwargs)
        if inspect.iscoroutine(result):
            result = asyncio.run(result)
    except Exception as error:
        raise _portable(error, spec.label, worker) from error.__cause__
    if spec.elsewhere:
        _require_portable(result, spec)
    return result


def cut(spec: Cut, result: Any) -> Any:
    """The element of a result that a reader asked for."""
    try:
        return result[spec.index]
    except Exception as error:
        raise FunctionError(
            f"{spec.readers} reads element {spec.index!r} of the result of "
            f"function {spec.producer}, a {type(result).__name__} that has none: "
            f"{type(error).__name__}: {error}"
        ) from error


def _where() -> tuple[Any, Any]:
    """The Dask worker that runs this, and the key; None on Dask's local schedulers."""
    from distributed import get_worker

    try:
        worker = get_worker()
        return worker, worker.get_current_task()
    except (ValueError, KeyError):
        return None, None


def _announce(worker: Any, key: Any) -> None:
    task = worker.state.tasks.get(key)
    if task is not None and task.annotations and task.annotations.get(ANNOUNCE):
        worker.log_event(STARTED, list(key))


def _load(spec: Call, frozen: bytes, what: str) -> Any:
    try:
        return pickle.loads(frozen)
    except Exception as error:
        raise FunctionError(
            f"the {what} of function {spec.label} can't be loaded where it shall run: "
            f"{type(error).__name__}: {error}. Is its package installed there?"
        ) from error


def _portable(error: Exception, label: str, worker: Any) -> Exception:
    """The exception with a note, or a FunctionError where it would not survive travel."""
    where = f" on node {str(worker.name)!r}" if worker is not None else ""
    note = f"in function {label}{where}"
    try:
        copy = pickle.loads(pickle.dumps(error))
        same = type(copy) is type(error) and copy.args == error.args
    except Exception:
        same = False
    if not same:
        text = f"{type(error).__module__}.{type(error).__qualname__}: {error}"
        made = FunctionError(
            f"function {label} raised an exception that can't be pickled: {text}"
        ).with_traceback(error.__traceback__)
        made.add_note(note)
        return made
    error.add_note(note)
    return error


def _require_portable(result: Any, spec: Call) -> None:
    """Fail here and clearly: Dask would retry the transfer for ever."""
    if type(result) in (bytes, str, int, float, bool, type(None)):
        return
    if type(result).__module__ == "numpy" and not getattr(
        getattr(result, "dtype", None), "hasobject", True
    ):
        return
    try:
        # Out-of-band buffers are not copied, so arrays inside cost next to nothing.
        pickle.dumps(result, buffer_callback=lambda _: None, protocol=5)
    except Exception as error:
        raise FunctionError(
            f"function {spec.label} returned a {type(result).__name__} that can't be "
            f"pickled, and {spec.elsewhere} needs it on another node: {error}. Return "
            f"something that can, or keep them together by node=with_function(...)"
        ) from error

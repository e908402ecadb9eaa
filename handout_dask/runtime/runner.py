"""What runs on a worker around each function. Knows no plan, no scheduler.

The user's code and literals travel as bytes, so that the scheduler never unpickles them
and needs none of the user's packages.
"""

from __future__ import annotations

import asyncio
import inspect
from contextlib import suppress
from typing import Any, NamedTuple

from distributed.core import error_message
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
    crosses: bool = False  # it shall go to another node, so it must be picklable


class Frozen(NamedTuple):
    """An index as bytes: the scheduler may not have the package of a user's object."""

    data: bytes


def call(spec: Call, *values: Any) -> Any:
    """Call the function with the results it depends on; returns its result."""
    worker, key = _where()
    if worker is not None:
        _announce(worker, key)
    try:
        result = _run(spec, values)
    except BaseException as error:
        fault = _portable(error, spec.label, worker)
    else:
        if spec.elsewhere:
            what = f"function {spec.label} returned a"
            _require_portable(result, what, spec.elsewhere)
        return result
    raise fault  # not within "except": what can't be pickled must not be its context


def _run(spec: Call, values: tuple[Any, ...]) -> Any:
    code = _load(spec, spec.code, "code")
    extra: Any = ()
    kwargs: Any = {}
    if spec.literals is not None:
        extra, kwargs = _load(spec, spec.literals, "extra_args and kwargs")
    args = list(values)
    for place, index in enumerate(spec.indexes or ()):
        if index is not None:
            reader = f"function {spec.label}"
            args[place] = cut(Cut(index[0], reader, index[1]), args[place])
    result = code(*args, *extra, **kwargs)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def cut(spec: Cut, result: Any) -> Any:
    """The element of a result that a reader asked for."""
    index = spec.index
    try:
        if type(index) is Frozen:
            index = pickle.loads(index.data)
        element = result[index]
    except Exception as error:
        raise FunctionError(
            f"{spec.readers} reads element {index!r} of the result of "
            f"function {spec.producer}, a {type(result).__name__} that has none: "
            f"{type(error).__name__}: {error}"
        ) from error
    if spec.crosses:
        what = f"element {index!r} of the result of function {spec.producer} is a"
        _require_portable(element, what, spec.readers)
    return element


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


def _portable(error: BaseException, label: str, worker: Any) -> Exception:
    """The exception with a note, or a FunctionError where it would not travel."""
    where = f" on node {str(worker.name)!r}" if worker is not None else ""
    note = f"in function {label}{where}"
    what = ""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        if _survives(error) or _survives(_without_causes(error)):
            annotate(error, note)
            return error
        what = "an exception that can't be pickled: "
    text = f"{type(error).__module__}.{type(error).__qualname__}: {text_of(error)}"
    made = FunctionError(f"function {label} raised {what}{text}")
    made.add_note(note)
    return made.with_traceback(error.__traceback__)


def _survives(error: Exception) -> bool:
    """Whether an exception is still itself after Dask has carried it."""
    try:
        message = error_message(error)
        copy = pickle.loads(message["exception"].data)
        gist = _gist(copy)
        long = gist[:1] == ["Long error message"]  # Dask cut it short
        return type(copy) is type(error) and (long or gist == _gist(error))
    except Exception:
        return False


def _without_causes(error: Exception) -> Exception:
    for cause in (error.__cause__, error.__context__):
        if cause is not None:
            annotate(error, f"caused by {type(cause).__qualname__}: {text_of(cause)}")
            break
    with suppress(Exception):  # it may let nothing be set
        error.__cause__ = error.__context__ = None
    return error


def _gist(error: BaseException) -> list[Any]:
    """What must be alike in a copy; other objects need not compare equal."""
    plain = (str, bytes, int, bool, type(None))
    return [x if type(x) in plain else type(x) for x in error.args]


def text_of(error: BaseException) -> str:
    """The text of an exception, whatever the user made of it."""
    try:
        return str(error)
    except Exception:
        return f"<{type(error).__qualname__} without text>"


def annotate(error: BaseException, note: str) -> None:
    """Add a note, even to an exception that lets nothing be set."""
    vars(error).setdefault("__notes__", []).append(note)


def _require_portable(result: Any, what: str, reader: str) -> None:
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
            f"{what} {type(result).__name__} that can't be pickled, and {reader} needs "
            f"it on another node: {error}. Return something that can, or keep them "
            "together by node=with_function(...)"
        ) from error

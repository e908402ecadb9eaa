"""Calling: one call of a function as it travels, and how it is made. Imports no Dask.

The user's code and literals travel as bytes, so that the scheduler never unpickles them
and needs none of the user's packages. A process of a function's own needs this much.
"""

from __future__ import annotations

import asyncio
import inspect
import pickle
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from handout_dask.errors import FunctionError
from handout_dask.runtime.arrays import to_device, to_host
from handout_dask.runtime.devices import Grant, on_device, prepare

ENDS = 40  # frames of a deep traceback that are kept from either end


class Variant(NamedTuple):
    """What differs where a function runs as another one of its cost alternatives."""

    code: bytes
    limit: float | None
    grant: Grant | None


class Call(NamedTuple):
    """One call of a function, as it travels to a worker."""

    label: str  # the function's id, as text
    code: bytes
    literals: bytes | None  # (extra_args, kwargs)
    indexes: tuple[tuple[str, Any] | None, ...] | None  # (producer, index) to cut here
    elsewhere: str  # who reads the result on another node, as text; "" is nobody
    limit: float | None = None  # [MB] of memory that it is held to in its own process
    timeout: float | None = None  # [s] that it may take there
    grant: Grant | None = None  # what it gets of a GPU
    durable: Any = None  # how its result is kept, if it is
    by_plan: bool = False  # what it fails of is answered by us, not by Dask
    variants: tuple[Variant | None, ...] = ()  # by number; the planned one is None

    def varied(self, option: int) -> Call:
        """The same as another cost alternative of the function."""
        other = self.variants[option]
        if other is None:
            return self
        return self._replace(code=other.code, limit=other.limit, grant=other.grant)

    def __repr__(self) -> str:
        """Short, without the code as bytes: Dask logs it for each failed attempt."""
        return f"<function {self.label}>"


class Cut(NamedTuple):
    """One element of a result that another node needs."""

    producer: str
    readers: str
    index: Any
    crosses: bool = False  # it shall go to another node, so it must be picklable


class Frozen(NamedTuple):
    """An index as bytes: the scheduler may not have the package of a user's object."""

    data: bytes

    def __repr__(self) -> str:
        """Short, for logs."""
        return f"<{len(self.data)} bytes>"


class Loaded(NamedTuple):
    """A function and all that it is called with."""

    code: Any
    args: list[Any]
    kwargs: dict[str, Any]
    label: str = ""
    grant: Grant | None = None

    def __call__(self) -> Any:
        """Call it; returns its result."""
        if self.grant is not None:
            return on_device(self.label, self.grant, self._call)
        return self._call()

    def _call(self) -> Any:
        result = self.code(*self.args, **self.kwargs)
        return asyncio.run(result) if inspect.iscoroutine(result) else result


def load(spec: Call, values: tuple[Any, ...]) -> Loaded:
    """Make a function ready to be called with the results that it depends on."""
    code = _load(spec, spec.code, "code")
    extra: Any = ()
    kwargs: Any = {}
    if spec.literals is not None:
        extra, kwargs = _load(spec, spec.literals, "extra_args and kwargs")
    args = list(values)
    for place, index in enumerate(spec.indexes or ()):
        if index is not None:
            reader = f"function {spec.label}"
            spec_of = thawed(Cut(index[0], reader, index[1]))
            args[place] = element(spec_of, args[place])
    if spec.grant is not None:
        prepare()
        args = [to_device(x) for x in args]
    else:  # who got no GPU shall compute on none
        args = [to_host(x) for x in args]
    return Loaded(code, [*args, *extra], kwargs, spec.label, spec.grant)


def _load(spec: Call, frozen: bytes, what: str) -> Any:
    if not frozen:
        raise FunctionError(
            f"function {spec.label} was to run as another of its cost alternatives, "
            "which has no code, or one that can't be pickled"
        )
    try:
        return pickle.loads(frozen)
    except Exception as error:
        raise FunctionError(
            f"the {what} of function {spec.label} can't be loaded where it shall run: "
            f"{type(error).__name__}: {error}. Is its package installed there?"
        ) from error


def thawed(spec: Cut) -> Cut:
    """The same with the index itself in place of its bytes, where that can be."""
    if type(spec.index) is Frozen:
        with suppress(Exception):  # `element` tells
            return spec._replace(index=pickle.loads(spec.index.data))
    return spec


def element(spec: Cut, result: Any) -> Any:
    """The element of a result that a reader asked for; its index is thawed."""
    try:
        return result[spec.index]
    except Exception as error:
        raise FunctionError(
            f"{spec.readers} reads element {spec.index!r} of the result of "
            f"function {spec.producer}, a {type(result).__name__} that has none: "
            f"{type(error).__name__}: {error}"
        ) from error


# ------------------------------------------------------------------------- errors
def portable(
    error: BaseException, label: str, survives: Callable[[Exception], bool]
) -> Exception:
    """An exception that travels: itself, or a FunctionError that tells of it."""
    what = ""
    _shorten(error)
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        if survives(error) or survives(_without_causes(error)):
            return error
        what = "an exception that can't be pickled: "
    text = f"{type(error).__module__}.{type(error).__qualname__}: {text_of(error)}"
    made = FunctionError(f"function {label} raised {what}{text}")
    return made.with_traceback(error.__traceback__)


def _without_causes(error: Exception) -> Exception:
    for cause in (error.__cause__, error.__context__):
        if cause is not None:
            annotate(error, f"caused by {type(cause).__qualname__}: {text_of(cause)}")
            break
    with suppress(Exception):  # it may let nothing be set
        error.__cause__ = error.__context__ = None
    return error


def _shorten(error: BaseException) -> None:
    """Take out the middle of deep tracebacks, also of exceptions that led to this one.

    Pickle takes tracebacks by recursion, and that of a RecursionError is as deep as can
    be. Dask sends one that can't be pickled as text, on which its client fails, and
    hears no more of the task (2026.8.0).
    """
    left, seen = [error], set()
    while left:
        one = left.pop()
        seen.add(id(one))
        behind = [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            behind += one.exceptions
        left += [e for e in behind if e is not None and id(e) not in seen]
        traces, trace = [], one.__traceback__
        while trace is not None:
            traces.append(trace)
            trace = trace.tb_next
        if len(traces) > 2 * ENDS:
            traces[ENDS - 1].tb_next = traces[-ENDS]


def gist(error: BaseException) -> list[Any]:
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

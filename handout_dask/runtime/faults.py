"""Exceptions of functions, as they come back to the client. Knows no runs."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import suppress
from typing import Any

from distributed.core import clean_exception
from distributed.protocol import Serialize, Serialized, deserialize, pickle

from handout_dask.errors import FunctionError


def _unwrapped(value: Any) -> Any:
    """What Dask carried; comms within a process don't look into tuples (2026.8.0)."""
    if isinstance(value, Serialized):
        return deserialize(value.header, value.frames)
    return value.data if isinstance(value, Serialize) else value


def rebuilt(id: Hashable, error: Any, trace: Any, text: str) -> Exception:
    """The exception of a function, new each time; a FunctionError if that can't be."""
    try:
        exception = _unwrapped(error)
        if isinstance(exception, bytes):
            exception = pickle.loads(exception)
    except Exception as reason:
        return FunctionError(
            f"function {id!r} raised an exception that can't be rebuilt here "
            f"({type(reason).__name__}: {reason}): {text}"
        )
    traceback = None
    # Dask carries a traceback that can't be pickled as text, and doesn't take it back.
    with suppress(Exception):
        _, _, traceback = clean_exception(exception, _unwrapped(trace))
    _, exception, _ = clean_exception(exception)
    assert isinstance(exception, Exception)
    if isinstance(exception, UnicodeError):  # tblib rebuilds without __init__ (3.2)
        exception.__init__(*exception.args)  # type: ignore[misc]
    return exception.with_traceback(traceback)

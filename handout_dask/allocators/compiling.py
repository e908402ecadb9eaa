"""Compile kernels with numba, late, and cached between processes."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import RLock
from types import CodeType, FunctionType
from typing import Any

_LOCK = RLock()
_KERNELS: dict[Any, Callable[..., Any]] = {}


def bound(function: Callable[..., Any], **names: Any) -> Callable[..., Any]:
    """A copy of a function for which some global names mean something else."""
    code: CodeType = function.__code__
    copy = FunctionType(code, {**function.__globals__, **names}, function.__name__)
    copy.__module__ = function.__module__
    return copy


def compile_kernel(
    function: Callable[..., Any],
    helpers: tuple[Callable[..., Any], ...],
    **names: Any,
) -> Callable[..., Any]:
    """The function compiled, with the helpers that it calls, and names `bound`.

    One for the whole process, also where threads ask at the same time: of two that are
    alike the second is loaded from numba's cache under the names of the first, and
    when one is collected, the other's code goes with it.
    """
    key = function, helpers, tuple(names.items())
    with _LOCK:
        if key not in _KERNELS:
            _KERNELS[key] = _compiled(function, helpers, names)
        return _KERNELS[key]


def _compiled(
    function: Callable[..., Any],
    helpers: tuple[Callable[..., Any], ...],
    names: dict[str, Any],
) -> Callable[..., Any]:
    """The cache of numba looks only at the file that holds the function, so the digest
    of all files that helpers are in goes into the name under which it is kept.
    """
    import numba
    from numba.extending import register_jitable

    for helper in helpers:
        _register(helper, register_jitable)
    modules = sorted({f.__module__ for f in (function, *helpers)})
    text = b"".join(Path(str(sys.modules[m].__file__)).read_bytes() for m in modules)
    digest = hashlib.sha256(text).hexdigest()[:16]
    copy = bound(function, **names)
    copy.__qualname__ = "_".join([function.__name__, *names, digest])
    made: Callable[..., Any]
    try:
        made = numba.njit(cache=True, nogil=True)(copy)
    except RuntimeError:  # no folder to keep it in can be written
        made = numba.njit(nogil=True)(copy)
    return made


@cache
def _register(helper: Callable[..., Any], register: Callable[..., Any]) -> None:
    register(helper)

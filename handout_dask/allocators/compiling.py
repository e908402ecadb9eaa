"""Compile kernels with numba, late, kept on disk, and beside those who can't wait."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import RLock
from time import monotonic
from types import CodeType, FunctionType
from typing import Any

LOOK_AGAIN = 0.5  # s between looks for what another process compiles
WARM = "from handout_dask.allocators.warming import main; main()"

_LOCK = RLock()
_KERNELS: dict[Any, Callable[..., Any]] = {}
_AT_HAND: set[Any] = set()
_next_look = 0.0


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
    of all files that helpers are in goes into the name under which it is kept; with
    what it is compiled by and for, so that the name says if it can be loaded here.
    """
    import numba
    from numba.extending import register_jitable

    for helper in helpers:
        _register(helper, register_jitable)
    modules = sorted({f.__module__ for f in (function, *helpers)})
    text = b"".join(Path(str(sys.modules[m].__file__)).read_bytes() for m in modules)
    digest = hashlib.sha256(text + _machine()).hexdigest()[:16]
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


@cache
def _machine() -> bytes:
    import numba
    from llvmlite import binding

    features = binding.get_host_cpu_features().flatten()
    return f"{numba.__version__} {binding.get_host_cpu_name()} {features}".encode()


def at_hand(*kernels: Any) -> bool:
    """Whether kernels can be had in a moment: they have run here, or are kept on disk.

    If not, a process of its own has begun to compile all that there are, which takes
    a minute, once on a machine. Where they can't be kept, who wants them must wait.
    """
    global _next_look
    with _LOCK:
        lacking = [k for k in kernels if k not in _AT_HAND and not _is_compiled(k)]
        if not lacking:
            return True
        begun, now = _next_look > 0.0, monotonic()
        if now < _next_look:
            return False
        _AT_HAND.update(k for k in lacking if _is_kept(k))
        if _AT_HAND.issuperset(lacking):
            return True
        _next_look = now + LOOK_AGAIN
        if not begun and not _begin_to_warm():
            _AT_HAND.update(lacking)
            return True
        return False


def _is_compiled(kernel: Any) -> bool:
    """Whether it has run here, or numba is told to compile nothing."""
    return bool(getattr(kernel, "signatures", True))


def _is_kept(kernel: Any) -> bool:
    """Whether it is on disk, or can't be: then nothing is gained by waiting for it."""
    folder, name = kernel.stats.cache_path, kernel.py_func.__qualname__
    return not folder or any(Path(folder).glob(f"*.{name}-*.nbi"))


def _begin_to_warm() -> bool:
    """Begin a process that outlives this one; whether that was possible."""
    if not sys.executable or getattr(sys, "frozen", False):
        return False  # who is started would not be Python
    paths = [str(Path(x).absolute()) for x in sys.path]
    code = f"import sys; sys.path[:] = {paths!r}; {WARM}"
    child = f"import subprocess as s, sys; s.Popen({[sys.executable, '-c', code]!r}"
    apart = ", stdin=-3, stdout=-3, stderr=-3, start_new_session=True)"
    try:
        subprocess.run(
            [sys.executable, "-S", "-c", child + apart],
            cwd=sys.prefix, check=True, capture_output=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return False
    return True

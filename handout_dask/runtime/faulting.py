"""Faulting: what a function failed of, from its exception to data. Pure; no Dask.

A worker sends it to the scheduler, which never unpickles the exception itself.
"""

from __future__ import annotations

import errno
from typing import Any

from handout_dask.errors import (
    FunctionCrashedError,
    FunctionTimeoutError,
    RescheduledError,
    ResourceExhaustedError,
    UndeliverableError,
)
from handout_dask.runtime.calling import text_of

FAULT = "handout-fault"  # the topic on which a worker says what a function failed of
RAISED, TIMEOUT, EXHAUSTED = "raised", "timeout", "exhausted"
CRASHED, UNDELIVERABLE = "crashed", "undeliverable"
RESCHEDULED = "rescheduled"
MEMORY, DISK, GPU_MEMORY = "memory", "disk", "gpu_memory"
FULL = (errno.ENOSPC, errno.EDQUOT)
OWN = 1000  # characters of its text
SAID = {
    "cupy.cuda.memory.OutOfMemoryError": GPU_MEMORY,
    "cupy_backends.cuda.api.runtime.OutOfMemoryError": GPU_MEMORY,
    "rmm.RMMError": GPU_MEMORY,
}


def fault_data(key: Any, error: BaseException) -> dict[str, Any]:
    """What a function failed of.

    Parameters
    ----------
    key : tuple or str
        Its Dask key.
    error : BaseException
        What it raised, as it did: not what stands for it where it can't be pickled.

    Returns
    -------
    dict
        For msgpack. ``key``, a list of a tuple; ``kind``, "raised", "timeout",
        "exhausted", "crashed", "undeliverable" or "rescheduled" (it asked to be run
        again); ``names`` of the exception's classes, nearest first; ``resource`` that
        was exhausted ("memory", "disk", "gpu_memory" or ""), what was ``used`` and
        ``allowed`` of it [MB] where that is known; ``text``.
    """
    resource, used, allowed = exhaustion(error) or ("", None, None)
    return {
        "key": list(key) if isinstance(key, tuple) else key,
        "kind": kind_of(error),
        "names": names_of(error),
        "resource": resource,
        "used": used,
        "allowed": allowed,
        "text": text_of(error)[:OWN],
    }


def kind_of(error: BaseException) -> str:
    """The kind of failure that an exception tells of."""
    if isinstance(error, FunctionTimeoutError):
        return TIMEOUT
    if isinstance(error, FunctionCrashedError):
        return CRASHED
    if isinstance(error, UndeliverableError):
        return UNDELIVERABLE
    if isinstance(error, RescheduledError):
        return RESCHEDULED
    return RAISED if exhaustion(error) is None else EXHAUSTED


def names_of(error: BaseException) -> list[str]:
    """The dotted names of an exception's classes, nearest first, without object."""
    kinds = type(error).__mro__[:-1]
    return [f"{kind.__module__}.{kind.__qualname__}" for kind in kinds]


def exhaustion(
    error: BaseException,
) -> tuple[str, float | None, float | None] | None:
    """Which resource was exhausted, and what was used and allowed [MB], if known.

    None if the exception tells of nothing of the kind.
    """
    if isinstance(error, ResourceExhaustedError):
        return error.resource, error.measured, error.declared
    # By name: CuPy is not imported for it, and its error is a MemoryError, too.
    for name in names_of(error):
        if name in SAID:
            return SAID[name], None, None
    if isinstance(error, MemoryError):
        return MEMORY, None, None
    if isinstance(error, OSError) and error.errno in FULL:
        return DISK, None, None
    return None

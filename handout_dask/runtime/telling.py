"""Telling: what a worker says to the scheduler of a function that failed.

To what its exception tells it adds what is known on the worker.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from typing import Any

from handout_dask.runtime.calling import annotate
from handout_dask.runtime.evidence import full_disks
from handout_dask.runtime.faulting import DISK, FAULT, MEMORY, fault_data
from handout_dask.runtime.measuring import KEY, MB, Measures


def tell_fault(
    worker: Any, task: Any, key: Any, error: BaseException, known: dict[str, Any] | None
) -> None:
    """Say what a function failed of, before Dask says that it failed.

    Parameters
    ----------
    worker, task, key : distributed.Worker, TaskState or None, object
        Where it ran; the task; its Dask key.
    error : BaseException
        What it raised. Gets a note if that is for want of room on a disk.
    known : dict or None
        What `fault_data` said where it ran, if that was in another process.
    """
    about = {**(known or fault_data(key, error)), "key": _plain(key)}
    with suppress(Exception):  # the fault itself is told in any case
        _add(about, worker, task, error)
    with suppress(Exception):
        worker.log_event(FAULT, about)


def _add(about: dict[str, Any], worker: Any, task: Any, error: BaseException) -> None:
    """What the worker knows of a resource that was exhausted."""
    if about["resource"] == MEMORY and about["used"] is None:
        measured = None if task is None else task.metadata.get(KEY)
        about["used"] = None if measured is None else Measures(*measured).peak_mb
        limit = worker.memory_manager.memory_limit
        about["allowed"] = limit / MB if limit else None
    elif about["resource"] == DISK:
        named = [getattr(error, "filename", None), getattr(error, "filename2", None)]
        places = [os.fsdecode(x) for x in named if isinstance(x, str | bytes)]
        places = places or [worker.local_directory, tempfile.gettempdir(), os.getcwd()]
        full = full_disks(dict.fromkeys(places))
        if full:
            about["used"] = about["allowed"] = full[0][1]
            seen = ", ".join(f"{path!r} ({mb:.4g} MB in all)" for path, mb in full)
            about["text"] += f"; no room on {seen}"
            annotate(error, f"no room is left on the disk of {seen}")


def _plain(key: Any) -> Any:
    return list(key) if isinstance(key, tuple) else key

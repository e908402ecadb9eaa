"""Bonds: what binds a task to workers; giving tasks back to Dask, or refusing them.

Beside plugin.py it touches the scheduler's internals; the seams here:

* ``TaskState.worker_restrictions`` and the like say what a user bound.
* ``TaskState.exception_blame`` fails a task that still waits.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import time
from typing import Any

from distributed import Scheduler
from distributed.protocol import pickle, to_serialize

from handout_dask.errors import HandoutError
from handout_dask.runtime.erring import err

LEFT = ("waiting", "no-worker")  # states of tasks that are to run, and were not sent


def is_free(task: Any) -> bool:
    """Whether a task is one that runs on workers, and no user has bound it to some."""
    return (
        task.run_spec is not None
        and not task.actor
        and not task.worker_restrictions
        and not task.host_restrictions
        and not task.resource_restrictions
    )


def give_back(scheduler: Scheduler, keys: Iterable[Any]) -> None:
    """Let Dask do as it likes with tasks that were free before we parked them."""
    due = []
    for key in keys:
        task = scheduler.tasks.get(key)
        if task is not None:
            task.worker_restrictions = None
            if task.state == "no-worker":
                due.append(key)
    if due:
        stimulus = f"handout-back-{time()}"
        scheduler.transitions(dict.fromkeys(due, "processing"), stimulus)


def refuse(scheduler: Scheduler, key: Any, error: HandoutError) -> None:
    """Fail a task that can run nowhere, with why; what depends on it fails too."""
    task = scheduler.tasks.get(key)
    if task is None or task.state not in LEFT:
        return
    stimulus, text = f"handout-refused-{time()}", str(error)
    raised = to_serialize(pickle.dumps(error))
    if task.state == "no-worker":
        err(scheduler, key, stimulus, exception=raised, exception_text=text)
    else:  # Dask has no way from waiting to erred but through released
        task.exception, task.exception_text = raised, text
        task.exception_blame = task
        scheduler.transitions({key: "erred"}, stimulus)

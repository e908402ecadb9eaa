"""Erring: how a task fails on the scheduler, and why one did.

Beside plugin.py it touches the scheduler's internals; the seams here:

* ``Scheduler.transition(key, "erred", ...)`` fails a task, as the scheduler itself does
  after ``no-workers-timeout``.
* ``TaskState.exception_blame`` is the task whose failure made another one fail.
"""

from __future__ import annotations

from collections.abc import Callable
from time import localtime, strftime, time
from typing import Any

from distributed import Scheduler
from distributed.protocol import pickle, to_serialize

from handout_dask.costs import Cost
from handout_dask.errors import NodeLostError, UnsatisfiableError
from handout_dask.lacks import explain_all
from handout_dask.node import Node


def err(scheduler: Scheduler, key: Any, stimulus: str, **why: Any) -> None:
    """Fail a task, with an exception as Dask carries it, and what depends on it."""
    found = scheduler.transition(key, "erred", stimulus, cause=key, **why)
    scheduler.transitions(found, stimulus)


def strand(
    scheduler: Scheduler, key: Any, node: str, gone: float, why: str = "",
    *, only: bool = True,
) -> None:  # fmt: skip
    """Fail a parked function whose node, and any other for it, is gone for too long.

    It is gone for so long [s]; `why` says more of it.
    """
    task = scheduler.tasks.get(key)
    if task is None or task.state != "no-worker":
        return  # it waits for a function that will fail, or be computed elsewhere
    where = (
        f"only on node {node!r}, which is gone"
        if only
        else f"on no node that is there; {node!r}, for which it was planned, is gone"
    )
    since = time() - gone
    error = NodeLostError(
        f"function {label_of(task)} can run {where} since "
        f"{strftime('%H:%M:%S', localtime(since))}, for {gone:.1f} s"
        f"{': ' if why else ''}{why}",
        node,
        since,
    )
    raised = to_serialize(pickle.dumps(error))
    err(scheduler, key, f"handout-node-lost-{time()}", exception=raised)


def disable(scheduler: Scheduler, key: Any, node: Node, cost: Cost) -> None:
    """Fail a parked function that no node can run any more."""
    task = scheduler.tasks.get(key)
    if task is None or task.state != "no-worker":
        return
    lacks = explain_all((cost,), node)
    why = {node.name: lacks}
    error = UnsatisfiableError(
        f"function {label_of(task)} can run on no node any more; {node.name!r}, for "
        f"which it was planned, lacks {', '.join(map(str, lacks))}",
        {label_of(task): why},
    )
    raised = to_serialize(pickle.dumps(error))
    err(scheduler, key, f"handout-unable-{time()}", exception=raised)


def label_of(task: Any) -> str:
    """The id of a function as text, as far as its task tells."""
    args = getattr(task.run_spec, "args", ())
    return str(getattr(args[0] if args else None, "label", repr(task.key)))


def fault_of(task: Any, is_cut: Callable[[Any], bool]) -> tuple[Any, ...] | None:
    """What a failed function raised, or the cutting of an element that it reads.

    None if a function that it depends on failed.
    """
    blame = task.exception_blame
    if blame is None:
        return None
    own = is_cut(blame.key) and blame in task.dependencies
    if blame is not task and not own:
        return None
    return blame.exception, blame.traceback, blame.exception_text

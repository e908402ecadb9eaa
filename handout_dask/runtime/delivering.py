"""Delivering: why a result that is there can't be brought to the client, as an error.

The seam on Dask: its worker answers with a TypeError whose text begins with `REFUSED`
and ends with the reason, behind tracebacks (2026.8.0).
"""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import suppress
from typing import Any

from distributed import Client

from handout_dask.errors import FunctionError, UndeliverableError
from handout_dask.runtime.calling import text_of

REFUSED = "Could not serialize object"
SHORT = 300  # characters of the reason


async def undelivered(
    client: Client,
    future: Any,
    id: Hashable,
    node: str,
    attempts: int,
    fault: BaseException | None,
) -> FunctionError:
    """Why the result of a function that ended does not come here.

    Parameters
    ----------
    client : distributed.Client
        That asked for it.
    future : distributed.Future
        That stands for it.
    id, node, attempts : hashable, str, int
        Of the function; where it ran last, and how often it was tried.
    fault : BaseException or None
        What Dask raised; None if it only has it no more.
    """
    kind = ""
    with suppress(Exception):
        kind = await client.run_on_scheduler(type_of, future.key) or ""
    made = explained(id, node, kind, fault)
    vars(made)["handout"] = (id, node, attempts)
    return made


def explained(
    id: Hashable, node: str, kind: str, fault: BaseException | None
) -> FunctionError:
    """The same, with what is known: the name of the result's type, "" if it is not."""
    what = f"function {id!r} ended on node {node!r}, but its result"
    if kind:
        what += f", a {kind},"
    if fault is None:
        return FunctionError(f"{what} is not on the cluster any more")
    lines = text_of(fault).strip().splitlines() or [""]
    if isinstance(fault, TypeError) and lines[0].startswith(REFUSED):
        return UndeliverableError(
            f"{what} can't be pickled, so that it can be read on that node alone: "
            f"{lines[-1][:SHORT]}. Let it return what can be, or let another function "
            f"on its node, by node=with_function({id!r}), make of it what is wanted "
            "here"
        )
    return UndeliverableError(
        f"{what} can't be brought here: {type(fault).__name__}: {lines[0][:SHORT]}. If "
        "it can't be unpickled, its package may be missing here, or be of another "
        "version; functions on the cluster can read it all the same"
    )


def type_of(key: Any, dask_scheduler: Any) -> str | None:
    """The name of the type of a result; runs on the scheduler."""
    task = dask_scheduler.tasks.get(key)
    return None if task is None else task.type

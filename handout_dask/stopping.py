"""Stopping: when a worker is started anew whose threads go on with what was cancelled.

Pure: no clock, no Dask. A thread can't be ended from outside; its process can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SILENT = 10.0  # s without word, after which nothing beside such a thread is spared

LEAVE, DRAIN, RENEW = "leave", "drain", "renew"


@dataclass(frozen=True, slots=True)
class Threads:
    """What the threads of a worker do.

    Attributes
    ----------
    cancelled : sequence of (float, float)
        Of each function that was cancelled there and that it has not let go: when that
        was, by the clock, and how long it may go on [s].
    wanted : int
        Other functions, and tasks of others, that run there.
    heard : float
        When the worker said something last, by the clock.
    lasting : str
        What would be lost with the worker for good; "" is nothing.
    """

    cancelled: Sequence[tuple[float, float]]
    wanted: int
    heard: float
    lasting: str = ""


def what_to_do(threads: Threads, now: float) -> str:
    """Whether to leave a worker alone, to send it nothing new, or to start it anew.

    It is started anew when a cancelled function has gone on for longer than it may, and
    nothing else runs there; what does ends first. But a worker that is silent may be
    held up by that very function, and with it all that runs beside; that runs again.
    """
    over = [since for since, grace in threads.cancelled if now - since >= grace]
    if not over or threads.lasting:
        return LEAVE
    silent = now - max(threads.heard, min(over)) >= SILENT
    return DRAIN if threads.wanted and not silent else RENEW

"""What happened, as records. Knows no clock: who emits a record says when."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

DONE, FAILED, LOST = OUTCOMES = ("done", "failed", "lost")


@dataclass(frozen=True, slots=True)
class Hold:
    """A node that was held: paid, whether it ran something or not.

    Attributes
    ----------
    node : str
        Its name.
    start, end : float
        Seconds since the run began.
    """

    node: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Span:
    """One attempt of one function on one node; simulated and real runs emit the same.

    Attributes
    ----------
    function : hashable
        Its id.
    node : str
        Where it ran.
    start, end : float
        Seconds since the run began.
    attempt : int
        1 for the first.
    outcome : {"done", "failed", "lost"}
        Whether it delivered, raised, or went down with its node.
    nbytes : int, optional
        Size of the result in bytes; None is unknown.
    error : str, optional
        What went wrong.
    cpu_seconds : float, optional
        CPU time that it took [s]: of all its threads if it had a process of its own,
        else of the one that called it. This and what follows is None if not measured.
    peak_mb : float, optional
        Host memory [MB] that its process held at most while it ran, above what it held
        before; inputs are held before.
    peak_exact : bool
        Whether it had a process of its own; else `peak_mb` is an estimate.
    peak_alone : bool
        Whether no other function ran in its process meanwhile; if one did, `peak_mb`
        is the growth of all.
    bytes_in : int, optional
        Size in bytes of what it read.
    gpu_peak_mb : float, optional
        GPU memory [MB] that CuPy's pools gave it, at most at once.
    gpu_seconds : float, optional
        How long its work took on the GPU [s], by the device's own clock.
    """

    function: Hashable
    node: str
    start: float
    end: float
    attempt: int = 1
    outcome: str = DONE
    nbytes: int | None = None
    error: str | None = None
    cpu_seconds: float | None = None
    peak_mb: float | None = None
    peak_exact: bool = False
    peak_alone: bool = False
    bytes_in: int | None = None
    gpu_peak_mb: float | None = None
    gpu_seconds: float | None = None

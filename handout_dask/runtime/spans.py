"""Spans: the records of the scheduler as a client shows them. Knows no runs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from handout_dask.errors import ResourceExhaustedError
from handout_dask.events import FAILED, LOST, Span
from handout_dask.runtime.calling import text_of
from handout_dask.runtime.faults import rebuilt
from handout_dask.runtime.measuring import Measures
from handout_dask.runtime.records import AGAIN

PASSING = (AGAIN, LOST)  # outcomes of attempts after which there may be another


def span_of(id: Hashable, record: Sequence[Any]) -> Span | None:
    """The attempt that a record tells of; None if nothing began.

    Parameters
    ----------
    id : hashable
        Of the function.
    record : sequence
        As `records.LiveRun` makes them.
    """
    _, outcome, node, start, end, attempt, nbytes, fault, measured = record
    if start is None:
        return None
    text = None
    if outcome in PASSING:
        text, outcome = fault, FAILED if outcome == AGAIN else outcome
    elif fault is not None:
        error = rebuilt(id, *fault)
        text = f"{type(error).__name__}: {text_of(error)}"
        measured = _held(error)
    return Span(
        id, node, start, end, attempt, outcome, nbytes, text, **_measured(measured)
    )


def _measured(measured: Any) -> dict[str, Any]:
    """What a worker measured, as fields of a Span."""
    if measured is None:
        return {}
    cpu, peak, exact, read, gpu, alone, took = Measures(*measured)
    return {
        "cpu_seconds": cpu, "peak_mb": peak, "peak_exact": exact, "peak_alone": alone,
        "bytes_in": read, "gpu_peak_mb": gpu, "gpu_seconds": took,
    }  # fmt: skip


def _held(error: Exception) -> Measures | None:
    """What is known of a function that was ended for what it held."""
    if not isinstance(error, ResourceExhaustedError):
        return None
    if error.resource == "gpu_memory":
        return Measures(None, None, False, None, error.measured)
    if error.resource != "memory":
        return None
    return Measures(None, error.measured, True, None, None)

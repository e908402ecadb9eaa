"""What runs on a worker around each function. Knows no plan, no scheduler."""

from __future__ import annotations

from typing import Any

import dask.config
from distributed import Reschedule
from distributed.core import error_message
from distributed.protocol import pickle

from handout_dask.attempts import numbered
from handout_dask.errors import RescheduledError, UndeliverableError
from handout_dask.runtime.arrays import is_on_device, unmoved
from handout_dask.runtime.calling import (
    Call,
    Cut,
    annotate,
    element,
    gist,
    load,
    portable,
    thawed,
)
from handout_dask.runtime.measuring import KEY, Measures, Meter
from handout_dask.runtime.process import EXECUTOR, TakenBackError, here
from handout_dask.runtime.telling import tell_fault
from handout_dask.setbacks import RESCHEDULES

ANNOUNCE = "handout_announce"  # annotation: tell the scheduler when the function starts
STARTED = "handout-started"  # the topic on which it does
ALLOWED = "handout_allowed"  # annotation: memory [MB] it may take, if not as declared
ATTEMPT = "handout_attempt"  # annotation: which one it is, if it is not the first
ALLOWED_GPU = "handout_allowed_gpu"  # ditto, memory of a GPU
VARIANT = "handout_variant"  # annotation: its cost alternative, if not the planned one
MEASURE = "handout.measure"  # key in Dask's configuration: whether functions are

_meter = Meter()


def call(spec: Call, *values: Any) -> Any:
    """Call the function with the results it depends on; returns its result."""
    worker, key, own = _where()
    task, number = None, 1
    if worker is not None:
        task = worker.state.tasks.get(key)
        notes = (task and task.annotations) or {}
        number = notes.get(ATTEMPT, 1)
        spec = spec.varied(notes[VARIANT]) if VARIANT in notes else spec
        if notes.get(ANNOUNCE):
            worker.log_event(STARTED, list(task.key))
        if spec.grant is not None and ALLOWED_GPU in notes:
            grant, more = spec.grant, notes[ALLOWED_GPU]
            grant = grant._replace(memory=more, declared=grant.memory)
            spec = spec._replace(grant=grant)
    try:
        if own is not None:
            bare = spec._replace(durable=None, variants=())
            if spec.limit is not None and ALLOWED in notes:
                bare = bare._replace(limit=notes[ALLOWED])
            result, measures = own.run(bare, values, number)
            _tell(task, measures)
        else:
            with numbered(number):
                if task is not None and dask.config.get(MEASURE, True):
                    result = _measured(spec, values, worker, task)
                else:
                    result = load(spec, values)()
        if spec.elsewhere:
            what = f"function {spec.label} returned a"
            _require_portable(result, what, spec.elsewhere)
        if spec.durable is not None:
            spec.durable.keep(result, spec.label)
        return result
    except TakenBackError:
        raise
    except BaseException as error:
        listens = worker is not None and EXECUTOR in worker.executors
        known = None if own is None else own.fault
        raised = error
        if isinstance(error, Reschedule):  # the user's
            if not (listens and spec.by_plan):
                raise
            raised, known = _asked_again(error, spec.label), None
        if listens:
            tell_fault(worker, task, key, raised, known)
        fault = _portable(raised, spec.label, worker)
    raise fault  # not within "except": what can't be pickled must not be its context


def cut(spec: Cut, result: Any) -> Any:
    """The element of a result that a reader asked for."""
    spec = thawed(spec)
    found = element(spec, result)
    if spec.crosses:
        what = f"element {spec.index!r} of the result of function {spec.producer} is a"
        _require_portable(found, what, spec.readers)
    return found


def _where() -> tuple[Any, Any, Any]:
    """The Dask worker that runs this, the key, and the function's own process if any.

    None on Dask's local schedulers.
    """
    own = here()
    if own is not None:
        return own.worker, own.key, own
    from distributed import get_worker

    try:
        worker = get_worker()
        return worker, worker.get_current_task(), None
    except (ValueError, KeyError):
        return None, None, None


def _measured(spec: Call, values: tuple[Any, ...], worker: Any, task: Any) -> Any:
    ready = load(spec, values)
    before = worker.state.executed_count
    alone = len(worker.active_keys) == 1
    mark = _meter.begin()
    try:
        return ready()
    finally:
        used = _meter.end(mark)
        # Others' tasks are not metered, but are in the same process.
        alone &= len(worker.active_keys) == 1
        alone &= worker.state.executed_count == before and used.alone
        about = used._replace(alone=alone)
        _tell(task, Measures(about.cpu_seconds, about.peak_mb, False, None, *about[2:]))


def _tell(task: Any, measures: Measures | None) -> None:
    """Let what was measured travel with the message that the task has ended."""
    if task is not None and measures is not None:
        read = sum(dependency.nbytes or 0 for dependency in task.dependencies)
        task.metadata[KEY] = list(measures._replace(bytes_in=read))


def _portable(error: BaseException, label: str, worker: Any) -> Exception:
    """The exception with a note, or a FunctionError where it would not travel."""
    made = portable(error, label, _survives)
    where = f" on node {str(worker.name)!r}" if worker is not None else ""
    annotate(made, f"in function {label}{where}")
    return made


def _asked_again(error: Reschedule, label: str) -> RescheduledError:
    """Why a function fails whose wish to be run again is not granted any more."""
    made = RescheduledError(
        f"function {label} raised distributed.Reschedule, and so asked to be run again "
        f"or elsewhere, {RESCHEDULES} times, which is as often as it may. Let it wait "
        "for what it needs, or raise an exception that a RetryPolicy answers"
    )
    return made.with_traceback(error.__traceback__)


def _survives(error: Exception) -> bool:
    """Whether an exception is still itself after Dask has carried it."""
    try:
        message = error_message(error)
        copy = pickle.loads(message["exception"].data)
        told = gist(copy)
        long = told[:1] == ["Long error message"]  # Dask cut it short
        return type(copy) is type(error) and (long or told == gist(error))
    except Exception:
        return False


def _require_portable(result: Any, what: str, reader: str) -> None:
    """Fail here and clearly: Dask would retry the transfer for ever."""
    if type(result) in (bytes, str, int, float, bool, type(None)):
        return
    if is_on_device(result):
        return
    if type(result).__module__ == "numpy" and not getattr(
        getattr(result, "dtype", None), "hasobject", True
    ):
        return
    try:
        # Out-of-band buffers are not copied, so arrays inside cost next to nothing.
        with unmoved():
            pickle.dumps(result, buffer_callback=lambda _: None, protocol=5)
    except Exception as error:
        raise UndeliverableError(
            f"{what} {type(result).__name__} that can't be pickled, and {reader} needs "
            f"it on another node: {error}. Return something that can, or keep them "
            "together by node=with_function(...)"
        ) from error

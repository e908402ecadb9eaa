"""Devices: what a function that holds a GPU finds around it in its process. No Dask.

CuPy is loaded with the first such function. Each runs on a stream of its thread's own
and ends when that has; what it takes of CuPy's pools is counted, and refused beyond a
limit.
"""

from __future__ import annotations

import gc
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Any, NamedTuple

from handout_dask.costs import Cost
from handout_dask.errors import HandoutError, ResourceExhaustedError
from handout_dask.runtime import arrays

MB = 1e6
IDLE = 0.3  # s without a function on the device, after which caches are given back
ROUNDING = 1.0  # MB beyond its limit that a function may hold: pools round up
AGE = 0.5  # s for which it is believed what the driver said of free memory
OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation

_local = threading.local()
_loading = threading.Lock()
_module: Any = None


class Grant(NamedTuple):
    """What a function is given of a device, as it travels with the function."""

    memory: float | None  # [MB] that it claims
    enforced: bool = False  # whether it gets no more
    declared: float | None = None  # [MB], if it claims more than it declared

    @classmethod
    def of(cls, cost: Cost, enforced: bool) -> Grant | None:
        """What a function of this cost gets; None if it asks for no GPU."""
        demand = dict(cost.demand)
        return cls(demand.get("gpu_memory"), enforced) if demand.get("gpus") else None


def array_module() -> Any:
    """The module to compute arrays with: CuPy or NumPy.

    Returns
    -------
    module
        CuPy inside a function whose cost asks for a GPU (``gpus``, ``gpu_memory``,
        ``gpu_time`` or ``has_cuda_requirement``), in the thread that it was called in;
        NumPy anywhere else.

    Raises
    ------
    HandoutError
        Where a GPU was asked for and CuPy can't be used.

    Examples
    --------
    >>> array_module().__name__
    'numpy'
    """
    found = getattr(_local, "module", None)
    if isinstance(found, Exception):
        raise HandoutError(
            f"this function was given a GPU, but CuPy can't be used on its node: "
            f"{type(found).__name__}: {found}. Install handout_dask[cuda12] or "
            "[cuda13] there, or leave has_cuda out of the node's capabilities"
        ) from found
    if found is None:
        import numpy

        return numpy
    return found


def serve() -> Any:
    """CuPy, ready to work on the device of this process.

    Raises
    ------
    Exception
        Whatever CuPy says if it can't be loaded, or finds no device.
    """
    global _module
    if _module is None:
        with _loading:
            import cupy

            if not cupy.cuda.runtime.getDeviceCount():
                raise RuntimeError("it sees no device")
            arrays.install(cupy)
            _module = cupy
    return _module


def prepare() -> None:
    """Load CuPy if it can be had, before what a function takes is counted."""
    with suppress(Exception):  # the function will hear of it
        serve()


def on_device(label: str, grant: Grant, work: Callable[[], Any]) -> Any:
    """Do what a function does, with what it was given of a device.

    Parameters
    ----------
    label : str
        The function's id, for errors.
    grant : Grant
        What it was given.
    work : callable
        Calls it.

    Returns
    -------
    object
        What `work` returns, when all is done that it put on its stream.

    Raises
    ------
    ResourceExhaustedError
        If it was refused memory of the device.
    """
    before = getattr(_local, "module", None)
    try:
        _local.module = cupy = serve()
    except Exception as error:
        _local.module, cupy = error, None
    try:
        return work() if cupy is None else _run(cupy, label, grant, work)
    finally:
        _local.module = before


def _run(cupy: Any, label: str, grant: Grant, work: Callable[[], Any]) -> Any:
    fault: BaseException | None = None
    watched = getattr(_local, "watch", None)
    watch: Any = watch_memory() if watched is None else watched
    stream = _stream(cupy)
    _use.begin(cupy, grant.memory, watch)
    try:
        if grant.enforced and grant.memory is not None and watch is not None:
            watch.limit = (grant.memory + ROUNDING) * MB
        with stream:
            begin, end = cupy.cuda.Event(), cupy.cuda.Event()
            begin.record(stream)
            result = work()
            end.record(stream)
            stream.synchronize()
        if watch is not None:
            watch.seconds = cupy.cuda.get_elapsed_time(begin, end) / 1e3
        return result
    except BaseException as error:
        fault = _told(cupy, error, label, grant, watch)
    finally:
        if watched is None and watch is not None:
            watch.done()
        if fault is not None:
            with suppress(Exception):
                stream.synchronize()  # nothing may run on what is given back
        _use.end(cupy, watch, failed=fault is not None)
    try:
        raise fault
    finally:
        del fault  # it knows this frame


def _stream(cupy: Any) -> Any:
    """The stream of this thread: one for each function that runs at once.

    It heeds the common stream, on which libraries other than CuPy may work.
    """
    found = getattr(_local, "stream", None)
    if found is None:
        found = _local.stream = cupy.cuda.Stream()
    return found


def _told(
    cupy: Any, error: BaseException, label: str, grant: Grant, watch: Any
) -> BaseException:
    """The exception to raise; arrays that its frames hold are let go."""
    one: BaseException | None = error
    seen: set[int] = set()
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        traceback.clear_frames(one.__traceback__)
        one = one.__cause__ or one.__context__
    if not is_exhausted(cupy, error):
        return error
    declared = grant.memory if grant.declared is None else grant.declared
    said = "no gpu_memory" if declared is None else f"gpu_memory={declared:g} MB"
    if declared != grant.memory:
        said += f", was given {grant.memory:g} MB"
    held, wanted = (0.0, None) if watch is None else (watch.held, watch.wanted)
    about = f"held {held:.6g} MB"
    if wanted is not None:
        about += f" at most and wanted {wanted:.6g} MB"
    if grant.enforced and grant.memory is not None:
        remedy = "Declare more, let it take less, or leave out enforce_memory"
    else:
        with suppress(Exception):
            free, total = (x / MB for x in cupy.cuda.runtime.memGetInfo())
            about += f", of {total:.6g} MB that the device has ({free:.6g} MB free)"
        remedy = "Declare what it takes, so that it goes where that is free"
    made = ResourceExhaustedError(
        f"function {label} was refused memory of its GPU: it declared {said}, "
        f"{about}. {remedy}",
        "gpu_memory",
        declared,
        held if wanted is None else wanted,
    )
    return made.with_traceback(error.__traceback__)


def is_exhausted(cupy: Any, error: BaseException) -> bool:
    """Whether an exception says that a device has no more memory."""
    with suppress(AttributeError):
        if isinstance(error, cupy.cuda.memory.OutOfMemoryError):
            return True
    name = type(error).__name__  # what CUDA says past CuPy's pools
    return name == "CUDARuntimeError" and getattr(error, "status", 0) == OUT_OF_MEMORY


class _Use:
    """Who is on the device of this process; gives cached memory back when nobody is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: list[tuple[float, Any]] = []  # bytes declared, and the watch
        self._since = 0.0  # when the last one ended
        self._is_waiting = False
        self._reach, self._looked = 0.0, -inf  # bytes that the pool may hold; since

    def begin(self, cupy: Any, need: float | None, watch: Any) -> None:
        """A function begins that declares so many megabytes."""
        with self._lock:
            self._running.append(((need or 0.0) * MB, watch))
        if need:
            with suppress(Exception):  # the function will hear of it
                self._make_room(cupy)

    def _owed(self) -> float:
        """Bytes that those which run may still take."""
        with self._lock:
            running = list(self._running)
        held = [0 if watch is None else watch.now for _, watch in running]
        return sum(max(0, x - y) for (x, _), y in zip(running, held, strict=True))

    def _make_room(self, cupy: Any) -> None:
        """Let there be what those which run may still take, as far as can be done."""
        for maker in [None, *makers_of_room]:
            missing = self._missing(cupy)
            if missing <= 0:
                return
            if maker is not None:
                maker(missing)
                gc.collect()
            trim(cupy)
            self._looked = -inf

    def _missing(self, cupy: Any) -> float:
        """Bytes that the pool can't get to hold all; what it caches it has.

        The driver is asked seldom: functions that run at once may wait there.
        """
        pool, now = cupy.get_default_memory_pool(), monotonic()
        if now - self._looked > AGE:
            free = cupy.cuda.runtime.memGetInfo()[0]
            self._reach, self._looked = free + pool.total_bytes(), now
        missing: float = pool.used_bytes() + self._owed() - self._reach
        return missing

    def end(self, cupy: Any, watch: Any, *, failed: bool) -> None:
        """It ended."""
        if failed:
            gc.collect()
            trim(cupy)
        with self._lock:
            ended = next(k for k, (_, w) in enumerate(self._running) if w is watch)
            del self._running[ended]
            self._since = monotonic()
            begins = not self._running and not self._is_waiting
            self._is_waiting |= begins
        if begins:
            self._wait(cupy, IDLE)

    def _wait(self, cupy: Any, seconds: float) -> None:
        timer = threading.Timer(seconds, self._look, (cupy,))
        timer.daemon = True
        timer.start()

    def _look(self, cupy: Any) -> None:
        with self._lock:
            left = self._since + IDLE - monotonic()
            if self._running or left <= 0:
                self._is_waiting = False
        if self._running:
            return
        if left > 0:
            self._wait(cupy, left)
        else:
            trim(cupy)


_use = _Use()
makers_of_room: list[Callable[[float], None]] = []  # told how many bytes are missing


def trim(cupy: Any) -> None:
    """Give back to the device what CuPy's pools hold and nobody uses."""
    with suppress(Exception):
        cupy.get_default_memory_pool().free_all_blocks()


# ------------------------------------------------------------------------- watching
def watch_memory() -> Any:
    """Count what CuPy's pools give this thread, if it is loaded here; else None."""
    cupy = sys.modules.get("cupy")
    if cupy is None:
        return None
    with suppress(Exception):  # it is being loaded, or has no device
        made = _watch_class(cupy)()
        _local.watch = made
        return made
    return None


_watch_classes: dict[int, Any] = {}


def _watch_class(cupy: Any) -> Any:
    made = _watch_classes.get(id(cupy))
    if made is None:

        class Watch(cupy.cuda.memory_hook.MemoryHook):
            """Counts what the pools give; CuPy keeps hooks by thread."""

            name = "handout"
            limit: float | None = None  # bytes that it may give
            seconds: float | None = None  # that the stream took, as it says

            def __init__(self) -> None:
                self._sizes: dict[Any, int] = {}
                self._now = self._most = 0
                self._wanted = 0
                self.__enter__()

            def malloc_preprocess(self, **about: Any) -> None:
                asked = about["mem_size"]
                if self.limit is None or self._now + asked <= self.limit:
                    return
                gc.collect()
                if self._now + asked > self.limit:
                    self._wanted = self._now + asked
                    kind = cupy.cuda.memory.OutOfMemoryError
                    raise kind(asked, self._now, int(self.limit))

            def malloc_postprocess(self, **about: Any) -> None:
                if not about["pmem_id"]:  # it was refused
                    self._wanted = self._now + about["mem_size"]
                    return
                self._sizes[about["pmem_id"]] = about["mem_size"]
                self._now += about["mem_size"]
                self._most = max(self._most, self._now)

            def free_postprocess(self, **about: Any) -> None:
                # What was there before the function began is not its own.
                self._now -= self._sizes.pop(about["pmem_id"], 0)

            @property
            def now(self) -> int:
                """The bytes that it holds."""
                return self._now

            @property
            def held(self) -> float:
                """The most megabytes at once."""
                return self._most / MB

            @property
            def wanted(self) -> float | None:
                """The megabytes that it would have held, had it not been refused."""
                return self._wanted / MB if self._wanted else None

            def done(self) -> float | None:
                """The most megabytes at once; None if it took none."""
                self.__exit__(None, None, None)
                _local.watch = None
                return self._most / MB if self._most else None

        made = _watch_classes[id(cupy)] = Watch
    return made

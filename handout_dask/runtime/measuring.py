"""Measuring: what a function uses while it runs, as its process can tell. No Dask.

Memory is what the process held at most while the function ran, above what it held when
the function began. In a process of its own that is exact. In a thread it is an
estimate: whatever else the process does counts too, and of functions that run at once
each is told the growth of all.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from handout_dask.runtime.devices import watch_memory

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

MB = 1e6
KEY = "handout"  # in the metadata that a worker sends when a task ends


class Measures(NamedTuple):
    """What one function used; None is unknown."""

    cpu_seconds: float | None  # [s] of its thread; of all threads if exact
    peak_mb: float | None  # [MB] above what its process held when it began
    exact: bool  # it had a process of its own
    bytes_in: int | None  # [bytes] of what it reads, as Dask counts them
    gpu_peak_mb: float | None  # [MB] that CuPy's pools gave it, at most at once
    alone: bool = True  # no other function ran in its process meanwhile
    gpu_seconds: float | None = None  # [s] that its stream took, as the device says


def measures_of(about: Mapping[str, Any]) -> Measures | None:
    """What a worker measured, in what Dask says when a task ends."""
    found = (about.get("metadata") or {}).get(KEY)
    return None if found is None else Measures(*found)


class Used(NamedTuple):
    """What a process tells of a function that ended."""

    cpu_seconds: float
    peak_mb: float | None
    gpu_peak_mb: float | None
    alone: bool
    gpu_seconds: float | None = None


class Mark:
    """Where a function began; see `Meter`."""

    __slots__ = ("alone", "cpu", "gpu", "held", "peak")

    def __init__(self, alone: bool) -> None:
        self.alone = alone
        self.held = self.peak = 0  # bytes
        self.cpu = 0.0
        self.gpu: Any = None


class Meter:
    """Measures functions that run in this process, several at once if need be.

    Parameters
    ----------
    whole : bool
        Whether the process runs nothing else: then the time of all its threads, and of
        the processes that it waited for, is the function's.

    Notes
    -----
    Linux resets a process's peak when 5 is written to ``/proc/self/clear_refs``
    (kernel documentation, filesystems/proc), so that the peak of a stretch is exact at
    the cost of a few system calls. When a function begins while others run, the peak so
    far is noted for those before it is reset. Elsewhere the peak is seen only if it is
    the highest of the process so far; else what is held at the end stands for it.
    """

    def __init__(self, whole: bool = False) -> None:
        self._clock = _whole_time if whole else time.thread_time
        self._memory: _Memory | None = None
        self._lock = threading.Lock()
        self._open: dict[int, Mark] = {}

    def begin(self) -> Mark:
        """A function begins in this thread."""
        with self._lock:
            if self._memory is None:
                self._memory = _memory()
            mark = Mark(alone=not self._open)
            if self._open:
                peak = self._memory.peak()
                for other in self._open.values():
                    other.alone = False
                    other.peak = max(other.peak, peak)
            mark.held = self._memory.restart()
            self._open[id(mark)] = mark
        mark.gpu = watch_memory()
        mark.cpu = self._clock()
        return mark

    def end(self, mark: Mark) -> Used:
        """It ended, in the same thread."""
        cpu = self._clock() - mark.cpu
        gpu = None if mark.gpu is None else mark.gpu.done()
        took = None if mark.gpu is None else mark.gpu.seconds
        with self._lock:
            assert self._memory is not None
            peak = max(mark.peak, self._memory.peak())
            del self._open[id(mark)]
        return Used(cpu, max(0, peak - mark.held) / MB, gpu, mark.alone, took)


class _Memory:
    """What a process holds, where nothing better is known."""

    def __init__(self) -> None:
        import psutil

        self._process = psutil.Process()
        self._highest = 0

    def restart(self) -> int:
        """The bytes held; the peak is counted from here."""
        self._highest = maximum()
        return int(self._process.memory_info().rss)

    def peak(self) -> int:
        """The most bytes held since, as far as is known."""
        now, highest = int(self._process.memory_info().rss), maximum()
        return max(now, highest) if highest > self._highest else now


class _ProcMemory(_Memory):
    """What a Linux process holds."""

    def __init__(self) -> None:
        self._page = os.sysconf("SC_PAGE_SIZE")
        # Kept open: the kernel makes the text anew at each read.
        self._clear = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        self._status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._floor = 0
        self.restart()
        # Asked by getrusage the kernel makes no text, but it may know of more: what the
        # process held that began this one.
        known = maximum()
        self._floor = known if known > self._told() + MB else 0

    def restart(self) -> int:
        os.pwrite(self._clear, b"5", 0)
        held = maximum()
        if held > self._floor:
            return held
        return int(os.pread(self._statm, 256, 0).split(None, 2)[1]) * self._page

    def peak(self) -> int:
        highest = maximum()
        return highest if highest > self._floor else self._told()

    def _told(self) -> int:
        text = os.pread(self._status, 4096, 0)
        # The kernel brings the peak up to date late: what is held may be more.
        return max(_kilobytes(text, b"VmHWM:"), _kilobytes(text, b"VmRSS:")) * 1024


def maximum() -> int:
    """The most bytes that this process held, as the system has it."""
    if resource is None:  # Windows
        return 0
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024


def _kilobytes(text: bytes, name: bytes) -> int:
    at = text.index(name) + len(name)
    return int(text[at : text.index(b"kB", at)])


def _memory() -> _Memory:
    try:
        return _ProcMemory()
    except (OSError, ValueError):  # not Linux, or not let
        return _Memory()


def _whole_time() -> float:
    """CPU seconds of this process and of those that it started and waited for."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system

"""Sampling: what this process, and those it started, use, and how busy the host is.

Takes some tens of microseconds, so that it needs no thread.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from time import perf_counter, process_time, time
from typing import Any

import psutil

BOOT = "/proc/sys/kernel/random/boot_id"  # one for all containers of a Linux host
SHORTEST = 0.05  # s; rates over less than that are the clock's


class Sampler:
    """Measures since its last sample."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._started: dict[int, psutil.Process] = {}
        self._last: dict[str, Any] = {}
        self._at, self._spent, self._ticks = self._counters()

    def sample(self) -> dict[str, Any]:
        """What is used now, as text and numbers.

        Returns
        -------
        dict
            ``at`` [s], ``process``, ``host`` (names), ``cpu`` [cores] and ``memory``
            [MB] of this process and those it started; ``cores``, ``busy`` [cores],
            ``total`` and ``available`` [MB] of the host.
        """
        if perf_counter() - self._at < SHORTEST and self._last:
            return self._last
        at, spent, ticks = self._counters()
        passed = max(at - self._at, 1e-6)
        cores = os.cpu_count() or 1
        total, idle = ticks[0] - self._ticks[0], ticks[1] - self._ticks[1]
        memory = psutil.virtual_memory()
        self._last = {
            "at": time(),
            "process": f"{HOST}/{self._process.pid}",
            "host": HOST,
            "cpu": max(0.0, spent - self._spent) / passed,
            "memory": self._held() / 1e6,
            "cores": cores,
            "busy": cores * max(0.0, 1.0 - idle / total) if total > 0 else 0.0,
            "total": memory.total / 1e6,
            "available": memory.available / 1e6,
        }
        self._at, self._spent, self._ticks = at, spent, ticks
        return self._last

    def _counters(self) -> tuple[float, float, tuple[float, float]]:
        """Clock, CPU seconds of the processes, the host's ticks: all, and idle ones."""
        self._find()
        times = os.times()  # those of children are of the ones that have ended
        spent = process_time() + times.children_user + times.children_system
        for pid, child in list(self._started.items()):
            try:
                spent += sum(child.cpu_times()[:4])  # with its own that have ended
            except psutil.Error:  # it has just ended
                del self._started[pid]
        host = psutil.cpu_times()
        guest = getattr(host, "guest", 0.0) + getattr(host, "guest_nice", 0.0)
        idle = host.idle + getattr(host, "iowait", 0.0)
        return perf_counter(), spent, (sum(host) - guest, idle)

    def _held(self) -> float:
        """Bytes in memory; what processes share counts for each."""
        held = float(self._process.memory_info().rss)
        for child in list(self._started.values()):
            with suppress(psutil.Error):
                held += child.memory_info().rss
        return held

    def _find(self) -> None:
        """Find the processes that this one started, and those which they did."""
        found = _descendants(self._process.pid)
        if found is None:
            found = [child.pid for child in self._process.children(recursive=True)]
        for pid in self._started.keys() - set(found):
            del self._started[pid]
        for pid in found:
            if pid not in self._started:
                with suppress(psutil.Error):
                    self._started[pid] = psutil.Process(pid)


def _descendants(pid: int) -> list[int] | None:
    """By Linux's list of each thread's children, 50 times as fast as psutil's search.

    None where there is no such list.
    """
    if not os.path.exists(f"/proc/{pid}/task/{pid}/children"):
        return None
    out: list[int] = []
    with suppress(OSError):  # it has just ended
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as file:
                out += map(int, file.read().split())
    for child in list(out):
        out += _descendants(child) or []
    return out


def _host() -> str:
    """The name of the host, alike in all of its containers where that is known."""
    with suppress(OSError), open(BOOT) as file:
        return file.read().strip()
    return socket.gethostname()


HOST = _host()

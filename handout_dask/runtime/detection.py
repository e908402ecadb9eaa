"""Detection: what a worker's host has that nobody declared: a GPU, and how fast it is.

Speed is what a short calibration says, once for each host: it is kept in a file of the
user's cache. ``dask.config`` key ``handout.calibrate``: false turns it off.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import thread_time, time
from typing import Any

import dask
import numpy as np

from handout_dask.runtime import cuda

logger = logging.getLogger(__name__)

CONFIG = "handout.calibrate"
REPEATS = 5  # of each kernel, the fastest counts: others are disturbed
LOOPS, LENGTH = 200_000, 200_000  # about 5 ms each on a core of 2020
ABANDONED = 60.0  # s after which another process that calibrates is given up


class Detection:
    """What this process finds; the speed a little later, if it is not known yet."""

    def __init__(self) -> None:
        self.device = cuda.first_device()
        self._rate: float | None = None
        self._file: Path | None = None
        if dask.config.get(CONFIG, True):
            self._file = cache_file()
            threading.Thread(target=self._calibrate, daemon=True).start()

    def found(self) -> dict[str, Any]:
        """What is known by now, as text and numbers.

        Returns
        -------
        dict
            ``device``: its UUID, ``gpu_memory`` [MB], if there is one; ``rate``, how
            much the host computes in a second, if it is known.
        """
        out: dict[str, Any] = {}
        if self.device is not None:
            out |= {"device": self.device.uuid, "gpu_memory": self.device.memory}
        if self._rate is None and self._file is not None:
            self._rate = read_rate(self._file)
        if self._rate is not None:
            out["rate"] = self._rate
        return out

    def _calibrate(self) -> None:
        assert self._file is not None
        try:
            self._rate = rate_of_host(self._file, measure)
        except Exception:  # such as a home that can't be written; the speed stays 1
            logger.debug("No calibration", exc_info=True)


def cache_file() -> Path:
    """Where the rate of this host is kept, in these versions of Python and NumPy."""
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    folder = Path(home) if home else Path.home() / ".cache"
    version = f"py{sys.version_info[0]}.{sys.version_info[1]}-numpy{np.__version__}"
    host = f"{socket.gethostname()}-{platform.machine()}-{os.cpu_count()}"
    return folder / "handout_dask" / f"speed-{host}-{version}.json"


def rate_of_host(path: Path, measure: Callable[[], float]) -> float | None:
    """The rate that the file has, or that is measured now and put there.

    Of several processes that ask at once one measures; None comes back to the others,
    who find it in the file later.
    """
    known = read_rate(path)
    if known is not None:
        return known
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_suffix(".lock")
    with suppress(FileNotFoundError):
        if time() - lock.stat().st_mtime > ABANDONED:
            lock.unlink()
    try:
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return None
    try:
        rate = measure()
        made = path.with_suffix(f".{os.getpid()}")
        made.write_text(json.dumps({"rate": rate}))
        made.replace(path)
    finally:
        lock.unlink(missing_ok=True)
    return rate


def read_rate(path: Path) -> float | None:
    """The rate in a file; None if there is none that makes sense."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        rate = float(json.loads(path.read_text())["rate"])
        if 0.0 < rate < float("inf"):
            return rate
    return None


def measure() -> float:
    """Computes for about 50 ms; how often a second this host does both kernels.

    Half of it is Python, half NumPy, as far as one thread of this process got the CPU:
    what else the host does counts little.
    """
    data = np.random.default_rng(0).random(LENGTH)
    spent = 1.0
    for kernel in (_python, lambda: _numpy(data)):
        kernel()  # the first time is longer
        spent *= min(_timed(kernel) for _ in range(REPEATS))
    return spent**-0.5


def _timed(kernel: Callable[[], Any]) -> float:
    begin = thread_time()
    kernel()
    return max(thread_time() - begin, 1e-6)


def _python() -> int:
    total = 0
    for k in range(LOOPS):
        total += k % 7
    return total


def _numpy(data: np.ndarray) -> float:
    return float(np.sqrt(np.sort(data)).sum())

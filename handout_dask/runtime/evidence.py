"""Evidence: what the system tells of memory, of its kills for want of it, of disks.

Knows no Dask and no functions. None, or nothing, is what a system does not tell.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress

MB = 1e6
FULL = 1.0  # MB that are free at most where a disk is called full
OWN = (b"RssAnon:", b"RssShmem:", b"VmSwap:")
FAIR = (b"Pss_Anon:", b"Pss_Shmem:", b"SwapPss:")
CGROUPS = "/sys/fs/cgroup"


def held_bytes(pid: int | str = "self") -> int | None:
    """What a process holds, without what it has of files, which the kernel can drop."""
    text = _read(f"/proc/{pid}/status")
    found = _sum(text, OWN)
    return found if found is not None else _sum(text, (b"VmRSS:",))


def fair_bytes(pid: int | str = "self") -> int | None:
    """The same, with its share of what it has together with other processes.

    By the proportional set size (M. Mackall, Linux 2.6.25). Takes the kernel a
    millisecond for each few hundred megabytes.
    """
    return _sum(_read(f"/proc/{pid}/smaps_rollup"), FAIR)


def kills() -> tuple[int, ...]:
    """How often the kernel has killed for want of memory: in our groups, and at all."""
    places = [("/proc/vmstat", b"oom_kill ")]
    for group in _groups():
        places += [
            (f"{group}/memory.events", b"oom_kill "),
            (f"{group}/memory.oom_control", b"oom_kill "),
        ]
    return tuple(_number(_read(path), name) or 0 for path, name in places)


def allowed_mb() -> float | None:
    """The memory that this process and those beside it may take, by the kernel."""
    found = [
        _number(_read(f"{group}/{name}"), b"")
        for group in _groups()
        for name in ("memory.max", "memory.limit_in_bytes")
    ]
    total = _sum(_read("/proc/meminfo"), (b"MemTotal:",))
    most = [x for x in (*found, total) if x is not None]
    return min(most) / MB if most else None


def full_disks(paths: Iterable[str]) -> list[tuple[str, float]]:
    """Those of these places that have no room: with the size of their disk [MB]."""
    out = {}
    for path in paths:
        with suppress(OSError, ValueError, TypeError):
            place = path
            while not os.path.exists(place) and os.path.dirname(place) != place:
                place = os.path.dirname(place)
            usage = shutil.disk_usage(place)
            if usage.total and usage.free < FULL * MB:
                out[path] = usage.total / MB
    return [*out.items()]


def _groups() -> list[str]:
    """Folders of the control groups that this process is in, as far as seen here."""
    out = []
    for line in _read("/proc/self/cgroup").decode().splitlines():
        _, names, path = line.split(":", 2)
        if not names:
            roots = [CGROUPS, f"{CGROUPS}/unified"]
        elif "memory" in names.split(","):
            roots = [f"{CGROUPS}/memory"]
        else:
            continue
        for root in roots:
            inside = root + path.rstrip("/")  # not seen so in some containers
            out.append(inside if os.path.isdir(inside) else root)
    return out


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _sum(text: bytes, names: Iterable[bytes]) -> int | None:
    """The sum of what stands behind these names, in bytes; None if none is there."""
    found = [_number(text, name) for name in names]
    known = [x for x in found if x is not None]
    return sum(known) * 1024 if known else None


def _number(text: bytes, name: bytes) -> int | None:
    for line in text.splitlines():
        if line.startswith(name):
            with suppress(ValueError, IndexError):
                return int(line[len(name) :].split()[0])
    return None

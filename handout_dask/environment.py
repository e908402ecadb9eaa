"""Environment: with which versions something was made. Knows only this process."""

from __future__ import annotations

import platform
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("handout_dask", "dask", "distributed", "numpy", "numba", "bokeh", "cupy")


def environment(now: datetime) -> dict[str, str]:
    """When, where and with which versions: names and values, in order.

    Parameters
    ----------
    now : datetime
        With a time zone.
    """
    return {"written": now.isoformat(timespec="seconds"), **_here()}


@cache
def _here() -> dict[str, str]:
    found = {
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
    }
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

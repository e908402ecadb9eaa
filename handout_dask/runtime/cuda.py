"""CUDA: what NVML tells of the device that this process would use; None without one.

NVML's Python package is imported late, and whatever it raises means: no device.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU.

    Attributes
    ----------
    uuid, name : str
        As NVML has them.
    memory : float
        In all [MB].
    """

    uuid: str
    name: str
    memory: float


def first_device() -> Device | None:
    """The first device that CUDA would use here."""
    with suppress(Exception):  # no package, no driver, no device, no permission
        import pynvml

        pynvml.nvmlInit()
        handle = _handle(pynvml, os.environ.get(VISIBLE))
        if handle is not None:
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle).total / 1e6
            uuid = _text(pynvml.nvmlDeviceGetUUID(handle))
            return Device(uuid, _text(pynvml.nvmlDeviceGetName(handle)), memory)
    return None


def usage(device: Device) -> dict[str, float]:
    """What is used of a device: ``gpus`` (the part of time that it is busy), and
    ``gpu_memory`` [MB]; by all processes. Without what NVML doesn't tell.
    """
    out: dict[str, float] = {}
    with suppress(Exception):
        import pynvml

        handle = pynvml.nvmlDeviceGetHandleByUUID(device.uuid)
        out["gpu_memory"] = pynvml.nvmlDeviceGetMemoryInfo(handle).used / 1e6
        out["gpus"] = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
    return out


def _handle(nvml: Any, visible: str | None) -> Any:
    """NVML's handle of the first device that is visible, which may be none."""
    first = "0" if visible is None else visible.split(",")[0].strip()
    if first.isdecimal():
        count = nvml.nvmlDeviceGetCount()
        return nvml.nvmlDeviceGetHandleByIndex(int(first)) if count else None
    if first.startswith(("GPU-", "MIG-")):
        return nvml.nvmlDeviceGetHandleByUUID(first)
    return None  # such as "" or "-1": CUDA sees none


def _text(value: Any) -> str:
    """Older versions give bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)

"""CUDA: which devices this process may use, and which each node of this host shall.

NVML tells, or CuPy where its package is missing. Both are imported late, and whatever
they raise means: no device.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any
from uuid import UUID

from handout_dask.costs import CUDA
from handout_dask.errors import HandoutError
from handout_dask.node import TOLERANCE, Node
from handout_dask.runtime.nodes import parted

VISIBLE = "CUDA_VISIBLE_DEVICES"
POOL = "CUPY_GPU_MEMORY_LIMIT"  # CuPy's own: what its pool may take of a device


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
    return next(iter(visible_devices(1)), None)


def visible_devices(most: int | None = None) -> list[Device]:
    """The devices that CUDA would use here, in its order; at most so many."""
    try:
        import pynvml
    except ImportError:
        return _told_by_cupy()[:most]
    found: list[Device] = []
    with suppress(Exception):  # no driver, no device, no permission; what follows one
        pynvml.nvmlInit()
        for handle in _handles(pynvml, os.environ.get(VISIBLE), most):
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle).total / 1e6
            uuid = _text(pynvml.nvmlDeviceGetUUID(handle))
            name = _text(pynvml.nvmlDeviceGetName(handle))
            found.append(Device(uuid, name, memory))
    return found


def environments(nodes: Sequence[Node]) -> dict[str, dict[str, str]]:
    """Which device the processes of nodes on this host shall see, one each.

    Parameters
    ----------
    nodes : sequence of Node
        Those with CUDA take the devices in turn; the others shall see none.

    Returns
    -------
    dict of dict
        By name what its environment shall have; nothing where there is no device, or no
        node with CUDA. Where several share a device, CuPy is held to the part of each:
        what it declares as ``gpu_memory``, or an equal part of the rest.

    Raises
    ------
    HandoutError
        If they declare more memory than their device has.
    """
    served = [node for node in nodes if node.has(CUDA)]
    devices = visible_devices() if served else []
    if not devices:
        return {}
    out = {node.name: {VISIBLE: ""} for node in nodes}
    for k, device in enumerate(devices):
        sharing = served[k :: len(devices)]
        declared = sum(node.capacity("gpu_memory") for node in sharing)
        if declared > device.memory * (1 + TOLERANCE):
            names = ", ".join(repr(node.name) for node in sharing)
            raise HandoutError(
                f"nodes {names} would use one {device.name} of {device.memory:.0f} MB, "
                f"but declare gpu_memory of {declared:.0f} MB in all; declare less"
            )
        for name, memory in parted(sharing, device.memory).items():
            out[name] = {VISIBLE: device.uuid}
            if len(sharing) > 1:
                out[name][POOL] = str(int(memory * 1e6))
    return out


def _told_by_cupy() -> list[Device]:
    found: list[Device] = []
    with suppress(Exception):
        from cupy.cuda import runtime

        for k in range(runtime.getDeviceCount()):
            about = runtime.getDeviceProperties(k)
            uuid = f"GPU-{UUID(bytes=bytes(about['uuid'])[:16])}"
            memory = about["totalGlobalMem"] / 1e6
            found.append(Device(uuid, _text(about["name"]), memory))
    return found


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


def _handles(nvml: Any, visible: str | None, most: int | None) -> Iterator[Any]:
    """NVML's handles of the devices that are visible."""
    count = nvml.nvmlDeviceGetCount()
    names = map(str, range(count)) if visible is None else visible.split(",")
    for name in islice((x.strip() for x in names), most):
        if name.isdecimal() and count:
            yield nvml.nvmlDeviceGetHandleByIndex(int(name))
        elif name.startswith(("GPU-", "MIG-")):
            yield nvml.nvmlDeviceGetHandleByUUID(name)
        else:
            return  # such as "" or "-1": CUDA sees none from there on


def _text(value: Any) -> str:
    """Older versions give bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)

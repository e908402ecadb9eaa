"""A stand-in for NVML's Python package: as many devices as STANDIN_DEVICES says.

There is no GPU here; see cupy.py beside this.
"""

import os
import types

TOTAL = int(os.environ.get("STANDIN_DEVICE", 1_000_000_000))
UUIDS = [f"GPU-stand-in-{k}" for k in range(int(os.environ.get("STANDIN_DEVICES", 1)))]


class NVMLError(Exception):
    pass


NVMLError_LibraryNotFound = NVMLError_DriverNotLoaded = NVMLError
NVMLError_Unknown = NVMLError_NotSupported = NVMLError


def nvmlInit():  # noqa: N802
    pass


def nvmlDeviceGetCount():  # noqa: N802
    return len(UUIDS)


def nvmlDeviceGetHandleByIndex(k):  # noqa: N802
    return UUIDS[k]


def nvmlDeviceGetHandleByUUID(uuid):  # noqa: N802
    uuid = uuid.decode() if isinstance(uuid, bytes) else uuid
    if uuid not in UUIDS:
        raise NVMLError(uuid)
    return uuid


def nvmlDeviceGetUUID(handle):  # noqa: N802
    return handle


def nvmlDeviceGetName(handle):  # noqa: N802
    return "Stand-in"


def nvmlDeviceGetMemoryInfo(handle):  # noqa: N802
    return types.SimpleNamespace(total=TOTAL, used=0)


def nvmlDeviceGetUtilizationRates(handle):  # noqa: N802
    return types.SimpleNamespace(gpu=0)


def nvmlSystemGetDriverVersion():  # noqa: N802
    return "stand-in"

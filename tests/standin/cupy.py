"""A stand-in for CuPy: there is no GPU here, only arrays in host memory.

Its pool, memory hooks, streams, events and errors have CuPy's manners (14.2), as far as
handout_dask has to do with them. The "device" has as many bytes as STANDIN_DEVICE says.
"""

import os
import threading
import time
import types
from itertools import count

import numpy as np

STAND_IN = True
TOTAL = int(os.environ.get("STANDIN_DEVICE", 1_000_000_000))
__version__ = "14.2.0+standin"

_local = threading.local()
_lock = threading.RLock()
_numbers = count(1)


# --------------------------------------------------------------------------- cuda
class MemoryHook:
    """Kept by thread, by name."""

    name = "MemoryHook"

    def __enter__(self):
        if self.name in _hooks():
            raise KeyError(f"memory hook {self.name} already exists")
        _hooks()[self.name] = self
        return self

    def __exit__(self, *_):
        del _hooks()[self.name]

    def malloc_preprocess(self, **about):
        pass

    def malloc_postprocess(self, **about):
        pass

    def free_preprocess(self, **about):
        pass

    def free_postprocess(self, **about):
        pass


def _hooks():
    if not hasattr(_local, "hooks"):
        _local.hooks = {}
    return _local.hooks


class OutOfMemoryError(MemoryError):
    """As cupy.cuda.memory.OutOfMemoryError."""

    def __init__(self, size, total, limit=0):
        super().__init__(f"Out of memory allocating {size:,} bytes ({total:,} so far)")
        self._about = size, total, limit

    def __reduce__(self):
        return type(self), self._about


OutOfMemoryError.__module__ = "cupy.cuda.memory"


class _Pool:
    def __init__(self):
        self.used, self.cached, self.trims = 0, {}, 0

    def malloc(self, size):
        """A block of the device, as a number; hooks are told."""
        size = -(-size // 512) * 512
        hooks = [*_hooks().values()]
        for hook in hooks:
            hook.malloc_preprocess(device_id=0, size=size, mem_size=size)
        block = None
        try:
            block = self._malloc(size)
        finally:
            for hook in hooks:
                about = {"device_id": 0, "size": size, "mem_size": size}
                about["mem_ptr"] = about["pmem_id"] = block[0] if block else 0
                hook.malloc_postprocess(**about)
        return block

    def _malloc(self, size):
        stream = get_current_stream().ptr
        with _lock:
            mine = self.cached.setdefault(stream, [])
            if size in mine:
                mine.remove(size)
            elif self.total_bytes() + size > TOTAL:
                self.free_all_blocks()
                if self.used + size > TOTAL:
                    raise OutOfMemoryError(size, self.used)
            self.used += size
        return next(_numbers), size, stream

    def free(self, block):
        number, size, stream = block
        with _lock:
            self.used -= size
            self.cached.setdefault(stream, []).append(size)
        for hook in _hooks().values():
            hook.free_postprocess(
                device_id=0, mem_size=size, mem_ptr=number, pmem_id=number
            )

    def free_all_blocks(self, stream=None):
        with _lock:
            self.cached.clear()
            self.trims += 1

    def used_bytes(self):
        return self.used

    def free_bytes(self):
        return sum(map(sum, self.cached.values()))

    def total_bytes(self):
        return self.used + self.free_bytes()


class Stream:
    """Work is done at once; counts how often it was waited for."""

    def __init__(self, null=False, non_blocking=False):
        self.ptr = 0 if null else next(_numbers)
        self.waits = 0

    def __enter__(self):
        if not hasattr(_local, "streams"):
            _local.streams = []
        _local.streams.append(self)
        return self

    def __exit__(self, *_):
        _local.streams.pop()

    def synchronize(self):
        self.waits += 1


def get_current_stream():
    found = getattr(_local, "streams", None)
    return found[-1] if found else Stream.null


Stream.null = Stream(null=True)


class Event:
    def record(self, stream=None):
        self.at = time.perf_counter()

    def synchronize(self):
        pass


class CUDARuntimeError(RuntimeError):
    def __init__(self, status):
        super().__init__(f"cudaError {status}")
        self.status = status


def _device_count():
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        raise CUDARuntimeError(100)  # cudaErrorNoDevice
    return 1


_pool = _Pool()
cuda = types.SimpleNamespace(
    Stream=Stream,
    Event=Event,
    get_current_stream=get_current_stream,
    get_elapsed_time=lambda begin, end: (end.at - begin.at) * 1e3,
    memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    memory_hook=types.SimpleNamespace(MemoryHook=MemoryHook),
    runtime=types.SimpleNamespace(
        getDeviceCount=_device_count,
        memGetInfo=lambda: (TOTAL - _pool.total_bytes(), TOTAL),
        CUDARuntimeError=CUDARuntimeError,
    ),
)


def get_default_memory_pool():
    return _pool


# ------------------------------------------------------------------------- arrays
class ndarray:  # noqa: N801
    """An array on the device that there is not."""

    def __init__(self, values, block=None):
        self._block = block or _pool.malloc(values.nbytes)
        self._values = values
        self.data = types.SimpleNamespace(ptr=self._block[0])

    def __del__(self):
        if hasattr(self, "_block"):
            _pool.free(self._block)

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def get(self, order="C"):
        return self._values.copy(order=order)

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self._values, name)
        return _on_device(found) if callable(found) else found

    def __len__(self):
        return len(self._values)

    def __float__(self):
        return float(self._values)


def _plain(value):
    if isinstance(value, ndarray):
        return value._values
    return [*map(_plain, value)] if isinstance(value, list) else value


def _on_device(function):
    """NumPy's function, for arrays on the device."""

    def call(*args, **kwargs):
        kwargs = {name: _plain(value) for name, value in kwargs.items()}
        made = function(*map(_plain, args), **kwargs)
        return (
            ndarray(np.asarray(made))
            if isinstance(made, np.ndarray | np.generic)
            else made
        )

    return call


def _operator(name):
    def call(self, *args):
        return _on_device(getattr(self._values, name))(*args)

    return call


for _name in (
    "add",
    "radd",
    "sub",
    "rsub",
    "mul",
    "rmul",
    "truediv",
    "matmul",
    "neg",
    "pow",
):
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))
ndarray.__getitem__ = _operator("__getitem__")


def asarray(value, dtype=None):
    if isinstance(value, ndarray):
        return value
    return ndarray(np.array(value, dtype=dtype))


array = asarray


def asnumpy(value):
    return value.get() if isinstance(value, ndarray) else np.asarray(value)


def zeros(shape, dtype=float):
    block = _pool.malloc(int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return ndarray(np.zeros(shape, dtype), block)


ones = empty = zeros  # what is in them matters to no test


class _Module:
    def __init__(self, module):
        self._module = module

    def __getattr__(self, name):
        return _on_device(getattr(self._module, name))


fft, linalg = _Module(np.fft), _Module(np.linalg)
float32, float64 = np.float32, np.float64


def __getattr__(name):
    if name.startswith("_"):
        raise AttributeError(name)
    return _on_device(getattr(np, name))

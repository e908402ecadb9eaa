"""Arrays: how arrays leave a GPU, and come back to one. Needs neither CuPy nor Dask.

An array on a device leaves its process as a NumPy array, whatever it is part of. It
goes to a device again where functions are given one; elsewhere, as in a driver, it is
left as it is, even where Dask loads CuPy to look at the type of a result (2026.8.0).
"""

from __future__ import annotations

import copyreg
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

KEPT = 1e9  # bytes of copies that are kept for who needs the same array next

_local = threading.local()
_lock = threading.RLock()  # finalizers may run within
_copies: OrderedDict[int, tuple[Any, Any]] = OrderedDict()  # id: (weak array, copy)
_served: list[Any] = []  # CuPy, once functions have been given a device here
_noted: dict[int, Any] = {}  # weak, by id: arrays that found no device here
_counts = {"out": 0, "out_bytes": 0, "in": 0, "in_bytes": 0}


class _LeftToPickleError(NotImplementedError, TypeError):
    """What makes Dask take pickle: its serializers heed the one, its pickler the other
    (2026.8.0).
    """


def install(cupy: Any) -> None:
    """Let arrays of this CuPy travel, and come to the device from now on.

    Dask's own way needs CuPy, numba and a device at both ends (2026.8.0).
    """
    copyreg.pickle(cupy.ndarray, _reduce)
    _served[:] = [cupy]
    if "distributed" not in sys.modules:
        return
    from distributed.protocol import dask_serialize

    with suppress(Exception):  # let Dask register its own first, or it does so later
        dask_serialize.dispatch(cupy.ndarray)

    def leave(array: Any) -> Any:
        raise _LeftToPickleError

    dask_serialize.register(cupy.ndarray, leave)


def _reduce(array: Any) -> Any:
    if getattr(_local, "unmoved", False):
        return arrived, (None,)
    return arrived, (host(array),)


@contextmanager
def unmoved() -> Iterator[None]:
    """Within, pickling copies no array: it is to find out whether it can be done."""
    _local.unmoved = True
    try:
        yield
    finally:
        _local.unmoved = False


def arrived(array: Any) -> Any:
    """An array that came from a device: on the device that there is here, or as is.

    Where there is none it is noted, for a function that may yet be given one.
    """
    if array is None:
        return array
    made = _moved(array) if _served else array
    if made is array:
        _note(array)
    return made


def _note(array: Any) -> None:
    number = id(array)
    with _lock:
        _noted[number] = weakref.ref(array, lambda _: _noted.pop(number, None))


def parked(value: Any) -> Any:
    """A value with its arrays on the host, until functions with a GPU read it."""
    kind = getattr(sys.modules.get("cupy"), "ndarray", None)

    def park(x: Any) -> Any:
        if kind is None or not isinstance(x, kind):
            return x
        copy = host(x)
        _note(copy)
        return copy

    return _changed(value, park)


def _moved(array: Any) -> Any:
    """An array on the device; itself if there is none, or it is full."""
    (cupy,) = _served
    try:
        with _stream(cupy) as stream:
            made = cupy.asarray(array)
            stream.synchronize()
    except Exception:
        return array
    _count("in", array.nbytes)
    return made


def host(array: Any) -> Any:
    """The NumPy copy of an array; another one is not made while the last is kept."""
    with _lock:
        found = _copies.get(id(array))
        if found is not None and found[0]() is array:
            _copies.move_to_end(id(array))
            return found[1]
        copy = _copied(array)
        _count("out", copy.nbytes)
        if copy.nbytes <= KEPT:
            number = id(array)
            _copies[number] = weakref.ref(array, lambda _: _forget(number)), copy
            while sum(kept.nbytes for _, kept in _copies.values()) > KEPT:
                _copies.popitem(last=False)
        return copy


def _copied(array: Any) -> Any:
    with _stream(sys.modules["cupy"]):
        return array.get(order="A")


def _stream(cupy: Any) -> Any:
    """One for copies alone: on the common stream they would wait for all others."""
    stream = getattr(_local, "stream", None)
    if stream is None:
        stream = _local.stream = cupy.cuda.Stream()
    return stream


def _forget(number: int) -> None:
    with _lock:
        found = _copies.get(number)
        if found is not None and found[0]() is None:
            del _copies[number]


def to_host(value: Any) -> Any:
    """A value with NumPy arrays for those on a device, also in lists, tuples, dicts."""
    kind = getattr(sys.modules.get("cupy"), "ndarray", None)
    if kind is None:
        return value
    return _changed(value, lambda x: host(x) if isinstance(x, kind) else x)


def to_device(value: Any) -> Any:
    """A value with what came from a device, and found none here, on the device."""
    if not _noted or not _served:
        return value

    def moved(x: Any) -> Any:
        noted = _noted.get(id(x))
        return x if noted is None or noted() is not x else _moved(x)

    return _changed(value, moved)


def _changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """The value with all changed that it holds; itself if nothing is."""
    if type(value) in (list, tuple):
        made = [_changed(x, change) for x in value]
        same = all(x is y for x, y in zip(made, value, strict=True))
        return value if same else type(value)(made)
    if type(value) is dict:
        found = {k: _changed(x, change) for k, x in value.items()}
        return value if all(found[k] is x for k, x in value.items()) else found
    return change(value)


def device_bytes(value: Any) -> int:
    """The bytes of arrays on a device that a value is, or holds in plain containers."""
    kind = getattr(sys.modules.get("cupy"), "ndarray", None)
    found: list[int] = []
    if kind is not None:
        _changed(value, lambda x: found.append(x.nbytes) if isinstance(x, kind) else x)
    return sum(found)


def is_on_device(value: Any) -> bool:
    """Whether a value is itself an array of CuPy's."""
    kind = getattr(sys.modules.get("cupy"), "ndarray", None)
    return kind is not None and isinstance(value, kind)


def counts() -> dict[str, int]:
    """How many arrays left a device of this process, and came to it, with their bytes.

    Returns
    -------
    dict
        ``out``, ``out_bytes``, ``in``, ``in_bytes``. What functions copy themselves is
        not known here.
    """
    with _lock:
        return dict(_counts)


def _count(way: str, nbytes: int) -> None:
    with _lock:
        _counts[way] += 1
        _counts[f"{way}_bytes"] += nbytes

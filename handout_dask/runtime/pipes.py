"""Pipes: values between a worker and a process of its own. Imports no Dask.

Pickle's fifth protocol with its buffers beside it (A. Pitrou, PEP 574, 2018), so that
arrays are written from where they lie.
"""

from __future__ import annotations

import os
import pickle
import select
import struct
from collections.abc import Callable
from typing import Any

_SIZE = struct.Struct("!Q")


class ClosedError(Exception):
    """Nobody is at the other end."""


def dumps(value: Any) -> list[Any]:
    """A value as frames; what pickle can't take by reference goes by value."""
    return frames_of(value, _dumps)


def frames_of(value: Any, pickled: Callable[..., bytes]) -> list[Any]:
    """A value as frames, by a function like `pickle.dumps`."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickled(value, protocol=5, buffer_callback=buffers.append)
    return [head, *(buffer.raw() for buffer in buffers)]


def _dumps(value: Any, protocol: int, buffer_callback: Any) -> bytes:
    buffers: list[pickle.PickleBuffer] = []
    about: dict[str, Any] = {"protocol": protocol, "buffer_callback": buffers.append}
    try:
        head = pickle.dumps(value, **about)
        by_value = b"__main__" in head  # which is another module at the other end
    except Exception:
        by_value = True
    if by_value:
        import cloudpickle

        buffers.clear()
        head = cloudpickle.dumps(value, **about)
    for buffer in buffers:
        buffer_callback(buffer)
    return head


def loads(frames: list[Any]) -> Any:
    """The value that was made into frames."""
    return pickle.loads(frames[0], buffers=frames[1:])


def send(fd: int, frames: list[Any]) -> None:
    """Write frames."""
    sizes = [memoryview(frame).nbytes for frame in frames]
    head = b"".join(map(_SIZE.pack, (len(frames), *sizes)))
    try:
        _write(fd, head + frames[0])
        for frame in frames[1:]:
            _write(fd, frame)
    except OSError as error:
        raise ClosedError from error


def receive(fd: int) -> list[bytearray]:
    """Read frames; waits for them."""
    count = _number(fd)
    return [_read(fd, size) for size in [_number(fd) for _ in range(count)]]


def has_word(fd: int) -> bool:
    """Whether there is something to read."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return any(event & select.POLLIN for _, event in poll.poll(0))


def _number(fd: int) -> int:
    return int(_SIZE.unpack(_read(fd, _SIZE.size))[0])


def _write(fd: int, data: Any) -> None:
    left = memoryview(data).cast("B")
    while left:
        left = left[os.write(fd, left) :]


def _read(fd: int, size: int) -> bytearray:
    out = bytearray(size)
    left = memoryview(out)
    try:
        while left:
            count = os.readv(fd, [left]) if hasattr(os, "readv") else _fill(fd, left)
            if not count:
                raise ClosedError
            left = left[count:]
    except OSError as error:
        raise ClosedError from error
    return out


def _fill(fd: int, left: memoryview) -> int:
    data = os.read(fd, len(left))
    left[: len(data)] = data
    return len(data)

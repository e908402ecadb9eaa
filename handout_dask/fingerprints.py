"""Fingerprints: whether functions are the same, with all that they depend on. Pure.

One is made of a function's code, its literals and what it reads, and of those of its
producers; so a change reaches all that depends on it.
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Sequence
from typing import Any

from handout_dask.graph import Links

LENGTH = 32  # hexadecimal digits


def content(function: Any, code: Sequence[bytes], literals: bytes | None) -> str:
    """Of what a function is by itself.

    Parameters
    ----------
    function : Function
        Whose id and inputs count.
    code : sequence of bytes
        Its code, pickled; of each variant.
    literals : bytes or None
        Its extra_args and kwargs, pickled.
    """
    inputs = [(repr(id), repr(at)) for id, at in function.inputs]
    return _hash(repr(function.id), inputs, *code, literals or b"")


def of_code(code: Any) -> str:
    """Of what a callable does, as far as Python's own functions tell.

    Looks into partial objects, methods, closures and what decorators wrap, not into the
    functions that it calls.
    """
    return _hash(*_walk(code, set()))


def _walk(code: Any, seen: set[int]) -> list[Any]:
    if id(code) in seen:
        return []
    seen.add(id(code))
    if isinstance(code, functools.partial):
        return ["partial", *_walk(code.func, seen)]
    if isinstance(code, types.MethodType):
        return ["method", *_walk(code.__func__, seen)]
    if isinstance(code, types.FunctionType):
        out = ["function", *_constants(code.__code__)]
        out += _walk(getattr(code, "__wrapped__", None), seen)
        for cell in code.__closure__ or ():
            try:
                inner = cell.cell_contents
            except ValueError:  # not set yet
                continue
            if callable(inner):
                out += _walk(inner, seen)
        return out
    if code is None:
        return []
    if isinstance(code, type):
        return ["class", code.__module__, code.__qualname__]
    call = vars(type(code)).get("__call__")
    if isinstance(call, types.FunctionType):
        return ["instance", type(code).__qualname__, *_walk(call, seen)]
    return ["other", getattr(code, "__module__", ""), getattr(code, "__qualname__", "")]


def _constants(code: types.CodeType) -> list[Any]:
    """What a code object does, without where it is written."""
    out: list[Any] = [code.co_code, code.co_names, code.co_varnames, code.co_freevars]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            out += _constants(constant)
        elif isinstance(constant, frozenset):  # in an order that chance decides
            out.append(sorted(map(repr, constant)))
        else:
            out.append((type(constant).__name__, repr(constant)))
    return out


def chained(links: Links, own: Sequence[str]) -> list[str]:
    """(n,) the fingerprint of each function, in topological order; all are different.

    Parameters
    ----------
    links : Links
        The edges.
    own : sequence of str
        What each function is by itself.
    """
    out: list[str] = []
    taken: set[str] = set()
    for i, mine in enumerate(own):
        read = [out[u] for u in links.producer[links.ptr[i] : links.ptr[i + 1]]]
        made, again = _hash(mine, *read), 0
        while made in taken:  # ids may have the same repr
            again += 1
            made = _hash(mine, *read, again)
        taken.add(made)
        out.append(made)
    return out


def _hash(*parts: Any) -> str:
    made = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode()
        made.update(b"%d:" % len(data))
        made.update(data)
    return made.hexdigest()[:LENGTH]

"""Fingerprints: whether functions are the same, with all that they depend on. Pure.

One is made of a function's code, its literals and what it reads, and of those of its
producers; so a change reaches all that depends on it.
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from handout_dask.graph import Links

LENGTH = 32  # hexadecimal digits
PLAIN = (
    type(None), bool, int, float, complex, str, bytes, tuple, list, set, frozenset,
    dict, type(...),
)  # fmt: skip
NOISE = {"__dict__", "__weakref__", "__module__", "__doc__", "__firstlineno__"}


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

    Looks into partial objects, methods, closures, defaults, classes and what decorators
    wrap; and into functions, classes and plain data of its own package that it names.
    What it takes from other packages counts by name, not by version.
    """
    package = str(getattr(code, "__module__", "") or "").partition(".")[0]
    return _hash(*_walk(code, package, set()))


def _walk(code: Any, package: str, seen: set[int]) -> list[Any]:
    if code is None or id(code) in seen:
        return []
    if type(code) in PLAIN or isinstance(code, np.ndarray):
        return [_plain(code)]
    seen.add(id(code))
    if isinstance(code, functools.partial):
        bound = [
            *code.args,
            *(x for item in sorted(code.keywords.items()) for x in item),
        ]
        return ["partial", *_all([code.func, *bound], package, seen)]
    if isinstance(code, types.MethodType):
        return ["method", *_all([code.__func__, code.__self__], package, seen)]
    if isinstance(code, types.FunctionType):
        return ["function", *_function(code, package, seen)]
    if isinstance(code, staticmethod | classmethod):
        return _walk(code.__func__, package, seen)
    if isinstance(code, property):
        return _all([code.fget, code.fset], package, seen)
    if isinstance(code, type):
        return [
            "class",
            code.__module__,
            code.__qualname__,
            *_class(code, package, seen),
        ]
    if isinstance(code, types.ModuleType):
        return ["module", code.__name__]
    where = [getattr(code, "__module__", ""), getattr(code, "__qualname__", "")]
    return ["other", *map(str, where), *_walk(type(code), package, seen)]


def _all(values: Iterable[Any], package: str, seen: set[int]) -> list[Any]:
    return [part for value in values for part in ("-", *_walk(value, package, seen))]


def _named(values: Mapping[str, Any], package: str, seen: set[int]) -> list[Any]:
    named = sorted((str(name), value) for name, value in values.items())
    return [x for name, value in named for x in (name, *_walk(value, package, seen))]


def _function(code: types.FunctionType, package: str, seen: set[int]) -> list[Any]:
    out = [
        *_constants(code.__code__),
        *_walk(vars(code).get("__wrapped__"), package, seen),
    ]
    out += _all(code.__defaults__ or (), package, seen)
    out += _named(code.__kwdefaults__ or {}, package, seen)
    if not _is_of(code, package):
        return out
    for cell in code.__closure__ or ():
        with suppress(ValueError):  # it is not set yet
            out += ["cell", *_walk(cell.cell_contents, package, seen)]
    names = sorted(_names(code.__code__))
    read = {name: code.__globals__[name] for name in names if name in code.__globals__}
    for name, value in list(read.items()):  # what is read of modules of the package
        if isinstance(value, types.ModuleType) and _is_of(value, package):
            inside = {f"{name}.{n}": vars(value)[n] for n in names if n in vars(value)}
            read.update(inside)
    return [*out, *_named(read, package, seen)]


def _class(code: type, package: str, seen: set[int]) -> list[Any]:
    if not _is_of(code, package):
        return []
    body = {n: x for n, x in vars(code).items() if n not in NOISE}
    return [*_named(body, package, seen), *_all(code.__bases__, package, seen)]


def _is_of(code: Any, package: str) -> bool:
    """Whether something is of a package, not of one that it uses."""
    module = getattr(code, "__module__", None) or getattr(code, "__name__", "")
    return str(module).partition(".")[0] == package


def _names(code: types.CodeType) -> set[str]:
    inner = (x for x in code.co_consts if isinstance(x, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _plain(value: Any) -> Any:
    """Data as text that is the same in all processes, or of another type's name."""
    if isinstance(value, np.ndarray):
        whole = value.tobytes() if not value.dtype.hasobject else b""
        return "array", str(value.dtype), value.shape, hashlib.sha256(whole).hexdigest()
    if isinstance(value, tuple | list):
        return type(value).__name__, [_plain(x) for x in value]
    if isinstance(value, set | frozenset):
        return type(value).__name__, sorted(repr(_plain(x)) for x in value)
    if isinstance(value, dict):
        return "dict", [(_plain(k), _plain(v)) for k, v in value.items()]
    if type(value) in PLAIN:
        return type(value).__name__, repr(value)
    named = getattr(value, "__qualname__", type(value).__qualname__)
    return "object", str(getattr(value, "__module__", "")), str(named)


def _constants(code: types.CodeType) -> list[Any]:
    """What a code object does, without where it is written."""
    out: list[Any] = [code.co_code, code.co_names, code.co_varnames, code.co_freevars]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            out += _constants(constant)
        else:
            out.append(_plain(constant))
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

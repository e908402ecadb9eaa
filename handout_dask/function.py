"""Function: one vertex of the graph, and what its arguments mean. Knows no graph."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from handout_dask.costs import NO_COST, Cost, parse_cost
from handout_dask.errors import GraphError
from handout_dask.pins import OnLost, parse_on_lost
from handout_dask.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class WithFunction:
    """A pin: on the node of another function. Made by :func:`with_function`."""

    id: Hashable


def with_function(id: Hashable) -> WithFunction:
    """A value for ``Function(node=...)``: run on the same node as function `id`."""
    return WithFunction(id)


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """One function of a graph: what it runs, what it reads, what it costs.

    Called as ``code(*results_of_args, *extra_args, **kwargs)``.

    Parameters
    ----------
    id : hashable
        Unique in its graph; usually a text.
    args : sequence
        Dependencies in positional order: each the id of a producer, or the 2-tuple
        ``(producer, index)`` for ``result[index]`` alone. A producer whose own id is a
        tuple is written ``(id, None)``.
    code : callable, optional
        What runs. None only where nothing is executed (planning a trace).
    extra_args, kwargs : sequence, mapping
        Literals that follow the results; never producers.
    cost : mapping, Cost or list of them, optional
        What it costs; of several alternatives the allocator picks one.
    node : str or WithFunction, optional
        Run on the node of this name, or on that of another function.
    name : str, optional
        What its durations are learned under; default: the code's qualified name.
    retry : RetryPolicy, optional
        How its failures are answered; default: the executor's.
    timeout : float, optional
        Seconds that one attempt may run, from when all that it reads is there until its
        result is pickled; then it fails with FunctionTimeoutError. For this it runs in
        a process of its own on its node, which is ended whatever it does; see
        `Executor(enforce_memory=)` for what that means. What a CUDA function reads and
        returns then goes through the host, which plans count. Default: the executor's.
    durable : bool
        Whether its result is also kept in the executor's journal, for `resume`.
    on_lost : {"elsewhere", "fail"} or wait(seconds), optional
        What it does, if it is bound to a node, when that is gone: run on another one,
        fail with NodeLostError at once, or when the node has not returned in time.
        Bound is what has `node` a node's name, or must share a node with a function
        that has, or that has run. Of functions that must share a node the strictest
        counts that one of them says. Default: the executor's.

    Attributes
    ----------
    results : object
        None until executed; a run hands back copies that bear it.

    Raises
    ------
    GraphError
        If a field is of a wrong kind; the error names the function.
    CostError
        If the cost makes no sense.

    Examples
    --------
    >>> f = Function("sum", ["a", ("b", 1)], lambda a, b: a + b, cost={"memory": 10})
    >>> f.inputs
    (('a', None), ('b', 1))
    """

    id: Hashable
    args: Sequence[Any] = ()
    code: Callable[..., Any] | None = None
    extra_args: Sequence[Any] = field(default=(), kw_only=True)
    kwargs: Mapping[str, Any] | None = field(default=None, kw_only=True)
    cost: Any = field(default=None, kw_only=True)
    node: str | WithFunction | None = field(default=None, kw_only=True)
    name: str = field(default="", kw_only=True)
    retry: RetryPolicy | None = field(default=None, kw_only=True)
    timeout: float | None = field(default=None, kw_only=True)
    durable: bool = field(default=False, kw_only=True)
    on_lost: OnLost | None = field(default=None, kw_only=True)
    results: Any = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        _require_hashable("function id", self.id)
        who = f"function {self.id!r}"
        for what in ("args", "extra_args"):
            value = getattr(self, what)
            if isinstance(value, str | bytes) or not isinstance(value, Sequence):
                raise GraphError(
                    f"{who}: {what} must be a list or tuple, not {value!r}; "
                    f"did you mean [{value!r}]?"
                )
            put(self, what, tuple(value))
        if self.code is not None and not callable(self.code):
            raise GraphError(f"{who}: code {self.code!r} is not callable")
        put(self, "kwargs", _parse_kwargs(who, self.kwargs))
        put(self, "cost", _parse_alternatives(who, self.cost))
        if self.node is not None and not isinstance(self.node, str | WithFunction):
            raise GraphError(
                f"{who}: node must be a node's name or with_function(id), "
                f"not {self.node!r}"
            )
        if isinstance(self.node, WithFunction):
            _require_hashable(f"{who}: with_function id", self.node.id)
        if self.retry is not None and not isinstance(self.retry, RetryPolicy):
            raise GraphError(f"{who}: retry must be a RetryPolicy, not {self.retry!r}")
        if not isinstance(self.durable, bool):
            raise GraphError(f"{who}: durable={self.durable!r} must be True or False")
        parse_timeout(who, self.timeout)
        parse_on_lost(who, self.on_lost)
        if not self.name:
            put(self, "name", _default_name(self.code))
        elif not isinstance(self.name, str):
            raise GraphError(f"{who}: name must be a text, not {self.name!r}")

    @property
    def inputs(self) -> tuple[tuple[Hashable, Any], ...]:
        """``(producer, index)`` for each argument; index None is the whole result."""
        return tuple(
            arg if isinstance(arg, tuple) and len(arg) == 2 else (arg, None)
            for arg in self.args
        )

    @property
    def alternatives(self) -> tuple[Cost, ...]:
        """The costs to choose from, at least one."""
        if isinstance(self.cost, Cost):
            return (self.cost,)
        return self.cost or (NO_COST,)

    def variant(self, index: int) -> Callable[..., Any] | None:
        """The code that runs when alternative `index` was chosen."""
        return self.alternatives[index].code or self.code


def parse_timeout(who: str, value: Any) -> float | None:
    """Seconds that something may take; None is without end.

    Raises
    ------
    GraphError
        If it is no finite number above 0; the error says whose it is.
    """
    if value is None:
        return None
    ok = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not ok or not 0 < value < math.inf:
        raise GraphError(
            f"{who}: timeout={value!r} must be a number of seconds above 0, or None"
        )
    return float(value)


def _require_hashable(what: str, id: Any) -> None:
    try:
        hash(id)
    except TypeError:
        raise GraphError(
            f"{what} {id!r} is not hashable; use a text, number or tuple"
        ) from None


def _parse_kwargs(who: str, kwargs: Any) -> Mapping[str, Any] | None:
    if kwargs is None:
        return None
    if not isinstance(kwargs, Mapping) or not all(isinstance(k, str) for k in kwargs):
        raise GraphError(f"{who}: kwargs must be a dict with text keys, not {kwargs!r}")
    return dict(kwargs)


def _parse_alternatives(who: str, cost: Any) -> Cost | tuple[Cost, ...] | None:
    if cost is None:
        return None
    if isinstance(cost, list | tuple):
        if not cost:
            raise GraphError(f"{who}: cost is an empty list of alternatives")
        return tuple(parse_cost(alternative, who) for alternative in cost)
    return parse_cost(cost, who)


def _default_name(code: Callable[..., Any] | None) -> str:
    if code is None:
        return "function"
    inner = getattr(code, "func", code)  # functools.partial
    name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    return name.rpartition("<locals>.")[2]

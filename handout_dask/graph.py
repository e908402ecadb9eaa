"""Graph: functions with unique ids, complete, without cycles, in topological order.

Knows neither nodes nor time; `to_dask` and the Dask collection protocol load Dask late.
"""

from __future__ import annotations

import uuid
from array import array
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from handout_dask.errors import (
    CycleError,
    DuplicateFunctionError,
    GraphError,
    MissingProducerError,
)
from handout_dask.function import Function, WithFunction
from handout_dask.shown import Shown


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """The edges of a valid graph, with functions numbered in topological order.

    Attributes
    ----------
    functions : tuple of Function
        In topological order; ``i`` indexes it.
    position : array of int
        ``position[i]`` is the place of function i in the order of insertion.
    ptr, producer : array of int
        Argument number a of function i, ``ptr[i] <= a < ptr[i + 1]``, reads
        ``producer[a]``.
    index : list
        Which element each argument reads; None is the whole result.
    """

    functions: tuple[Function, ...]
    position: array[int]
    ptr: array[int]
    producer: array[int]
    index: list[Any]


class Graph(Shown):
    """A directed acyclic graph of functions; also a Dask collection.

    Parameters
    ----------
    functions : iterable of Function
        Validated together; functions may come in any order.
    name : str, optional
        Shown in reports and plans.

    Raises
    ------
    GraphError
        DuplicateFunctionError, MissingProducerError or CycleError, naming the
        functions.

    Examples
    --------
    >>> g = Graph([Function("b", ["a"], abs), Function("a", [], int)])
    >>> g.order()
    ('a', 'b')
    >>> g["b"].inputs
    (('a', None),)
    """

    def __init__(
        self, functions: Iterable[Function] = (), name: str | None = None
    ) -> None:
        self.name = name
        self._functions: dict[Hashable, Function] = {}
        self._links: Links | None = None
        self._lowered: Any = None  # the Dask graph; made and read by runtime.lower
        self.token = _new_token()
        for function in functions:
            self.add(function)
        self.validate()

    def add(self, function: Function) -> Graph:
        """Add a function; its producers may follow later. Returns the graph.

        Raises
        ------
        DuplicateFunctionError
            If the id is taken. Note that 1, 1.0 and True are equal.
        """
        if not isinstance(function, Function):
            raise GraphError(
                f"a graph holds Function objects, not {type(function).__name__}: "
                f"{function!r}"
            )
        known = self._functions.get(function.id)
        if known is not None:
            raise DuplicateFunctionError(
                f"function id {function.id!r} is in the graph already"
                + (f" (as {known.id!r})" if repr(known.id) != repr(function.id) else "")
                + "; give each function an id of its own"
            )
        self._functions[function.id] = function
        self._links = self._lowered = None
        self.token = _new_token()
        return self

    def validate(self) -> Graph:
        """Check that every producer exists and nothing is circular; returns itself."""
        self.links()
        return self

    def order(self) -> tuple[Hashable, ...]:
        """Ids in topological order; the order of insertion where the edges allow."""
        return tuple(f.id for f in self.links().functions)

    def __getitem__(self, id: Hashable) -> Function:
        try:
            return self._functions[id]
        except KeyError:
            raise KeyError(f"no function {id!r} in {self!r}") from None

    def __contains__(self, id: object) -> bool:
        return id in self._functions

    def __iter__(self) -> Iterator[Function]:
        return iter(self._functions.values())

    def __len__(self) -> int:
        return len(self._functions)

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return f"<Graph{name} of {len(self)} functions>"

    def links(self) -> Links:
        """The edges in arrays; computed once, after each change."""
        if self._links is None:
            self._links = _link(self._functions)
        return self._links

    def to_dask(self, resources: Iterable[str] | None = None) -> Any:
        """A Dask HighLevelGraph that any Dask scheduler can run.

        Parameters
        ----------
        resources : iterable of str, optional
            Demands that shall be Dask worker resources, enforced by Dask's workers. By
            default those that the workers of the current Dask client declare: a
            resource that no worker declares would make plain Dask wait for ever.

        Returns
        -------
        dask.highlevelgraph.HighLevelGraph
            Layers annotated with ``handout`` (the cost), ``resources``, ``retries``.
        """
        from handout_dask.runtime.lower import lowered

        return lowered(self, resources).layers

    def compute(self, **kwargs: Any) -> Any:
        """Run on Dask as any collection does: ``{id: result}``."""
        import dask

        return dask.compute(self, **kwargs)[0]

    def persist(self, **kwargs: Any) -> Any:
        """Run on Dask and keep the results there: a graph whose results are at hand."""
        import dask

        return dask.persist(self, **kwargs)[0]

    def visualize(
        self, filename: Any = None, *, engine: str = "svg", **kwargs: Any
    ) -> Any:
        """Draw the graph: from left to right, each function right of what it reads.

        Parameters
        ----------
        filename : path, optional
            A file to write it to as well: ``.svg``; ``.html``, which one can zoom, and
            which needs no network; or ``.png``, for which a program is needed that
            makes one.
        engine : {"svg", "graphviz", "cytoscape"}
            Who draws: this package, or Dask, which needs more packages and then takes
            other arguments besides.

        Returns
        -------
        Drawing
            Shows itself in a notebook; ``.svg`` is its text. From Dask what its
            ``visualize`` returns.

        Raises
        ------
        HandoutError
            If it can't be drawn so; the error says what is missing.
        """
        if engine != "svg":
            import dask

            return dask.visualize(
                self, filename=filename or "graph", engine=engine, **kwargs
            )
        from handout_dask.dashboard.drawing import draw

        return draw(self, filename, **kwargs)

    # The protocol of Dask collections: dask.compute(graph) gives {id: result}.
    def __dask_graph__(self) -> Any:
        return self.to_dask()

    def __dask_keys__(self) -> list[Any]:
        from handout_dask.runtime.lower import lowered

        return list(lowered(self).keys)

    def __dask_postcompute__(self) -> tuple[Any, tuple[Any, ...]]:
        return _collect, (self.order(),)

    def __dask_postpersist__(self) -> tuple[Any, tuple[Any, ...]]:
        from handout_dask.runtime.lower import persisted

        return persisted, (self,)

    def __dask_tokenize__(self) -> str:
        return self.token

    __dask_optimize__ = None  # nothing to optimise: annotations stay as they are

    @property
    def __dask_scheduler__(self) -> Any:
        from dask.threaded import get  # the same one as other collections have

        return get


def _collect(values: Any, ids: tuple[Hashable, ...]) -> dict[Hashable, Any]:
    return dict(zip(ids, values, strict=True))


def _new_token() -> str:
    # The leading digit makes Dask see a token behind "name-", never part of the name.
    return f"0{uuid.uuid4().hex[:15]}"


def _link(functions: dict[Hashable, Function]) -> Links:
    """Number the functions in topological order (Kahn, first in first out)."""
    where = {id: k for k, id in enumerate(functions)}
    listed = list(functions.values())
    reads: list[list[int]] = []
    readers: list[list[int]] = [[] for _ in listed]
    missing = array("q", bytes(8 * len(listed)))
    for k, function in enumerate(listed):
        producers = [_find(where, function, id) for id, _ in function.inputs]
        reads.append(producers)
        for u in set(producers):
            readers[u].append(k)
            missing[k] += 1
        if isinstance(function.node, WithFunction) and function.node.id not in where:
            raise MissingProducerError(
                f"function {function.id!r} shall run with function "
                f"{function.node.id!r}, which the graph does not have"
            )
    ready = deque(k for k, count in enumerate(missing) if not count)
    order: list[int] = []
    while ready:
        u = ready.popleft()
        order.append(u)
        for v in readers[u]:
            missing[v] -= 1
            if not missing[v]:
                ready.append(v)
    if len(order) < len(listed):
        _raise_cycle(listed, reads, missing)
    rank = array("q", bytes(8 * len(listed)))
    for i, k in enumerate(order):
        rank[k] = i
    ptr, producer = array("q", [0]), array("q")
    index: list[Any] = []
    for k in order:
        producer.extend(rank[u] for u in reads[k])
        index.extend(at for _, at in listed[k].inputs)
        ptr.append(len(producer))
    ordered = tuple(listed[k] for k in order)
    return Links(ordered, array("q", order), ptr, producer, index)


def _find(where: dict[Hashable, int], function: Function, producer: Hashable) -> int:
    try:
        return where[producer]
    except TypeError:
        raise GraphError(
            f"function {function.id!r} reads {producer!r}, which can't be an id: it is "
            f"not hashable. Literals go into extra_args or kwargs"
        ) from None
    except KeyError:
        pass
    hint = "add it, or give literals as extra_args"
    for arg in function.args:
        # By ==, for an index in the tuple may not be hashable.
        if isinstance(arg, tuple) and arg[0] is producer and arg in list(where):
            hint = f"write ({arg!r}, None) for the function whose id is that tuple"
    for other in where:
        if repr(other) == repr(producer) or str(other) == str(producer):
            hint = f"the graph has {other!r} of type {type(other).__name__}"
    raise MissingProducerError(
        f"function {function.id!r} reads the result of {producer!r}, which the graph "
        f"does not have; {hint}"
    )


def _raise_cycle(
    functions: list[Function], reads: list[list[int]], missing: array[int]
) -> None:
    """Walk backwards among the functions that never became ready until one repeats."""
    k = next(k for k, count in enumerate(missing) if count)
    seen: dict[int, int] = {}
    path: list[int] = []
    while k not in seen:
        seen[k] = len(path)
        path.append(k)
        k = next(u for u in reads[k] if missing[u])
    ids = tuple(functions[u].id for u in reversed(path[seen[k] :]))
    text = " -> ".join(repr(id) for id in (*ids, ids[0]))
    raise CycleError(
        f"the functions depend on each other in a circle: {text}; "
        "remove one of these dependencies",
        ids,
    )

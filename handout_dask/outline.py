"""Outline: all that planning knows of a graph, as arrays and text. Knows no nodes.

Free of the user's objects once it is pickled, so that a scheduler that lacks the user's
modules can plan: ids are labels, code is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from handout_dask.costs import CUDA, Cost, parse_cost
from handout_dask.edges import measure_edges, share_edges
from handout_dask.function import Function, WithFunction
from handout_dask.graph import Graph, Links
from handout_dask.standins import StandIns

__all__ = ["Outline", "StandIns"]

DEFAULT_TIME = 1000.0  # ms, where no function of the graph declares a time
POINTERS = ("option_ptr", "pred_ptr")
ARRAYS = (
    "option_work", "option_class", "option_guessed", "pred_of", "pred_mb", "group",
    "name", "position", "output_mb",
)  # fmt: skip
TEXTS = ("title", "labels", "names", "pins")


class Outline:
    """The graph side of a Problem; made by `Outline.of`, or `of_tasks`.

    Attributes
    ----------
    n : int
        Functions, in topological order; ``i`` indexes them.
    title : str or None
        The graph's name.
    labels : tuple of str
        The ids as text, each different: what is a text, and the repr of what is not.
    names, name : tuple of str, (n,) int
        Function names, once each; and the number of each function's.
    position : (n,) int
        The place of each function in the order in which they were added.
    option_ptr, option_work, option_class : (n + 1,) int, (o,) float [s], (o,) int
        The cost alternatives of i, with their seconds at speed 1.
    option_guessed : (o,) bool
        Where the time is a guess: the median of those declared, or 1 s.
    classes : tuple of Cost
        One cost of each class, of which demand and capabilities count.
    pred_ptr, pred_of, pred_mb : (n + 1,) int, (e,) int, (e,) float [MB]
        What each function reads of which others, as in Problem.
    output_mb : (n,) float [MB]
        The declared size of each result; nan is unknown.
    pins : dict of int to str
        The name of the node that a function is pinned to itself.
    group : (n,) int
        Functions of one group must share a node; -1 is none.
    functions : sequence of Function
        The graph's own; of an unpickled outline stand-ins that bear labels as ids.
    declared : Outline or None
        With the demands that were declared, where these are others.
    """

    declared: Outline | None = None
    _links: Links | None = None

    n: int
    title: str | None
    option_ptr: np.ndarray
    option_work: np.ndarray
    option_class: np.ndarray
    option_guessed: np.ndarray
    classes: tuple[Cost, ...]
    pred_ptr: np.ndarray
    pred_of: np.ndarray
    pred_mb: np.ndarray
    position: np.ndarray
    pins: dict[int, str]
    group: np.ndarray
    functions: tuple[Function, ...] | StandIns

    @classmethod
    def of(cls, graph: Graph) -> Outline:
        """The outline of a graph."""
        links = graph.links()
        out = cls()
        out._links = links
        out.title = graph.name
        out.functions = links.functions
        out.n = len(links.functions)
        out.position = np.array(links.position, dtype=np.int64)
        out._number_options(function.alternatives for function in links.functions)
        out.pred_ptr, out.pred_of, out.pred_mb = measure_edges(links)
        out._bind()
        return out

    @classmethod
    def of_tasks(
        cls,
        labels: Sequence[str],
        names: Sequence[str],
        costs: Sequence[Cost],
        preds: Sequence[Iterable[int]],
        pins: Mapping[int, str] | None = None,
        guess: float = DEFAULT_TIME,
    ) -> Outline:
        """The outline of n tasks that are no Functions, in topological order.

        Parameters
        ----------
        labels, names : sequence of n str
            What each is, and what its duration is learned under.
        costs : sequence of n Cost
            One of each.
        preds : sequence of n iterables of int
            Whose results each reads, whole.
        pins : mapping of int to str, optional
            The names of the nodes to which some are bound.
        guess : float
            What tasks are taken to need [ms] if none has a time.
        """
        out = cls()
        out.title, out.n = None, len(labels)
        out.labels = _distinct(labels)
        out.position = np.arange(out.n, dtype=np.int64)
        out._number_options(((cost,) for cost in costs), guess)
        numbers: dict[str, int] = {}
        out.name = np.array([numbers.setdefault(x, len(numbers)) for x in names], int)
        out.names = tuple(numbers)
        out.output_mb = np.array([_megabytes(cost) for cost in costs], dtype=float)
        listed = [sorted(set(us)) for us in preds]
        out.pred_ptr = np.cumsum([0, *map(len, listed)])
        out.pred_of = np.array([u for us in listed for u in us], dtype=np.int64)
        out.pred_mb = np.nan_to_num(out.output_mb)[out.pred_of]
        out.pins = dict(pins or {})
        out.group = np.full(out.n, -1, dtype=np.int64)
        out.functions = StandIns(out)
        return out

    # ---------------------------------------------------------------- building
    def _number_options(
        self, alternatives: Iterable[Sequence[Cost]], guess: float = DEFAULT_TIME
    ) -> None:
        ptr: list[int] = [0]
        costs: list[Cost] = []
        for several in alternatives:
            costs.extend(several)
            ptr.append(len(costs))
        self.option_ptr = np.array(ptr, dtype=np.int64)
        numbers: dict[Any, int] = {}
        seen: dict[int, int] = {}  # id of a cost -> class: equal costs are often one
        classes: list[Cost] = []
        number = np.empty(len(costs), dtype=np.int64)
        declared = np.full(len(costs), np.nan)
        for o, cost in enumerate(costs):
            c = seen.get(id(cost))
            if c is None:
                c = numbers.setdefault(cost.key, len(classes))
                if c == len(classes):
                    classes.append(cost)
                seen[id(cost)] = c
            number[o] = c
            time = cost.gpu_time if cost.gpu_time is not None else cost.cpu_time
            if time is not None:
                declared[o] = time
        self.option_class = number
        self.classes = tuple(classes)
        self.option_guessed = np.isnan(declared)
        known = declared[~self.option_guessed]
        guess = float(np.median(known)) if len(known) else guess
        self.option_work = np.where(self.option_guessed, guess, declared) / 1e3

    def _bind(self) -> None:
        self.group = np.full(self.n, -1, dtype=np.int64)
        bound = [i for i, f in enumerate(self.functions) if f.node is not None]
        nodes = {i: self.functions[i].node for i in bound}
        self.pins = {i: str(x) for i, x in nodes.items() if isinstance(x, str)}
        if len(self.pins) == len(bound):
            return
        where = {f.id: i for i, f in enumerate(self.functions)}
        root = list(range(self.n))

        def find(i: int) -> int:
            while root[i] != i:
                root[i] = root[root[i]]
                i = root[i]
            return i

        for i, node in nodes.items():
            if isinstance(node, WithFunction):
                root[find(i)] = find(where[node.id])
        members: dict[int, list[int]] = {}
        for i in range(self.n):
            members.setdefault(find(i), []).append(i)
        groups = 0
        for together in members.values():
            if len(together) > 1:
                self.group[together] = groups
                groups += 1

    # ----------------------------------------------------------------- reading
    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The ids as text, each different."""
        return _distinct(
            str.__str__(f.id) if isinstance(f.id, str) else repr(f.id)
            for f in self.functions
        )

    @cached_property
    def _named(self) -> tuple[tuple[str, ...], np.ndarray]:
        numbers: dict[str, int] = {}
        name = [numbers.setdefault(f.name, len(numbers)) for f in self.functions]
        return tuple(map(str.__str__, numbers)), np.array(name, dtype=np.int64)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Function names, once each."""
        return self._named[0]

    @cached_property
    def name(self) -> np.ndarray:
        """(n,) int: which of `names` each function bears."""
        return self._named[1]

    @cached_property
    def output_mb(self) -> np.ndarray:
        """(n,) [MB]: the declared size of each result; nan is unknown."""
        return np.array([_megabytes(f.alternatives[0]) for f in self.functions], float)

    @cached_property
    def pred_share(self) -> np.ndarray:
        """(e,): how much of a result travels along each edge, as a share."""
        if self._links is None:  # tasks, which read results whole
            return np.ones(len(self.pred_of))
        return share_edges(self._links, self.pred_ptr, self.pred_of)

    @cached_property
    def pinned(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Names of nodes, and (n,) int: to which each is bound by a pin; -1 is none."""
        numbers: dict[str, int] = {}
        to = np.full(self.n, -1, dtype=np.int64)
        for i, name in self.pins.items():
            to[i] = numbers.setdefault(name, len(numbers))
        pins = np.array([*self.pins], dtype=np.int64)
        pins = pins[self.group[pins] >= 0]
        if len(pins):  # one in each group: who is pinned follows no other function
            of_group = np.full(int(self.group.max()) + 1, -1, dtype=np.int64)
            of_group[self.group[pins]] = to[pins]
            follows = self.group >= 0
            to[follows] = of_group[self.group[follows]]
        return tuple(numbers), to

    @cached_property
    def demand(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Names of q resources, and (c, q): what each class holds while running."""
        names = sorted({"cpu", *(k for cost in self.classes for k, _ in cost.demand)})
        column = {name: r for r, name in enumerate(names)}
        need = np.zeros((len(self.classes), len(names)))
        need[:, column["cpu"]] = 1.0
        for row, cost in enumerate(self.classes):
            for name, amount in cost.demand:
                need[row, column[name]] = amount
        return tuple(names), need

    def memory_of(self, option: int) -> float:
        """Memory [MB] that a cost alternative claims; 0 is nothing."""
        demand = self.classes[self.option_class[option]].demand
        return next((mb for name, mb in demand if name == "memory"), 0.0)

    @cached_property
    def wants(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Names of q capabilities, and (c, q) bool: which each class must have."""
        names = sorted({name for cost in self.classes for name in cost.capabilities})
        column = {name: q for q, name in enumerate(names)}
        out = np.zeros((len(self.classes), len(names)), dtype=bool)
        for row, cost in enumerate(self.classes):
            for name in cost.capabilities:
                out[row, column[name]] = True
        return tuple(names), out

    @cached_property
    def by_gpu(self) -> np.ndarray:
        """(c,) bool: whose time is that on a device."""
        return np.array([cost.gpu_time is not None for cost in self.classes], bool)

    @cached_property
    def succs_arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """``(ptr, of)``: successors of i are ``of[ptr[i]:ptr[i + 1]]``."""
        reader = np.repeat(np.arange(self.n), np.diff(self.pred_ptr))
        order = np.argsort(self.pred_of, kind="stable")
        ptr = np.zeros(self.n + 1, dtype=np.int64)
        np.cumsum(np.bincount(self.pred_of, minlength=self.n), out=ptr[1:])
        return ptr, reader[order]

    @cached_property
    def preds(self) -> tuple[tuple[int, ...], ...]:
        """``preds[i]``: the functions that i reads, by index."""
        of, ptr = self.pred_of.tolist(), self.pred_ptr.tolist()
        return tuple(tuple(of[a:b]) for a, b in pairwise(ptr))

    @cached_property
    def where(self) -> dict[Any, int]:
        """From the id of a function to its index."""
        if isinstance(self.functions, StandIns):
            return {label: i for i, label in enumerate(self.labels)}
        return {f.id: i for i, f in enumerate(self.functions)}

    @cached_property
    def graph(self) -> Graph:
        """A graph of the functions at hand, numbered alike; of stand-ins if need be."""
        out = Graph(name=self.title)
        for i in np.argsort(self.position).tolist():
            out.add(self.functions[i])
        return out.validate()

    def claiming(self, classes: tuple[Cost, ...], option_class: np.ndarray) -> Outline:
        """The outline of the same functions with other demands; `declared` is this."""
        out = object.__new__(type(self))  # a copy would go the way of pickles
        vars(out).update(vars(self))
        for what in ("demand", "wants", "by_gpu"):  # as they were computed
            vars(out).pop(what, None)
        out.classes, out.option_class = classes, option_class
        out.declared = self.declared or self
        return out

    def freed(self, who: Collection[int]) -> Outline:
        """The outline of the same functions, of which these have no pins any more."""
        out = object.__new__(type(self))
        vars(out).update(vars(self))
        vars(out).pop("pinned", None)  # as it was computed
        out.pins = {i: name for i, name in self.pins.items() if i not in who}
        return out

    # ---------------------------------------------------------------- pickling
    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = {what: getattr(self, what) for what in TEXTS}
        state["classes"] = tuple(map(_stripped, self.classes))
        for what in POINTERS:
            state[what] = _packed(np.diff(getattr(self, what)))
        for what in ARRAYS:
            state[what] = _packed(getattr(self, what))
        if np.isnan(self.output_mb).any() and (self.pred_share != 1.0).any():
            state["pred_share"] = self.pred_share
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        for what in POINTERS:
            counts = state[what].astype(np.int64)
            setattr(self, what, np.concatenate([[0], np.cumsum(counts)]))
        for what in ARRAYS:
            if state[what].dtype.kind in "iu":
                setattr(self, what, state[what].astype(np.int64))
        self.n = len(self.labels)
        self.functions = StandIns(self)


def _distinct(labels: Iterable[str]) -> tuple[str, ...]:
    """The labels, with a number behind those that were there already, as "1" of 1."""
    out: dict[str, None] = {}
    for label in labels:
        unique, again = label, 1
        while unique in out:
            again += 1
            unique = f"{label} ({again})"
        out[unique] = None
    return tuple(out)


def _megabytes(cost: Cost) -> float:
    """The declared size of a whole result [MB]; nan is unknown."""
    size = cost.output_size
    if size is None:
        return float("nan")
    return float(sum(size.values()) if isinstance(size, Mapping) else size)


def _stripped(cost: Cost) -> Cost:
    """A cost of the same class, without estimates, code and objects of the user's."""
    flat: dict[str, Any] = dict(cost.demand)
    for name in cost.capabilities:
        flat["has_cuda_requirement" if name == CUDA else name] = True
    if cost.gpu_time is not None:
        flat["gpu_time"] = 0.0
    return parse_cost(flat, "cost")


def _packed(array: np.ndarray) -> np.ndarray:
    """Whole numbers in the smallest type that holds them."""
    if array.dtype.kind != "i":
        return array
    bounds = array.min(initial=0), array.max(initial=0)
    return array.astype(np.result_type(*map(np.min_scalar_type, bounds)))

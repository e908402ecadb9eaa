"""Problem: (Graph, Cluster) as arrays, which is all that an allocator sees.

Functions of equal demand share a class and nodes of equal capacity a kind, so that
memory grows with functions + nodes + classes x kinds, never functions x nodes.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from handout_dask.costs import CUDA, UNIT_NAMES, Cost
from handout_dask.errors import UnsatisfiableError
from handout_dask.function import Function, WithFunction
from handout_dask.graph import Graph
from handout_dask.node import Cluster, Node

DEFAULT_TIME = 1000.0  # ms, where no function of the graph declares a time
TOLERANCE = 1e-10  # relative, for sums of demands against a capacity


@dataclass(frozen=True, slots=True)
class Lack:
    """Why a node refuses a function: what is needed of one thing, and what it has."""

    resource: str
    need: Any
    has: Any

    def __str__(self) -> str:
        if self.resource == "node":
            return f"is not {self.need!r}"
        if self.need is True:
            return "lacks CUDA" if self.resource == CUDA else f"lacks {self.resource}"
        unit = UNIT_NAMES.get(self.resource, "")
        return (
            f"lacks {self.resource} (needs {self.need:g}{unit and ' ' + unit}, "
            f"has {self.has:g})"
        )


@dataclass(frozen=True, slots=True)
class Held:
    """What is taken on a node already, while a plan begins: by whom does not matter.

    ``start`` and ``end`` are seconds from the beginning of the plan.
    """

    node: str
    start: float
    end: float
    demand: Mapping[str, float]


class Problem:
    """What is to be placed where.

    Parameters
    ----------
    graph : Graph
        Validated.
    cluster : Cluster
        The nodes to use.
    held : sequence of Held
        Demands that are taken on the nodes for a time.

    Attributes
    ----------
    functions : tuple of Function
        n functions in topological order; ``i`` indexes them.
    nodes : tuple of Node
        m nodes; ``j`` indexes them.
    pred_ptr, pred_of, pred_mb : (n + 1,) int, (e,) int, (e,) float
        Predecessors of i are ``pred_of[pred_ptr[i]:pred_ptr[i + 1]]``, once each, with
        the MB that travel along the edge.
    option_ptr, option_work, option_class : (n + 1,) int, (o,) float [s], (o,) int
        The cost alternatives of i, with their seconds at speed 1.
    option_guessed : (o,) bool
        Where the time is a guess: the median of those declared, or 1 s.
    need : (c, r) float
        What a function of each class holds while running, of each of `resources`.
    room : (k, r) float
        What a node of each kind has of it; inf is unlimited.
    rate : (c, k) float
        Speed at which a class runs on a kind; 0 where it can't.
    kind : (m,) int
        The kind of each node.
    pin : (n,) int
        The node to run on; -1 is any, -2 one that does not exist.
    group : (n,) int
        Functions of one group must share a node; -1 is none.
    """

    def __init__(
        self, graph: Graph, cluster: Cluster, *, held: Sequence[Held] = ()
    ) -> None:
        self.graph = graph
        self.cluster = cluster
        self.held = tuple(held)
        self.functions: tuple[Function, ...] = graph.links().functions
        self.nodes: tuple[Node, ...] = cluster.nodes
        self._number_options()
        self._number_kinds()
        self._count_demand()
        self._measure_edges()
        self._bind()

    # ---------------------------------------------------------------- building
    def _number_options(self) -> None:
        ptr, costs = [0], []
        for function in self.functions:
            costs.extend(function.alternatives)
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
        self.classes: tuple[Cost, ...] = tuple(classes)
        self.option_guessed = np.isnan(declared)
        known = declared[~self.option_guessed]
        guess = float(np.median(known)) if len(known) else DEFAULT_TIME
        self.option_work = np.where(self.option_guessed, guess, declared) / 1e3

    def _number_kinds(self) -> None:
        numbers: dict[Any, int] = {}
        kinds: list[Node] = []
        self.kind = np.empty(len(self.nodes), dtype=np.int64)
        for j, node in enumerate(self.nodes):
            has = tuple(sorted((k, float(v)) for k, v in node.capabilities.items()))
            key = (node.speed, node.gpu_speed, node.slots, has)
            k = numbers.setdefault(key, len(kinds))
            if k == len(kinds):
                kinds.append(node)
            self.kind[j] = k
        self.kinds: tuple[Node, ...] = tuple(kinds)

    def _count_demand(self) -> None:
        names = sorted({name for cost in self.classes for name, _ in cost.demand} | {"cpu"})
        labels = sorted({name for cost in self.classes for name in cost.capabilities})
        c, k = len(self.classes), len(self.kinds)
        need = np.zeros((c, len(names)))
        need[:, names.index("cpu")] = 1.0
        wants = np.zeros((c, len(labels)), dtype=bool)
        for row, cost in enumerate(self.classes):
            for name, amount in cost.demand:
                need[row, names.index(name)] = amount
            for name in cost.capabilities:
                wants[row, labels.index(name)] = True
        fits = np.ones((c, k), dtype=bool)
        for r, name in enumerate(names):
            room = np.array([node.capacity(name) for node in self.kinds])
            fits &= need[:, r, None] <= room * (1 + TOLERANCE)
        for q, name in enumerate(labels):
            fits &= ~wants[:, q, None] | np.array([node.has(name) for node in self.kinds])
        speeds = np.array([(node.speed, node.gpu_speed) for node in self.kinds])
        timed = np.array([int(cost.gpu_time is not None) for cost in self.classes], int)
        speeds = speeds.reshape(k, 2)
        self.rate = np.where(fits, speeds[:, timed].T, 0.0)

        columns = {"slots": (np.ones(c), np.array([x.capacity("slots") for x in self.kinds]))}
        for r, name in enumerate(names):
            columns[name] = need[:, r], np.array([x.capacity(name) for x in self.kinds])
        if "gpus" in names:
            _split_devices(columns, np.array([x.capacity("gpus") for x in self.kinds]))
        kept = {
            name: pair
            for name, pair in columns.items()
            if name == "slots" or (pair[0].any() and np.isfinite(pair[1]).any())
        }
        self.resources = tuple(kept)
        self.need = np.ascontiguousarray(np.stack([a for a, _ in kept.values()], axis=1))
        self.room = np.ascontiguousarray(np.stack([b for _, b in kept.values()], axis=1))

    def _measure_edges(self) -> None:
        links = self.graph.links()
        parts = _count_parts(links.producer, links.index)
        sizes = [function.alternatives[0].output_size for function in self.functions]
        ptr, of, mb = [0], [], []
        for i in range(len(self.functions)):
            lo, hi = links.ptr[i], links.ptr[i + 1]
            edges: dict[int, list[Any]] = {}
            for a in range(lo, hi):
                edges.setdefault(links.producer[a], []).append(links.index[a])
            for u, indexes in edges.items():
                of.append(u)
                mb.append(_edge_mb(sizes[u], indexes, parts.get(u, 1)))
            ptr.append(len(of))
        self.pred_ptr = np.array(ptr, dtype=np.int64)
        self.pred_of = np.array(of, dtype=np.int64)
        self.pred_mb = np.array(mb, dtype=float)

    def _bind(self) -> None:
        n = len(self.functions)
        self.pin = np.full(n, -1, dtype=np.int64)
        self.group = np.full(n, -1, dtype=np.int64)
        bound = [i for i, f in enumerate(self.functions) if f.node is not None]
        if not bound:
            return
        where = {f.id: i for i, f in enumerate(self.functions)}
        root = list(range(n))

        def find(i: int) -> int:
            while root[i] != i:
                root[i] = root[root[i]]
                i = root[i]
            return i

        for i in bound:
            node = self.functions[i].node
            if isinstance(node, WithFunction):
                root[find(i)] = find(where[node.id])
        members: dict[int, list[int]] = {}
        for i in range(n):
            members.setdefault(find(i), []).append(i)
        for number, together in enumerate(members.values()):
            pins = {self.functions[i].node for i in together}
            names = [name for name in pins if isinstance(name, str)]
            if len(together) > 1:
                self.group[together] = number
            if names:
                known = [self.cluster.index.get(name, -2) for name in names]
                self.pin[together] = known[0] if len(known) == 1 else -2

    # ----------------------------------------------------------------- reading
    @cached_property
    def succs_arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """``(ptr, of)``: successors of i are ``of[ptr[i]:ptr[i + 1]]``."""
        n = len(self.functions)
        reader = np.repeat(np.arange(n), np.diff(self.pred_ptr))
        order = np.argsort(self.pred_of, kind="stable")
        ptr = np.zeros(n + 1, dtype=np.int64)
        np.cumsum(np.bincount(self.pred_of, minlength=n), out=ptr[1:])
        return ptr, reader[order]

    @cached_property
    def preds(self) -> tuple[tuple[int, ...], ...]:
        """``preds[i]``: the functions that i reads, by index."""
        of, ptr = self.pred_of.tolist(), self.pred_ptr.tolist()
        return tuple(tuple(of[a:b]) for a, b in zip(ptr, ptr[1:], strict=False))

    @cached_property
    def where(self) -> dict[Hashable, int]:
        """From the id of a function to its index."""
        return {f.id: i for i, f in enumerate(self.functions)}

    def option(self, i: int, j: int) -> tuple[int, float]:
        """The fastest alternative of function i on node j.

        Returns
        -------
        (int, float)
            Index among the function's alternatives, and seconds; inf if none can run.
        """
        best, seconds = 0, np.inf
        lo = int(self.option_ptr[i])
        for o in range(lo, int(self.option_ptr[i + 1])):
            rate = self.rate[self.option_class[o], self.kind[j]]
            if rate > 0 and self.option_work[o] / rate < seconds:
                best, seconds = o - lo, float(self.option_work[o] / rate)
        return best, seconds

    def time(self, i: int, j: int) -> float:
        """Seconds that function i takes on node j; inf where it can't run."""
        if self.pin[i] not in (-1, j):
            return float("inf")
        return self.option(i, j)[1]

    def size(self, u: int, v: int) -> float:
        """MB that travel from function u to function v; 0 if v does not read u."""
        lo, hi = self.pred_ptr[v], self.pred_ptr[v + 1]
        at = np.flatnonzero(self.pred_of[lo:hi] == u)
        return float(self.pred_mb[lo + at[0]]) if len(at) else 0.0

    def transfer(self, u: int, v: int, a: int, b: int) -> float:
        """Seconds until what v reads of u is on node b, once u has ended on node a."""
        if a == b:
            return 0.0
        cluster = self.cluster
        seconds = cluster.latency[a, b] / 1e3 + self.size(u, v) / cluster.bandwidth[a, b]
        return float(seconds)

    # -------------------------------------------------------------- explaining
    def refusals(self, i: int) -> dict[str, tuple[Lack, ...]]:
        """Why each node refuses function i; a node that can run it is left out."""
        out = {}
        for j, node in enumerate(self.nodes):
            lacks = self._lacks(i, j)
            if lacks:
                out[node.name] = lacks
        return out

    def _lacks(self, i: int, j: int) -> tuple[Lack, ...]:
        node, function = self.nodes[j], self.functions[i]
        if self.pin[i] not in (-1, j):
            wanted = function.node
            if isinstance(wanted, WithFunction) or wanted is None:
                wanted = f"the node of its group, {self._group_text(i)}"
            return (Lack("node", wanted, node.name),)
        if self.option(i, j)[1] < np.inf:
            return ()
        return _lacks_of(function.alternatives[0], node)

    def _group_text(self, i: int) -> str:
        together = np.flatnonzero(self.group == self.group[i])[:4]
        return ", ".join(repr(self.functions[int(g)].id) for g in together)

    def require_feasible(self) -> Problem:
        """Return the problem, if every function can run somewhere.

        Raises
        ------
        UnsatisfiableError
            That says what each function that fits nowhere needs, and what every node
            offers, as text and in ``refusals``.
        """
        able = np.zeros(len(self.functions), dtype=bool)
        if len(self.kinds) and len(able):
            runs = (self.rate > 0)[self.option_class]  # (o, k)
            somewhere = np.logical_or.reduceat(runs, self.option_ptr[:-1], axis=0)
            able = somewhere.any(axis=1) & (self.pin != -2)
            pinned = np.flatnonzero(self.pin >= 0)
            able[pinned] &= somewhere[pinned, self.kind[self.pin[pinned]]]
            for members in _groups(self.group):
                able[members] &= somewhere[members].all(axis=0).any()
        bad = np.flatnonzero(~able)
        if len(bad):
            raise self._unsatisfiable([int(i) for i in bad])
        return self

    def _unsatisfiable(self, bad: list[int]) -> UnsatisfiableError:
        lines, refusals = [], {}
        for i in bad[:10]:
            function = self.functions[i]
            refusals[function.id] = why = self.refusals(i)
            if self.pin[i] == -2 and isinstance(function.node, str):
                names = ", ".join(node.name for node in self.nodes[:10])
                lines.append(
                    f"function {function.id!r} is pinned to node {function.node!r}, "
                    f"but the nodes are {names or 'none'}. Correct the name or add the "
                    "node."
                )
                continue
            together = ""
            if self.group[i] >= 0:
                together = f" together with its group ({self._group_text(i)})"
            lines.append(
                f"function {function.id!r} fits on no node{together}: "
                f"{_join(why)}. Lower its cost or add a node."
            )
        if len(bad) > len(lines):
            lines.append(f"... and {len(bad) - len(lines)} more functions.")
        return UnsatisfiableError("\n".join(lines), refusals)


def _join(why: Mapping[str, tuple[Lack, ...]]) -> str:
    if not why:
        return "there is no node"
    texts: dict[str, list[str]] = {}
    for name, lacks in why.items():
        texts.setdefault(", ".join(map(str, lacks)), []).append(name)
    parts = []
    for text, names in list(texts.items())[:10]:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        parts.append(f"{', '.join(names[:3])}{more} {text}")
    if len(texts) > 10:
        parts.append(f"and {len(texts) - 10} more reasons")
    return "; ".join(parts)


def _lacks_of(cost: Cost, node: Node) -> tuple[Lack, ...]:
    """What an empty node lacks for a cost."""
    lacks = [Lack(c, True, False) for c in cost.capabilities if not node.has(c)]
    for name, need in cost.demand:
        if need > node.capacity(name) * (1 + TOLERANCE):
            lacks.append(Lack(name, need, node.capacity(name)))
    if "cpu" not in dict(cost.demand) and node.capacity("cpu") < 1:
        lacks.append(Lack("cpu", 1.0, node.capacity("cpu")))
    return tuple(lacks)


def explain_refusal(cost: Cost, node: Node) -> tuple[Lack, ...]:
    """Why the empty node can't run a function of this cost; () if it can."""
    return _lacks_of(cost, node)


def _split_devices(
    columns: dict[str, tuple[np.ndarray, np.ndarray]], devices: np.ndarray
) -> None:
    """Count shares of a device where a node has one, whole devices where it has more.

    Two functions of 0.6 devices must not share one; with whole devices any set that
    fits in number has an assignment to devices.
    """
    need, _ = columns["gpus"]
    one = devices <= 1
    columns["gpus"] = need, np.where(one, devices, np.inf)
    columns["devices"] = np.ceil(need), np.where(one, np.inf, devices)
    if "gpu_memory" in columns:
        need, room = columns["gpu_memory"]
        columns["gpu_memory"] = need, np.where(one, room, np.inf)


def _count_parts(producer: Sequence[int], index: Sequence[Any]) -> dict[int, int]:
    """Into how many elements the result of each indexed producer seems to fall."""
    read: dict[int, set[Any]] = {}
    for u, at in zip(producer, index, strict=True):
        if at is not None:
            read.setdefault(u, set()).add(at if isinstance(at, int | str) else repr(at))
    return {
        u: max(len(seen), 1 + max((x for x in seen if isinstance(x, int)), default=0))
        for u, seen in read.items()
    }


def _edge_mb(size: Any, indexes: list[Any], parts: int) -> float:
    """MB of what one function reads of another: its elements, each once."""
    if size is None:
        return 0.0
    total = sum(size.values()) if isinstance(size, Mapping) else float(size)
    if None in indexes:
        return float(total)
    distinct = {repr(at): at for at in indexes}
    if isinstance(size, Mapping):
        return float(sum(_get(size, at) for at in distinct.values()))
    return total * min(1.0, len(distinct) / parts)


def _get(sizes: Mapping[Any, float], at: Any) -> float:
    try:
        return sizes.get(at, 0.0)
    except TypeError:  # an index that is not hashable, such as a slice
        return 0.0


def _groups(group: np.ndarray) -> list[np.ndarray]:
    numbers = np.unique(group[group >= 0])
    return [np.flatnonzero(group == number) for number in numbers]

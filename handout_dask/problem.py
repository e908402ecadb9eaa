"""Problem: (Graph, Cluster) as arrays, which is all that an allocator sees.

Functions of equal demand share a class and nodes of equal capacity a kind, so that
memory grows with functions + nodes + classes x kinds, never functions x nodes.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from handout_dask.costs import Cost
from handout_dask.errors import AllocationError, UnsatisfiableError
from handout_dask.estimates import Learned
from handout_dask.function import Function
from handout_dask.graph import Graph
from handout_dask.held import Held, HeldArrays, held_arrays, split_devices
from handout_dask.lacks import MOST, Lack, explain_all, explain_refusal, refusal_text
from handout_dask.node import TOLERANCE, Cluster, Node
from handout_dask.outline import Outline, StandIns

__all__ = ["TOLERANCE", "Held", "Lack", "Problem", "explain_refusal"]

NETWORKS = ("free", "oneport")


class Problem:
    """What is to be placed where.

    Parameters
    ----------
    graph : Graph or Outline
        Validated; an Outline where the user's objects may not exist.
    cluster : Cluster
        The nodes to use.
    held : sequence of Held
        Demands that are taken on the nodes for a time.
    network : {"free", "oneport"}
        Whether transfers don't compete, or each node sends one result at a time and
        receives one.

    Attributes
    ----------
    functions : sequence of Function
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
    learned : Learned or None
        Which estimates are not the declared ones, but what was observed.
    """

    learned: Learned | None = None

    def __init__(
        self,
        graph: Graph | Outline,
        cluster: Cluster,
        *,
        held: Sequence[Held] = (),
        network: str = "free",
    ) -> None:
        if network not in NETWORKS:
            raise AllocationError(f"network {network!r}: {' or '.join(NETWORKS)}")
        if isinstance(graph, Graph):
            self.graph = graph
            graph = Outline.of(graph)
        self.outline = graph
        self.network = network
        self.functions: tuple[Function, ...] | StandIns = graph.functions
        self.pred_ptr, self.pred_of = graph.pred_ptr, graph.pred_of
        self.pred_mb = graph.pred_mb
        self.option_ptr, self.option_class = graph.option_ptr, graph.option_class
        self.option_work = graph.option_work
        self.option_guessed = graph.option_guessed
        self.classes: tuple[Cost, ...] = graph.classes
        self.group = graph.group
        self._settle(cluster, held)

    def on(
        self,
        cluster: Cluster,
        *,
        held: Sequence[Held] = (),
        work: np.ndarray | None = None,
        mb: np.ndarray | None = None,
        outline: Outline | None = None,
    ) -> Problem:
        """The problem of the same functions on other nodes, made in little time.

        Parameters
        ----------
        cluster : Cluster
            The nodes to use. Who is pinned to a node that is not there can't run.
        held : sequence of Held
            Demands that are taken on the nodes for a time; of this problem none count.
        work : (o,) float, optional
            Seconds of each alternative at speed 1; default: those of this problem.
        mb : (e,) float, optional
            MB that travel along each edge; default: those of this problem.
        outline : Outline, optional
            Of the same functions with other demands, as `Outline.claiming` makes it.
        """
        out = Problem.__new__(Problem)
        kept = (
            "outline", "network", "functions", "pred_ptr", "pred_of", "pred_mb",
            "option_ptr", "option_class", "option_work", "option_guessed", "classes",
            "group", "learned",
        )  # fmt: skip
        vars(out).update((name, getattr(self, name)) for name in kept)
        if "graph" in vars(self):
            out.graph = self.graph
        if work is not None:
            out.option_work = _floats("work", work, len(self.option_work))
        if mb is not None:
            out.pred_mb = _floats("mb", mb, len(self.pred_mb))
        if outline is not None:
            out.outline, out.classes = outline, outline.classes
            out.option_class = outline.option_class
        out._settle(cluster, held)
        return out

    # ---------------------------------------------------------------- building
    def _settle(self, cluster: Cluster, held: Sequence[Held]) -> None:
        """What depends on the nodes."""
        self.cluster = cluster
        self.held = tuple(held)
        self.nodes: tuple[Node, ...] = cluster.nodes
        self._number_kinds()
        self._count_demand()
        names, pinned = self.outline.pinned
        index = [cluster.index.get(name, -2) for name in names]
        self.pin = np.array([*index, -1], dtype=np.int64)[pinned]

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
        names, need = self.outline.demand
        labels, wants = self.outline.wants
        c, k = len(self.classes), len(self.kinds)
        fits = np.ones((c, k), dtype=bool)
        for r, name in enumerate(names):
            fits &= need[:, r, None] <= self._capacity(name) * (1 + TOLERANCE)
        for q, name in enumerate(labels):
            has = np.array([node.has(name) for node in self.kinds], dtype=bool)
            fits &= ~wants[:, q, None] | has
        speeds = np.array([(node.speed, node.gpu_speed) for node in self.kinds])
        timed = self.outline.by_gpu.astype(int)
        speeds = speeds.reshape(k, 2)
        self.rate = np.where(fits, speeds[:, timed].T, 0.0)

        columns = {"slots": (np.ones(c), self._capacity("slots"))}
        for r, name in enumerate(names):
            columns[name] = need[:, r], self._capacity(name)
        if "gpus" in names:
            split_devices(columns, self._capacity("gpus"))
        kept = {
            name: pair
            for name, pair in columns.items()
            if name == "slots" or (pair[0].any() and np.isfinite(pair[1]).any())
        }
        self.resources = tuple(kept)
        needs, rooms = zip(*kept.values(), strict=True)
        self.need = np.ascontiguousarray(np.stack(needs, axis=1))
        self.room = np.ascontiguousarray(np.stack(rooms, axis=1))

    def _capacity(self, resource: str) -> np.ndarray:
        """(k,) what a node of each kind has of a resource."""
        return np.array([node.capacity(resource) for node in self.kinds], dtype=float)

    # ----------------------------------------------------------------- reading
    @cached_property
    def graph(self) -> Graph:
        """The graph; of stand-ins, if the problem was made of an Outline."""
        return self.outline.graph

    @property
    def succs_arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """``(ptr, of)``: successors of i are ``of[ptr[i]:ptr[i + 1]]``."""
        return self.outline.succs_arrays

    @property
    def preds(self) -> tuple[tuple[int, ...], ...]:
        """``preds[i]``: the functions that i reads, by index."""
        return self.outline.preds

    @property
    def where(self) -> dict[Hashable, int]:
        """From the id of a function to its index."""
        return self.outline.where

    @cached_property
    def held_arrays(self) -> HeldArrays:
        """``(node, start, end, need)`` of what is held; times in seconds."""
        return held_arrays(self.held, self.cluster.index, self.resources)

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
        latency, bandwidth = self.cluster.latency[a, b], self.cluster.bandwidth[a, b]
        return float(latency / 1e3 + self.size(u, v) / bandwidth)

    @cached_property
    def groups(self) -> list[np.ndarray]:
        """The members of each group of functions that must share a node."""
        return _groups(self.group)

    @cached_property
    def able(self) -> np.ndarray:
        """(n,) bool: which functions can run on some node, with all of their group."""
        if not len(self.functions):
            return np.ones(0, dtype=bool)
        runs = self.rate > 0  # (c, k)
        first = self.option_ptr[:-1]
        somewhere: np.ndarray = np.logical_or.reduce(runs, axis=1)
        anywhere = somewhere[self.option_class]
        able: np.ndarray = np.logical_or.reduceat(anywhere, first)
        able &= self.pin != -2
        pin = np.repeat(self.pin, np.diff(self.option_ptr))  # of each option
        pinned = np.flatnonzero(pin >= 0)
        there = anywhere.copy()
        there[pinned] = runs[self.option_class[pinned], self.kind[pin[pinned]]]
        able &= np.logical_or.reduceat(there, first)
        for members in self.groups:
            needs = {self._classes_of(int(i)) for i in members}
            each = [runs[list(classes)].any(axis=0) for classes in needs]
            able[members] &= able[members].all() and np.stack(each).all(axis=0).any()
        return able

    # -------------------------------------------------------------- explaining
    def refusals(self, i: int) -> dict[str, tuple[Lack, ...]]:
        """Why each node refuses function i; a node that can run it is left out.

        A node that can run it, but not all of the functions that must share its node,
        refuses it too.
        """
        mates = self._distinct_mates(i)
        out = {}
        for j, node in enumerate(self.nodes):
            lacks = self._lacks(mates, j)
            if lacks:
                out[node.name] = lacks
        return out

    def explain(self, i: int, j: int) -> tuple[Lack, ...]:
        """Why node j refuses function i; () if it can run it."""
        return self._lacks(self._distinct_mates(i), j)

    def _mates(self, i: int) -> list[int]:
        """Functions that must share a node with i, itself included."""
        if self.group[i] < 0:
            return [i]
        return [int(g) for g in np.flatnonzero(self.group == self.group[i])]

    def _classes_of(self, i: int) -> tuple[int, ...]:
        return tuple(self.option_class[self.option_ptr[i] : self.option_ptr[i + 1]])

    def _distinct_mates(self, i: int) -> list[int]:
        """Of the functions that share a node with i, one of each need; i goes first."""
        distinct: dict[Any, int] = {}
        for g in (i, *self._mates(i)):
            distinct.setdefault((self._classes_of(g), self.functions[g].node), g)
        return [*distinct.values()]

    def _lacks(self, mates: list[int], j: int) -> tuple[Lack, ...]:
        node = self.nodes[j]
        for g in mates:
            function = self.functions[g]
            of = repr(function.id) if self.group[g] >= 0 else ""
            if isinstance(function.node, str) and function.node != node.name:
                return (Lack("node", function.node, node.name, of),)
            if not self.option(g, j)[1] < np.inf:
                costs = [self.classes[c] for c in self._classes_of(g)]
                lacks = explain_all(costs, node)
                return tuple(replace(lack, of=of) for lack in lacks)
        return ()

    def require_feasible(self) -> Problem:
        """Return the problem, if every function can run somewhere.

        Raises
        ------
        UnsatisfiableError
            That says what each function that fits nowhere needs, and what every node
            offers, as text and in ``refusals``.
        """
        bad = np.flatnonzero(~self.able)
        if len(bad):
            raise self._unsatisfiable([int(i) for i in bad])
        return self

    def _unsatisfiable(self, bad: list[int]) -> UnsatisfiableError:
        refusals = {self.functions[i].id: self.refusals(i) for i in bad[:MOST]}
        told: set[int] = set()
        lines = []
        for i in bad[:MOST]:
            if i not in told:
                mates = self._mates(i)
                told.update(mates)
                lines.append(self._refusal_text(mates, refusals[self.functions[i].id]))
        untold = sum(i not in told for i in bad)
        if untold:
            lines.append(f"... and {untold} more functions.")
        return UnsatisfiableError("\n".join(lines), refusals)

    def _refusal_text(
        self, mates: list[int], why: Mapping[str, tuple[Lack, ...]]
    ) -> str:
        ids = [self.functions[g].id for g in mates]
        pins = (self.functions[g].node for g in mates)
        pin = next((pin for pin in pins if isinstance(pin, str)), None)
        return refusal_text(ids, pin, [node.name for node in self.nodes], why)


def _floats(what: str, values: np.ndarray, size: int) -> np.ndarray:
    out = np.ascontiguousarray(values, dtype=float)
    if out.shape != (size,) or not (out >= 0).all():
        raise AllocationError(f"{what} must be {size} numbers that are not negative")
    return out


def _groups(group: np.ndarray) -> list[np.ndarray]:
    """The members of each group."""
    bound = np.flatnonzero(group >= 0)
    bound = bound[np.argsort(group[bound], kind="stable")]
    begins = np.flatnonzero(np.diff(group[bound])) + 1
    return np.split(bound, begins) if len(bound) else []

"""Clusters: sets of functions that go to one node, and what each would take there.

Knows neither when anything runs nor who clustered it. Memory is clusters x nodes.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from handout_dask.node import TOLERANCE
from handout_dask.problem import Problem


class Clusters:
    """The functions of a problem in sets that share a node; pins and groups kept.

    Parameters
    ----------
    problem : Problem
        With n functions on m nodes of k kinds, and r resources.
    of : (n,) int array, optional
        The cluster of each function, g of them; default: the problem's groups, every
        other function alone.

    Attributes
    ----------
    of : (n,) int
        The cluster of each function, from 0.
    members : list of g int arrays
        The functions of each.
    able : (g, m) bool
        Where all of its functions can run. What is held for ever counts, unless it
        leaves the cluster no node.
    """

    def __init__(self, problem: Problem, of: np.ndarray | None = None) -> None:
        n = len(problem.functions)
        if of is None:
            alone = np.arange(n) + int(problem.group.max(initial=-1)) + 1
            of = np.where(problem.group >= 0, problem.group, alone)
        self.problem = problem
        self.of: np.ndarray = np.unique(of, return_inverse=True)[1].reshape(n)
        by_cluster = np.argsort(self.of, kind="stable")
        self._first = np.flatnonzero(np.diff(self.of[by_cluster], prepend=-1))
        self._sorted = by_cluster
        self.members = np.split(by_cluster, self._first[1:]) if n else []
        empty, begun = _class_able(problem)
        able = self._where_all(empty)
        left = self._where_all(begun)
        self.able = np.where(left.any(axis=1, keepdims=True), left, able)

    def nodes(self, node: np.ndarray) -> np.ndarray:
        """(g,) int from (n,): where clusters are, by the nodes of their functions."""
        out = np.zeros(len(self), dtype=np.int64)
        out[self.of] = node
        return out

    def __len__(self) -> int:
        return len(self.members)

    def _where_all(self, able: np.ndarray) -> np.ndarray:
        """(g, m) from (c, m): where every member has an alternative that can run."""
        p = self.problem
        if not len(self):
            return np.zeros((0, len(p.nodes)), dtype=bool)
        each = np.logical_or.reduceat(able[p.option_class], p.option_ptr[:-1])
        pinned = np.flatnonzero(p.pin != -1)
        each[pinned] &= p.pin[pinned, None] == np.arange(len(p.nodes))
        out: np.ndarray = np.logical_and.reduceat(each[self._sorted], self._first)
        return out

    @cached_property
    def busy(self) -> np.ndarray:
        """(g, k, r) [s]: seconds for which it would take all of a resource there.

        Each function by its fastest alternative; 0 where that is not limited.
        """
        n, r = len(self.problem.functions), len(self.problem.resources)
        shape = n, len(self.problem.kinds)
        out = np.zeros((*shape, r))
        option = fastest(self.problem)
        for k in range(shape[1]):
            out[:, k] = shares(self.problem, option[:, k], np.full(n, k))
        summed: np.ndarray = np.add.reduceat(out[self._sorted], self._first)
        return summed

    @cached_property
    def links(self) -> tuple[list[int], np.ndarray, np.ndarray]:
        """``(ptr, other, mb)``: with which others a cluster exchanges how many MB."""
        reads, mb = edges(self.problem), self.problem.pred_mb
        one, two = self.of[reads[0]], self.of[reads[1]]
        apart = (one != two) & (mb > 0)
        here = np.concatenate([one[apart], two[apart]])
        there = np.concatenate([two[apart], one[apart]])
        order = np.argsort(here, kind="stable")
        ptr = np.searchsorted(here[order], np.arange(len(self) + 1)).tolist()
        return ptr, there[order], np.tile(mb[apart], 2)[order]

    def merged(self, least: float = 0.0) -> Clusters:
        """Clusters joined along edges of more MB than others first, while a node fits.

        Parameters
        ----------
        least : float
            Edges that carry less stay as they are, and such as carry nothing [MB].

        Notes
        -----
        Edge zeroing: Sarkar, Partitioning and Scheduling Parallel Programs for
        Multiprocessors, MIT Press, 1989. Departure: clusters join wherever some node
        can run all of both, not where the makespan falls.
        """
        root = list(range(len(self)))
        able = self.able.copy()

        def find(g: int) -> int:
            while root[g] != g:
                root[g] = root[root[g]]
                g = root[g]
            return g

        mb, (producer, reader) = self.problem.pred_mb, edges(self.problem)
        for e in np.argsort(-mb, kind="stable").tolist():
            if mb[e] < least or mb[e] <= 0:
                break
            one, two = find(self.of[producer[e]]), find(self.of[reader[e]])
            both = able[one] & able[two]
            if one != two and both.any():
                root[two] = one
                able[one] = both
        joined = np.array([find(g) for g in range(len(self))], dtype=np.int64)
        return Clusters(self.problem, joined[self.of])


def edges(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """``(producer, reader)`` of each edge, both (e,) int."""
    reader = np.repeat(np.arange(len(problem.functions)), np.diff(problem.pred_ptr))
    return problem.pred_of, reader


def fastest(problem: Problem) -> np.ndarray:
    """(n, k) int: the alternative, among all options, that is fastest on each kind.

    The first of a function where none can run.
    """
    rate = problem.rate[problem.option_class]  # (o, k)
    time = np.full(rate.shape, np.inf)
    work = np.broadcast_to(problem.option_work[:, None], rate.shape)
    np.divide(work, rate, out=time, where=rate > 0)
    first = problem.option_ptr[:-1]
    best = np.minimum.reduceat(time, first) if len(first) else time
    count = np.diff(problem.option_ptr)
    number = np.where(
        time == np.repeat(best, count, axis=0), np.arange(len(time))[:, None], len(time)
    )
    out: np.ndarray = np.minimum.reduceat(number, first) if len(first) else number
    return out


def shares(problem: Problem, option: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """(n, r) [s]: for how long each function would take all of each resource.

    Parameters
    ----------
    option : (n,) int
        Which alternative runs, among all options.
    kind : (n,) int
        On which kind of node. Where it can't run, all is 0.
    """
    c = problem.option_class[option]
    rate, room = problem.rate[c, kind], problem.room[kind]
    time = np.zeros(len(c))
    np.divide(problem.option_work[option], rate, out=time, where=rate > 0)
    finite = (room > 0) & np.isfinite(room)
    share = np.divide(problem.need[c], room, out=np.zeros(room.shape), where=finite)
    out: np.ndarray = share * time[:, None]
    return out


def _class_able(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Two of (c, m) bool: where a class can run, and where what is held lets it."""
    able: np.ndarray = problem.rate[:, problem.kind] > 0
    node, _, end, need = problem.held_arrays
    free = problem.room[problem.kind].copy()
    for h in np.flatnonzero(~np.isfinite(end)):
        free[node[h]] -= need[h]
    left = able.copy()
    for r in range(problem.need.shape[1]):
        wants = problem.need[:, r, None]
        left &= (wants <= free[:, r] * (1 + TOLERANCE)) | (wants <= 0)
    return able, left

"""Which node each cluster goes to, by busy seconds and MB alone; not when it runs."""

from __future__ import annotations

import numpy as np

from handout_dask.allocators.clusters import Clusters, shares
from handout_dask.plans import Plan

PASSES = 20  # over all clusters, at most, while fewer MB move
PAIRS = 2_000_000  # exchanges looked at, at most: many small clusters need none
LOOKS = 30_000_000  # moves and exchanges looked at in all, before it is enough
TURNS = 200_000  # clusters looked at by `gather` in all, but each at least once


def busy_seconds(plan: Plan) -> np.ndarray:
    """(m, r) [s]: for how long a plan would take all of each resource of each node."""
    p = plan.problem
    out = np.zeros((len(p.nodes), len(p.resources)))
    each = shares(p, p.option_ptr[:-1] + plan.option, p.kind[plan.node])
    np.add.at(out, plan.node, each)
    return out


def load_of(clusters: Clusters, node: np.ndarray) -> np.ndarray:
    """(m, r) [s]: as `busy_seconds`, of clusters on their nodes."""
    p = clusters.problem
    out = np.zeros((len(p.nodes), len(p.resources)))
    here = np.arange(len(clusters)), p.kind[node]
    np.add.at(out, node, clusters.busy[here])
    return out


def spread(
    clusters: Clusters,
    columns: list[int],
    bias: np.ndarray | None = None,
    before: np.ndarray | None = None,
) -> np.ndarray:
    """(g,) int: the longest first, each where the busiest resource is then least busy.

    Parameters
    ----------
    clusters : Clusters
        g of them.
    columns : list of int
        Which resources count; of equal nodes the one with least seconds a slot.
    bias : (g, m) array, optional
        Seconds added for a cluster on a node.
    before : (g,) array, optional
        Larger goes first; of equal ones the longest.

    Notes
    -----
    Graham's longest processing time first (SIAM J. Appl. Math. 17(2), 1969,
    doi:10.1137/0117039), on unrelated machines with several resources.
    """
    p = clusters.problem
    load = np.zeros((len(p.nodes), len(p.resources)))
    node = np.zeros(len(clusters), dtype=np.int64)
    own = clusters.busy[:, :, columns].max(axis=2, initial=0.0)[:, p.kind]  # (g, m)
    longest = np.where(clusters.able, own, np.inf).min(axis=1, initial=np.inf)
    first = np.zeros(len(clusters)) if before is None else before
    for g in np.lexsort((-longest, -first)).tolist():
        more = clusters.busy[g][p.kind]  # (m, r)
        after = load + more
        score = np.where(more > 0, after, 0.0)[:, columns].max(axis=1, initial=0.0)
        if bias is not None:
            score = score + bias[g]
        score = np.where(clusters.able[g], score, np.inf)
        j = int(np.lexsort((after[:, 0], score))[0])
        node[g] = j
        load[j] = after[j]
    return node


def even_out(clusters: Clusters, node: np.ndarray, columns: list[int]) -> np.ndarray:
    """(g,) int: moves and exchanges that relieve the busiest node, until none does.

    Or until very many have been looked at, which is so for some 10,000 clusters.
    """
    p, node = clusters.problem, node.copy()
    load = load_of(clusters, node)
    looks = 0
    for _ in range(4 * len(clusters)):
        if looks > LOOKS:
            break
        peaks = load[:, columns].max(axis=1, initial=0.0)
        j = int(peaks.argmax())
        limit = peaks[j] * (1 - 1e-9)
        mine = np.flatnonzero(node == j)
        weight = clusters.busy[mine, p.kind[j]][:, columns].max(axis=1, initial=0.0)
        mine = mine[np.argsort(-weight, kind="stable")]
        looks += len(mine) * (len(load) + min(len(node), PAIRS // max(len(mine), 1)))
        found = _move(clusters, load, mine, j, limit, columns)
        if found is None:
            found = _exchange(clusters, node, load, mine, j, limit, columns)
        if found is None:
            break
        for g, to in found:
            load[node[g]] -= clusters.busy[g, p.kind[node[g]]]
            load[to] += clusters.busy[g, p.kind[to]]
            node[g] = to
    return node


def evenly(clusters: Clusters, node: np.ndarray, columns: list[int]) -> np.ndarray:
    """(g,) int: `spread`, or where they are, each evened out: of less peak.

    Parameters
    ----------
    node : (g,) int array
        Where clusters are by another plan.
    """
    ends = [
        even_out(clusters, begin, columns)
        for begin in (spread(clusters, columns), node)
    ]
    return min(ends, key=lambda x: load_of(clusters, x)[:, columns].max(initial=0.0))


def _move(
    clusters: Clusters,
    load: np.ndarray,
    mine: np.ndarray,
    j: int,
    limit: float,
    columns: list[int],
) -> list[tuple[int, int]] | None:
    """A cluster of node j, and where it leaves all below the limit."""
    kind = clusters.problem.kind
    for g in mine.tolist():
        after = (load + clusters.busy[g][kind])[:, columns].max(axis=1, initial=0.0)
        after[~clusters.able[g]] = np.inf
        after[j] = np.inf
        to = int(after.argmin())
        if after[to] < limit and clusters.busy[g, kind[j]][columns].any():
            return [(g, to)]
    return None


def _exchange(
    clusters: Clusters,
    node: np.ndarray,
    load: np.ndarray,
    mine: np.ndarray,
    j: int,
    limit: float,
    columns: list[int],
) -> list[tuple[int, int]] | None:
    """A cluster of node j and one of another, exchanged with all below the limit."""
    kind, busy = clusters.problem.kind, clusters.busy
    others = np.flatnonzero(node != j)
    if len(mine) * len(others) > PAIRS:
        return None
    at = node[others]
    without = load[at] - busy[others, kind[at]]  # (others, r)
    brought = busy[others, kind[j]]
    for g in mine.tolist():
        there = without + busy[g][kind[at]]
        here = load[j] - busy[g, kind[j]] + brought
        after = np.maximum(there, here)[:, columns].max(axis=1, initial=0.0)
        after[~(clusters.able[g, at] & clusters.able[others, j])] = np.inf
        x = int(after.argmin()) if len(after) else 0
        if len(after) and after[x] < limit:
            return [(g, int(at[x])), (int(others[x]), j)]
    return None


def gather(clusters: Clusters, node: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """(g,) int: moves of one cluster each that save MB, until none does.

    Parameters
    ----------
    clusters : Clusters
        g of them.
    node : (g,) int array
        Where they begin.
    limit : (r,) array
        Busy seconds of each resource that no node may come to exceed.
    """
    p, node = clusters.problem, node.copy()
    load = load_of(clusters, node)
    ptr, other, mb = clusters.links
    for _ in range(max(1, min(PASSES, TURNS // max(len(clusters), 1)))):
        moved = False
        for g in range(len(clusters)):
            lo, hi = ptr[g], ptr[g + 1]
            if lo == hi:
                continue
            j = int(node[g])
            near = np.bincount(node[other[lo:hi]], mb[lo:hi], len(p.nodes))
            better = np.flatnonzero(
                clusters.able[g] & (near > near[j] + 1e-9 * (1.0 + near[j]))
            )
            for to in better[np.argsort(-near[better], kind="stable")].tolist():
                after = load[to] + clusters.busy[g, p.kind[to]]
                if (after <= limit).all():
                    load[j] -= clusters.busy[g, p.kind[j]]
                    load[to], node[g], moved = after, to, True
                    break
        if not moved:
            break
    return node

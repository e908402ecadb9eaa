"""Allocator ``ml``: models stay with who reads them; GPU memory by best fit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from handout_dask.allocators.balance import spread
from handout_dask.allocators.clusters import Clusters, edges, fastest
from handout_dask.allocators.within import heft, require_number
from handout_dask.plans import Plan
from handout_dask.problem import Problem


@dataclass(frozen=True)
class ML:
    """Big inputs in one place, GPUs for those who need them, large ones for the large.

    1. A function that reads ``share_mb`` or more of a producer, such as a model, runs
       on its node, the biggest inputs first, as long as some node can run all that
       have to stay together. Those sets, of most GPU memory first, each go to the node
       that is least busy thereafter; 2. holds there too.
    2. Everything else goes, in HEFT's order, where it ends first, but a second on a
       node with GPUs counts as 1 + ``tight`` x the fraction of a device's memory that
       the function leaves unused: 1 for a function without need of a GPU. A small
       model so leaves a large GPU to a large one, and a function without need of a GPU
       takes its node only where it ends earlier by at least ``tight`` x its run time.

    Parameters
    ----------
    share_mb : float
        From how much on an input is big [MB].
    tight : float
        How much GPU memory that is left unused counts; 0: not at all.

    Notes
    -----
    Best fit (Johnson, Demers, Ullman, Garey, Graham, SIAM J. Comput. 3(4), 1974,
    doi:10.1137/0203025) as a price on time, so that nothing waits for ever for a tight
    fit; HEFT: Topcuoglu et al. 2002. Of several cost alternatives the fastest one on a
    node counts in what it leaves unused.

    A model is never copied to a second node, not where that were faster either; a
    larger ``share_mb`` lets it be. There is no bound on the makespan.
    """

    share_mb: float = 500.0
    tight: float = 2.0

    def __post_init__(self) -> None:
        require_number(self, "share_mb", 0.0, "inputs of so many MB stay in one place")
        hint = "2 counts unused GPU memory as twice the time"
        require_number(self, "tight", 0.0, hint, most=1e6)

    def allocate(self, problem: Problem) -> Plan:
        """A plan in which readers of a big input are with it, where a node fits all."""
        if not problem.functions:
            return heft(problem, allocator=repr(self))
        unused, memory = unused_seconds(problem)
        clusters = Clusters(problem).merged(self.share_mb)
        sums = np.zeros(clusters.able.shape)
        np.add.at(sums, clusters.of, self.tight * unused)
        largest = np.zeros(len(clusters))
        np.maximum.at(largest, clusters.of, memory)
        columns = list(range(len(problem.resources)))
        node = spread(clusters, columns, bias=sums, before=largest)
        together = np.bincount(clusters.of)[clusters.of] > 1
        fixed = np.where(together, node[clusters.of], problem.pin)
        made = heft(problem, assigned=fixed, bias=self.tight * unused)
        return replace(made, allocator=repr(self))


def unused_seconds(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """What functions would leave unused of GPUs, and the GPU memory that they need.

    Returns
    -------
    (n, m) array
        Run time x the fraction of a device's memory that the function doesn't use [s];
        0 on nodes without GPU.
    (n,) array
        MB on a device, of the alternative that needs most.
    """
    p = problem
    demands = [dict(cost.demand) for cost in p.classes]
    need = np.array([d.get("gpu_memory", 0.0) for d in demands])  # (c,)
    on_gpu = np.array([d.get("gpus", 0.0) > 0 for d in demands], dtype=bool)
    device = np.array([node.capacity("gpu_memory") for node in p.kinds])  # (k,)
    has = np.array([node.capacity("gpus") > 0 for node in p.kinds], dtype=bool)
    fill = np.zeros((len(need), len(device)))
    np.divide(need[:, None], device, out=fill, where=device > 0)
    fill[:, device == 0] = 1.0  # a GPU of unknown memory is not wasted on who needs it
    idle = np.where(on_gpu[:, None], 1.0 - np.minimum(fill, 1.0), 1.0) * has  # (c, k)
    option, kinds = fastest(p), np.arange(len(p.kinds))
    c = p.option_class[option]  # (n, k)
    rate = p.rate[c, kinds]
    time = np.divide(p.option_work[option], rate, out=np.zeros(c.shape), where=rate > 0)
    most = np.maximum.reduceat(need[p.option_class], p.option_ptr[:-1])
    return (time * idle[c, kinds])[:, p.kind], most


def fetched(plan: Plan, share_mb: float) -> float:
    """MB of inputs of ``share_mb`` or more that cross between nodes."""
    mb = plan.problem.pred_mb
    producer, reader = edges(plan.problem)
    away = (plan.node[producer] != plan.node[reader]) & (mb >= share_mb)
    return float(mb[away].sum())

"""Variants: which other cost alternative of a function can run, and how it gets it.

Pure: part of the books of a run. `recovery` decides when.
"""

from __future__ import annotations

from collections.abc import Mapping

from handout_dask.books import NodeBook, RunBook
from handout_dask.claims import GPU_MEMORY
from handout_dask.moving import is_due
from handout_dask.setbacks import Again


def others(run: RunBook, i: int, nodes: Mapping[str, NodeBook]) -> tuple[int, ...]:
    """The alternatives of function i, but the present one, that some node can run.

    One that is there or expected. Where the function may not leave its node, or shares
    it, those that this can run.
    """
    if run.outline is None or not run.spec.option:
        return ()
    first, end = run.outline.option_ptr[i : i + 2].tolist()
    classes = run.outline.option_class[first:end].tolist()
    stays = i in run.pinned or i in run.bound or len(run.spec.group.get(i, ())) > 1
    out = []
    for k, need in enumerate(classes):
        names = {name for name in run.able_as(need) if is_due(nodes, name)}
        if k != run.option(i) and (run.node[i] in names if stays else names):
            out.append(k)
    return tuple(out)


def change(
    run: RunBook, i: int, decision: Again, nodes: Mapping[str, NodeBook]
) -> None:
    """Let function i claim more from its next attempt on, or run as another variant.

    Unless the nodes that could run that are gone since it was decided.
    """
    if decision.option in others(run, i, nodes):
        assert decision.option is not None
        run.switching[i] = decision.option
    if decision.memory is not None:
        run.claim_memory({i: decision.memory})
        run.grown[i] = decision.memory
        run.claims.first.add(i)
    if decision.gpu_memory is not None:
        run.claim_memory({i: decision.gpu_memory}, GPU_MEMORY)
        run.grown_gpu[i] = decision.gpu_memory

"""``hd.resume``: goes on with a run of which nothing is left but its journal."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from inspect import signature
from typing import Any

from distributed.protocol import pickle

from handout_dask.errors import HandoutError
from handout_dask.graph import Graph
from handout_dask.runtime.executor import Executor
from handout_dask.runtime.resuming import find, told_of
from handout_dask.runtime.run import Run

OTHERS = ("run_id", "settings", "asynchronous")  # no arguments, or not to be given


def resume(
    run_id: str,
    *,
    journal: Any = None,
    cluster: Any = None,
    graph: Graph | None = None,
    trust: bool = False,
    **settings: Any,
) -> Run:
    """Go on with a run whose client, scheduler or nodes died; returns the Run at once.

    Functions whose results were kept are not run again; those that failed are. It gets
    an executor of its own, `run.executor`, that is as the one before; close it when the
    results are not needed any more. An executor that is there already goes on with a
    run by `Executor.resume`.

    Parameters
    ----------
    run_id : str
        What ``run.token`` was.
    journal : str or path, optional
        What its executor was given as `journal`; default: the journals that this user
        has used on this host are looked through.
    cluster : None, str, Client or Dask cluster
        Where to go on, as for an executor. None starts nodes on this host, those that
        its executor was given.
    graph : Graph, optional
        What shall run in place of what ran: only what changed, and what depends on
        that, is run again. Default: the same graph, which the journal has.
    trust : bool
        Whether files are taken that another user wrote. They hold pickled code and
        results, so whoever could write there can do here what you can.
    **settings
        Of the executor, in place of what they were.

    Raises
    ------
    HandoutError
        If it has no such argument.
    JournalError
        If no journal has such a run, or a file of it is refused.
    UntrustedError
        If another user wrote it, and `trust` is not given.

    Examples
    --------
    >>> import handout_dask as hd
    >>> run = hd.resume("0a1b2c3d4e5f6a7b", journal="runs")  # doctest: +SKIP
    >>> run["total"]  # doctest: +SKIP
    """
    if settings.pop("asynchronous", False):
        raise HandoutError("resume is not asynchronous; use await executor.resume(...)")
    _check_names(settings)
    found = find(run_id, None, journal)
    told = told_of(found, run_id, trust)
    known = {what: pickle.loads(frozen) for what, frozen in told.settings.items()}
    if cluster is not None:
        known.pop("nodes", None)
    known["journal"] = found.place.address
    executor = Executor(cluster, **{**known, **settings})
    try:
        run: Run = executor.resume(run_id, graph=graph, trust=trust)
    except BaseException:
        executor.close()
        raise
    run.executor = executor
    return run


def _check_names(settings: Iterable[str]) -> None:
    """Refuse what neither this nor an executor takes; before anything is started."""
    own, executors = signature(resume).parameters, signature(Executor).parameters
    known = [name for name in {**own, **executors} if name not in OTHERS]
    for name in settings:
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = (
                f"did you mean {near[0]}=?" if near else f"it takes {', '.join(known)}"
            )
            raise HandoutError(f"resume takes no argument {name!r}; {hint}")

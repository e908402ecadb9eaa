"""Installed: allocation for ordinary Dask collections of one client; and their costs.

The client's side; `adopted` is the scheduler's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import dask
from distributed import Client
from distributed.protocol import pickle

from handout_dask.allocators import get_allocator
from handout_dask.costs import Cost, parse_cost
from handout_dask.errors import CostError, HandoutError
from handout_dask.node import Cluster
from handout_dask.runtime.connection import Connection
from handout_dask.runtime.optimising import HANDOUT, KEPT
from handout_dask.runtime.submission import declared_cluster

UNCOSTED = ("leave", "learn")
_BY_CLIENT: dict[str, Installed] = {}


class Installed(Connection):
    """An allocator at work for what a client computes; made by `install`.

    Leaves by `close`, or at the end of a ``with``: what has not started is Dask's then,
    and the last one that leaves a scheduler takes the plugin and its handlers along.

    Attributes
    ----------
    allocator : Allocator
        Who decides.
    uncosted : {"leave", "learn"}
        What happens to tasks without a cost.
    client : distributed.Client
        Whose computations they are.
    """

    def __init__(
        self, client: Client, allocator: Any, declared: Cluster | None, uncosted: str
    ) -> None:
        self._choose(allocator, uncosted)
        super().__init__(client, declared, None, client.asynchronous)

    def _choose(self, allocator: Any, uncosted: str) -> None:
        self.allocator, self.uncosted = allocator, uncosted
        try:
            self._pickled = pickle.dumps(allocator)
        except Exception as error:
            raise HandoutError(
                f"allocator {allocator!r} can't be pickled, so it can't act on the "
                f"scheduler: {type(error).__name__}: {error}"
            ) from error

    async def _join(self) -> None:
        await super()._join()
        try:
            await self.client.scheduler.handout_adopt(
                owner=self.id,
                client=self.client.id,
                allocator=self._pickled,
                learn=self.uncosted == "learn",
            )
        except BaseException:
            await self._leave()
            self._state = "new"
            raise
        _BY_CLIENT[self.client.id] = self
        KEPT.begin(self.id)

    def _forget(self) -> None:
        KEPT.end(self.id)
        if _BY_CLIENT.get(self.client.id) is self:
            del _BY_CLIENT[self.client.id]

    def close(self) -> Any:
        """Leave the scheduler; what has not started is run by Dask alone."""
        self._forget()
        return super().close()

    async def _close(self) -> None:
        self._forget()
        await super()._close()

    def __repr__(self) -> str:
        return f"<Installed {self.allocator!r}, {self.uncosted} uncosted, {self.where}>"


def install(
    client: Client,
    allocator: Any = "time",
    *,
    nodes: Any = None,
    uncosted: str = "leave",
) -> Installed:
    """Let an allocator place and order what a client computes by Dask.

    Delayed, arrays, bags, dataframes and futures: tasks with a `cost` run where and
    when the allocator's plan says, as the functions of a Graph do; small graphs that
    are submitted within milliseconds of each other are planned together.

    Parameters
    ----------
    client : distributed.Client
        Only its computations are concerned, not those of others on the same scheduler.
    allocator : str or Allocator
        Who decides. It acts on the scheduler, so it is pickled to it.
    nodes : iterable of Node, Cluster, or path of a NODES file, optional
        Speeds, prices and capabilities that workers don't tell, matched by worker name.
    uncosted : {"leave", "learn"}
        Whether tasks without a cost are left to Dask untouched, or planned too, with
        run times that are learned under the name that Dask shows for them.

    Returns
    -------
    Installed
        A context manager; an asynchronous client's is awaited, or entered by ``async
        with``. A second call for a client changes the settings of the first.

    Raises
    ------
    HandoutError
        If the scheduler can't load the plugin or the allocator.

    Notes
    -----
    Tasks that Dask's own annotations bind (``workers``, ``resources``) and actors are
    left to Dask. A task whose cost no node can meet fails with an UnsatisfiableError. A
    task that calls `distributed.secede` gives back what it held.

    While installed, this process's Dask optimises arrays, delayed and bags that have
    costs without linear fusion, which would lose them (``array_optimize`` and its like
    in `dask.config`). Not kept is the cost of an array or a bag that is an *argument*
    of `dask.delayed`, which Dask turns into plain tasks at once (use ``to_delayed``),
    of what went through `dask.optimize`, and of single operations of a dataframe: wrap
    its ``compute`` instead. Blockwise operations of equal cost are fused to one task
    that has the cost once.
    """
    if not isinstance(client, Client):
        raise HandoutError(f"install needs a distributed.Client, not {client!r}")
    if uncosted not in UNCOSTED:
        raise HandoutError(f"uncosted={uncosted!r} must be one of {UNCOSTED}")
    made, declared = get_allocator(allocator), declared_cluster(nodes)
    known = _BY_CLIENT.get(client.id)
    if known is None or known._state != "open":
        return Installed(client, made, declared, uncosted)
    known._choose(made, uncosted)
    known.declared = declared
    if known.asynchronous:
        known._state = "new"  # joins again when it is awaited
    else:
        client.sync(known._join)
    return known


def cost(
    entries: Mapping[str, Any] | None = None, /, **more: Any
) -> AbstractContextManager[None]:
    """Say what each task costs that is made, or submitted, within a ``with``.

    Parameters
    ----------
    entries, **more
        As of `Cost`; an inner ``with`` adds to an outer one, and overrides it. None
        takes an entry back.

    Raises
    ------
    CostError
        If a value makes no sense.

    Notes
    -----
    An annotation as of `dask.annotate`, named ``handout``. Around the making of delayed
    or array operations it is theirs; around ``compute``, ``persist``, ``submit`` and
    ``map`` it is that of all tasks that have none of their own. Without `install` it
    does nothing.

    Examples
    --------
    >>> import dask
    >>> with cost(memory="1 GB", cpu_time=200):
    ...     y = dask.delayed(sum)([1, 2])
    >>> y.compute(scheduler="sync")
    3
    """
    if entries is not None and not isinstance(entries, Mapping):
        raise CostError(f"hd.cost takes a cost map, not {entries!r}")
    given = {**(entries or {}), **more}
    _checked(given)
    return _annotated(given)


def _checked(entries: Mapping[str, Any]) -> Cost:
    if entries.get("code") is not None:
        raise CostError("cost: 'code' is of alternatives of a Function; leave it out")
    return parse_cost(entries, "cost")


@contextmanager
def _annotated(given: Mapping[str, Any]) -> Iterator[None]:
    outer = (dask.get_annotations().get(HANDOUT) or {}).get("cost")
    parsed = _checked({**(outer if isinstance(outer, Mapping) else {}), **given})
    plain = dict(parsed)
    if isinstance(parsed.output_size, Mapping):  # tasks are read whole
        plain["output_size"] = float(sum(parsed.output_size.values()))
    with dask.annotate(**{HANDOUT: {"cost": plain}}):
        yield

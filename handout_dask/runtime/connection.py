"""Connection: an executor's tie to a Dask cluster: start, join, leave. No graphs."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, Self

from distributed import Client
from distributed.comm import get_address_host_port
from distributed.protocol import pickle

from handout_dask.errors import HandoutError
from handout_dask.node import Cluster
from handout_dask.restarts import RestartPolicy
from handout_dask.runtime.absences import Absences
from handout_dask.runtime.adopting import Adopted
from handout_dask.runtime.client import install
from handout_dask.runtime.fleet import Fleet, check_elastic, run_in
from handout_dask.runtime.records import NAME
from handout_dask.runtime.securing import check_given, security_of
from handout_dask.runtime.supervisor import Supervisor
from handout_dask.scaling import Elastic

# s: for how long to try to join, which is more than a plugin that leaves just then may
# take for it; and between two tries.
PATIENCE, AGAIN = 10.0, 0.05


class Connection:
    """Joined to a cluster's scheduler, from where records come in; base of Executor.

    Parameters
    ----------
    cluster : None, str, Client, Supervisor or Dask cluster
        None starts an embedded one, which ends with the connection.
    declared : Cluster, optional
        What the embedded nodes are, or what workers don't tell of themselves.
    security : bool or distributed.Security, optional
        For a client that is made here, and for the embedded nodes.
    asynchronous : bool
        Whether it is opened by ``async with`` in a running event loop.
    elastic : Elastic, optional
        How nodes start and end by plan; default: they don't.
    restart : RestartPolicy or dict, optional
        Of the embedded nodes.

    Attributes
    ----------
    id : str
        Names it on the scheduler.
    client : distributed.Client
        Given or made.
    supervisor : Supervisor or None
        Of the embedded nodes, or as given.
    """

    client: Client

    def __init__(
        self,
        cluster: Any,
        declared: Cluster | None,
        security: Any,
        asynchronous: bool,
        elastic: Elastic | None = None,
        restart: Any = None,
    ) -> None:
        self.supervisor: Supervisor | None = None
        if isinstance(cluster, Adopted):
            cluster = cluster.given
        if isinstance(cluster, Supervisor):
            self.supervisor, declared = cluster, declared or cluster.declared
            security = security or cluster.security
            if cluster.cluster.asynchronous and not asynchronous:
                raise HandoutError(
                    "an asynchronous Supervisor needs Executor(asynchronous=True)"
                )
        if restart is not None and cluster is not None:
            raise HandoutError(
                "restart is for nodes that are started here, not for a cluster that is "
                "given; give it to the Supervisor"
            )
        if elastic is not None:
            check_elastic(None if self.supervisor else cluster, declared)
        self.id = uuid.uuid4().hex[:12]
        self.declared = declared
        self._elastic, self._restart = elastic, restart
        self._fleet: Fleet | None = None
        self._absences: Absences | None = None
        check_given(security, cluster)
        self._given, self._security = cluster, security_of(security, cluster)
        self._owns_client = not isinstance(cluster, Client)
        self._state = "new"
        self.asynchronous = asynchronous if self._owns_client else cluster.asynchronous
        if not self.asynchronous:
            self._open()

    # What an executor adds.
    def _receive(self, event: tuple[float, Any]) -> None:
        """Take what the plugin sent."""

    async def _cancel_all(self) -> None:
        """End what goes on, before leaving."""

    # ---------------------------------------------------------------------- opening
    def _open(self) -> None:
        """Connect from a thread of the user's."""
        try:
            self._supervise()
            self.client = self._connect()
            self.client.sync(self._join)
        except BaseException:
            self.close()
            raise

    async def _open_async(self) -> None:
        try:
            self._supervise()
            if self.supervisor is not None and self.supervisor.cluster.asynchronous:
                await self.supervisor.cluster
            self.client = self._connect()
            if self._owns_client:
                await self.client
            await self._join()
        except BaseException:
            await self._close()
            raise

    def _supervise(self) -> None:
        """Start the embedded nodes, if no cluster was given."""
        if self._given is None:
            self.supervisor = Supervisor(
                self.declared.nodes if self.declared else None,
                security=self._security,
                asynchronous=self.asynchronous,
                first=self._first_nodes(),
                # Functions may end nodes often; blame is theirs, and they are bounded.
                restart=self._restart or RestartPolicy(None),
            )

    def _first_nodes(self) -> list[str] | None:
        """The embedded nodes to start at once: the cheapest if elastic; None is all."""
        if self._elastic is None or self.declared is None:
            return None
        cheap = sorted(self.declared.nodes, key=lambda node: node.price)
        return [node.name for node in cheap[: self._elastic.least]]

    def _connect(self) -> Client:
        if isinstance(self._given, Client):
            return self._given
        target = self.supervisor.cluster if self.supervisor else self._given
        if isinstance(target, str) and not target.startswith("inproc://"):
            try:  # before Dask's Client, which a bad one leaves half made
                get_address_host_port(target)
            except ValueError as error:
                raise HandoutError(
                    f"cluster {target!r} is no address such as "
                    f"'tcp://10.0.0.1:8786': {error}"
                ) from None
        options = {} if self._security is None else {"security": self._security}
        return Client(
            target, set_as_default=False, asynchronous=self.asynchronous, **options
        )

    async def _join(self) -> None:
        declared = pickle.dumps(self.declared)
        until = monotonic() + PATIENCE
        while True:  # another executor may be taking the plugin away just now
            await install(self.client)
            try:
                joined = await self.client.scheduler.handout_join(
                    owner=self.id, client=self.client.id, declared=declared
                )
                if joined:  # Dask answers None where nobody answers (any more)
                    break
                raise HandoutError("the scheduler's plugin left while it was joined")
            except Exception:
                if monotonic() > until or self.client.status != "running":
                    raise
                await asyncio.sleep(AGAIN)
        if self.supervisor is not None:
            self.supervisor.joined(self)
        elif self.declared is not None:
            await self._check_declared(self.declared)
        self.client.subscribe_topic(f"{NAME}/{self.id}", self._receive)
        if self._absences is None:  # it may join again
            self._absences = Absences.of(self.client.cluster)
        if self._elastic is not None:
            await self._begin_elastic(self._elastic)
        self._state = "open"

    async def _begin_elastic(self, elastic: Elastic) -> None:
        """Let nodes start and end by plan."""
        assert self.declared is not None  # checked at the beginning
        if self.supervisor is not None:
            cluster, specs = self.supervisor.cluster, self.supervisor.specs
            given = self._given is not None
            self._fleet = Fleet(cluster, self.declared, elastic, specs, given=given)
        else:
            cluster = self._given
            if isinstance(cluster, Client):
                cluster = cluster.cluster
            self._fleet = Fleet(cluster, self.declared, elastic)
        await self._fleet.begin(self.client, self.id)

    async def redeclare(self, declared: Cluster | None) -> None:
        """The supervisor's nodes are others now."""
        self.declared = declared
        if self._state == "open" and self.client.status == "running":
            await run_in(
                self.client.loop,
                self.client.scheduler.handout_join(
                    owner=self.id,
                    client=self.client.id,
                    declared=pickle.dumps(declared),
                ),
            )

    async def _check_declared(self, declared: Cluster) -> None:
        """Some declared node must be a worker's, or all names are wrong."""
        state = await self.client.scheduler.handout_nodes(owner=self.id)
        live = [node.name for node in pickle.loads(state["cluster"]).nodes]
        if live and not any(name in declared.index for name in live):
            await self.client.scheduler.handout_leave(owner=self.id)
            raise HandoutError(
                f"no declared node ({', '.join([*declared.index][:5])}) bears the name "
                f"of a worker ({', '.join(live[:5])}); they are matched by name"
            )

    # ---------------------------------------------------------------------- closing
    def close(self) -> Any:
        """Cancel what still runs and leave the cluster, or end it if it is embedded."""
        if self.asynchronous:
            return self._close()
        if self._state == "open":
            self._state = "closed"
            self._unwatch()
            if self.client.status == "running":
                self.client.sync(self._leave)
        if self._owns_client and hasattr(self, "client"):
            self.client.close()
        if self.supervisor is not None and self._given is None:
            self.supervisor.close()
        return None

    async def _close(self) -> None:
        if self._state == "open":
            self._state = "closed"
            self._unwatch()
            if self.client.status == "running":
                await self._leave()
        if self._owns_client and hasattr(self, "client"):
            await self.client.close()
        if self.supervisor is not None and self._given is None:
            await self.supervisor.close()

    def _unwatch(self) -> None:
        if self._absences is not None:
            self._absences.leave()
            self._absences = None

    async def _leave(self) -> None:
        await self._cancel_all()
        if self._fleet is not None:
            await self._fleet.end()
        self.client.unsubscribe_topic(f"{NAME}/{self.id}")
        await self.client.scheduler.handout_leave(owner=self.id)

    # ------------------------------------------------------------------------ using
    def _do(self, method: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        """The result of a coroutine function, or, if asynchronous, its awaitable."""
        if self._state != "open":
            raise HandoutError(f"the executor is {self._state}; it can't be used")
        if self.supervisor is not None and self.supervisor.error is not None:
            raise self.supervisor.error
        return self.client.sync(method, *args)

    def __enter__(self) -> Self:
        if self.asynchronous:
            raise HandoutError("an asynchronous Executor needs 'async with'")
        return self

    def __exit__(self, *args: Any) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        if self._state == "new":
            await self._open_async()
        return self

    async def __aexit__(self, *args: Any) -> None:
        await self._close()

    def __await__(self) -> Any:
        return self.__aenter__().__await__()

    @property
    def where(self) -> str:
        """The scheduler's address and the state, for people."""
        known = hasattr(self, "client") and self.client.scheduler is not None
        address = self.client.scheduler.address if known else "no scheduler yet"
        return f"{address}: {self._state}"

    @property
    def dashboard_link(self) -> str:
        """Where Dask's dashboard of the cluster is."""
        return str(self.client.dashboard_link)

"""Securing: what encrypts connections, what that leaves open, and who may look in.

Touches the internals of Dask's dashboard; the seam here: ``Scheduler.http_application``
lists Bokeh's applications, whose ``_websocket_origins`` are the hosts that pages may
come from which open a websocket (Dask's default is any, 2026.8.0).
"""

from __future__ import annotations

import logging
from typing import Any

import dask
from distributed import Client, Scheduler, Security

from handout_dask.errors import HandoutError

logger = logging.getLogger(__name__)

ORIGINS = "distributed.scheduler.dashboard.bokeh-application.allow_websocket_origin"
UNCOVERED = (
    "security=True encrypts and authenticates the connections between client, "
    "scheduler, nannies and workers with credentials that exist in memory only. It "
    "does not cover: the dashboard and the other HTTP pages of scheduler and workers, "
    "which are plain HTTP without a password (on 127.0.0.1); the pipes to processes of "
    "functions' own; results spilled to disk, journals, durable results and histories, "
    "which are files protected by their permissions alone; other users of this host "
    "who may read this process's memory or act in its name. See SECURITY.md."
)
_said: list[bool] = []  # whether that was said in this process


def security_of(value: Any, cluster: Any = None) -> Security | None:
    """What encrypts connections, from what a user gave as `security`.

    Parameters
    ----------
    value : None, bool or distributed.Security
        True makes credentials for this cluster alone.
    cluster : object, optional
        The cluster that exists already, if any; it does not know such credentials.

    Raises
    ------
    HandoutError
        If it is something else, or can't be made.
    """
    if value is None or value is False:
        return None
    if isinstance(value, Security):
        return value
    if value is not True:
        raise HandoutError(
            f"security={value!r} must be True, False or a distributed.Security"
        )
    if cluster is not None:
        raise HandoutError(
            "security=True makes credentials that the given cluster does not know; "
            "give the Security with which it was started, as security=Security(...)"
        )
    try:
        made: Security = Security.temporary()
    except ImportError as error:
        raise HandoutError(
            "security=True needs the package cryptography to make credentials: "
            "pip install cryptography (or handout-dask[tls]); or give your own as "
            "security=distributed.Security(...)"
        ) from error
    if not _said:
        _said.append(True)
        logger.warning(UNCOVERED)
    return made


def check_given(value: Any, cluster: Any) -> None:
    """Refuse credentials for a Client that is connected already."""
    if isinstance(cluster, Client) and value:
        raise HandoutError(
            "security is of no use with a Client: its connection is what it is; "
            "make the Client with security=..., or give the cluster's address"
        )


def restrict_origins(scheduler: Scheduler) -> None:
    """Let only pages of the dashboard itself open its websockets.

    Of a scheduler that was started here. Whoever allows others in dask.config, as for a
    proxy, has them.
    """
    if dask.config.get(ORIGINS, ["*"]) != ["*"]:
        return
    server = getattr(scheduler, "http_server", None)
    if server is None:
        return
    hosts = {"127.0.0.1", "localhost", "[::1]"}
    origins = {f"{host}:{server.port}" for host in hosts}
    for page in getattr(scheduler.http_application, "applications", ()):
        if hasattr(page, "_websocket_origins"):
            page._websocket_origins = origins


class OwnScheduler(Scheduler):
    """A scheduler that was started here: nobody else's pages look in."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        restrict_origins(self)

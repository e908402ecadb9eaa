"""Nothing that we start can be reached from elsewhere; TLS on request; who looks in."""

import asyncio
import os
import socket
import sys

import dask
import psutil
import pytest
from distributed import Client, LocalCluster, Security
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

import handout_dask as hd
from handout_dask import Function, Graph
from handout_dask.runtime import securing

NODES = [hd.Node("n0", {"cpu": 1, "memory": 500}), hd.Node("n1", {"cpu": 1})]
LOOPBACK = {"127.0.0.1", "::1"}


@pytest.fixture(scope="module")
def executor():
    with hd.Executor(nodes=NODES) as executor:
        yield executor


def listening():
    """``(pid, address, port)`` of all TCP sockets of this process and its children."""
    us = psutil.Process()
    found = set()
    for process in [us, *us.children(recursive=True)]:
        try:
            sockets = process.net_connections("inet")
        except (psutil.NoSuchProcess, AttributeError):
            continue
        for one in sockets:
            if one.status == psutil.CONN_LISTEN:
                found.add((process.pid, one.laddr.ip, one.laddr.port))
    return found


def test_all_that_an_executor_starts_listens_on_loopback_only(executor):
    executor.execute(Graph([Function("a", [], int)]))
    found = listening()
    assert len({pid for pid, _, _ in found}) >= 3  # this one, and two workers
    assert {address for _, address, _ in found} <= LOOPBACK


@pytest.mark.slow
def test_so_does_one_that_chooses_its_nodes_itself():
    with hd.Executor() as executor:
        executor.execute(Graph([Function("a", [], int)]))
        assert {address for _, address, _ in listening()} <= LOOPBACK


def opens(url, origin):
    """Whether a page of some origin may open the websocket of the dashboard."""

    async def main():
        headers = {"Origin": origin, "Host": host}
        try:
            connection = await websocket_connect(
                HTTPRequest(url, headers=headers, connect_timeout=10)
            )
        except Exception as error:
            return getattr(error, "code", error)
        connection.close()
        return True

    host = url.split("/")[2]
    return asyncio.run(main())


def test_only_pages_of_the_dashboard_open_its_websockets(executor):
    link = executor.dashboard_link
    host = link.split("/")[2]
    port = host.rpartition(":")[2]
    url = f"ws://{host}/status/ws"
    assert opens(url, "http://evil.example.org") == 403
    assert opens(url, f"http://evil.example.org:{port}") == 403
    assert opens(url, f"http://127.0.0.1:{int(port) + 1}") == 403
    assert opens(url, f"http://127.0.0.1:{port}") != 403
    assert opens(url, f"http://localhost:{port}") != 403


def test_origins_that_the_user_names_count():
    async def main():
        with dask.config.set({securing.ORIGINS: ["proxy.example.org:443"]}):
            scheduler = securing.OwnScheduler(
                host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0"
            )
            async with scheduler:
                pages = [
                    page._websocket_origins
                    for page in scheduler.http_application.applications
                    if hasattr(page, "_websocket_origins")
                ]
                assert pages == [{"proxy.example.org:443"}]

    asyncio.run(main())


# --------------------------------------------------------------------------- TLS
def test_without_the_package_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(hd.HandoutError, match="pip install cryptography"):
        hd.Executor(nodes=NODES, security=True)


@pytest.mark.parametrize("value", ["yes", 1, {"tls_ca_file": "x"}])
def test_what_is_no_security_is_refused(value):
    with pytest.raises(hd.HandoutError, match="must be True, False or a distributed"):
        hd.Executor(nodes=NODES, security=value)


def test_credentials_that_a_cluster_cant_know_are_refused(executor):
    address = executor.client.scheduler.address
    with pytest.raises(hd.HandoutError, match="the given cluster does not know"):
        hd.Executor(address, security=True)
    with pytest.raises(hd.HandoutError, match="of no use with a Client"):
        hd.Executor(executor.client, security=True)


@pytest.mark.slow
def test_connections_are_encrypted_and_strangers_can_not_connect(caplog):
    pytest.importorskip("cryptography", reason="makes the credentials")
    securing._said.clear()
    with hd.Executor(nodes=NODES, security=True) as executor:
        assert "does not cover: the dashboard" in caplog.text
        run = executor.execute(
            Graph([
                Function("a", [], lambda: 3, node="n0"),
                Function("b", ["a"], lambda a: (a + 1, os.getpid()), node="n1"),
            ])
        )  # fmt: skip
        assert run["b"][0] == 4
        assert run["b"][1] != os.getpid()
        address = executor.client.scheduler.address
        assert address.startswith("tls://127.0.0.1:")
        workers = executor.client.scheduler_info()["workers"]
        assert len(workers) == 2
        assert all(worker.startswith("tls://127.0.0.1:") for worker in workers)
        assert {a for _, a, _ in listening()} <= LOOPBACK
        for target in (address, *workers):
            assert refuses(target)
        with pytest.raises(OSError, match="."):
            Client(address.replace("tls://", "tcp://"), timeout="2s")
        with pytest.raises((OSError, TypeError, ValueError)):
            Client(address, timeout="2s")
        with pytest.raises(OSError, match="."):  # who has credentials, but others
            Client(address, security=Security.temporary(), timeout="2s")


def refuses(target):
    """Whether a server does not answer Dask's own first words without TLS."""
    host, port = target.removeprefix("tls://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as plain:
        plain.sendall(b"\x01" + b"\0" * 63)
        plain.settimeout(5)
        try:
            return plain.recv(64)[:1] in (b"", b"\x15")  # closed, or a TLS alert
        except ConnectionError:
            return True


def test_a_cluster_with_credentials_of_its_own_is_joined_with_them():
    pytest.importorskip("cryptography", reason="makes the credentials")
    security = Security.temporary()
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, security=security,
            dashboard_address=None,
        ) as cluster,
        hd.Executor(cluster.scheduler_address, security=security) as executor,
    ):  # fmt: skip
        assert executor.execute(Graph([Function("a", [], lambda: 5)]))["a"] == 5

"""Our pages on Dask's dashboard: mounted late, listed, with prefix, taken away."""

import http.client
import json
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager

import dask
from distributed import Client, LocalCluster

import handout_dask as hd
from handout_dask import Function, Graph

PARTS = ("plan", "graph", "resources", "runs")
OURS = {
    f"Handout {part.title()}": f"/individual-handout-{part}" for part in PARTS
}  # fmt: skip


def one():
    """A graph of one function."""
    return Graph([Function("a", code=int)])


def get(url):
    """``(status, text)`` of an address."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


@contextmanager
def scheduler(**options):
    """A scheduler with one worker, and where its pages are."""
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False,
        worker_dashboard_address=None,
        **{"dashboard_address": "127.0.0.1:0", **options},
    ) as cluster, Client(cluster) as client:  # fmt: skip
        server = getattr(cluster.scheduler, "http_server", None)
        yield client, f"http://127.0.0.1:{getattr(server, 'port', 0)}"


def plots(base):
    """What JupyterLab's dask-labextension (7.0) makes of individual-plots.json.

    It is read as an object of texts; labels lose "Individual ", and an item is opened
    at the address of the dashboard with the item's own address behind it.
    """
    status, text = get(f"{base}/individual-plots.json")
    assert status == 200
    found = json.loads(text)
    assert all(isinstance(x, str) for pair in found.items() for x in pair)
    return {key.replace("Individual ", ""): route for key, route in found.items()}


def test_pages_come_with_the_first_executor_and_go_with_the_last():
    with scheduler() as (client, base):
        before = plots(base)
        assert get(f"{base}/handout")[0] == 404
        for _ in range(2):
            with hd.Executor(client), hd.Executor(client) as executor:
                assert (
                    executor.execute(Graph([Function("a", code=int)])).status == "done"
                )
                assert plots(base) == before | OURS
                for route in ("/handout", *OURS.values()):
                    assert get(f"{base}{route}")[0] == 200, route
                for page in ("status", "handout"):  # the bar is the same on all pages
                    _, text = get(f"{base}/{page}")
                    assert text.count('<a href="handout">Handout</a>') == 1, page
                    assert text.count("individual-handout-") == len(PARTS), page
            assert plots(base) == before
            assert get(f"{base}/handout")[0] == 404
            assert "handout" not in get(f"{base}/status")[1]


def test_there_is_no_page_without_a_dashboard():
    with scheduler(dashboard_address=None) as (client, _), hd.Executor(client) as runs:
        assert runs.execute(one()).status == "done"


def test_no_run_fails_where_bokeh_is_not_installed():
    """In another process, in which it can't be imported."""
    code = (
        "import sys; sys.modules['bokeh'] = None\n"
        "import handout_dask as hd\n"
        "if __name__ == '__main__':\n"
        "    from distributed import Client, LocalCluster\n"
        "    with LocalCluster(n_workers=1, processes=False,\n"
        "                      dashboard_address='127.0.0.1:0') as cluster:\n"
        "        with Client(cluster) as client, hd.Executor(client) as executor:\n"
        "            run = executor.execute(hd.Graph([hd.Function('a', code=int)]))\n"
        "            print(run.status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["done"], done.stderr
    assert "Traceback" not in done.stderr


def test_a_prefix_is_kept():
    with (
        scheduler(scheduler_kwargs={"http_prefix": "/foo/bar"}) as (client, base),
        hd.Executor(client),
    ):
        listed = plots(f"{base}/foo/bar")
        assert {"Handout Plan", "Handout Graph"} <= {*listed}
        for route in ("/handout", *OURS.values()):
            assert get(f"{base}/foo/bar{route}")[0] == 200, route
            assert get(f"{base}{route}")[0] == 404, route


def test_who_may_not_see_the_dashboard_may_not_see_our_pages():
    from bokeh.server.auth_provider import AuthProvider

    class Door(AuthProvider):
        """Lets in whoever knows the word."""

        @property
        def get_user(self):
            def get_user(handler):
                return "me" if handler.get_argument("word", "") == "sesame" else None

            return get_user

        @property
        def get_login_url(self):
            return lambda handler: "/closed"

        get_user_async = login_url = login_handler = logout_url = logout_handler = None

    where = "distributed.scheduler.dashboard.bokeh-application"
    with (
        dask.config.set({f"{where}.auth_provider": Door()}),
        scheduler() as (client, base), hd.Executor(client),
    ):  # fmt: skip
        for path in ("status", "handout", "individual-handout-runs"):
            assert get(f"{base}/{path}?word=sesame")[0] == 200, path
            assert get(f"{base}/{path}")[0] == 404, path  # it was sent to /closed


def test_only_pages_that_may_open_those_of_dask_may_open_ours():
    with hd.Executor(nodes=[hd.Node("n0", {"cpu": 1})]) as executor:
        base = executor.dashboard_link.removesuffix("/status")
        for page in ("status", "handout"):
            door = http.client.HTTPConnection(base.removeprefix("http://"), timeout=30)
            door.request("GET", f"/{page}/ws", headers={
                "Connection": "Upgrade", "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "eA==",
                "Origin": "http://evil.example",
            })  # fmt: skip
            assert door.getresponse().status == 403, page
            door.close()


def test_a_page_that_can_not_be_mounted_is_no_harm(caplog):
    from handout_dask.dashboard.install import mount

    class Odd:
        @property
        def http_application(self):
            raise RuntimeError("out of order")

    mount(Odd(), None)()
    assert "shows no page" in caplog.text

"""``handout top``: frames of what a cluster does."""

import json
import os
import pty
import subprocess
import sys

import pytest
from distributed import Client, Event, LocalCluster

import handout_dask as hd
from handout_dask.cli.screen import frame
from handout_dask.printable import columns

NASTY = "\x1b[2J\x1b]0;owned\x07\n🦆" + "x" * 10_000


def node(name="n0", **more):
    row = {"node": name, "status": "running", "running": 1, "slots": 2.0}
    resources = {"cpu": [2.0, 1.0, 0.5], "memory": [1000.0, 250.0, None]}
    return {**row, "resources": {**resources, **more}}


def run(name="r0", **more):
    row = {
        "name": name, "title": "g", "status": "running", "functions": 10, "done": 4,
        "running": 2, "failed": 1, "retries": 3, "now": 65.0, "makespan": 60.0,
        "expected": 130.0, "money": 0.125, "planned_money": None,
    }  # fmt: skip
    return {**row, **more}


def doc(nodes=(), runs=(), managed=True):
    return {"nodes": [*nodes], "runs": [*runs], "managed": managed}


# ------------------------------------------------------------------------- frames
def test_a_frame_tells_of_nodes_and_runs():
    lines = frame(doc([node(camera=[1.0, 1.0, None])], [run()]), "top")
    assert lines == [
        "top   1 node, 1 function runs",
        "",
        "node  functions  CPU [cores]           memory [MB]           camera",
        "n0    1/2        █████░░░░░ 1/2 (0.5)  ██░░░░░░░░ 250/1,000  ██████████ 1/1",
        "",
        "run  graph  status   done              running  failed  retries  time      "
        "expected  money",
        "r0   g      running  ████░░░░░░  4/10  2        1       3        1:05 min  "
        "2:10 min  0.125",
    ]


def test_what_users_call_things_neither_acts_nor_breaks_the_table():
    nasty = doc(
        [node(NASTY, **{NASTY: [1.0, 0.5, None]}), node()],
        [run(NASTY, title=NASTY), run()],
    )
    for width in (20, 80, 200):
        lines = frame(nasty, "top", width)
        assert len(lines) == 9
        for line in lines:
            assert line.isprintable()
            assert columns(line) < max(width, 21)


def test_a_frame_is_no_higher_than_the_terminal():
    many = doc([node(f"n{j}") for j in range(500)], [run(f"r{k}") for k in range(500)])
    lines = frame(many, "top", 120, 24)
    assert len(lines) <= 24
    assert any("more nodes" in line for line in lines)
    assert any("more runs" in line for line in lines)
    assert len(frame(many, "top", 120)) == 1005


def test_what_is_not_known_is_left_out():
    bare = {"cpu": [None, None, None], "memory": [None, None, 67.0]}
    lines = frame(doc([{**node(), "resources": bare}], managed=False), "top")
    assert lines[3] == "n0    1/2        -            - (67)"
    assert lines[-1] == "no executor of handout_dask uses this cluster"


# ------------------------------------------------------------------------ clusters
@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address=None,
    ) as cluster:
        yield cluster


@pytest.fixture
def address(cluster):
    return cluster.scheduler_address


def _held():
    Event("runs").set()
    return Event("may-end").wait(60)


def test_a_live_run_is_shown_and_nothing_is_left_behind(cluster, address, handout):
    with Client(cluster) as client, hd.Executor(client) as executor:
        made = executor.submit(
            hd.Graph([hd.Function("a", [], _held), hd.Function("b", ["a"], bool)], "g")
        )
        assert Event("runs", client=client).wait(60)
        code, out, _ = handout("top", "--cluster", address, "--json")
        found = json.loads(out)
        assert (code, found["managed"], found["cluster"]) == (0, True, address)
        (row,) = found["runs"]
        assert (row["name"], row["title"], row["status"]) == (
            made.token,
            "g",
            "running",
        )
        assert (row["functions"], row["done"], row["running"]) == (2, 0, 1)
        assert [(n["running"], n["slots"]) for n in found["nodes"]] == [(1, 2.0)]
        clients = client.scheduler_info()["workers"]
        code, out, _ = handout("top", "--cluster", address, "--once")
        assert (code, "1 node, 1 function runs" in out) == (0, True)
        assert out.splitlines()[-1].startswith(made.token)
        Event("may-end", client=client).set()
        made.wait(60)
        assert client.scheduler_info()["workers"].keys() == clients.keys()


def test_a_cluster_without_executors_is_shown_as_it_is(address, handout):
    code, out, _ = handout("top", "--cluster", address)  # no terminal: once
    lines = out.splitlines()
    assert code == 0
    assert "1 node, 0 functions run" in lines[0]
    assert lines[-1] == "no executor of handout_dask uses this cluster"


def test_the_configured_scheduler_is_shown(address, handout, monkeypatch):
    import dask

    with dask.config.set({"scheduler-address": address}):
        assert handout("top", "--once")[0] == 0
    code, _, err = handout("top", "--once")
    assert code == 2
    assert "--cluster ADDRESS, or set DASK_SCHEDULER_ADDRESS" in err


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (
            ("--cluster", "tcp://127.0.0.1:1"),
            "no Dask scheduler at 'tcp://127.0.0.1:1'",
        ),
        (("--cluster", "x", "--interval", "0"), "no number of seconds from 0.2 on"),
    ],
)
def test_bad_input_is_refused(handout, monkeypatch, args, why):
    def hasty(address, **options):
        assert options["timeout"] <= 10
        return Client(address, **{**options, "timeout": 1})

    monkeypatch.setattr("handout_dask.runtime.overview.Client", hasty)
    code, out, err = handout("top", *args)
    assert (code, out) == (2, "")
    assert why in err


def test_a_terminal_gets_frame_after_frame_and_is_left_as_it_was(cluster, tmp_path):
    """Until Ctrl-C; the scheduler is reached from another process by TCP."""
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False,
        dashboard_address="127.0.0.1:0", worker_dashboard_address=None,
        protocol="tcp",
    ) as over_tcp:  # fmt: skip
        mine, its = pty.openpty()
        code = "from handout_dask.cli import main; exit(main())"
        args = ["top", "--cluster", over_tcp.scheduler_address, "--interval", "0.2"]
        process = subprocess.Popen(
            [sys.executable, "-c", code, *args], stdout=its, stderr=subprocess.PIPE
        )
        os.close(its)
        seen = b""
        while seen.count(b"\x1b[H") < 3:
            seen += os.read(mine, 65536)
        process.send_signal(2)
        while True:
            try:
                told = os.read(mine, 65536)
            except OSError:  # it has ended
                break
            if not told:
                break
            seen += told
        assert process.wait(60) == 130
        os.close(mine)
    assert seen.startswith(b"\x1b[?1049h\x1b[?25l")
    assert seen.endswith(b"\x1b[?25h\x1b[?1049l")
    assert b"handout top" in seen

"""Laws of ``handout run``, ``nodes`` and ``demo``: commands on real embedded nodes."""

import json
import os
import signal
import subprocess
import sys

import pytest

MAIN = "from handout_dask.cli import main; exit(main())"
GRAPHS = """
import handout_dask as hd

good = hd.Graph([hd.Function("a", [], int), hd.Function("b", ["a"], lambda a: a + 1)])
bad = hd.Graph([hd.Function("a", [], lambda: 1 / 0), hd.Function("b", ["a"], abs)])
huge = hd.Graph([hd.Function("a", [], int, cost={"memory": "1 TB"})])


def endless():
    import time
    from pathlib import Path

    Path("started").touch()
    time.sleep(60)


long = hd.Graph([hd.Function("a", [], endless)])
"""


@pytest.fixture
def command(files):
    """Run a command in a process of its own, in the folder of the files."""
    (files.folder / "graphs.py").write_text(GRAPHS)

    def run(*args):
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from handout_dask.cli import main; exit(main())",
                *map(str, args),
            ],
            cwd=files.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def test_replayed_trace_takes_its_time_on_its_planned_nodes(command, files):
    options = ("--nodes", files.nodes, "--replay", "sleep", "--time-scale", 0.1)
    code, out, err = command("run", files.trace, *options, "--json")
    doc = json.loads(out)
    assert code == 0, err
    assert [(row["task"], row["node"]) for row in doc["schedule"]] == [
        ("make", "fast"),
        ("use", "fast"),
    ]
    took = [row["end"] - row["start"] for row in doc["schedule"]]
    assert took[0] >= 0.2  # 4 s x 0.1 / 2
    assert took[1] >= 0.1
    assert doc["planned_makespan"] == pytest.approx(0.3)
    assert doc["status"] == "done"


def test_run_shows_plan_progress_and_comparison(command, files):
    code, out, err = command("run", "graphs:good", "--nodes", files.nodes)
    assert code == 0, err
    assert "dashboard      http://127.0.0.1:" in out
    assert "busy, planned [s]" in out
    assert "2 of 2 functions done" in err


def test_trace_without_replay_is_refused(command, files):
    code, out, err = command("run", files.trace, "--nodes", files.nodes)
    assert (code, out) == (2, "")
    assert "--replay sleep" in err


def test_failed_function_gives_1_and_its_error(command, files):
    code, out, _ = command("run", "graphs:bad", "--nodes", files.nodes, "--json")
    doc = json.loads(out)
    assert (code, doc["status"], doc["schedule"]) == (1, "failed", [])
    (failure,) = doc["failures"]
    assert failure["task"] == "a"
    assert "division by zero" in failure["error"]


def test_impossible_graph_gives_3_and_names_what_is_lacking(command, files):
    code, out, err = command("run", "graphs:huge", "--nodes", files.nodes, "--json")
    assert code == 3
    assert json.loads(out)["type"] == "UnsatisfiableError"
    assert "lacks memory" in err


@pytest.mark.parametrize(
    "whole", [pytest.param(False, marks=pytest.mark.slow), True],
    ids=["process", "terminal"],
)  # fmt: skip
def test_ctrl_c_gives_130_and_leaves_no_process(command, files, whole):
    """A terminal sends it to workers as well."""
    import psutil

    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from handout_dask.cli import main; exit(main())",
            "run",
            "graphs:long",
            "--nodes",
            str(files.nodes),
        ],
        cwd=files.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        for line in process.stderr:  # progress begins once the run is submitted
            if "0 of 1 functions done" in line:
                break
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        (os.killpg if whole else os.kill)(process.pid, signal.SIGINT)
        left = process.stderr.read()
        assert process.wait(timeout=40) == 130
        assert "broadcast to" not in left
        assert "teardown" not in left
        gone, alive = psutil.wait_procs(children, timeout=20)
        assert (len(gone), alive) == (len(children), [])
    finally:
        process.kill()
        process.stderr.close()


def test_nodes_shows_what_is_declared(command, handout, files):
    code, out, err = command("nodes", "--nodes", files.nodes, "--json")
    assert code == 0, err
    rows = json.loads(out)["nodes"]
    found = {(r["node"], r["resource"], r["claimed"]) for r in rows}
    assert found >= {("slow", "memory", 0.0), ("fast", "memory", 0.0)}
    code, out, _ = handout("nodes", "--nodes", files.nodes)
    assert code == 0
    titles = ("node", "resource", "capacity", "usable", "claimed", "free", "observed")
    assert out.splitlines()[0].split() == [*titles, "claimed", "by"]


@pytest.mark.slow
def test_demo_computes_and_compares_plan_and_actual(command):
    pytest.importorskip("skimage", reason="the demo's pictures are in scikit-image")
    code, out, err = command("demo")
    assert code == 0, err
    assert "58 of 58 functions done" in err
    for text in ("dashboard", "most like", "busy, planned [s]", "makespan"):
        assert text in out
    assert ("take longer than planned" in out) == ((os.cpu_count() or 1) < 5)


@pytest.mark.slow
def test_resume_goes_on_with_a_run_that_has_a_journal(command, files, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(files.folder / "state"))
    code, out, _ = command("run", "graphs:good", "--journal", files.folder / "runs")
    assert code == 0
    (run,) = (path.name for path in (files.folder / "runs").iterdir())
    assert f"run            {run}\n" in out
    code, out, _ = command("resume", run, "--json")
    doc = json.loads(out)
    assert (code, doc["status"], doc["restored"]) == (0, "done", 1)
    code, out, err = command("resume", "0abc")
    assert code == 2
    assert "no journal has run '0abc'" in err

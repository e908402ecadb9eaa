"""Laws of ``handout plan``, and of errors and exit codes in general."""

import json
import subprocess
import sys

import pytest

from handout_dask.allocators.makespan import Time

SCHEDULE = [
    {"task": "make", "node": "fast", "start": 0.0, "end": 2.0},
    {"task": "use", "node": "fast", "start": 2.0, "end": 3.0},
]


def test_json_is_the_plan_in_the_format_of_the_specification(handout, files):
    code, out, err = handout("plan", files.trace, "--nodes", files.nodes, "--json")
    doc = json.loads(out)
    assert (code, err) == (0, "")
    assert doc.pop("planning_time") > 0
    assert doc == {
        "schedule": SCHEDULE,
        "makespan": 3.0,
        "money": 6.0,
        "billing": "function",
        "energy": 0.0,
        "transferred": 0.0,
        "network": "free",
        "allocator": repr(Time()),
        "guessed": 0,
        "estimates": {
            "time": {"declared": 2, "learned": 0, "guessed": 0},
            "memory": {"declared": 1, "learned": 0, "guessed": 1},
            "size": {"declared": 2, "learned": 0, "guessed": 0},
        },
        "workflow": "small",
    }


def test_summary_has_a_line_for_each_node_and_the_sums(handout, files):
    code, out, err = handout("plan", files.trace, "--nodes", files.nodes)
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines[:3] == [
        ["node", "functions", "busy", "[s]", "utilisation"],
        ["slow", "0", "0.000", "0.0%"],
        ["fast", "2", "3.000", "100.0%"],
    ]
    assert ["makespan", "3", "s"] in lines
    assert ["money", "6", "(by", "function)"] in lines
    assert ["moved", "0", "MB"] in lines


def test_out_writes_the_json(handout, files):
    path = files.folder / "plan.json"
    code, out, _ = handout("plan", files.trace, "--nodes", files.nodes, "--out", path)
    assert (code, json.loads(path.read_text())["schedule"]) == (0, SCHEDULE)
    assert out.startswith("node")


def test_network_and_seed_are_taken(handout, files):
    options = ("--network", "free", "--seed", 7, "--json")
    code, out, _ = handout("plan", files.trace, "--nodes", files.nodes, *options)
    assert (code, json.loads(out)["schedule"]) == (0, SCHEDULE)
    assert handout("plan", files.trace, "--nodes", files.nodes, "--seed", "x")[0] == 2


def test_allocator_billing_and_quantum_are_used(handout, files):
    options = ("--allocator", "first-available", "--billing", "held", "--quantum", 10)
    _, out, _ = handout("plan", files.trace, "--nodes", files.nodes, "--json", *options)
    doc = json.loads(out)
    assert doc["allocator"] == "FirstAvailable()"
    # Both on slow: 6 s, paid as 10 s.
    assert (doc["billing"], doc["makespan"], doc["money"]) == ("held", 6.0, 10.0)


def test_workflow_may_be_a_graph_of_a_module(handout, files, monkeypatch):
    module = files.folder / "my_flows.py"
    module.write_text(
        "import handout_dask as hd\n"
        "graph = hd.Graph([hd.Function('a', [], int, cost={'cpu_time': 500})])\n"
        "def make():\n    return graph\n"
        "number = 7\n"
    )
    monkeypatch.chdir(files.folder)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    for name in ("graph", "make"):
        code, out, err = handout(
            "plan", f"my_flows:{name}", "--nodes", files.nodes, "--json"
        )
        assert (code, err) == (0, "")
        assert json.loads(out)["schedule"] == [
            {"task": "a", "node": "fast", "start": 0.0, "end": 0.25}
        ]
    code, _, err = handout("plan", "my_flows:number", "--nodes", files.nodes)
    assert (code, err) == (2, "handout: my_flows:number is no Graph, but of type int\n")
    code, _, err = handout("plan", "my_flows:other", "--nodes", files.nodes)
    assert (code, "AttributeError" in err, "Traceback" in err) == (2, True, False)


def test_module_that_is_absent_is_bad_input(handout, files):
    code, out, err = handout("plan", "no_such_module:g", "--nodes", files.nodes)
    assert (code, out) == (2, "")
    assert err == (
        "handout: no_such_module:g: ModuleNotFoundError: "
        "No module named 'no_such_module'\n"
    )


def test_unsatisfiable_is_code_3_and_says_why(handout, files):
    small = files.folder / "small.toml"
    small.write_text('[[node]]\nname = "n0"\n[node.capabilities]\nmemory = 1\n')
    code, out, err = handout("plan", files.trace, "--nodes", small, "--json")
    assert code == 3
    why = "lacks memory (needs 2 MB, has 1)"
    assert f"'make' fits on no node: n0 {why}" in err
    assert json.loads(out) == {
        "error": err.removeprefix("handout: ").rstrip("\n"),
        "type": "UnsatisfiableError",
        "refusals": [
            {"task": "make", "node": "n0", "why": [why]},
        ],
    }


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("plan",), "the following arguments are required: WORKFLOW, --nodes"),
        (("fly",), "invalid choice: 'fly'"),
        (("plan", "TRACE", "--nodes", "no.toml"), "no.toml: can't be read"),
        (("plan", "no.json", "--nodes", "NODES"), "no.json: can't be read"),
        (("plan", "NODES", "--nodes", "NODES"), "is not JSON"),
        (("plan", "TRACE", "--nodes", "TRACE"), "has unknown key 'schemaVersion'"),
        (
            ("plan", "TRACE", "--nodes", "NODES", "--allocator", "tim"),
            "there is no allocator 'tim'",
        ),
        (("plan", "TRACE", "--nodes", "NODES", "--quantum", "-1"), "quantum=-1.0 must"),
        (
            ("plan", "TRACE", "--nodes", "NODES", "--out", "no_folder/plan.json"),
            "no_folder/plan.json: No such file or directory",
        ),
    ],
)
def test_bad_input_is_code_2_and_one_message_without_traceback(
    args, text, handout, files
):
    names = {"TRACE": files.trace, "NODES": files.nodes}
    given = [names.get(arg, arg) for arg in args]
    code, out, err = handout(*given)
    assert (code, out) == (2, "")
    assert err.startswith("handout: ")
    assert text in err
    assert "Traceback" not in err
    code, out, again = handout(*given, "--json")
    assert (code, again) == (2, err)
    assert json.loads(out)["error"] == err.removeprefix("handout: ").rstrip("\n")


def test_interrupt_is_code_130(handout, files, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("handout_dask.cli.plan.plan", interrupted)
    code, out, err = handout("plan", files.trace, "--nodes", files.nodes)
    assert (code, out, err) == (130, "", "handout: interrupted\n")


@pytest.mark.parametrize(
    ("options", "absent"),
    [((), {"dask", "distributed"}), (("--time-budget", "0"), {"dask", "numba"})],
)
def test_planning_loads_no_dask_and_at_once_no_numba(options, absent, files):
    code = (
        "import sys; from handout_dask.cli import main; main(sys.argv[1:]); "
        "print(*sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "plan", files.trace, "--nodes", files.nodes]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, timeout=60
    )
    assert absent & {*done.stderr.split()} == set()
    assert "makespan" in done.stdout

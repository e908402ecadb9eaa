"""The referee's judgement of every plan and every simulation, on real traces.

Runs where HANDOUT_REFEREE (a folder with referee.py) and HANDOUT_TRACES (a folder of
WfFormat files) are set.
"""

import json
import math
import os
import subprocess
import sys
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

import pytest

import handout_dask as hd
from handout_dask.cli import main
from handout_dask.formats.nodes import read_nodes
from handout_dask.formats.planfile import plan_to_dict
from handout_dask.formats.wfformat import read_workflow

REFEREE = os.environ.get("HANDOUT_REFEREE")
FOLDER = os.environ.get("HANDOUT_TRACES")
if not REFEREE or not FOLDER:
    pytest.skip(
        "HANDOUT_REFEREE and HANDOUT_TRACES are not set", allow_module_level=True
    )
sys.path.insert(0, REFEREE)
import referee  # noqa: E402

TRACES = sorted(Path(FOLDER).glob("*.json"))
SETS = ("mild4", "strong8", "slow8", "wide32", "big64", "mixed6", "strong8@1")
ALLOCATORS = ("first-available", "load-balanced", "time")
SIMULATIONS = (
    {},
    {"order": "strict"},
    {"network": "oneport"},
    {"noise": 0.3, "seed": 3},
    {"noise": 0.3, "seed": 4, "network": "oneport", "order": "strict"},
)
by_trace = pytest.mark.parametrize("trace", TRACES, ids=lambda path: path.stem)
by_set = pytest.mark.parametrize("nodes", SETS)
by_allocator = pytest.mark.parametrize("allocator", ALLOCATORS)


@cache
def judged(trace):
    return referee.load_wfformat(trace)


@cache
def graph_of(trace):
    return read_workflow(trace)


def as_nodes(nodeset):
    """A node set of the referee as a NODES mapping."""
    rows = []
    for node in nodeset.nodes:
        has = {"cpu": node.cores, "memory": node.memory_mb}
        has = {key: value for key, value in has.items() if value is not None}
        if node.gpus:
            has |= {"gpus": node.gpus, "gpu_memory": node.gpu_memory_mb}
        rows.append(
            {
                "name": node.id,
                "speed": node.speed,
                "kind": node.kind,
                "price": node.price_per_hour,
                "slots": node.slots,
                "capabilities": has | dict.fromkeys(node.labels, True),
            }
        )
    links = {
        "bandwidth": [[x / 1e6 for x in row] for row in nodeset.bandwidth],
        "latency": [[x * 1e3 for x in row] for row in nodeset.latency],
    }
    return {"node": rows, "network": links}


@cache
def planned(trace, nodes, allocator):
    """The referee's node set, and our plan on it; None where nothing fits."""
    problem = judged(trace)
    nodeset = referee.read_nodes(nodes, problem)
    cluster = read_nodes(as_nodes(nodeset))
    if not referee.bounds(problem, nodeset)["feasible"]:
        with pytest.raises(hd.UnsatisfiableError):
            hd.plan(graph_of(trace), cluster, allocator)
        return nodeset, None
    return nodeset, hd.plan(graph_of(trace), cluster, allocator)


@by_trace
def test_reading_agrees_with_the_referee(trace):
    problem, graph = judged(trace), graph_of(trace)
    ours = hd.Problem(graph, hd.Cluster([hd.Node("n0")]))
    assert graph.name == problem.name
    read = [
        {
            "id": f.id,
            "group": f.name,
            "seconds": f.cost.cpu_time / 1e3,
            "memory": f.cost.get("memory", 0.0),
            "cores": f.cost["cpu"],
            "parents": sorted({parent for parent, _ in f.inputs}),
        }
        for f in graph
    ]
    names = [task.id for task in problem.tasks]
    wanted = [
        {
            "id": task.id,
            "group": task.group,
            "seconds": pytest.approx(task.runtime, rel=1e-12),
            "memory": task.memory_mb,
            "cores": task.cores,
            "parents": sorted(names[u] for u, _ in problem.preds[i]),
        }
        for i, task in enumerate(problem.tasks)
    ]
    assert read == wanted
    for edge in problem.edges:
        mb = ours.size(ours.where[edge.src], ours.where[edge.dst])
        assert mb * 1e6 == pytest.approx(edge.bytes, rel=1e-12, abs=1e-9)


@by_allocator
@by_set
@by_trace
def test_referee_finds_every_plan_feasible_and_measures_the_same(
    trace, nodes, allocator
):
    nodeset, plan = planned(trace, nodes, allocator)
    if plan is None:
        return
    doc = json.loads(json.dumps(plan_to_dict(plan)))
    verdict = referee.validate(judged(trace), nodeset, doc["schedule"])
    assert verdict["errors"] == []
    assert verdict["feasible"]
    assert [doc["makespan"], doc["money"], doc["transferred"] * 1e6] == pytest.approx(
        [verdict["makespan"], verdict["money_task"], verdict["bytes_moved"]], rel=1e-9
    )


@by_set
@by_trace
def test_plan_of_time_reaches_no_less_than_the_bound(trace, nodes):
    nodeset, plan = planned(trace, nodes, "time")
    if plan is not None:
        bound = referee.bounds(judged(trace), nodeset)["makespan"]
        assert plan.makespan >= bound * (1 - 1e-9)


@by_allocator
@by_set
@by_trace
def test_simulation_agrees_with_the_referee(trace, nodes, allocator):
    nodeset, plan = planned(trace, nodes, allocator)
    if plan is None:
        return
    assignment = referee.as_assignment(plan_to_dict(plan)["schedule"])
    for options in SIMULATIONS:
        spans = hd.simulate(plan, **options)
        rows = referee.simulate(judged(trace), nodeset, assignment, **options)
        ours = {span.function: (span.node, span.start, span.end) for span in spans}
        theirs = {row["task"]: (row["node"], row["start"], row["end"]) for row in rows}
        assert ours.keys() == theirs.keys()
        last = max(end for _, _, end in theirs.values())
        for task, (node, start, end) in theirs.items():
            assert ours[task][0] == node, (options, task)
            assert math.isclose(ours[task][1], start, rel_tol=0, abs_tol=1e-9 * last)
            assert math.isclose(ours[task][2], end, rel_tol=0, abs_tol=1e-9 * last)


@by_set
@by_trace
def test_simulation_with_a_lost_node_holds_what_the_referee_checks(trace, nodes):
    """Also while functions run twice: each attempt is judged as a task of its own."""
    nodeset, plan = planned(trace, nodes, "time")
    if plan is None or len(plan) > 500:
        return
    victim = max(plan, key=lambda placed: placed.end).node
    try:
        spans = hd.simulate(plan, fail=[(victim, plan.makespan / 2)])
    except hd.NodeLostError:
        return  # the only node that it fits
    tasks, rows = [], []
    for span in spans:
        task = judged(trace).tasks[judged(trace).index[span.function]]
        id = f"{span.function} {span.attempt}"
        tasks.append(referee.Task(id, 0.0, task.memory_mb, task.cores))
        rows.append(
            {"task": id, "node": span.node, "start": span.start, "end": span.end}
        )
    attempts = referee.Problem("attempts", tasks, [])
    verdict = referee.validate(attempts, nodeset, rows, check_durations=False)
    assert verdict["errors"] == []
    assert {span.function for span in spans if span.outcome == "done"} == {
        function.id for function in graph_of(trace)
    }
    assert all(span.end <= plan.makespan / 2 for span in spans if span.node == victim)


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    """One cell end to end: the arguments of both command lines."""
    trace = next(path for path in TRACES if path.stem.startswith("montage"))
    nodes = tmp_path_factory.mktemp("cell") / "nodes.json"
    nodes.write_text(json.dumps(as_nodes(referee.read_nodes("mixed6"))))
    return trace, nodes


def run(*args):
    done = subprocess.run(
        [sys.executable, *map(str, args)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


HANDOUT = ("-c", "import sys; from handout_dask.cli import main; sys.exit(main())")
JUDGE = Path(REFEREE, "referee.py")


def test_command_lines_agree_end_to_end(cell, tmp_path):
    trace, nodes = cell
    plan, executed = tmp_path / "plan.json", tmp_path / "executed.json"
    plan.write_text(run(*HANDOUT, "plan", trace, "--nodes", nodes, "--json"))
    verdict = json.loads(run(JUDGE, "validate", trace, "mixed6", plan))
    assert (verdict["errors"], verdict["feasible"]) == ([], True)

    noise = ("--noise", "0.3", "--seed", "7")
    out = run(*HANDOUT, "simulate", plan, trace, "--nodes", nodes, *noise, "--json")
    executed.write_text(out)
    verdict = json.loads(
        run(JUDGE, "validate", trace, "mixed6", executed, "--executed")
    )
    simulated = json.loads(run(JUDGE, "simulate", trace, "mixed6", plan, *noise))
    assert (verdict["errors"], verdict["feasible"]) == ([], True)
    for key in ("makespan", "money_task", "bytes_moved"):
        assert verdict[key] == pytest.approx(simulated[key], rel=1e-9)
    assert json.loads(out)["makespan"] == pytest.approx(simulated["makespan"], rel=1e-9)


@pytest.mark.parametrize(
    ("options", "nodes"),
    [
        (("--network", "oneport"), "strong8@1"),
        (("--deadline", "1.5x"), "strong8"),
        (("--deadline", "2x", "--network", "oneport"), "strong8@1"),
        (("--deadline", "1.5x", "--billing", "held", "--quantum", "60"), "strong8"),
        (("--tradeoff", "3"), "strong8"),
        (("--tradeoff", "3", "--network", "oneport"), "strong8@1"),
        (("--objective", "makespan=1,money=0.2,transfer=0.1"), "strong8"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_referee_agrees_with_what_aims_and_networks_give(
    cell, nodes, options, tmp_path
):
    """Each plan is feasible, costs what it says and, played, takes no longer."""
    trace, _ = cell
    file = tmp_path / "nodes.json"
    nodeset = referee.read_nodes(nodes, judged(trace))
    file.write_text(json.dumps(as_nodes(nodeset)))
    given = ("--nodes", file, "--iterations", "200", "--json", *options)
    with redirect_stdout(StringIO()) as out:
        assert main([*map(str, ("plan", trace, *given))]) == 0
    doc = json.loads(out.getvalue())
    plans = doc.get("plans", [doc])
    assert len(plans) == (3 if "--tradeoff" in options else 1)
    quantum = 60.0 if "held" in options else 0.0
    network = "oneport" if "oneport" in options else "free"
    paid = "money_hold" if "held" in options else "money_task"
    for plan in plans:
        verdict = referee.validate(judged(trace), nodeset, plan["schedule"], quantum)
        assert verdict["errors"] == []
        measured = (verdict["makespan"], verdict[paid], verdict["bytes_moved"] / 1e6)
        told = (plan["makespan"], plan["money"], plan["transferred"])
        assert told == pytest.approx(measured, rel=1e-9)
        assignment = referee.as_assignment(plan["schedule"])
        # A node that never idles on purpose may end later than the plan (Graham's
        # anomalies); on the free network none that keeps to its order does.
        order = "ready" if network == "oneport" else "strict"
        rows = referee.simulate(
            judged(trace), nodeset, assignment, order=order, network=network
        )
        played = max(row["end"] for row in rows)
        assert played <= plan["makespan"] * (1 + 1e-9)

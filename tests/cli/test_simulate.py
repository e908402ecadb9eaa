"""Laws of ``handout simulate``."""

import io
import json

import pytest


@pytest.fixture
def plan(handout, files):
    path = files.folder / "plan.json"
    assert handout("plan", files.trace, "--nodes", files.nodes, "--out", path)[0] == 0
    return path


def simulated(handout, files, plan, *options):
    args = ("simulate", plan, files.trace, "--nodes", files.nodes, "--json", *options)
    code, out, err = handout(*args)
    assert (code, err) == (0, "")
    return json.loads(out)


def test_without_noise_the_plan_comes_out(handout, files, plan):
    planned = json.loads(plan.read_text())
    doc = simulated(handout, files, plan)
    assert doc.pop("planned_makespan") == planned["makespan"]
    del planned["guessed"], planned["estimates"]
    assert doc == planned


def test_noise_depends_on_the_seed_alone(handout, files, plan):
    docs = [
        simulated(handout, files, plan, "--noise", 0.3, "--seed", seed)["makespan"]
        for seed in (1, 1, 2)
    ]
    assert docs[0] == docs[1]
    assert len({*docs, 3.0}) == 3


def test_lost_node_shows_in_schedule_and_attempts(handout, files, plan):
    doc = simulated(handout, files, plan, "--fail", "fast@1")
    assert doc["schedule"] == [
        {"task": "make", "node": "slow", "start": 1.0, "end": 5.0},
        {"task": "use", "node": "slow", "start": 5.0, "end": 7.0},
    ]
    assert doc["attempts"][0] == {
        "task": "make",
        "node": "fast",
        "start": 0.0,
        "end": 1.0,
        "attempt": 1,
        "outcome": "lost",
    }
    assert (doc["makespan"], doc["money"]) == (7.0, 2.0 + 6.0)


def test_network_is_used(handout, files):
    """Two results of one node to two others."""
    trace = json.loads(files.trace.read_text())
    tasks = trace["workflow"]["specification"]["tasks"]
    tasks.append({**tasks[1], "id": "use2"})
    measured = trace["workflow"]["execution"]["tasks"]
    measured.append({**measured[1], "id": "use2"})
    files.trace.write_text(json.dumps(trace))
    files.nodes.write_text('[[node]]\nname = "n"\ncount = 3\n[network]\nlatency = 0\n')
    rows = [
        ("make", "n-0", 0.0, 4.0),
        ("use", "n-1", 5.0, 7.0),
        ("use2", "n-2", 5.0, 7.0),
    ]
    keys = ("task", "node", "start", "end")
    doc = {"schedule": [dict(zip(keys, row, strict=True)) for row in rows]}
    plan = files.folder / "plan.json"
    plan.write_text(json.dumps(doc))
    makespans = {
        network: simulated(handout, files, plan, "--network", network)["makespan"]
        for network in ("free", "oneport")
    }
    assert makespans == pytest.approx({"free": 6.08, "oneport": 6.16})


def test_summary_tells_planned_and_real(handout, files, plan):
    code, out, _ = handout(
        "simulate", plan, files.trace, "--nodes", files.nodes, "--fail", "fast@1"
    )
    lines = [line.split() for line in out.splitlines()]
    assert code == 0
    assert ["makespan", "7", "s"] in lines
    assert ["planned", "3", "s"] in lines
    assert ["attempts", "3,", "of", "which", "1", "lost"] in lines


def test_plan_may_come_from_standard_input(handout, files, plan, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(plan.read_text()))
    assert simulated(handout, files, "-")["makespan"] == 3.0


def test_nothing_left_to_run_on_is_code_3(handout, files, plan):
    fails = ("--fail", "fast@1", "--fail", "slow@2")
    code, out, err = handout(
        "simulate", plan, files.trace, "--nodes", files.nodes, *fails, "--json"
    )
    assert code == 3
    assert "function 'make' was on node 'slow', which was lost at 2 s" in err
    assert json.loads(out)["type"] == "NodeLostError"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--fail", "fast"), "'fast' is not NODE@SECONDS"),
        (("--fail", "fast@soon"), "'fast@soon' is not NODE@SECONDS"),
        (("--fail", "gone@1"), "node 'gone' can't fail; the nodes are slow, fast"),
        (("--network", "fast"), "invalid choice: 'fast'"),
        (("--noise", "-1"), "noise=-1.0 must be finite and not negative"),
    ],
)
def test_bad_option_is_code_2(options, text, handout, files, plan):
    code, out, err = handout(
        "simulate", plan, files.trace, "--nodes", files.nodes, *options
    )
    assert (code, out) == (2, "")
    assert text in err


def test_plan_of_another_workflow_is_code_2(handout, files, plan):
    plan.write_text('{"schedule": []}')
    args = ("simulate", plan, files.trace, "--nodes", files.nodes)
    code, _, err = handout(*args)
    assert (code, err) == (2, "handout: the plan lacks function 'make' and 1 more\n")
    plan.write_text("no")
    code, _, err = handout(*args)
    assert (code, err.startswith(f"handout: {plan}: is not JSON")) == (2, True)


def planned(handout, files, network):
    path = files.folder / f"{network}.json"
    options = ("--network", network, "--iterations", 10, "--out", path)
    assert handout("plan", files.trace, "--nodes", files.nodes, *options)[0] == 0
    return path


def test_network_is_by_default_that_for_which_the_plan_is_made(handout, fan):
    """10 MB take 0.08 s to each of three nodes, together or one after the other."""
    made = {name: planned(handout, fan, name) for name in ("free", "oneport")}
    played = {
        (name, options): simulated(handout, fan, path, *options)
        for name, path in made.items()
        for options in ((), ("--network", "free"), ("--network", "oneport"))
    }
    assert {key: (doc["makespan"], doc["network"]) for key, doc in played.items()} == {
        ("free", ()): (pytest.approx(6.08), "free"),
        ("free", ("--network", "free")): (pytest.approx(6.08), "free"),
        ("free", ("--network", "oneport")): (pytest.approx(6.24), "oneport"),
        ("oneport", ()): (pytest.approx(6.24), "oneport"),
        ("oneport", ("--network", "free")): (pytest.approx(6.08), "free"),
        ("oneport", ("--network", "oneport")): (pytest.approx(6.24), "oneport"),
    }
    assert played["oneport", ()]["planned_makespan"] == pytest.approx(6.24)


def test_plan_for_an_unknown_network_is_code_2(handout, files, plan):
    doc = json.loads(plan.read_text()) | {"network": "tokenring"}
    plan.write_text(json.dumps(doc))
    args = ("simulate", plan, files.trace, "--nodes", files.nodes)
    code, _, err = handout(*args)
    assert (code, "network 'tokenring'" in err, "oneport" in err) == (2, True, True)

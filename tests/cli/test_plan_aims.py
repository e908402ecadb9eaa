"""Laws of what ``handout plan`` minimises: deadlines, budgets, trade-offs, weights."""

import json

import pytest

from handout_dask import objective
from handout_dask.allocators.cost import Cost
from handout_dask.allocators.makespan import Time

# make -> use (4 s, 2 s, 10 MB): on fast 3 s for 12, make alone on fast 4.08 s for 10,
# use alone on fast 5.08 s for 8, on slow 6 s for 6. Of energy fast takes the least.
PRICED = """
[[node]]
name = "slow"
price = 3600
watts = 100
[[node]]
name = "fast"
speed = 2
price = 14400
watts = 60
[network]
latency = 0
"""
BOTH_FAST, MAKE_FAST, USE_FAST, BOTH_SLOW = (3, 12), (4.08, 10), (5.08, 8), (6, 6)


@pytest.fixture
def planned(handout, files):
    """The document that options give for the priced nodes."""
    files.nodes.write_text(PRICED)

    def run(*options):
        if "--time-budget" not in options:
            options = ("--iterations", 60, *options)
        code, out, err = handout(
            "plan", files.trace, "--nodes", files.nodes, "--json", *options
        )
        assert (code, err) == (0, "")
        return json.loads(out)

    return run


def sums(doc):
    return doc["makespan"], doc["money"]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ((), BOTH_FAST),
        (("--deadline", 3), BOTH_FAST),
        (("--deadline", 4.5), MAKE_FAST),
        (("--deadline", "5100 ms"), USE_FAST),
        (("--deadline", "10 min"), BOTH_SLOW),
        (("--deadline", "1x"), BOTH_FAST),
        (("--deadline", "1.4x"), MAKE_FAST),
        (("--budget", 11), MAKE_FAST),
        (("--budget", 6), BOTH_SLOW),
        (("--by", "money"), BOTH_SLOW),
        (("--by", "energy"), BOTH_FAST),
        (("--by", "energy", "--budget", 200), BOTH_FAST),
        (("--allocator", "cost"), BOTH_SLOW),
        (("--objective", "makespan=1"), BOTH_FAST),
        (("--objective", "makespan=0.1,money=1"), BOTH_SLOW),
        (("--objective", "energy=1,transfer=1"), BOTH_FAST),
        (("--time-budget", 0), BOTH_FAST),
    ],
)
def test_options_choose_the_allocator_and_its_aim(options, wanted, planned):
    assert sums(planned(*options)) == pytest.approx(wanted)


def test_document_names_the_allocator_with_all_its_parameters(planned):
    effort = {"iterations": 7, "seed": 3}
    given = ("--iterations", 7, "--seed", 3)
    assert planned(*given)["allocator"] == repr(Time(**effort))
    assert planned(*given, "--deadline", "2x", "--by", "energy")["allocator"] == repr(
        Cost(**effort, deadline="2x", by="energy")
    )
    weighted = planned(*given, "--objective", "makespan=1, money=0.2,transfer=.1")
    assert weighted["allocator"] == repr(
        objective({"makespan": 1.0, "money": 0.2, "transfer": 0.1}, **effort)
    )


def test_energy_is_in_the_document_and_in_the_summary(planned, handout, files):
    assert planned("--by", "energy")["energy"] == 3 * 60.0
    _, out, _ = handout("plan", files.trace, "--nodes", files.nodes, "--by", "energy")
    assert ["energy", "180", "W", "s"] in [line.split() for line in out.splitlines()]


def test_billing_is_what_the_deadline_saves(planned):
    """Held nodes are paid by the whole 5 s: make on fast and use on slow costs 25."""
    held = ("--billing", "held", "--quantum", 5, "--deadline", 4.5)
    assert sums(planned(*held)) == (3, 20)


def test_tradeoff_is_plans_from_the_fastest_to_the_cheapest(planned):
    doc = planned("--tradeoff", 4)
    assert doc.keys() == {"plans"}
    assert [sums(plan) for plan in doc["plans"]] == [
        pytest.approx(wanted) for wanted in (BOTH_FAST, MAKE_FAST, BOTH_SLOW)
    ]
    assert all(plan.keys() == planned().keys() for plan in doc["plans"])


def test_tradeoff_is_written_and_is_a_table_for_people(planned, handout, files):
    path = files.folder / "plans.json"
    options = ("--tradeoff", 4, "--iterations", 60, "--seed", 0)
    doc = planned(*options)
    code, out, err = handout(
        "plan", files.trace, "--nodes", files.nodes, *options, "--out", path
    )
    assert (code, err) == (0, "")
    written = json.loads(path.read_text())
    for plan in (*doc["plans"], *written["plans"]):
        del plan["planning_time"]
    assert written == doc
    head, first, second, third, *rest = out.splitlines()
    assert " ".join(head.split()) == (
        "plan makespan [s] money energy [W s] moved [MB] nodes used"
    )
    assert [row.split() for row in (first, second, third)] == [
        ["1", "3", "12", "180", "0", "1"],
        ["2", "4.08", "10", "320", "10", "2"],
        ["3", "6", "6", "600", "0", "1"],
    ]
    assert ["workflow", "small"] in [line.split() for line in rest]


@pytest.mark.parametrize(
    ("options", "reachable"),
    [
        (("--deadline", 2), "ends within 2 s: the fastest one found takes 3 s"),
        (("--budget", 5), "for 5: the cheapest one found costs 6 and takes 6 s"),
        (("--budget", 100, "--by", "energy"), "the cheapest one found costs 180"),
    ],
)
def test_unreachable_limit_is_code_3_and_says_what_is_reachable(
    options, reachable, handout, files
):
    files.nodes.write_text(PRICED)
    args = ("plan", files.trace, "--nodes", files.nodes, "--iterations", 60)
    code, out, err = handout(*args, *options, "--json")
    assert (code, reachable in err) == (3, True), err
    assert json.loads(out) == {
        "error": err.removeprefix("handout: ").rstrip("\n"),
        "type": "UnsatisfiableError",
        "refusals": [],
    }


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            ("--deadline", 5, "--allocator", "time"),
            "--deadline is no parameter of allocator time, but of cost",
        ),
        (
            ("--tradeoff", 5, "--allocator", "packing"),
            "--tradeoff is no parameter of allocator packing, but of cost",
        ),
        (
            ("--budget", 5, "--objective", "makespan=1"),
            "--objective is no parameter of allocator cost, but of objective",
        ),
        (
            ("--seed", 5, "--allocator", "first-available"),
            "--seed is no parameter of allocator first-available, but of time, cost, "
            "objective",
        ),
        (("--by", "energy", "--allocator", "tim"), "there is no allocator 'tim'"),
        (("--by", "weight"), "invalid choice: 'weight'"),
        (("--deadline", "soon"), "'soon'"),
        (("--deadline", "0.5x"), "at least '1x'"),
        (("--deadline", "nan"), "must be a finite number above 0"),
        (("--deadline", 5, "--budget", 5), "give one of deadline, budget and tradeoff"),
        (("--tradeoff", 1), "at least 2"),
        (("--iterations", -1), "iterations=-1 must be a whole number"),
        (
            ("--iterations", 1, "--time-budget", 1),
            "time_budget or iterations, not both",
        ),
        (("--objective", "makespan"), "'makespan' is not NAME=WEIGHT"),
        (("--objective", "makespan=1,makespan=2"), "'makespan' has two weights"),
        (
            ("--objective", "speed=1"),
            "must be one of makespan, money, energy, transfer",
        ),
        (("--objective", "money=-1"), "weight -1.0 must be"),
        (("--network", "tokenring"), "invalid choice: 'tokenring'"),
    ],
)
def test_options_that_make_no_sense_are_code_2(options, text, handout, files):
    code, out, err = handout("plan", files.trace, "--nodes", files.nodes, *options)
    assert (code, out) == (2, "")
    assert text in err
    assert "Traceback" not in err


def test_iterations_and_seed_alone_decide_the_plan(handout, files):
    """Forty functions of which many orders are as good; a search of few moves."""
    trace = json.loads(files.trace.read_text())
    names = [f"t{k}" for k in range(40)]
    trace["workflow"] = {
        "specification": {
            "tasks": [
                {"name": id, "id": id, "parents": names[max(0, k - 9) : k // 2]}
                for k, id in enumerate(names)
            ],
            "files": [],
        },
        "execution": {
            "tasks": [
                {"id": id, "runtimeInSeconds": 1.0 + k * 7 % 5 + k * 3 % 11 / 10}
                for k, id in enumerate(names)
            ]
        },
    }
    files.trace.write_text(json.dumps(trace))
    node = '[[node]]\nname = "{0}"\ncount = 3\nspeed = {1}\nprice = {1}\n'
    files.nodes.write_text(node.format("slow", 1) + node.format("fast", 1.7))
    args = ("plan", files.trace, "--nodes", files.nodes, "--json", "--iterations", 2000)
    for options in ((), ("--deadline", "1.3x"), ("--objective", "makespan=1,money=1")):
        schedules = [
            json.loads(handout(*args, *options, "--seed", seed)[1])["schedule"]
            for seed in (1, 1, 2)
        ]
        assert schedules[0] == schedules[1], options
        assert schedules[1] != schedules[2], options


def test_plan_for_the_one_port_network_says_so_and_allows_for_it(handout, fan):
    """10 MB to each of three nodes: 0.08 s, together or one after the other."""
    args = ("plan", fan.trace, "--nodes", fan.nodes, "--iterations", 10)
    docs = [
        json.loads(handout(*args, "--network", name, "--json")[1])
        for name in ("free", "oneport")
    ]
    assert [(doc["network"], doc["makespan"]) for doc in docs] == [
        ("free", pytest.approx(6.08)),
        ("oneport", pytest.approx(6.24)),
    ]
    texts = [handout(*args, "--network", name)[1] for name in ("free", "oneport")]
    lines = [[x for x in text.splitlines() if "network" in x] for text in texts]
    assert lines == [[], ["network        oneport"]]


def test_tradeoff_is_made_for_the_network_too(handout, fan):
    args = ("plan", fan.trace, "--nodes", fan.nodes, "--iterations", 10, "--json")
    options = ("--tradeoff", 2, "--network", "oneport")
    plans = json.loads(handout(*args, *options)[1])["plans"]
    assert {plan["network"] for plan in plans} == {"oneport"}
    assert plans[0]["makespan"] == pytest.approx(6.24)

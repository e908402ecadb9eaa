"""A function that ran out of memory is tried as another of its cost alternatives."""

from dataclasses import replace

import pytest

from handout_dask.dispatch import Dispatcher
from handout_dask.function import Function
from handout_dask.graph import Graph
from handout_dask.moving import find_able
from handout_dask.node import Node
from handout_dask.outline import Outline
from handout_dask.recovery import Recovery
from handout_dask.retry import RetryPolicy
from handout_dask.runspec import RunSpec
from handout_dask.setbacks import Again, Attempt, Exit, Fault, GiveUp, Tried
from handout_dask.tracker import StaticTracker
from handout_dask.variants import change, others

MEMORY = Fault("exhausted", (), "", "memory", 150.0, 100.0)
DEVICE = Fault("exhausted", (), "", "gpu_memory", 150.0, 100.0)
OOM = Exit(-9, 77, (310e6, 300e6))


def tried(number=1, option=0, claim=100.0, most=100.0, others=(1, 2), **policy):
    return Tried(
        ("run", 0), "'f'", RetryPolicy(jitter=0.0, **policy),
        Attempt(number, "n0", 9.0, 10.0), claim, most, claim, most, option, others,
    )  # fmt: skip


def one(decisions):
    (decision,) = decisions
    return decision


@pytest.mark.parametrize("fault", [MEMORY, DEVICE])
def test_what_can_not_have_more_runs_as_each_other_alternative_once(fault):
    recovery, seen = Recovery(), []
    for number, (option, rest) in enumerate([(0, (1, 2)), (1, (0, 2)), (2, (0, 1))], 1):
        about = tried(number, option, others=rest)
        decision = one(recovery.failed(about, fault, 10.0))
        seen.append(getattr(decision, "option", "none left"))
    assert seen == [1, 2, "none left"]


def test_more_memory_goes_before_another_alternative():
    recovery = Recovery()
    first = one(recovery.failed(tried(most=400.0), MEMORY, 10.0))
    assert (first.memory, first.option) == (300.0, None)
    second = one(recovery.failed(tried(2, claim=300.0, most=400.0), MEMORY, 10.0))
    assert (second.memory, second.option) == (None, 1)


def test_a_death_of_its_node_for_memory_counts_as_such():
    recovery = Recovery()
    recovery.died("w", "n0", [tried()], 10.0)
    again = one(recovery.learned("w", OOM, 10.1))
    assert (again.option, again.alone) == (1, True)


@pytest.mark.parametrize(
    ("fault", "about"),
    [
        (MEMORY, {"variants": False}),
        (MEMORY, {"never": MemoryError}),
        (MEMORY, {"others": ()}),
        (replace(MEMORY, resource="disk"), {"memory_attempts": 1}),
    ],
)
def test_it_fails_where_that_is_not_wanted_or_does_not_help(fault, about):
    fault = replace(fault, names=("builtins.MemoryError",))
    assert isinstance(one(Recovery().failed(tried(**about), fault, 10.0)), GiveUp)


# ------------------------------------------------------------------------ the books
COSTS = [
    {"cpu_time": 100, "gpus": 1, "gpu_memory": 100},
    {"cpu_time": 900, "memory": 300},
    {"cpu_time": 950, "camera": 1},
]
NODES = (
    Node("gpu", {"cpu": 2, "memory": 200, "gpus": 1, "gpu_memory": 100}),
    Node("cpu", {"cpu": 1, "memory": 400}),
)


def books(**about):
    """One function, planned as its first alternative for the node with a GPU."""
    outline = Outline.of(Graph([Function("f", [], None, cost=COSTS)]))
    classes = outline.option_class.tolist()
    able = [frozenset()] * len(outline.classes)
    able[classes[0]], able[classes[1]] = frozenset({"gpu"}), frozenset({"cpu"})
    demand = [{"cpu": 1.0, **dict(cost.demand)} for cost in outline.classes]
    spec = RunSpec(
        "r", ["f"], "c", ["gpu"], [0], [classes[0]], demand, able, frozenset(), {},
        [0.0], [0.1], frozenset(), outline=outline, option=[0],
    )  # fmt: skip
    made = Dispatcher(StaticTracker())
    for node in NODES:
        made.set_node(node)
    return made, made.add_run(replace(spec, **about))


def test_only_alternatives_that_a_node_can_run_are_others():
    made, run = books()
    assert others(run, 0, made.nodes) == (1,)
    made.lose_node("cpu")  # and nobody expects it back
    assert others(run, 0, made.nodes) == ()
    made, run = books(pinned=frozenset({0}))
    assert others(run, 0, made.nodes) == ()
    made, run = books(outline=None, option=())
    assert others(run, 0, made.nodes) == ()


def test_it_does_not_switch_to_what_no_node_can_run_any_more():
    made, run = books()
    decision = Again(("r", 0), 1.0, "", Attempt(1, "gpu", 0.0, 1.0), option=1)
    made.lose_node("cpu")
    change(run, 0, decision, made.nodes)
    assert not run.switching


def test_a_plan_made_before_does_not_put_it_back_where_it_can_not_run():
    made, run = books()
    decision = Again(("r", 0), 1.0, "", Attempt(1, "gpu", 0.0, 1.0), option=1)
    change(run, 0, decision, made.nodes)
    run.put(0)
    find_able(run, 0, made.nodes, made.runs)
    assert run.node == ["cpu"]
    assert run.replace(["gpu"], [0.0], [0.1], [0.0], [0], made.is_due) == []
    assert run.node == ["cpu"]


def test_what_was_not_switched_stays_where_it_was_planned():
    made, run = books()
    run.able(0).clear()
    run.able(0).add("cpu")  # its node came back with less
    find_able(run, 0, made.nodes, made.runs)
    assert run.node == ["gpu"]


def test_another_alternative_is_claimed_on_a_node_that_can_run_it():
    made, run = books()
    made.ready("r", 0)
    near = lambda token, i, name: 0.0  # noqa: E731
    assert [send.i for send in made.next("gpu", near)] == [0]
    made.resting.rest(("r", 0), 1.0, "it ran out of memory")
    decision = Again(("r", 0), 1.0, "", Attempt(1, "gpu", 0.0, 1.0), option=1)
    change(run, 0, decision, made.nodes)
    assert (run.option(0), run.demand(0)["gpu_memory"]) == (0, 100)  # it has it yet
    made.waiting("r", 0)
    assert made.resting.wake(("r", 0))
    made.ready("r", 0)
    assert (run.node[0], run.option(0), others(run, 0, made.nodes)) == ("cpu", 1, (0,))
    assert run.demand(0) == {"cpu": 1.0, "memory": 300}
    assert run.seconds(0) == pytest.approx(0.9)
    assert [send.i for send in made.next("gpu", near)] == []
    assert [send.i for send in made.next("cpu", near)] == [0]
    claimed = made.tracker.snapshot()
    assert claimed["cpu"]["memory"][1] == 300
    assert claimed["gpu"]["gpu_memory"][1] == 0
    assert run.attempts[0] == 2

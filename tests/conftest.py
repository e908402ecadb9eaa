"""What tests share: random problems that hold every kind of constraint."""

import pytest
from hypothesis import strategies as st

from handout_dask import Cluster, Function, Graph, Node, Problem, with_function
from handout_dask.problem import Held


@st.composite
def some_nodes(draw):
    """Up to four nodes, some of them alike, with few or many kinds of capabilities."""
    choice = st.sampled_from
    nodes = []
    for j in range(draw(st.integers(1, 4))):
        if nodes and draw(st.booleans()):
            like = draw(choice(nodes))
            nodes.append(
                Node(f"n{j}", like.capabilities, speed=like.speed, slots=like.slots)
            )
            continue
        has = {
            "cpu": draw(choice([None, 1, 2, 4])),
            "memory": draw(choice([None, 100, 200])),
            "camera": draw(choice([None, 1, 2])),
            "ssd": draw(choice([None, True])),
            "gpus": draw(choice([None, None, 1, 2])),
        }
        if has["gpus"]:
            has |= {"gpu_memory": 40, "has_cuda": draw(st.booleans())}
        nodes.append(
            Node(
                f"n{j}",
                {name: value for name, value in has.items() if value is not None},
                speed=draw(choice([0.5, 1, 2])),
                gpu_speed=draw(choice([1, 4])),
                slots=draw(choice([None, None, 1, 3])),
                price=j,
            )
        )
    if draw(choice([True, True, False])):  # where nearly everything fits
        has = {"cpu": 4, "memory": 200, "camera": 2, "ssd": True, "gpus": 2}
        nodes.append(Node("big", {**has, "gpu_memory": 40, "has_cuda": True}))
    return nodes


@st.composite
def some_cost(draw):
    """Mostly small costs, that fit many nodes, but not all."""
    choice = st.sampled_from
    cost = {
        "cpu_time": draw(choice([None, 0, 10, 20, 1000])),
        "output_size": draw(choice([None, 0, 1, 100, {0: 5, 1: 7}])),
        "memory": draw(choice([None, None, 0, 50, 60, 150])),
        "cpu": draw(choice([None, None, None, 0, 0.5, 2])),
        "camera": draw(choice([None, None, None, None, 1])),
        "ssd": draw(choice([None, None, None, None, True])),
        "gpus": draw(choice([None, None, None, None, 0.5, 1, 2])),
    }
    if cost["gpus"]:
        cost["gpu_memory"] = draw(choice([None, 20, 30]))
        cost["gpu_time"] = draw(choice([None, 5]))
    return {name: value for name, value in cost.items() if value is not None}


@st.composite
def some_problem(draw):
    """A random graph on random nodes, with pins, groups, alternatives and holds."""
    choice = st.sampled_from
    nodes = draw(some_nodes())
    n = draw(choice([10, 8, 6, 4, 3, 2, 1, 0]))
    functions = []
    for i in range(n):
        reads = draw(st.lists(st.integers(0, i - 1), max_size=3)) if i else []
        args = [(u, draw(choice([None, None, 0, 1]))) for u in reads]
        costs = draw(st.lists(some_cost(), min_size=1, max_size=2))
        where = draw(choice([None] * 12 + ["n0", "n1", "group", "group"]))
        if where == "group":
            where = with_function(draw(st.integers(0, n - 1)))
        functions.append(Function(i, args, cost=costs, node=where))
    held = [
        Held(
            draw(choice(["n0", "n1", "gone"])),
            draw(choice([-1.0, 0.0, 0.01])),
            draw(choice([0.005, 0.015, 2.0])),
            draw(choice([{}, {"memory": 150}, {"slots": 0, "cpu": 0, "camera": 2}])),
        )
        for _ in range(draw(choice([0, 0, 1, 3])))
    ]
    cluster = Cluster(
        nodes, bandwidth=draw(choice([10, 1000])), latency=draw(choice([0, 0.5, 10]))
    )
    return Problem(Graph(draw(st.permutations(functions))), cluster, held=held)


@pytest.fixture(scope="session")
def problems():
    """A strategy of small random problems; many can't be solved."""
    return some_problem()

"""Large graphs work live: wide, deep, many. Times are printed, not asserted."""

import time

import pytest

import handout_dask as hd
from handout_dask import Function, Graph

MANY = 10_000


@pytest.fixture(scope="module")
def executor():
    nodes = [hd.Node("n0", {"cpu": 2}), hd.Node("n1", {"cpu": 2})]
    with hd.Executor(nodes=nodes) as executor:
        yield executor


def _run(executor, what, make, **options):
    begin = time.perf_counter()
    graph = make()
    built = time.perf_counter()
    run = executor.submit(graph, **options)
    submitted = time.perf_counter()
    run.wait(360)  # three times what it may take
    ended = time.perf_counter()
    print(
        f"\n{what}: built {built - begin:.2f} s, submitted {submitted - built:.2f} s "
        f"(planned {run.plan.planning_time:.2f} s), ran {ended - submitted:.2f} s"
    )
    assert (run.status, run.progress) == ("done", (len(graph), 0, len(graph)))
    return run


@pytest.mark.slow
def test_a_fan_in_of_ten_thousand(executor):
    def make():
        ones = [Function(k, [], lambda: 1) for k in range(MANY)]
        return Graph([*ones, Function("sum", range(MANY), lambda *x: sum(x))])

    assert _run(executor, "fan-in", make, keep="sinks")["sum"] == MANY


@pytest.mark.slow
def test_a_fan_out_of_ten_thousand(executor):
    def make():
        readers = [Function(k, ["one"], lambda x: x) for k in range(MANY)]
        return Graph([Function("one", [], lambda: 1), *readers])

    run = _run(executor, "fan-out", make)
    assert [run[k] for k in (0, MANY - 1)] == [1, 1]


@pytest.mark.slow
@pytest.mark.stress
def test_elements_for_ten_thousand_readers(executor):
    def make():
        readers = [Function(k, [("all", k)], lambda x: x) for k in range(MANY)]
        return Graph([Function("all", [], lambda: list(range(MANY))), *readers])

    run = _run(executor, "fan-out by index", make)
    assert [run[k] for k in (0, 77, MANY - 1)] == [0, 77, MANY - 1]


@pytest.mark.slow
@pytest.mark.stress
def test_a_chain_of_ten_thousand(executor):
    def make():
        links = [Function(k, [k - 1], lambda x: x + 1) for k in range(1, MANY)]
        return Graph([Function(0, [], lambda: 0), *links])

    assert _run(executor, "chain", make, keep="sinks")[MANY - 1] == MANY - 1


@pytest.mark.slow
@pytest.mark.stress
def test_a_hundred_thousand_functions_without_edges(executor):
    def make():
        return Graph(Function(k, [], lambda: 1) for k in range(100_000))

    _run(executor, "no edges", make, keep=[])


@pytest.mark.slow
def test_a_thousand_of_each(executor):
    def make():
        ones = [Function(k, [], lambda: 1) for k in range(1000)]
        chain = [Function(-k, [1 - k], lambda x: x + 1) for k in range(1, 1000)]
        total = Function("sum", [*range(1000), -999], lambda *x: sum(x))
        return Graph([*ones, *chain, total])

    assert _run(executor, "a thousand of each", make)["sum"] == 1000 + 1000

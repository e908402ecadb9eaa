"""Handoff's scenarios of order, failures and retries that no other test holds."""

import pytest

import handout_dask as hd
from handout_dask import Function, Graph, RetryPolicy


# distributed_executor_test.exs:190
def test_can_execute_dag_with_failure_and_retry(executor, journal):
    def fails_once():
        journal("called")
        if len(journal.lines()) == 1:
            raise RuntimeError("the first time")
        return 5

    graph = Graph(
        [
            Function("a", [], fails_once, retry=RetryPolicy(attempts=2)),
            Function("b", ["a"], lambda a: [4 * a, a]),
        ]
    )
    run = executor.execute(graph)
    assert (run["b"], run["a"], journal.lines()) == ([20, 5], 5, ["called"] * 2)
    assert [(s.function, s.attempt, s.outcome) for s in run.spans] == [
        ("a", 1, "failed"),
        ("a", 2, "done"),
        ("b", 1, "done"),
    ]
    assert (run.status, run.progress) == ("done", (2, 0, 2))


# distributed_executor_test.exs:755
def test_executes_a_simple_dag_in_dependency_order(executor):
    graph = Graph(
        [
            Function("c", ["b"], lambda b: 2 * b),
            Function("b", ["a"], lambda a: a + 1),
            Function("a", [], lambda: 1),
        ]
    )
    run = executor.execute(graph)
    assert dict(run.results) == {"a": 1, "b": 2, "c": 4}
    assert [span.function for span in run.spans] == ["a", "b", "c"]
    a, b, c = run.spans
    assert a.end <= b.start <= b.end <= c.start


# distributed_executor_test.exs:888
def test_rejects_invalid_dags(executor, journal):
    """Before anything runs, though functions were added one by one."""
    graph = Graph([Function("ok", [], lambda: journal("ran"))])
    graph.add(Function("a", ["b"], abs)).add(Function("b", ["a"], abs))
    before = {row["token"] for row in executor.runs()}
    for use in (executor.submit, executor.execute, executor.plan):
        with pytest.raises(hd.CycleError) as info:
            use(graph)
        assert sorted(info.value.cycle) == ["a", "b"]
    assert {row["token"] for row in executor.runs()} <= before
    assert journal.lines() == []


# parallel_execution_test.exs:212
def test_function_failure_does_not_start_downstream_dependents(
    executor, journal, caught
):
    def fails():
        journal("fails")
        raise RuntimeError("no")

    graph = Graph(
        [
            Function("fails", [], fails),
            Function("reads", ["fails"], lambda x: journal("reads")),
            Function("last", ["reads"], lambda x: journal("last")),
        ]
    )
    run = executor.submit(graph).wait(30)
    assert (journal.lines(), run.status, run.progress) == (
        ["fails"],
        "failed",
        (0, 3, 3),
    )
    assert caught(RuntimeError, lambda: run["fails"]).args == ("no",)
    for id in ("reads", "last"):
        cause = caught(hd.FunctionError, lambda id=id: run[id]).__cause__
        assert (type(cause), cause.handout[0]) == (RuntimeError, "fails")

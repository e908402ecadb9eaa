"""Pictures of live runs agree with the run, while it goes on and when it ended."""

import time
from functools import partial

import numpy as np
import pytest

import handout_dask as hd
from handout_dask import Function, Graph
from handout_dask.picture import STATES


@pytest.fixture(scope="module")
def executor():
    nodes = [
        hd.Node("n0", {"cpu": 1, "memory": 1000}, price=3600),
        hd.Node("n1", {"cpu": 1, "memory": 1000}, price=3600),
    ]
    with hd.Executor(nodes=nodes) as executor:
        yield executor


def seen(executor, token, until):
    """The picture of a run, when it was made ready."""

    def is_ready(dask_scheduler, token=token):
        return dask_scheduler.plugins["handout"].viewing.picture(token) is not None

    def look(dask_scheduler, token=token):
        viewing = dask_scheduler.plugins["handout"].viewing
        viewing._viewed[token].last = None  # as it is now
        found = viewing.picture(token)
        states = dict(zip(found.labels, found.state.tolist(), strict=True))
        columns = {
            name: getattr(found.spans, name).tolist()
            for name in ("function", "node", "start", "end", "attempt", "outcome")
        }
        rows = [columns | {"labels": found.labels, "nodes": found.nodes}]
        summary = next(x for x in viewing.runs() if x.name == token)
        failures = [(x.function, x.cause, x.final) for x in found.failures]
        critical = [found.labels[i] for i in np.flatnonzero(found.critical)]
        return {
            "states": states, "spans": rows[0], "status": found.status,
            "now": found.now, "makespan": found.makespan, "money": found.money,
            "failures": failures, "summary": summary, "begun": len(found.begun),
            "critical": critical, "waits": viewing.waits(token, 10),
            "planned_money": found.planned_money, "expected": found.expected,
        }  # fmt: skip

    until(executor.client, is_ready)
    return executor.client.run_on_scheduler(look)


def test_a_picture_goes_on_with_its_run(executor, gate, until):
    call = gate.call()
    graph = Graph(
        [
            Function("a", [], call, extra_args=["a"], cost={"cpu_time": 100}),
            Function("b", ["a"], lambda x: call("b"), cost={"cpu_time": 100}),
        ],
        name="two",
    )
    run = executor.submit(graph)
    gate.arrivals(1)
    until(executor.client, _running(run.token, 1))
    found = seen(executor, run.token, until)
    assert found["states"] == {"a": STATES.index("running"), "b": 0}
    assert (found["status"], found["begun"]) == ("running", 1)
    assert found["spans"]["function"] == []
    assert found["makespan"] == run.plan.makespan
    assert found["planned_money"] == pytest.approx(run.plan.money)
    assert found["critical"] == [*run.plan.critical_path]
    assert found["money"] > 0
    assert [(who, "it reads 'a'" in why) for who, why in found["waits"]] == [
        ("b", True)
    ]
    gate.let()
    gate.arrivals(1)
    gate.let()
    run.wait(30)
    found = seen(executor, run.token, until)
    assert found["status"] == "done"
    told = found["spans"]
    rows = zip(told["function"], told["node"], told["start"], told["end"], strict=True)
    assert [(told["labels"][i], told["nodes"][j], a, b) for i, j, a, b in rows] == [
        (x.function, x.node, x.start, x.end) for x in run.spans
    ]
    assert found["money"] == pytest.approx(run.report().money)
    assert found["now"] == found["expected"] == pytest.approx(run.makespan)
    summary = found["summary"]
    assert (summary.title, summary.functions, summary.done) == ("two", 2, 2)


def _running(token, count):
    def condition(dask_scheduler):
        nodes = dask_scheduler.plugins["handout"].dispatcher.nodes.values()
        return sum(t == token for node in nodes for t, _ in node.running) == count

    return condition


def test_failures_are_told_with_cause_and_retries(executor, until):
    def fail():
        raise ValueError("no luck")

    retry = hd.RetryPolicy(attempts=2, backoff=0.01)
    graph = Graph(
        [Function("bad", [], fail, retry=retry), Function("after", ["bad"], int)]
    )
    run = executor.execute(graph, raise_on_error=False)
    found = seen(executor, run.token, until)
    assert found["status"] == "failed" == run.status
    assert found["states"] == {
        "bad": STATES.index("failed"), "after": STATES.index("blocked")
    }  # fmt: skip
    assert [(who, final) for who, _, final in found["failures"]] == [
        ("bad", True), ("bad", False)
    ]  # fmt: skip
    assert all("no luck" in cause for _, cause, _ in found["failures"])
    assert (found["summary"].retries, found["summary"].failed) == (1, 1)


def test_a_run_that_was_released_is_shown_on_for_a_while(executor, until):
    run = executor.execute(Graph([Function("a", code=int)]))
    token = run.token
    seen(executor, token, until)
    run.release()
    until(executor.client, lambda dask_scheduler: token not in
          dask_scheduler.plugins["handout"].runs)  # fmt: skip
    assert seen(executor, token, until)["status"] == "done"


def test_runs_that_ended_do_not_pile_up(executor, until):
    def count(dask_scheduler):
        return len(dask_scheduler.plugins["handout"].viewing.runs())

    for _ in range(25):
        executor.execute(Graph([Function("a", code=int)])).release()
    until(executor.client, lambda dask_scheduler: not
          dask_scheduler.plugins["handout"].runs)  # fmt: skip
    assert executor.client.run_on_scheduler(count) == 20


def test_what_nodes_hold_is_noted_while_something_runs(executor, gate, until):
    call = gate.call()
    cost = {"memory": 300}
    run = executor.submit(Graph([Function("a", [], call, extra_args=["a"], cost=cost)]))
    gate.arrivals(1)

    def held(dask_scheduler, token=run.token):
        found = dask_scheduler.plugins["handout"].viewing.picture(token)
        if found is None or not len(found.samples.time):
            return False
        r = found.samples.resources.index("memory")
        return found.samples.claimed[-1, :, r].max() == 300

    until(executor.client, held)
    gate.let()
    run.wait(30)


def test_what_nodes_held_is_seen_of_a_short_run_too_and_stays(executor, until):
    """Shorter than the time between looks, and idle times lie between the runs."""

    def held(dask_scheduler, token, memory):
        found = dask_scheduler.plugins["handout"].viewing.picture(token)
        if found is None or not len(found.samples.time):
            return False
        r = found.samples.resources.index("memory")
        claimed = np.nan_to_num(found.samples.claimed[:, :, r])
        return claimed.max() == memory and found.samples.time[-1] <= found.now

    def idle(dask_scheduler):
        lookout = dask_scheduler.plugins["handout"].viewing._lookout
        lookout.look()
        return lookout._begun is None

    runs = []
    for memory in (300, 500):
        runs.append(
            executor.execute(
                Graph([Function("a", [], time.sleep, extra_args=[0.06],
                                cost={"memory": memory})])
            )
        )  # fmt: skip
        until(executor.client, idle)
    for run, memory in zip(runs, (300, 500), strict=True):
        until(executor.client, partial(held, token=run.token, memory=memory))
        run.release()
        until(executor.client, partial(held, token=run.token, memory=memory))

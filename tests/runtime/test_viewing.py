"""Pictures of live runs agree with the run, while it goes on and when it ended."""

import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

import handout_dask as hd
from handout_dask import Function, Graph
from handout_dask.picture import STATES
from handout_dask.runtime import viewed
from handout_dask.runtime.seen import Seen
from handout_dask.runtime.viewed import Viewed
from handout_dask.samples import Samples


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
    assert summary.planned_money == pytest.approx(run.plan.money)


def _running(token, count):
    def condition(dask_scheduler):
        nodes = dask_scheduler.plugins["handout"].dispatcher.nodes.values()
        return sum(t == token for node in nodes for t, _ in node.running) == count

    return condition


def test_failures_are_told_with_cause_and_retries(executor, until):
    class BadLuck(Exception):
        def __str__(self):
            return f"no luck, not even {self.args[0]}"

    def fail():
        raise BadLuck("some")

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
    told = "BadLuck: no luck, not even some"  # with its own words, as in reports
    assert [cause for _, cause, _ in found["failures"]] == [told] * 2
    assert [span.error for span in run.spans] == [told] * 2
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


# ----------------------------------------------------------------- without a cluster
class Kept:
    """A lookout with so many samples to be kept of one node; else one."""

    def __init__(self, count):
        self.count, self.kept_of, self.asked = count, [], []

    def kept(self, since, until):
        self.kept_of.append((since, until))
        return self._samples(self.count)

    def samples(self, since, until):
        self.asked.append((since, until))
        return self._samples(1)

    def _samples(self, count):
        rows = np.zeros((count, 1, 1))
        return Samples(("n",), ("cpu",), np.zeros(count), rows, rows, rows)


def ended(*ends):
    """Runs that began in turn, and say that they ended then."""
    seen = [SimpleNamespace(ended=end, log=()) for end in ends]
    return [
        Viewed(SimpleNamespace(since=100.0 * k, seen=x)) for k, x in enumerate(seen)
    ]


def test_samples_of_runs_that_ended_are_kept_as_far_as_there_is_room(monkeypatch):
    monkeypatch.setattr(viewed, "MOST_SAMPLES", 25)
    runs, lookout = ended(1.0, 2.0, None, 3.0), Kept(10)
    for _ in range(2):
        viewed.keep(reversed(runs), lookout)
    assert lookout.kept_of == [(300.0, 303.0), (100.0, 102.0), (0.0, 1.0)]
    seen = [len(run.samples(lookout).time) for run in runs]
    assert (seen, len(lookout.asked)) == ([0, 10, 1, 10], 1)


def test_of_what_goes_on_again_it_is_seen_how_it_goes_on():
    (run,), lookout = ended(1.0), Kept(10)

    def seen():
        viewed.keep([run], lookout)
        return len(run.samples(lookout).time)

    assert seen() == 10
    run.run.seen.ended = None
    assert len(run.samples(lookout).time) == 1
    assert seen() == 1
    run.run.seen.ended = 4.0
    assert seen() == 10
    run.run.seen.ended = 7.0  # it went on in between, and nobody looked
    assert len(run.samples(lookout).time) == 1
    assert seen() == 10
    run.over = 9.0  # released
    assert seen() == 10
    assert lookout.kept_of == [(0.0, 1.0), (0.0, 4.0), (0.0, 7.0)]


@pytest.mark.parametrize(
    ("said", "text", "told"),
    [
        ("Odd: its own words", "Odd(1)", "Odd: its own words"),
        ("Odd: 1", "FunctionError('f: Odd')", "FunctionError: f: Odd"),
        ("", "ValueError('no')", "ValueError: no"),
    ],
)  # fmt: skip
def test_what_went_wrong_is_told_as_reports_have_it(said, text, told):
    seen = Seen(SimpleNamespace(node=["n0"], able=[("n0",)]))
    seen.said = {0: said} if said else {}
    fault = b"", None, text
    seen.take([(0, "failed", "n0", 0.0, 1.0, 1, None, fault, None)], 2.0)
    assert seen.log.spans().errors == {0: told}
    assert seen.said == {}

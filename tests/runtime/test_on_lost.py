"""Pins and groups whose node is gone, on real nodes; names that survive a restart."""

import os
import signal
import time
from contextlib import suppress

import pytest
from distributed import get_worker

import handout_dask as hd
from handout_dask import Function, Graph

pytestmark = pytest.mark.slow


def kill(pid):
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def lose(executor, name):
    """End a node for good, as a host that is switched off."""
    nanny = executor.supervisor.cluster.workers[name]
    nanny.close_gracefully()  # that is, don't restart it
    kill(nanny.pid)


def where(*inputs):
    return str(get_worker().name)


@pytest.fixture
def pair():
    nodes = [hd.Node("stays", {"cpu": 1}), hd.Node("goes", {"cpu": 1})]
    with hd.Executor(nodes=nodes) as executor:
        yield executor


def test_each_pin_does_what_it_says_when_its_node_is_gone(pair, gate, caught):
    call = gate.call()

    def code(name):
        if where() == "goes":
            call(name)
        return where()

    def pinned(id, on_lost, **options):
        options = {"node": "goes", "on_lost": on_lost, **options}
        return Function(id, [], code, extra_args=[id], **options)

    together = {"node": hd.with_function("group")}
    graph = Graph(
        [
            pinned("first", "elsewhere"),
            pinned("elsewhere", "elsewhere"),
            pinned("fail", "fail"),
            pinned("wait", hd.wait(2)),
            pinned("group", "elsewhere"),
            Function("with", ["first"], where, **together),
            Function("strict", [], where, node="goes", on_lost="fail"),
            Function("stricter", [], where, node=hd.with_function("strict"),
                     on_lost="elsewhere"),
            Function("free", [], lambda: 1),
            Function("reads", ["fail"], lambda x: x),
        ]
    )  # fmt: skip
    run = pair.submit(graph)
    (blocked,) = gate.arrivals(1)
    begin = time.monotonic()
    lose(pair, "goes")
    error = caught(hd.NodeLostError, lambda: run["fail"])
    at_once = time.monotonic() - begin
    assert (error.node, error.handout[:2]) == ("goes", ("fail", "goes"))
    assert abs(error.since - time.time()) < 60
    assert "can run only on node 'goes'" in str(error)
    assert "which is gone since" in str(error)
    late = caught(hd.NodeLostError, lambda: run["wait"])
    waited = time.monotonic() - begin
    assert "wait(2)" in str(late)
    assert 2.0 <= waited < 10.0, waited
    assert at_once < 2.0 or waited - at_once > 1.0, (at_once, waited)
    assert (run["elsewhere"], run["first"], run["free"]) == ("stays", "stays", 1)
    assert (run["group"], run["with"]) == ("stays", "stays")
    for id in ("strict", "stricter"):
        caught(hd.NodeLostError, lambda id=id: run[id])
    assert isinstance(caught(hd.FunctionError, lambda: run["reads"]).__cause__,
                      hd.NodeLostError)  # fmt: skip
    assert run.wait(60).progress == (5, 5, 10)


def test_an_executor_says_what_its_pins_do(pair, gate, until):
    call = gate.call()

    def code():
        if where() == "goes":
            call("there")
        return where()

    with hd.Executor(pair.client, on_lost="elsewhere") as other:
        run = other.submit(Graph([Function("a", [], code, node="goes")]))
        gate.arrivals(1)
        lose(pair, "goes")
        assert run["a"] == "stays"
        assert run.wait(60).where("a") == "stays"
    with pytest.raises(hd.HandoutError, match=r"executor: on_lost=7 .*wait\(7\)"):
        hd.Executor(pair.client, on_lost=7)


def test_a_lost_result_of_a_pin_is_recomputed_elsewhere_or_is_an_error(
    pair, gate, caught
):
    """They had ended when their node was lost, and are needed again."""
    call = gate.call()
    graph = Graph(
        [
            Function("moves", [], where, node="goes", on_lost="elsewhere"),
            Function("stays", [], where, node="goes", on_lost="fail"),
            Function("hold", ["moves", "stays"], lambda *x: call("hold"), node="stays"),
            Function("reads", ["hold", "moves"], lambda _, x: x, node="stays"),
            Function("fails", ["hold", "stays"], lambda _, x: x, node="stays"),
        ]
    )
    run = pair.submit(graph, keep=["reads", "fails"])
    gate.arrivals(1)
    lose(pair, "goes")
    gate.let()
    got = run["reads"]
    assert got in ("goes", "stays")  # its replica may have been there already
    with suppress(hd.FunctionError):
        assert run["fails"] == "goes"
    assert run.wait(60).progress.total == 5


def test_a_pin_is_to_a_name_and_survives_a_restart(pair, gate, journal):
    """Reliability, R10: not more than 4 s later."""
    call = gate.call()

    def code():
        journal("ran")
        if len(journal.lines()) == 1:
            call(os.getpid())
        return where(), os.getpid()

    run = pair.submit(Graph([Function("a", [], code, node="goes")]))
    (pid,) = gate.arrivals(1)
    begin = time.monotonic()
    kill(pid)
    name, again = run["a"]
    took = time.monotonic() - begin
    print(f"\nback under its name after {took:.2f} s")
    assert name == "goes"
    assert again != pid
    assert took < 12.0  # the goal is 4


def test_what_is_pinned_to_a_node_that_is_started_again_is_not_refused(pair):
    nanny = pair.supervisor.cluster.workers["goes"]
    before = nanny.pid
    kill(before)
    until = time.monotonic() + 30
    while "goes" in pair.nodes().index:  # the scheduler has not noticed yet
        assert time.monotonic() < until
    run = pair.submit(Graph([Function("a", [], os.getpid, node="goes")]))
    assert run["a"] != before


def test_what_no_declared_node_can_run_is_refused_at_once(pair):
    """Reliability, R10: within 0.5 s."""
    for bad in ({"node": "nowhere"}, {"cost": {"camera": 1}}):
        begin = time.monotonic()
        with pytest.raises(hd.UnsatisfiableError):
            pair.submit(Graph([Function("a", [], int, **bad)]))
        assert time.monotonic() - begin < 1.5

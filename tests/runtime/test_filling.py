"""Nodes that have told nothing yet are taken to have no disk, but not for ever."""

from types import SimpleNamespace

import pytest

from handout_dask.runtime import filling
from handout_dask.runtime.filling import MB, UNTOLD, Filling
from handout_dask.runtime.probe import DISK
from handout_dask.runtime.records import NAME

TOLD = {
    "limit": 400.0, "used": 70.0, "pause": 0.8, "managed": 0.0, "path": "/spill",
    "device": "d", "free": 10_000.0, "total": 20_000.0, "spilled": 0.0, "failures": 0,
}  # fmt: skip


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(filling, "time", lambda: now[0])
    return now


@pytest.fixture
def made(clock):
    """(admits, ws, look): whether 50 MB may be made on a worker of 400 MB."""
    ws = SimpleNamespace(
        memory_limit=400 * MB, metrics={"memory": 70 * MB}, address="tcp://a",
        executing={}, processing={}, status=None,
    )  # fmt: skip
    scheduler = SimpleNamespace(workers={"tcp://a": ws}, tasks={})
    roster = SimpleNamespace(address={"n": "tcp://a"})
    replanner = SimpleNamespace(changed=lambda why: None)
    nodes = {"n": SimpleNamespace(running={}, ahead={})}
    dispatcher = SimpleNamespace(nodes=nodes)
    book = SimpleNamespace(queues={}, held_back={})
    live = SimpleNamespace(key=lambda i: ("k", i), largest={}, book=book)
    made = Filling(scheduler, dispatcher, {"t": live}, roster, replanner)
    outline = SimpleNamespace(output_mb=[50.0] * 9, name=[0] * 9)
    spec = SimpleNamespace(outline=outline, token="t")
    run = SimpleNamespace(spec=spec, held_back={})
    return lambda i: made._admits(run, i, "n"), ws, lambda: made.look(clock[0])


def test_what_would_fill_a_node_before_it_tells_is_held_back(made):
    admits, _, _ = made
    assert [admits(i) for i in range(6)] == [True] * 4 + [False] * 2


def test_who_waits_for_what_it_is_to_tell_is_not_failed(made, monkeypatch):
    admits, _, look = made
    failed = []
    monkeypatch.setattr(Filling, "_fail", lambda self, run, i: failed.append(i))
    monkeypatch.setattr(Filling, "_held_up", lambda self: [("t", 5)])
    assert not all(admits(i) for i in range(6))
    look()
    assert not failed


def test_what_it_tells_counts_at_once(made):
    admits, ws, look = made
    assert not all(admits(i) for i in range(6))
    ws.metrics[NAME] = {DISK: TOLD}
    look()
    assert all(admits(i) for i in range(6))


def test_what_it_has_told_counts_before_the_first_look(made):
    admits, ws, _ = made
    ws.metrics[NAME] = {DISK: TOLD}
    assert all(admits(i) for i in range(6))


def test_one_that_never_tells_is_left_alone_after_a_while(made, clock):
    admits, _, look = made
    assert not all(admits(i) for i in range(6))
    clock[0] += UNTOLD / 2
    look()
    assert not admits(5)
    clock[0] += UNTOLD
    look()
    assert all(admits(i) for i in range(6))


def test_one_without_a_limit_takes_all(made):
    admits, ws, _ = made
    ws.memory_limit = 0
    assert all(admits(i) for i in range(6))

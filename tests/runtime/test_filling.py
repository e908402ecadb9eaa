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
    """A worker of 400 MB, where functions leave 50 MB; `admits(i)`: whether one may."""
    ws = SimpleNamespace(
        memory_limit=400 * MB, metrics={"memory": 70 * MB}, address="tcp://a",
        executing={}, processing={}, status=None, nbytes=0,
    )  # fmt: skip
    scheduler = SimpleNamespace(workers={"tcp://a": ws}, tasks={})
    roster = SimpleNamespace(address={"n": "tcp://a"})
    news = []
    replanner = SimpleNamespace(changed=news.append)
    nodes = {"n": SimpleNamespace(running={}, ahead={})}
    dispatcher = SimpleNamespace(nodes=nodes)
    book = SimpleNamespace(queues={}, held_back={})
    live = SimpleNamespace(key=lambda i: ("k", i), largest={}, book=book)
    made = Filling(scheduler, dispatcher, {"t": live}, roster, replanner)
    outline = SimpleNamespace(output_mb=[50.0] * 9, name=[0] * 9)
    spec = SimpleNamespace(outline=outline, token="t")
    run = SimpleNamespace(spec=spec, held_back=book.held_back, node=["n"] * 9)

    def admits(i):
        if not made._admits(run, i, "n"):
            return False
        nodes["n"].running["t", i] = None  # sent
        return True

    return SimpleNamespace(
        admits=admits, look=lambda: made.look(clock[0]),
        ws=ws, book=nodes["n"], news=news, has_room=lambda: replanner.has_room("n"),
        why=lambda i: made._refusal(run, i), held_back=book.held_back,
    )  # fmt: skip


def test_what_would_fill_a_node_before_it_tells_is_held_back(made):
    assert [made.admits(i) for i in range(6)] == [True] * 4 + [False] * 2


def test_who_waits_for_what_it_is_to_tell_is_not_failed(made, monkeypatch):
    failed = []
    monkeypatch.setattr(Filling, "_fail", lambda self, run, i: failed.append(i))
    monkeypatch.setattr(Filling, "_held_up", lambda self: [("t", 5)])
    assert not all(made.admits(i) for i in range(6))
    made.look()
    assert not failed


def test_what_it_tells_counts_at_once(made):
    assert not all(made.admits(i) for i in range(6))
    made.ws.metrics[NAME] = {DISK: TOLD}
    made.look()
    assert all(made.admits(i) for i in range(6))


def test_what_it_has_told_counts_before_the_first_look(made):
    made.ws.metrics[NAME] = {DISK: TOLD}
    assert all(made.admits(i) for i in range(6))


def test_one_that_never_tells_is_left_alone_after_a_while(made, clock):
    assert not all(made.admits(i) for i in range(6))
    clock[0] += UNTOLD / 2
    made.look()
    assert not made.admits(5)
    clock[0] += UNTOLD
    made.look()
    assert all(made.admits(i) for i in range(6))


def test_one_without_a_limit_takes_all(made):
    made.ws.memory_limit = 0
    assert all(made.admits(i) for i in range(6))


def test_one_that_has_yet_to_tell_is_not_called_full(made):
    assert not all(made.admits(i) for i in range(6))
    made.look()
    made.look()
    assert (made.news, made.has_room()) == ([], True)
    assert made.why(4) == "one that has not told yet how full it is"
    assert made.why(0) == ""
    made.ws.metrics[NAME] = {DISK: {**TOLD, "managed": 50.0, "free": 0.0}}
    made.look()
    assert not all(made.admits(i) for i in range(6))
    made.look()
    assert (made.news, made.has_room()) == (["node n is full"], False)
    assert "0 MB free of 20000 MB" in made.why(4)


@pytest.mark.parametrize(("kept", "more"), [(0, 4), (100, 2), (200, 0)])
def test_what_has_ended_before_it_tells_counts_only_as_far_as_it_is_kept(
    made, kept, more
):
    assert [made.admits(i) for i in range(5)] == [True] * 4 + [False]
    made.look()
    assert not made.admits(4)  # nothing has ended
    made.book.running.clear()
    made.ws.nbytes = kept * MB
    made.look()
    assert made.held_back == {}  # so that it is asked for again
    assert [made.admits(i) for i in range(4, 9)] == [k < more for k in range(5)]

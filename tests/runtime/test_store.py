"""Histories in files and at URLs: several writers lose nothing, nothing is torn."""

import multiprocessing
import os
import stat
import threading

import fsspec
import pytest

from handout_dask.errors import HandoutError
from handout_dask.history import History
from handout_dask.historydoc import Document, to_bytes
from handout_dask.runtime.store import HistoryStore

LIMIT = 60  # s


def seen(*labels, name="f"):
    """What somebody observed since he saved."""
    history = History()
    history.keep_apart()
    for label in labels:
        history.observe(name, label, "k", 1.0)
    return history.fresh


def counts(store):
    return {pair[1]: label.count for pair, label in store.load().labels.items()}


@pytest.fixture(params=["file", "memory"])
def place(request, tmp_path):
    if request.param == "file":
        return tmp_path / "deep" / "history.json"
    return f"memory://{tmp_path.name}/history.json"


def test_what_was_added_is_there_and_adds_up(place):
    store = HistoryStore(place)
    assert counts(store) == {}
    store.add(seen("a", "b"))
    store.add(seen("b", "c"))
    assert counts(store) == {"a": 1, "b": 2, "c": 1}
    assert store.load().names["f"].work.count == 4


def test_two_writers_lose_nothing_of_either(place):
    one, other = HistoryStore(place), HistoryStore(place)
    one.add(seen("a"))
    other.add(seen("a", "b"))
    one.add(seen("c"))
    assert counts(other) == {"a": 2, "b": 1, "c": 1}


def test_what_another_writer_undid_is_mended_at_the_next_save(place):
    one, other = HistoryStore(place), HistoryStore(place)
    one.add(seen("a"))
    fs, path = fsspec.core.url_to_fs(os.fspath(place))
    before = fs.cat_file(path)
    other.add(seen("b"))
    fs.pipe_file(path, before)  # by somebody who had read before that
    other.add(seen("c"))
    assert counts(one) == {"a": 1, "b": 1, "c": 1}
    one.add(seen("d"))
    assert counts(one) == {"a": 1, "b": 1, "c": 1, "d": 1}


def test_threads_that_save_at_once_lose_nothing(place):
    def save(k):
        store = HistoryStore(place)
        for j in range(5):
            store.add(seen("all", f"{k}-{j}"))

    threads = [threading.Thread(target=save, args=[k]) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    found = counts(HistoryStore(place))
    assert found.pop("all") == 20
    assert found == {f"{k}-{j}": 1 for k in range(4) for j in range(5)}


def _save(path, k):
    store = HistoryStore(path)
    for j in range(10):
        store.add(seen("all", f"{k}-{j}"))


def test_processes_that_save_at_once_lose_nothing(tmp_path):
    path = str(tmp_path / "history.json")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_save, args=[path, k]) for k in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(LIMIT)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert counts(HistoryStore(path))["all"] == 30
    assert os.listdir(tmp_path) == ["history.json"]


def test_a_file_that_is_empty_is_a_new_history(tmp_path):
    path = tmp_path / "history.json"
    path.touch()
    store = HistoryStore(path)
    store.add(seen("a"))
    assert counts(store) == {"a": 1}


@pytest.mark.parametrize("data", [b"a,b\n1,2\n", to_bytes(Document())[:-3]])
def test_what_is_no_history_is_refused_by_name_and_kept(place, data):
    fs, path = fsspec.core.url_to_fs(os.fspath(place))
    fs.makedirs(os.path.dirname(path), exist_ok=True)
    fs.pipe_file(path, data)
    store = HistoryStore(place)
    for use in (store.load, lambda: store.add(seen("a"))):
        with pytest.raises(HandoutError, match=r"history\.json' is no history.*move"):
            use()
    assert fs.cat_file(path) == data


def test_a_save_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    store = HistoryStore(tmp_path / "history.json")
    store.add(seen("a"))

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(HandoutError, match="can't be written: OSError: .*No space"):
            store.add(seen("b"))
    assert counts(store) == {"a": 1}
    assert os.listdir(tmp_path) == ["history.json"]
    store.add(seen("b"))
    assert counts(store) == {"a": 1, "b": 1}


def test_mode_and_link_of_a_file_stay(tmp_path):
    path, link = tmp_path / "history.json", tmp_path / "link"
    HistoryStore(path).add(seen("a"))
    path.chmod(0o640)
    link.symlink_to(path)
    HistoryStore(link).add(seen("b"))
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert counts(HistoryStore(path)) == {"a": 1, "b": 1}


@pytest.mark.parametrize("where", [3, b"x", "nosuch://x/y"])
def test_what_is_no_place_is_refused(where):
    with pytest.raises(HandoutError, match="is no path"):
        HistoryStore(where)


@pytest.mark.parametrize("kind", ["device", "folder", "pipe"])
def test_what_is_no_regular_file_is_refused_and_left_as_it_is(tmp_path, kind):
    where = tmp_path / "it"
    if kind == "device":
        where.symlink_to(os.devnull)
    elif kind == "folder":
        where.mkdir()
    else:
        os.mkfifo(where)
    before = os.stat(where)
    with pytest.raises(HandoutError, match="no regular file"):
        HistoryStore(where)
    assert os.stat(where).st_ino == before.st_ino

"""What the scheduler writes of runs: soon, whole, and again where that failed."""

import asyncio
import os
import threading
import time
from types import SimpleNamespace

import pytest

from handout_dask.errors import HandoutError
from handout_dask.journal import Past, from_bytes
from handout_dask.runtime import journaling
from handout_dask.runtime.journaling import Journals, Log
from handout_dask.runtime.places import Place

LIMIT = 60  # s


def records(folder):
    """All that is written, without what begins a session."""
    out = []
    for path in sorted((folder / "log").iterdir()):
        out += from_bytes(path.read_bytes(), str(path))
    return [record for record in out if record[0] != "session"]


class Run(SimpleNamespace):
    """As much of a live run as is asked for."""

    def __init__(self, fault=None):
        super().__init__(spec=SimpleNamespace(token="0a"), fault=fault)

    def last(self):
        return (0, "done", "n0", 0.5, 1.5, 1, 8, self.fault, None)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "0a").mkdir()
    (tmp_path / "0a" / "run.json").write_text('{"proof": "p1"}')
    return tmp_path / "0a"


@pytest.fixture
def journals():
    made = Journals(
        SimpleNamespace(handlers={}, address="tcp://here"), {}, lambda token: None
    )
    yield made
    made.stop()
    assert made._scheduler.handlers == {}


def begin(journals, folder, proof="p1", names=("f0", "f1")):
    asyncio.run(journals.rpc_journal(str(folder), "0a", proof, list(names)))


def until(condition):
    """Wait for what a thread does; it tells nobody."""
    end = time.monotonic() + LIMIT
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end
        pause.wait(0.01)


def test_what_happens_is_written_though_the_run_goes_on(journals, folder):
    begin(journals, folder)
    journals.note(Run(), 0)
    journals.note(Run(fault=(None, None, "ValueError('no')")), 1)
    journals.set_back("0a", 0, 2, True)
    journals.set_back("0a", 1, 0, False)  # nothing that counts
    until(lambda: len(records(folder)) == 3)
    assert records(folder) == [
        ["ended", "f0", "done", "n0", 0.5, 1.5, 1, 8, None],
        ["ended", "f1", "done", "n0", 0.5, 1.5, 1, 8, "ValueError('no')"],
        ["crashed", "f0", 2, True],
    ]


def test_the_window_of_loss_is_short():
    assert journaling.COMMIT <= 0.1


def test_what_is_left_is_written_at_the_end(journals, folder):
    begin(journals, folder)
    journals.note(Run(), 0)
    journals.over("0a")
    journals.note(Run(), 1)  # of no run that is known
    journals.stop()
    assert [record[1] for record in records(folder)] == ["f0"]


def test_each_session_has_files_of_its_own_that_sort_behind(journals, folder):
    for k in range(3):
        begin(journals, folder, names=[f"f{k}"])
        journals.note(Run(), 0)
        journals.over("0a")
        until(lambda k=k: len(records(folder)) == k + 1)
    assert [record[1] for record in records(folder)] == ["f0", "f1", "f2"]


@pytest.mark.parametrize("proof", ["p2", None])
def test_a_folder_that_is_another_one_here_is_an_error(journals, tmp_path, proof):
    if proof is not None:
        (tmp_path / "run.json").write_text('{"proof": "p2"}')
    with pytest.raises(HandoutError, match=r"scheduler at tcp://here does not see"):
        begin(journals, tmp_path)


def test_a_folder_that_cannot_be_written_is_an_error_at_once(journals, folder):
    (folder / "log").touch()
    with pytest.raises((HandoutError, OSError), match="log"):
        begin(journals, folder)


def test_what_could_not_be_written_is_written_later_and_tears_nothing(
    folder, monkeypatch
):
    log = Log(Place("journal", folder / "log"), "0000-a", ["f0", "f1"])
    log.records.append(("ended", "f0"))
    log.write()
    log.records.append(("ended", "f1"))
    write = os.write

    def full(descriptor, data):
        write(descriptor, data[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        log.write()
    monkeypatch.undo()
    log.records.append(("ended", "f2"))
    log.write()
    log.close()
    assert records(folder) == [["ended", "f0"], ["ended", "f1"], ["ended", "f2"]]
    assert len(list((folder / "log").iterdir())) == 2


def test_the_thread_tries_again(journals, folder, monkeypatch):
    monkeypatch.setattr(journaling, "AGAIN", 0.0)
    begin(journals, folder)
    tried = threading.Event()
    sync = os.fdatasync

    def fails(descriptor):
        tried.set()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fails)
    journals.note(Run(), 0)
    assert tried.wait(LIMIT)
    monkeypatch.setattr(os, "fdatasync", sync)
    # What the first try wrote may be there too: to be told twice does no harm.
    until(lambda: len(list((folder / "log").iterdir())) > 2)
    past = Past()
    past.take(records(folder))
    assert past.outcome == {"f0": "done"}


def test_elsewhere_each_commit_is_a_file(tmp_path):
    import fsspec

    url = f"memory://{tmp_path.name}/log"
    log = Log(Place("journal", url), "0000-a", ["f0"])
    for k in range(3):
        log.records.append(("ended", k))
        log.write()
        log.write()  # nothing new
    fs, path = fsspec.core.url_to_fs(url)
    files = sorted(fs.ls(path, detail=False))
    assert len(files) == 3
    found = [from_bytes(fs.cat_file(file), file) for file in files]
    assert found == [[["ended", k]] for k in range(3)]

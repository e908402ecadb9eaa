"""What a function failed of, as data; last words; what the system tells."""

import errno
import os
import pickle
import signal
import subprocess
import sys

import psutil
import pytest

import handout_dask as hd
from handout_dask.runtime.evidence import fair_bytes, full_disks, held_bytes, kills
from handout_dask.runtime.faulting import fault_data
from handout_dask.runtime.words import KEPT, Words, last_words

LIMIT = 60
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def like(module, name, *bases):
    """An exception of another package, which needn't be there."""
    return type(name, bases or (Exception,), {"__module__": module})


@pytest.mark.parametrize(
    ("error", "kind", "resource"),
    [
        (ValueError("no"), "raised", ""),
        (hd.FunctionError("no"), "raised", ""),
        (KeyboardInterrupt(), "raised", ""),
        (hd.FunctionTimeoutError("late", 2.0), "timeout", ""),
        (hd.FunctionCrashedError("died", -11), "crashed", ""),
        (hd.UndeliverableError("no way"), "undeliverable", ""),
        (MemoryError(), "exhausted", "memory"),
        (like("numpy", "_ArrayMemoryError", MemoryError)(), "exhausted", "memory"),
        (OSError(errno.ENOSPC, "full", "/x"), "exhausted", "disk"),
        (OSError(errno.ENOENT, "none", "/x"), "raised", ""),
        (
            like("cupy.cuda.memory", "OutOfMemoryError", MemoryError)("no"),
            "exhausted",
            "gpu_memory",
        ),
    ],
    ids=repr,
)
def test_the_kind_of_a_failure_is_told_by_its_exception(error, kind, resource):
    about = fault_data(("f-1", 3), error)
    assert (about["key"], about["kind"], about["resource"]) == (
        ["f-1", 3],
        kind,
        resource,
    )
    assert about["names"][-1] == "builtins.BaseException"
    assert about["names"][0].endswith(type(error).__qualname__)


def test_numbers_of_what_was_exhausted_are_told():
    error = hd.ResourceExhaustedError("no", "memory", 100.0, 130.0)
    about = fault_data("key", error)
    assert (about["key"], about["used"], about["allowed"]) == ("key", 130.0, 100.0)


def test_an_exception_without_text_has_a_fault_all_the_same():
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError

    assert "Odd" in fault_data("key", Odd())["text"]
    assert len(fault_data("key", ValueError("x" * 10**6))["text"]) < 2000


@pytest.mark.parametrize(
    "error",
    [
        hd.FunctionTimeoutError("late", 2.0, "waiting"),
        hd.FunctionCrashedError("died", -11),
    ],
    ids=repr,
)
def test_errors_are_themselves_after_they_travelled(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (repr(copy), str(copy), vars(copy)) == (repr(error), str(error), vars(error))


# ---------------------------------------------------------------------- words
def test_last_words_are_those_around_what_python_says_of_a_signal():
    text = "long ago\nfree(): invalid\n\nFatal Python error: Aborted\n\nStack\n  in f\n"
    found = last_words("before\n" * 10 + text + "more\n" * 10)
    assert found.splitlines()[:3] == [
        "long ago",
        "free(): invalid",
        "Fatal Python error: Aborted",
    ]
    assert last_words("a\n" * 20 + "z").splitlines()[-1] == "z"
    assert last_words("") == ""


def test_what_a_process_says_is_passed_on_and_the_last_kept(capfd):
    words = Words()
    code = "import sys; sys.stderr.write('x' * 10**5); sys.stderr.write('\\nlast\\n')"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=words.sink)
    words.passed()
    assert process.wait(LIMIT) == 0
    assert words.last(LIMIT).splitlines()[-1] == "last"
    assert len(capfd.readouterr().err) == 10**5 + len("\nlast\n")
    assert len(words._tail) <= KEPT


# ------------------------------------------------------------------- evidence
@needs_linux
def test_files_that_are_mapped_are_not_held(tmp_path):
    import mmap

    path = tmp_path / "file"
    path.write_bytes(b"x" * 50_000_000)
    before = held_bytes(), fair_bytes()
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        assert sum(mapped[k] for k in range(0, len(mapped), 4096)) > 0
        resident = psutil.Process().memory_full_info().rss
        after = held_bytes(), fair_bytes()
        mapped.close()
    assert max(after[0] - before[0], after[1] - before[1]) < 10_000_000 < resident
    # Pages of its own: what malloc hands out may have been resident before.
    with mmap.mmap(-1, 50_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as mine:
        mine.write(b"x" * 50_000_000)
        assert held_bytes() - before[0] > 40_000_000
        assert fair_bytes() - before[1] > 40_000_000


def test_of_a_process_that_is_not_there_nothing_is_told():
    assert held_bytes(2**22 + 5) is None
    assert fair_bytes(2**22 + 5) is None


def test_kills_for_want_of_memory_are_counted_not_guessed():
    assert kills() == kills()


def test_a_disk_with_room_is_not_full(tmp_path):
    assert full_disks([str(tmp_path / "not" / "there"), "/proc"]) == []


# ---------------------------------------------------------------------- leash
LEASHED = """
import os, signal, subprocess, sys
from handout_dask.runtime.leash import LEASH
pids = [subprocess.Popen(["sleep", "600"], start_new_session=True).pid for _ in "ab"]
for pid in pids:
    LEASH.add(pid)
ended = subprocess.Popen(["true"], start_new_session=True)
LEASH.add(ended.pid)
ended.wait()
LEASH.remove(ended.pid)
if not os.fork():  # a copy must not keep it from seeing the end
    signal.pause()
print(*pids, LEASH._shell.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
def test_what_a_process_started_ends_with_it_when_it_is_killed():
    with subprocess.Popen(
        [sys.executable, "-c", LEASHED], stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert process.wait(LIMIT) == -signal.SIGKILL
        assert len(pids) == 3
        for pid in pids:
            assert ended(pid)
        os.killpg(process.pid, signal.SIGKILL)  # the copy


def ended(pid):
    """Wait until a process is gone, or dead and not yet waited for by init."""
    try:
        process = psutil.Process(pid)
        while process.status() != psutil.STATUS_ZOMBIE:
            try:
                process.wait(0.05)
            except psutil.TimeoutExpired:
                continue
            break
    except psutil.NoSuchProcess:
        pass
    return True

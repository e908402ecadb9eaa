"""What a process wrote to standard error last is there when it is dead."""

import os
import subprocess
import sys

import pytest

from handout_dask.runtime.lastwords import SIZE, TOLD, Kept

pytestmark = pytest.mark.skipif(
    not hasattr(os, "memfd_create"), reason="needs memfd, which only Linux has"
)

BEGIN = """
import ctypes, os, sys
from handout_dask.runtime.lastwords import Keeping
before = sys.stderr
keeping = Keeping("test")
"""


@pytest.fixture
def kept():
    kept = Kept("test")
    yield kept
    kept.close()


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code], capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    return done.stderr


def test_what_is_printed_is_kept_and_printed_all_the_same(kept):
    said = run("print('alas', file=sys.stderr, flush=True); os._exit(3)")
    assert said == "alas\n"
    assert kept.read() == "alas"


def test_an_exception_that_ends_the_process_is_kept(kept):
    run("raise ValueError('poison')")
    assert "ValueError: poison" in kept.read()


def test_where_a_process_died_of_a_signal_is_kept(kept):
    run("def culprit():\n    ctypes.string_at(0)\nculprit()")
    assert "Segmentation fault" in kept.read()
    assert "in culprit" in kept.read()


def test_what_ran_last_is_known(kept):
    assert kept.running() is None
    run("keeping.run([('f-1', 0)]); keeping.run([('f-1', 2), 'x']); os._exit(3)")
    assert kept.running() == [["f-1", 2], "x"]
    assert kept.read() == ""
    kept.clear()
    assert kept.running() is None


def test_too_many_that_ran_are_not_known(kept):
    run("keeping.run(['a']); keeping.run([('f-1', k) for k in range(1000)])")
    assert kept.running() is None


def test_the_last_of_much_is_kept(kept):
    run("for k in range(3000): print('line', k, file=sys.stderr)")
    words = kept.read()
    assert words.endswith("line 2998\nline 2999")
    assert SIZE > TOLD >= len(words) > TOLD - 20


def test_another_worker_begins_anew(kept):
    run("print('first', file=sys.stderr)")
    kept.clear()
    assert kept.read() == ""
    run("print('second', file=sys.stderr)")
    assert kept.read() == "second"


def test_the_process_is_left_as_it_was_found(kept):
    said = run(
        "import faulthandler; assert faulthandler.is_enabled()\n"
        "keeping.stop(); assert sys.stderr is before; print('after', file=sys.stderr)\n"
        "assert not faulthandler.is_enabled()"
    )
    assert said == "after\n"
    assert kept.read() == ""


def test_without_a_nanny_nothing_is_kept_and_nothing_fails():
    assert run("print('alone', file=sys.stderr)") == "alone\n"

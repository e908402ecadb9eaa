"""Dask's own array and delayed tests pass where every task is planned."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

CHOSEN = [
    "dask.tests.test_delayed",
    "dask.array.tests.test_array_function",
    "dask.array.tests.test_atop",
    "dask.array.tests.test_map_blocks",
    "dask.array.tests.test_masked",
    "dask.array.tests.test_reshape",
]
LIMIT = 400  # s for each of two runs


def outcomes(folder, mode):
    """What becomes of the chosen tests on a cluster, and of the tasks there."""
    report = folder / f"{mode}.json"
    more = {
        "HANDOUT_SUITE": mode,
        "HANDOUT_SUITE_REPORT": str(report),
        "PYTHONPATH": str(Path(__file__).parent),
    }
    options = ["-q", "-c", os.devnull, "--rootdir", str(folder), "-p", "dask_suite"]
    options += ["-p", "no:cacheprovider", "--timeout", "60", "--tb", "short"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--pyargs", *CHOSEN],
        cwd=folder,
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert report.exists(), done.stdout[-4000:] + done.stderr[-2000:]
    return json.loads(report.read_text()), done.stdout


@pytest.mark.slow
@pytest.mark.timeout(LIMIT + 20)
def test_dasks_own_tests_pass_on_a_cluster_where_all_is_planned(tmp_path, capsys):
    with ThreadPoolExecutor(2) as pool:  # side by side: neither is about time
        modes = pool.map(partial(outcomes, tmp_path), ["plain", "installed"])
        (plain, _), (ours, text) = modes
    passed = {id for id, outcome in ours["outcomes"].items() if outcome == "passed"}
    could = {id for id, outcome in plain["outcomes"].items() if outcome == "passed"}
    with capsys.disabled():
        print(
            f"\n{len(passed)} of Dask's tests pass, {len(could)} without the plugin; "
            f"{ours['planned']} tasks planned of {ours['computed']}"
        )
    assert could - passed == set(), text[-6000:]
    assert len(passed) >= 200
    assert ours["planned"] >= 0.9 * ours["computed"]

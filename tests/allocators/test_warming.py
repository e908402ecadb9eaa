"""Nobody who needs a plan at once waits for kernels to be compiled."""

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from handout_dask.allocators import compiling, warming

KERNELS = 7  # that are kept
COLD = """
import json, time
import handout_dask as hd
from handout_dask.allocators import annealing, kernel
graph = hd.Graph(
    hd.Function(i, [i - 7] if i >= 7 else [], cost={"cpu_time": 100 * (1 + i % 9)})
    for i in range(60)
)
cluster = hd.Cluster([hd.Node(f"n{j}", {"cpu": 1}, speed=1 + j) for j in range(4)])
begin = time.perf_counter()
plan = hd.plan(graph, cluster, allocator="time")
took = time.perf_counter() - begin
for _ in range(3):  # where a host is busy, the first lists of a process may take all
    plan = hd.plan(graph, cluster, allocator="time")
fill, anneal = kernel.compiled()[2], annealing.kernels("free", True)[1]
print(json.dumps([took, len(fill.signatures), len(anneal.signatures), plan.makespan]))
"""


@pytest.fixture
def begun(monkeypatch):
    """What begins to compile; as in a process that has looked for nothing yet."""
    begun = []
    monkeypatch.setattr(compiling, "_AT_HAND", set())
    monkeypatch.setattr(compiling, "_next_look", 0.0)
    monkeypatch.setattr(compiling, "LOOK_AGAIN", 0.0)
    monkeypatch.setattr(
        compiling, "_begin_to_warm", lambda: begun.append("process") or True
    )
    return begun


class Kernel(SimpleNamespace):
    """What numba makes of a function, as far as it is asked."""

    __hash__ = object.__hash__

    def __init__(self, folder, name):
        function = SimpleNamespace(__qualname__=name)
        stats = SimpleNamespace(cache_path=folder and str(folder))
        super().__init__(stats=stats, py_func=function, signatures=[])


def test_kernels_are_compiled_beside_and_used_as_soon_as_they_are_kept(tmp_path, begun):
    fill, walk = Kernel(tmp_path, "fill_12"), Kernel(tmp_path, "walk_34")
    (tmp_path / "kernel.walk_34-161.py311.nbi").touch()
    (tmp_path / "kernel.fill_1-161.py311.nbi").touch()  # of another version
    assert compiling.at_hand(walk)
    assert begun == []
    assert not compiling.at_hand(fill, walk)
    assert not compiling.at_hand(fill, walk)
    assert begun == ["process"]
    (tmp_path / "kernel.fill_12-161.py311.nbi").touch()
    assert compiling.at_hand(fill, walk)


def test_what_was_compiled_here_or_can_never_be_kept_is_at_hand(tmp_path, begun):
    compiled, homeless = Kernel(tmp_path, "fill_12"), Kernel(None, "walk_34")
    compiled.signatures.append("any")
    assert compiling.at_hand(compiled, homeless)
    assert begun == []


def test_where_no_process_can_be_started_who_asks_compiles(
    tmp_path, begun, monkeypatch
):
    monkeypatch.setattr(compiling, "_begin_to_warm", lambda: False)
    assert compiling.at_hand(Kernel(tmp_path, "fill_12"))


@pytest.mark.parametrize(("name", "value"), [("executable", ""), ("frozen", True)])
def test_what_is_not_python_is_not_started(name, value, monkeypatch):
    monkeypatch.setattr(sys, name, value, raising=False)
    monkeypatch.setattr(subprocess, "run", pytest.fail)
    assert not compiling._begin_to_warm()


def test_without_processes_nobody_warms(monkeypatch):
    def refuse(*_, **__):
        raise OSError("no more processes")

    monkeypatch.setattr(subprocess, "run", refuse)
    assert not compiling._begin_to_warm()


def test_where_numba_is_told_to_compile_nothing_nobody_does(begun):
    assert compiling.at_hand(len)
    assert begun == []


def test_revisions_are_computed_by_what_is_soonest(begun, monkeypatch):
    for at_hand in (False, True):
        monkeypatch.setattr(warming, "at_hand", lambda *_, said=at_hand: said)
        assert warming.path_for(10) == ("compiled" if at_hand else "numpy")
        assert warming.path_for(warming.FEW + 1) == "compiled"


def test_numba_is_not_loaded_for_a_few_small_revisions(monkeypatch):
    monkeypatch.setattr(warming, "at_hand", lambda *_: True)
    for is_loaded, path in ((False, "numpy"), (True, "compiled")):
        monkeypatch.setattr(warming.annealing, "is_loaded", lambda said=is_loaded: said)
        assert warming.path_for(warming.LITTLE, 0.1) == path
        assert warming.path_for(warming.LITTLE + 1, 0.1) == "compiled"
        assert warming.path_for(warming.LITTLE, warming.LOADING) == "compiled"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_first_plan_on_a_machine_does_not_wait_and_later_ones_are_searched(
    tmp_path,
):
    def planned():
        told = subprocess.run(
            [sys.executable, "-c", COLD], capture_output=True, text=True, check=True,
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        )  # fmt: skip
        assert told.stderr == ""
        return json.loads(told.stdout)

    took, filled, annealed, first = planned()
    assert (filled, annealed) == (0, 0), f"compiled for {took} s"
    give_up = time.monotonic() + 300
    while len(list(tmp_path.rglob("*.nbi"))) < KERNELS:
        assert time.monotonic() < give_up, "nobody compiles"
        time.sleep(1)
    _, _, annealed, later = planned()
    assert annealed == 1
    assert later <= first

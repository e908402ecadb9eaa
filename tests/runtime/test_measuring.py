"""What functions use is measured, and agrees with what is known or measured outside."""

import json
import logging
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import handout_dask as hd
from handout_dask import Function, Graph
from handout_dask.runtime.measuring import MB, Measures, Meter, measures_of

LINUX = sys.platform == "linux"


@pytest.fixture(scope="module")
def single():
    with hd.Executor(nodes=[hd.Node("n0", {"cpu": 1, "memory": 4000})]) as executor:
        yield executor


@pytest.fixture(scope="module")
def wide():
    with hd.Executor(nodes=[hd.Node("n0", {"cpu": 2, "memory": 4000})]) as executor:
        yield executor


def touch(mb):
    """Take so many megabytes, and give them back."""
    return len(bytearray(b"x") * (mb * 10**6))


def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def spans_of(run):
    return {span.function: span for span in run.spans}


# ------------------------------------------------------------------- in threads
@pytest.mark.skipif(not LINUX, reason="elsewhere the peak is seen only if it is new")
def test_memory_of_a_function_in_a_thread_is_what_it_touched(single):
    functions = [
        Function("first", [], touch, extra_args=(300,)),
        Function("second", ["first"], lambda _, mb: touch(mb), extra_args=(200,)),
    ]
    spans = spans_of(single.execute(Graph(functions)))
    assert spans["first"].peak_mb == pytest.approx(300, rel=0.1)
    assert spans["second"].peak_mb == pytest.approx(200, rel=0.1)
    for span in spans.values():
        assert not span.peak_exact
        assert span.peak_alone


def test_time_of_a_function_is_told_with_and_without_its_sleep(single):
    def both():
        begin = time.time()
        burn(0.3)
        time.sleep(0.3)
        return time.time() - begin

    run = single.execute(Graph([Function("a", [], both)]))
    (span,) = run.spans
    assert span.cpu_seconds == pytest.approx(0.3, rel=0.1)
    assert span.end - span.start == pytest.approx(run["a"], rel=0.1)


def test_bytes_in_and_out_are_those_of_inputs_and_results(wide):
    graph = Graph(
        [
            Function("a", [], lambda: np.ones(10**6)),
            Function("b", [], lambda: np.ones(2 * 10**6)),
            Function("c", ["a", "b"], lambda a, b: a[: 10**5]),
        ]
    )
    spans = spans_of(wide.execute(graph))
    assert spans["a"].bytes_in == 0
    assert spans["a"].nbytes == pytest.approx(8e6, rel=0.1)
    assert spans["c"].bytes_in == pytest.approx(24e6, rel=0.1)
    assert spans["c"].nbytes == pytest.approx(8e5, rel=0.1)


def test_functions_that_run_at_once_are_told_not_to_be_alone(wide, gate):
    call = gate.call()
    graph = Graph([Function(k, [], call, extra_args=(k,)) for k in "ab"])
    run = wide.submit(graph)
    assert gate.arrivals(2) == ["a", "b"]
    gate.let()
    run.wait(60)
    assert [span.peak_alone for span in run.spans] == [False, False]


def test_a_task_of_somebody_elses_is_company_too(wide, gate):
    call = gate.call()

    def within(name, more):
        call(name)
        return more and call(more)

    graph = Graph(
        [
            Function("f", [], within, extra_args=("begin", "end")),
            Function("after", ["f"], len),
        ]
    )
    run = wide.submit(graph)
    gate.arrivals(1)
    task = wide.client.submit(within, "task", "", pure=False)
    gate.arrivals(1)
    gate.let("task")
    task.result(timeout=60)  # began and ended while the function ran
    gate.let("begin")
    gate.arrivals(1)
    gate.let()
    run.wait(60)
    assert {k: span.peak_alone for k, span in spans_of(run).items()} == {
        "f": False,
        "after": True,
    }


def test_measuring_can_be_turned_off(single):
    def switch(on):
        import dask

        dask.config.set({"handout.measure": on})

    single.client.run(switch, False)
    try:
        (span,) = single.execute(Graph([Function("a", [], int)])).spans
    finally:
        single.client.run(switch, True)
    assert (span.cpu_seconds, span.peak_mb, span.bytes_in) == (None, None, None)
    (span,) = single.execute(Graph([Function("a", [], int)])).spans
    assert span.cpu_seconds is not None


def test_measures_of_a_detached_run_reach_who_attaches(client_of_two):
    client = client_of_two
    with hd.Executor(client) as executor:
        run = executor.submit(
            Graph([Function("a", [], burn, extra_args=(0.1,))]), detached=True
        )
        run.wait(60)
        token = run.token
    with hd.Executor(client) as other:
        again = other.attach(token)
        again.wait(60)
        (span,) = again.spans
        assert span.cpu_seconds == pytest.approx(0.1, rel=0.2)
        again.release()


@pytest.fixture(scope="module")
def client_of_two():
    from distributed import Client

    with Client(n_workers=2, threads_per_worker=1, dashboard_address=":0") as client:
        yield client


# --------------------------------------------------------------------- overuse
@pytest.mark.skipif(not LINUX, reason="needs what is measured there")
def test_who_takes_more_memory_than_declared_is_told(single, caplog, tmp_path):
    cost = {"memory": 50}
    graph = Graph(
        [
            Function("big", [], touch, extra_args=(200,), cost=cost, name="touch"),
            Function("bigger", [], touch, extra_args=(300,), cost=cost, name="touch"),
            Function("fits", [], touch, extra_args=(40,), cost=cost, name="touch"),
            Function("silent", [], touch, extra_args=(100,), name="silent"),
        ]
    )
    with caplog.at_level(logging.WARNING, logger="handout_dask"):
        run = single.execute(graph)
    report = run.report(tmp_path / "report.json")
    assert [x.function for x in report.overuse] == ["bigger", "big"]
    for overuse, mb in zip(report.overuse, (300, 200), strict=True):
        assert (overuse.name, overuse.node, overuse.declared) == ("touch", "n0", 50)
        assert overuse.measured == pytest.approx(mb, rel=0.1)
    assert str(report.overuse[0]) in str(report)
    written = json.loads((tmp_path / "report.json").read_text())
    assert [x["function"] for x in written["overuse"]] == ["bigger", "big"]
    lines = [
        r.getMessage() for r in caplog.records if r.name.startswith("handout_dask")
    ]
    assert len(lines) == 1
    assert lines[0].startswith("function 'bigger' on node 'n0' took about ")
    assert lines[0].endswith("but declared 50 MB (and 1 more of name 'touch')")


# ------------------------------------------------------------------- the meter
def test_what_dask_says_holds_measures_or_not():
    told = Measures(0.5, 20.0, False, 8, None, True)
    assert measures_of({"metadata": {"handout": list(told)}}) == told
    assert measures_of({"metadata": {}}) is measures_of({}) is None
    assert measures_of({"metadata": None}) is None


class Scripted:
    """The memory of a process, as a script has it."""

    def __init__(self):
        self.now = self.highest = 1000

    def restart(self):
        self.highest = self.now
        return self.now

    def peak(self):
        return self.highest


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2000)), max_size=40))
def test_nobody_is_told_less_than_the_growth_of_the_process_meanwhile(steps):
    """Of any order of beginnings and ends; the growth is that since the beginning."""
    meter = Meter()
    meter._memory = memory = Scripted()
    running, most, base, met = {}, {}, {}, {}
    for who, level in steps:
        memory.now = level
        memory.highest = max(memory.highest, level)
        for other in running:
            most[other] = max(most[other], level)
        if who in running:
            used = meter.end(running.pop(who))
            assert used.peak_mb == max(0, most[who] - base[who]) / MB
            assert used.alone is not met[who]
        else:
            met[who] = bool(running)
            met.update(dict.fromkeys(running, True))
            running[who] = meter.begin()
            most[who] = base[who] = level


def test_the_peak_is_told_where_the_kernel_can_not_be_asked():
    """In a process of its own: what tests before left behind may go at any moment."""
    lines = [
        "from handout_dask.runtime import measuring",
        "memory = measuring._Memory()",
        "held = memory.restart()",
        "data = bytearray(b'x') * (50 * 10**6)",
        "print(memory.peak() - held)",
    ]
    told = subprocess.check_output([sys.executable, "-c", "\n".join(lines)], text=True)
    assert int(told) / MB == pytest.approx(50, rel=0.2)


def test_other_threads_do_not_count_as_time_of_a_function():
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            pass

    other = threading.Thread(target=busy)
    other.start()
    meter = Meter()
    mark = meter.begin()
    burn(0.1)
    used = meter.end(mark)
    stop.set()
    other.join()
    assert used.cpu_seconds == pytest.approx(0.1, rel=0.1)


# ------------------------------------------------------------------------- GPU
class Hook:
    """As cupy.cuda.memory_hook.MemoryHook: called when its pools give and take."""

    entered = []  # noqa: RUF012

    def __enter__(self):
        Hook.entered.append(self)

    def __exit__(self, *_):
        Hook.entered.remove(self)


def test_gpu_memory_is_the_most_that_pools_gave_at_once(monkeypatch):
    cupy = types.SimpleNamespace(
        cuda=types.SimpleNamespace(memory_hook=types.SimpleNamespace(MemoryHook=Hook))
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    meter = Meter()
    mark = meter.begin()
    (hook,) = Hook.entered
    hook.malloc_postprocess(pmem_id=1, mem_size=30 * 10**6)
    hook.free_postprocess(pmem_id=7, mem_size=50 * 10**6)  # was there before
    hook.free_postprocess(pmem_id=1, mem_size=30 * 10**6)
    hook.malloc_postprocess(pmem_id=2, mem_size=20 * 10**6)
    hook.malloc_postprocess(pmem_id=3, mem_size=20 * 10**6)
    assert meter.end(mark).gpu_peak_mb == 40.0
    assert Hook.entered == []
    assert meter.end(meter.begin()).gpu_peak_mb is None


def test_a_gpu_library_without_a_gpu_is_no_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace())
    meter = Meter()
    assert meter.end(meter.begin()).gpu_peak_mb is None


@pytest.mark.gpu
def test_gpu_memory_is_that_of_the_array():
    cupy = pytest.importorskip("cupy")
    cupy.zeros(1)
    meter = Meter()
    mark = meter.begin()
    array = cupy.zeros(10**7)
    del array
    assert meter.end(mark).gpu_peak_mb == pytest.approx(80, rel=0.1)


def test_what_a_process_of_its_own_needs_loads_no_dask():
    code = (
        "import sys, handout_dask.runtime.process_child; "
        "print(*(x for x in ('dask', 'distributed', 'numpy') if x in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == []

"""Progress as people see it: in a notebook, on a terminal, in a log."""

import asyncio
import io
import sys
import types

import pytest

import handout_dask as hd
from handout_dask import Function, Graph
from handout_dask.runtime import progress

CELL = """
import handout_dask as hd

graph = hd.Graph(
    [hd.Function(k, [], lambda: 1) for k in range(3)]
    + [hd.Function("<b>", [], lambda: 1 / 0)]
)
with hd.Executor(nodes=[hd.Node("n0", {"cpu": 2})]) as executor:
    run = executor.submit(graph)
    run.show_progress()
    print(run.status)
    display(run)
"""


def ticking(monkeypatch):
    """Let progress be shown anew every 0.1 s."""
    monkeypatch.setattr(progress, "TICK", 0.1)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def chain(gate):
    call = gate.call()
    return Graph(
        [
            Function("a", [], lambda: call("a")),
            Function("b", ["a"], lambda a: call("b")),
        ]
    )


def test_a_terminal_line_is_written_over_and_in_the_end_is_true(
    executor, gate, monkeypatch
):
    ticking(monkeypatch)
    run = executor.submit(chain(gate))
    stream = Terminal()
    seen = []

    def write(text):
        seen.append(text)
        if len(seen) == 8:  # the time goes on though nothing ends
            gate.arrivals(1)
            gate.let()
        if "1 of 2" in text and gate._waiting == {}:
            gate.arrivals(1)
            gate.let()
        return io.StringIO.write(stream, text)

    stream.write = write
    run.show_progress(stream)
    lines = stream.getvalue().split("\r")[1:]
    assert len({line for line in lines if line.startswith("0 of 2 functions")}) > 1
    assert any("1 of 2" in line and "left" in line for line in lines)
    assert lines[-1].startswith("2 of 2 functions done, ")
    assert lines[-1].endswith("s\x1b[K\n")
    assert stream.getvalue().count("\n") == 1


def test_a_log_gets_few_lines_and_the_last_is_true(executor):
    graph = Graph(Function(k, [], lambda: 1) for k in range(40))
    stream = io.StringIO()
    executor.submit(graph).show_progress(stream)
    lines = stream.getvalue().splitlines()
    assert 1 <= len(lines) <= 12
    assert lines[-1].startswith("40 of 40 functions done, ")
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_a_cell_shows_one_bar_that_is_brought_up_to_date(executor, gate, monkeypatch):
    ticking(monkeypatch)
    shown = []

    class Handle:
        def update(self, bar):
            shown.append(repr(bar))
            if len(shown) in (2, 4):
                gate.arrivals(1)
                gate.let()

    def display(bar, display_id):
        assert (display_id, shown) == (True, [])
        shown.append(repr(bar))
        return Handle()

    monkeypatch.setattr(progress, "notebook_display", lambda: display)
    executor.submit(chain(gate)).show_progress()
    assert shown[0].startswith("0 of 2 functions done, ")
    assert shown[-1].startswith("2 of 2 functions done, ")


def test_a_stream_that_is_given_is_used_in_a_notebook_too(executor, monkeypatch):
    monkeypatch.setattr(progress, "notebook_display", lambda: 1 / 0)
    stream = io.StringIO()
    executor.submit(Graph([Function("a", [], int)])).show_progress(stream)
    assert "1 of 1 functions done" in stream.getvalue()


def test_ipython_outside_of_a_notebook_is_not_one(monkeypatch):
    shell = types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython", shell)
    assert progress.notebook_display() is None
    monkeypatch.delitem(sys.modules, "IPython")
    assert progress.notebook_display() is None


def test_progress_can_be_awaited_and_leaves_no_task():
    async def main():
        async with hd.Executor(
            nodes=[hd.Node("n0", {"cpu": 1})], asynchronous=True
        ) as executor:
            run = await executor.submit(Graph([Function("a", [], int)]))
            stream = io.StringIO()
            before = asyncio.all_tasks()
            await run.show_progress(stream)
            left = {t for t in asyncio.all_tasks() - before if "_until" in repr(t)}
            return stream.getvalue(), left

    text, left = asyncio.run(main())
    assert text.splitlines()[-1].startswith("1 of 1 functions done")
    assert not left


def test_a_run_that_loses_its_scheduler_does_not_show_progress_for_ever(monkeypatch):
    executor = hd.Executor(nodes=[hd.Node("n0", {"cpu": 1})])
    try:
        run = executor.submit(Graph([Function("a", [], lambda: 1)])).wait(60)
        run._left, run._lost = 1, "the connection to the scheduler is closed"
        stream = io.StringIO()
        run.show_progress(stream)
        assert stream.getvalue().endswith(", failed\n")
    finally:
        executor.close()


def test_a_saved_notebook_has_the_true_final_state():
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    nbclient.NotebookClient(notebook, timeout=100).execute()
    outputs = notebook.cells[0].outputs
    pages = [x.data["text/html"] for x in outputs if "text/html" in x.get("data", {})]
    assert len(pages) == 2  # one bar, whatever it showed before; and the run
    assert "3 of 4 functions done, 1 failed, " in pages[0]
    assert ", failed</div>" in pages[0]
    assert "<script" not in "".join(pages)
    assert "&lt;b&gt;" in pages[1]
    told = [x.data["text/plain"] for x in outputs if "data" in x]
    assert told[0].startswith("3 of 4 functions done, 1 failed")
    said = "".join(x.text for x in outputs if x.get("name") == "stdout")
    assert said == "failed\n"

"""The notebooks run to their ends, and what is stored of them shows anywhere."""

import sys
from pathlib import Path

import nbformat
import pytest

from notebooks.execute import HERE, execute, words_of_here
from notebooks.stored import MOST_KB, complaints

ROOT = Path(__file__).resolve().parents[2]
PATHS = sorted(HERE.glob("*.ipynb"))
NAMES = [path.stem for path in PATHS]


def stored(path):
    return nbformat.read(path, as_version=4)


def text_of(notebook):
    """All that outputs show as text."""
    parts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            parts.append(output.get("text", ""))
            parts.append(output.get("data", {}).get("text/plain", ""))
    return "\n".join(parts)


# What must be told, by name of the notebook; stored and executed anew.
TOLD = {
    "1-quickstart": ["[7, 12, 20]", "telescope: lacks memory", "learned"],
    "2-time-against-cost": ["deadline of 45 min", "no plan was found that ends within"],
    "3-own-allocator": ["Battery ", "AllocationError", "fox"],
    "4-failures": ["'broken'", "lost on", "was ended on node", "`first` ran 1 time"],
    "5-cuda": ["GPU", "computed with", "fits on no node"],
    "6-dask-collections": ["photo 2 by worker 1", "has 4000", "30"],
}
SLOW = {*NAMES} - {"1-quickstart", "6-dask-collections"}


def test_each_notebook_is_checked_for_what_it_tells():
    assert set(TOLD) == set(NAMES)


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_stored_outputs_are_whole_and_static(path):
    notebook = stored(path)
    assert complaints(notebook, words_of_here()) == []
    assert path.stat().st_size < MOST_KB * 1000
    shown = text_of(notebook)
    assert [word for word in TOLD[path.stem] if word not in shown] == []


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_notebook_begins_as_a_text_and_ends_with_what_it_claims(path):
    first, *_, claim, last = stored(path).cells
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert claim.source.endswith("## What this notebook claims")
    assert last.source.count("assert ") >= 6


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=pytest.mark.slow) if path.stem in SLOW else path
        for path in PATHS
    ],
    ids=NAMES,
)
def test_notebook_runs_in_a_fresh_kernel(path, tmp_path):
    notebook = execute(path, folder=tmp_path)  # a cell that raises, raises here
    assert complaints(notebook, words_of_here(), hushed=False) == []
    shown = text_of(notebook)
    assert [word for word in TOLD[path.stem] if word not in shown] == []
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_cuda_notebook_computes_on_a_gpu_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "standin"))
    monkeypatch.setenv("STANDIN_DEVICE", str(8 * 10**9))
    shown = text_of(execute(HERE / "5-cuda.ipynb", folder=tmp_path))
    assert "A GPU: what is given one computes with CuPy." in shown
    assert "computed with cupy; square 0 comes as numpy.ndarray" in shown
    assert "s on the GPU, " in shown


def test_kernel_is_this_interpreter(tmp_path):
    from nbformat.v4 import new_code_cell, new_notebook

    path = tmp_path / "which.ipynb"
    code = "import sys; print(sys.executable)"
    nbformat.write(new_notebook(cells=[new_code_cell(code)]), path)
    assert text_of(execute(path)).strip() == sys.executable

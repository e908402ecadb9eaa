"""What the documents show is what happens."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime import conftest as _shared

_forked = _shared._forked
ROOT = Path(__file__).resolve().parent.parent


def examples(name: str, language: str) -> list[str]:
    """The code blocks of a document in one language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


def run(code: str, folder: Path) -> str:
    script = folder / "example.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script.name],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_readme_example_runs_and_is_short(tmp_path: Path) -> None:
    (code,) = examples("README.md", "python")
    statements = [line for line in code.splitlines() if line.strip()]
    assert len(statements) <= 15
    assert "photo of 3, 10! on " in run(code, tmp_path)


def test_readme_sessions_print_what_they_show() -> None:
    text = "\n".join(examples("README.md", "pycon"))
    session = doctest.DocTestParser().get_doctest(text, {}, "README.md", None, 0)
    told: list[str] = []
    assert doctest.DocTestRunner().run(session, out=told.append).failed == 0, "".join(
        told
    )
    assert session.examples


def test_contributing_example_runs(tmp_path: Path) -> None:
    (code,) = examples("CONTRIBUTING.md", "python")
    assert run(code, tmp_path) == ""


def test_readme_nodes_file_is_read() -> None:
    from handout_dask.formats.nodes import read_nodes

    tomllib = pytest.importorskip("tomllib")
    (text,) = examples("README.md", "toml")
    cluster = read_nodes(tomllib.loads(text))
    assert [node.name for node in cluster.nodes] == ["gpu-0", "gpu-1"]
    assert cluster["gpu-0"].capacity("memory") == 64_000


def test_readme_links_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text())
    assert [name for name in links if not (ROOT / name).is_file()] == []
    assert sum(name.endswith(".ipynb") for name in links) == 6

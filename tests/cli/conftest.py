"""A workflow and nodes as files, and the command line in this process."""

import json
from types import SimpleNamespace

import pytest

from handout_dask.cli import main
from tests.runtime import conftest as _shared

_forked = _shared._forked

TRACE = {
    "schemaVersion": "1.5",
    "workflow": {
        "specification": {
            "tasks": [
                {"name": "make_ID1", "id": "make", "outputFiles": ["a"]},
                {
                    "name": "use_ID2",
                    "id": "use",
                    "parents": ["make"],
                    "inputFiles": ["a"],
                },
            ],
            "files": [{"id": "a", "sizeInBytes": 10_000_000}],
        },
        "execution": {
            "tasks": [
                {"id": "make", "runtimeInSeconds": 4.0, "memoryInBytes": 2_000_000},
                {"id": "use", "runtimeInSeconds": 2.0},
            ]
        },
    },
}
NODES = """
[[node]]
name = "slow"
price = 3600
[[node]]
name = "fast"
speed = 2
price = 7200
"""


@pytest.fixture
def files(tmp_path):
    """Paths: a trace of make -> use, nodes slow and fast, and a folder."""
    paths = SimpleNamespace(
        trace=tmp_path / "small.json", nodes=tmp_path / "nodes.toml", folder=tmp_path
    )
    paths.trace.write_text(json.dumps(TRACE))
    paths.nodes.write_text(NODES)
    return paths


@pytest.fixture
def handout(capsys):
    """Run a command: (exit code, standard output, standard error)."""

    def run(*args):
        code = main([*map(str, args)])
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def fan(files):
    """The files, with four readers of what make writes, and four nodes of one kind."""
    trace = json.loads(files.trace.read_text())
    tasks = trace["workflow"]["specification"]["tasks"]
    measured = trace["workflow"]["execution"]["tasks"]
    for k in range(2, 5):
        tasks.append({**tasks[1], "id": f"use{k}"})
        measured.append({**measured[1], "id": f"use{k}"})
    files.trace.write_text(json.dumps(trace))
    files.nodes.write_text('[[node]]\nname = "n"\ncount = 4\n[network]\nlatency = 0\n')
    return files

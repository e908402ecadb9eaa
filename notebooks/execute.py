"""Execute the notebooks, each in a fresh kernel, and store them with their outputs.

``python -m notebooks.execute [NAME ...]``; ``make notebooks`` does. One whose outputs
may not be stored, see `notebooks.stored`, is left as it was.
"""

from __future__ import annotations

import getpass
import os
import socket
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from notebooks.stored import MOST_KB, complaints

HERE = Path(__file__).resolve().parent
TIMEOUT = 120  # s for a cell; the first search after installation compiles
QUIET = {"DASK_LOGGING__DISTRIBUTED": "error"}  # else it warns where a host is busy
COMMON = {"root", "user", "localhost"}  # names that tell nothing


def execute(path: Path, folder: Path | None = None) -> Any:
    """A notebook as it comes out of a fresh kernel of this interpreter.

    Parameters
    ----------
    path : Path
        Of the notebook; what it holds of outputs is dropped first.
    folder : Path, optional
        Where it runs; default: where it is.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell raises; its text has the traceback.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],  # loopback is not encrypted, it warns
        resources={"metadata": {"path": str(folder or path.parent)}},
    )
    client.create_kernel_manager().kernel_spec.argv[0] = sys.executable
    client.execute(env={**os.environ, **QUIET})
    return tidy(notebook)


def tidy(notebook: Any) -> Any:
    """The notebook without what differs from one execution to the next for nothing."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {
                "display_name": "Python 3",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python"},
        }
    )
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    return notebook


def _joined(outputs: list[Any]) -> list[Any]:
    """Outputs, with what was written to a stream in pieces put together."""
    joined: list[Any] = []
    for output in outputs:
        if (
            joined
            and output.output_type == joined[-1].output_type == "stream"
            and output.name == joined[-1].name
        ):
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def words_of_here() -> list[str]:
    """Names of this machine and its user, which no output may tell."""
    words = {getpass.getuser(), socket.gethostname(), Path.home().name}
    return sorted(word for word in words - COMMON if len(word) > 2)


def main(names: list[str]) -> int:
    """Execute and store; 1 if one of them raised or may not be stored."""
    bad = 0
    for path in sorted(HERE.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        found = store(path)
        bad += bool(found)
        for what in found or [f"{path.stat().st_size / 1e3:.0f} kB"]:
            print(f"{path.name}: {what}", file=sys.stderr if found else sys.stdout)
    return int(bad > 0)


def store(path: Path) -> list[str]:
    """Execute a notebook and store it with its outputs, or say why it is not."""
    try:
        notebook = execute(path)
    except CellExecutionError as error:
        return [str(error)]
    text = nbformat.writes(notebook) + "\n"
    found = complaints(notebook, words_of_here())
    if len(text) > MOST_KB * 1000:
        found.append(f"{len(text) / 1e3:.0f} kB; at most {MOST_KB}")
    if not found:
        path.write_text(text)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

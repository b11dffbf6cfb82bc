"""Runs the notebooks, each in an empty folder that is removed afterwards, and stores their outputs.

python docs/notebooks/execute.py
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest import mock

import nbclient
import nbformat

FOLDER = Path(__file__).parent
#: Key of a notebook's metadata: the hash of the code that was run.
EXECUTED = "executed_code"


def execute(file: Path, folder: Path) -> nbformat.NotebookNode:
    """Runs a notebook from its first cell to its last.

    Args:
        file: The notebook.
        folder: An empty folder, in which it runs.

    Returns:
        The notebook with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails.
    """
    notebook = nbformat.read(file, as_version=4)
    # The kernel and the commands of this very Python, whatever else is installed.
    kernel = folder / ".jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    resources = {"metadata": {"path": str(folder)}}
    with mock.patch.dict(os.environ, PATH=path, JUPYTER_PATH=str(folder / ".jupyter")):
        nbclient.NotebookClient(notebook, timeout=300, resources=resources, record_timing=False).execute()
    return notebook


def code_hash(notebook: nbformat.NotebookNode) -> str:
    """SHA-256 of the code cells: stored with the outputs, it tells whether these belong to the code."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def readable(outputs: Iterable[Any]) -> list[Any]:
    """Outputs without what libraries write to standard error, each stream in one piece and without colours."""
    kept: list[Any] = []
    for output in outputs:
        if output.output_type != "stream":
            kept.append(output)
        elif output.name == "stdout":
            if kept and kept[-1].output_type == "stream":
                kept[-1].text += output.text
            else:
                kept.append(output)
    for output in kept:
        if output.output_type == "stream":
            output.text = re.sub(r"\x1b\[[\d;]*m", "", output.text)
    return kept


def main() -> None:
    """Runs all of them."""
    for file in sorted(FOLDER.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(file, Path(folder))
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = readable(cell.outputs)
        notebook.metadata.language_info = {"name": "python"}  # another version of Python is no change
        notebook.metadata[EXECUTED] = code_hash(notebook)
        nbformat.write(notebook, file)


if __name__ == "__main__":
    main()

"""The notebooks are stored with the outputs of their code, and run from their first cell to their last."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed: pip install '.[dev]'")
pytest.importorskip("nbclient", reason="nbclient is not installed: pip install '.[dev]'")
pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install '.[dev]'")

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
RUN = "run: python docs/notebooks/execute.py"


@pytest.fixture(scope="module")
def script() -> dict[str, object]:
    """The functions of the script that runs them."""
    return runpy.run_path(str(FOLDER / "execute.py"))


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_outputs_are_those_of_the_code(file: Path, script: dict[str, object]) -> None:
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, 1 + len(code))), RUN
    assert notebook.metadata[script["EXECUTED"]] == script["code_hash"](notebook), RUN  # type: ignore[operator]
    outputs = [output for cell in code for output in cell.outputs]
    assert len(outputs) >= 5
    assert {output.output_type for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert all(output.name == "stdout" for output in outputs if output.output_type == "stream")


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_runs(file: Path, tmp_path: Path, script: dict[str, object]) -> None:
    notebook = script["execute"](file, tmp_path)  # type: ignore[operator]
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")

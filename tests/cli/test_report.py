"""``lgn report`` on runs and checkpoints."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from lgn_lightning.circuit.emit.compiler import compile_source
from lgn_lightning.cli.main import main
from tests.report.conftest import data_of


def test_checkpoint_as_target_and_other_place(digits_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "here.html"
    assert main(["report", str(digits_run / "checkpoints" / "last.ckpt"), "--out", str(out)]) == 0
    data = data_of(out.read_text())
    assert data["checkpoint"] == "last.ckpt"
    assert data["step"] == 60


def test_no_library_of_a_run_is_loaded(digits_run: Path, tmp_path: Path) -> None:
    """Whoever made the run made its library, too: the C of the report is compiled anew."""
    run = shutil.copytree(digits_run, tmp_path / "run")
    (library,) = run.glob("circuits/best/*.so")
    code = "__attribute__((constructor)) static void run(void) { __builtin_trap(); }"
    compile_source(code, library)
    manifest = library.with_name("manifest.json")
    content = json.loads(manifest.read_text())
    content["files"][library.name] = hashlib.sha256(library.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(content))
    assert main(["report", str(run)]) == 0
    assert "compiled C" in data_of((run / "report.html").read_text())["images_per_second"]


def test_damaged_metrics_are_one_error(digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(digits_run, tmp_path / "run")
    (run / "report.html").unlink(missing_ok=True)
    (run / "metrics.csv").write_bytes(b"step,loss\n0,\xff\n")
    assert main(["report", str(run)]) == 1
    assert "metrics.csv is no table of metrics" in capsys.readouterr().err
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("target", "message"),
    [("nothing", "there is no run or checkpoint"), ("empty", "holds no checkpoint"), ("broken.ckpt", "cannot be read")],
)
def test_bad_input_is_one_error(
    target: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("broken.ckpt").write_bytes(b"x" * 100)
    assert main(["report", target]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.html"))

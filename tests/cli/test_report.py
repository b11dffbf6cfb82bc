"""``lgn report`` on runs and checkpoints."""

from pathlib import Path

import pytest

from lgn_lightning.cli.main import main
from tests.report.conftest import data_of


def test_checkpoint_as_target_and_other_place(digits_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "here.html"
    assert main(["report", str(digits_run / "checkpoints" / "last.ckpt"), "--out", str(out)]) == 0
    data = data_of(out.read_text())
    assert data["checkpoint"] == "last.ckpt"
    assert data["step"] == 60


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

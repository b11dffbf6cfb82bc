from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lgn_lightning import load_net
from lgn_lightning.cli.main import main
from tests.models.peers.make import FILE


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_checkpoint_has_the_scores_and_verifies(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = torch.load(FILE, weights_only=True)["torchlogix convolution"]
    torch.save({"state_dict": case["state"]}, "model.pt")
    options = "--classes 3 --tau 2 --in-shape 2,5,5 --kernels 3 --paddings 1 --pools 2 --parametrization light"
    assert main(["import", "torchlogix", "model.pt", *options.split()]) == 0
    assert "model.ckpt: a net of 21 gates" in capsys.readouterr().out
    assert torch.equal(load_net("model.ckpt")(case["x"]), case["scores"])
    assert main(["verify", "model.ckpt", "--samples", "200", "--no-proof"]) == 0


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("torchlogix no.pt --classes 3", 1, "there is no file no.pt"),
        ("torchlogix text.pt --classes 3", 1, "text.pt is no state dict that can be read as data"),
        ("torchlogix model.pt", 2, "give --classes"),
        (
            "torchlogix model.pt --classes 7 --parametrization light",
            1,
            "model.pt is not imported as a net of torchlogix",
        ),
        ("silogic model.pt --classes 3", 1, "no layer of gates of this library"),
        ("torchlogix model.pt --module nowhere.net", 2, "--module nowhere.net: No module named"),
        ("silogic model.pt --module nowhere.net", 2, "--module is for torchlogix"),
        (
            "torchlogix model.pt --classes 3 --parametrization light --kernels 3",
            1,
            "leave kernels out",
        ),
        ("silogic model.pt --classes 3 --temperature 2", 2, "are for torchlogix, not silogic"),
        ("torchlogix model.pt --classes 3 --parametrization light --out model.pt", 2, "is the file that was read"),
    ],
)
def test_errors(folder: Path, capsys: pytest.CaptureFixture[str], options: str, code: int, message: str) -> None:
    Path("text.pt").write_text("no archive")
    torch.save(torch.load(FILE, weights_only=True)["torchlogix light"]["state"], "model.pt")
    assert main(["import", *options.split()]) == code
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["model.pt", "text.pt"]


@pytest.mark.parametrize("content", [[1], torch.zeros(3), "text", {1: torch.zeros(3)}, {"state_dict": [1]}, None, {}])
def test_what_is_no_state_dict_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str], content: object) -> None:
    torch.save(content, "model.pt")
    assert main(["import", "silogic", "model.pt", "--classes", "3"]) == 1
    assert capsys.readouterr().err.startswith("lgn: error: model.pt holds no state dict")


def test_an_empty_file_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("model.pt").touch()
    assert main(["import", "silogic", "model.pt", "--classes", "3"]) == 1
    assert "model.pt is no state dict that can be read as data" in capsys.readouterr().err

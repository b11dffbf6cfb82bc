"""Which checkpoint a run stands for."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lgn_lightning.base.errors import CheckpointError
from lgn_lightning.runs.checkpoints import chosen_checkpoint, read_checkpoint


def write(path: Path, step: int = 0, best: str | Path | None = None, monitor: str | None = "val/acc_hard") -> None:
    """A checkpoint as a Trainer with a ``ModelCheckpoint`` writes it, without a net."""
    state = {"monitor": monitor, "best_model_path": "" if best is None else str(best)}
    path.parent.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"state_dict": {}, "global_step": step, "callbacks": {"ResumePoint": {}, "Model…": state}}
    torch.save(content, path)


@pytest.mark.parametrize("place", ["", "checkpoints", "version_2/checkpoints"])
def test_validation_chose_it_wherever_the_run_is_now(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "run" / place
    for step in (20, 40, 60):
        write(folder / f"epoch={step}.ckpt", step, f"runs/elsewhere/epoch={20 if step == 20 else 40}.ckpt")
    os.utime(folder / "epoch=20.ckpt")  # a copy has the time at which it was copied
    chosen = chosen_checkpoint(tmp_path / "run")
    assert chosen.path == folder / "epoch=40.ckpt"
    assert "val/acc_hard" in str(chosen)
    assert str(chosen.path) in str(chosen)


def test_the_newest_run_of_a_recipe_is_taken(tmp_path: Path) -> None:
    for number in (2, 10):
        write(tmp_path / f"version_{number}" / "checkpoints" / "best.ckpt")
    assert chosen_checkpoint(tmp_path).path.parents[1].name == "version_10"


def test_without_a_choice_it_is_the_last_or_the_newest(tmp_path: Path) -> None:
    write(tmp_path / "best.ckpt", 10, None)
    write(tmp_path / "b.ckpt", 30, "gone.ckpt")
    write(tmp_path / "c.ckpt", 20, "c.ckpt", monitor=None)  # the last one that was saved, and no choice
    assert chosen_checkpoint(tmp_path).path.name == "b.ckpt"
    write(tmp_path / "last.ckpt", 25)
    assert chosen_checkpoint(tmp_path).path.name == "last.ckpt"


def test_the_resume_point_knows_the_best_and_is_taken_if_it_is_alone(tmp_path: Path) -> None:
    write(tmp_path / "resume.ckpt", 50, "best.ckpt")
    chosen = chosen_checkpoint(tmp_path)
    assert chosen.path.name == "resume.ckpt"
    assert "resume" in chosen.why
    write(tmp_path / "older.ckpt", 10, "older.ckpt")
    write(tmp_path / "best.ckpt", 20, "best.ckpt")
    assert chosen_checkpoint(tmp_path).path.name == "best.ckpt"
    (tmp_path / "best.ckpt").unlink()
    assert chosen_checkpoint(tmp_path).path.name == "older.ckpt", "what is left of what validation chose"


def test_a_damaged_checkpoint_is_no_reason_to_fail_here(tmp_path: Path) -> None:
    write(tmp_path / "best.ckpt", 10, "best.ckpt")
    (tmp_path / "last.ckpt").write_bytes(b"half a file")
    assert chosen_checkpoint(tmp_path).path.name == "best.ckpt"
    (tmp_path / "best.ckpt").write_bytes(b"half a file")
    assert chosen_checkpoint(tmp_path).path.name == "last.ckpt"


def test_a_checkpoint_stands_for_itself(tmp_path: Path) -> None:
    write(tmp_path / "a.ckpt", 10, "b.ckpt")
    shutil.copy(tmp_path / "a.ckpt", tmp_path / "b.ckpt")
    chosen = chosen_checkpoint(tmp_path / "a.ckpt")
    assert (chosen.path, str(chosen)) == (tmp_path / "a.ckpt", str(tmp_path / "a.ckpt"))


def test_where_there_is_none_the_error_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no checkpoint.*version_\*/checkpoints/"):
        chosen_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="there is no run or checkpoint"):
        chosen_checkpoint(tmp_path / "nowhere")


def test_a_damaged_weight_is_noticed(digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, copy = digits_run / "checkpoints" / "best.ckpt", tmp_path / "copy.ckpt"
    content = read_checkpoint(path)
    assert capsys.readouterr().err == ""
    [name, weights] = next((n, w) for n, w in content["state_dict"].items() if n.endswith("weights"))
    data, needle = path.read_bytes(), weights.numpy().tobytes()
    assert data.count(needle) == 1
    place = data.index(needle) + 3
    copy.write_bytes(data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :])
    with pytest.raises(CheckpointError, match=r"copy\.ckpt is damaged: .*SHA-256"):
        read_checkpoint(copy)
    for other in (weights[:-1], weights.double(), -weights):
        torch.save({**content, "state_dict": {**content["state_dict"], name: other}}, copy)
        with pytest.raises(CheckpointError, match="state_dict does not agree with the SHA-256"):
            read_checkpoint(copy)
    del content["optimizer_states"]
    torch.save({**content, "added_by_a_subclass": torch.ones(1)}, copy)
    assert read_checkpoint(copy)["added_by_a_subclass"] == 1
    del content["lgn_sha256"]
    torch.save(content, copy)
    read_checkpoint(copy)
    assert "has no digest" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        {"state_dict": {"net.1.weights": "[1.0]"}},
        {"state_dict": {3: torch.zeros(1)}},
        {"state_dict": {"net.1.weights": torch.zeros(2, 2).to_sparse()}},
        {"state_dict": {"net.1.weights": torch.empty(2, device="meta")}},
        {"state_dict": [torch.zeros(1)]},
        {"global_step": "3"},
        {"lgn_recipe": 3},
        {"lgn_class_names": {"a": 1}},
        {"lgn_class_names": [0, 1]},
        {"lgn_preparation": ["resize"]},
        {"lgn_sha256": "x"},
    ],
)
def test_values_of_another_type_are_one_error(change: dict[str, Any], tmp_path: Path) -> None:
    torch.save({"state_dict": {}, **change}, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match=r"x\.ckpt cannot be used"):
        read_checkpoint(tmp_path / "x.ckpt")

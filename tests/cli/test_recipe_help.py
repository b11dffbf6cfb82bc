"""``lgn fit <recipe> --help`` shows the keys that this recipe has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lgn_lightning.cli.main import main
from lgn_lightning.runs.recipes import recipe_files


def help_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main([*arguments, "--help"]) == 0
    return capsys.readouterr().out


def test_net_data_callbacks_and_their_values(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, "fit", "digits")
    for line in (
        *(
            "--model.net.width=2000",
            "--model.net.tau=5",
            "--model.net.thresholds=[0.125, 0.25,",
            "--model.optimizer.lr=0.1",
        ),
        *("--model.net.arity=2  (default)", "--data.batch_size=100", "--data.augment.rotation=6.0", "--data.root=null"),
        *("--trainer.max_steps=3000", "--model.lr_scheduler.T_max=3000", "monitor: val/loss_hard", "--run_name=null"),
        *("lgn_lightning.callbacks.ExportCircuit", "--resume", "--trust-modules", "compile_at: end", "ImageFolder"),
    ):
        assert line in text, line
    assert "Temperature of the group sum" in text
    assert len(text.splitlines()) < 300
    assert max(map(len, text.splitlines())) <= 100


def test_it_follows_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, "fit", "digits", "--data=MNIST", "--model.net.width=500")
    assert "--data.size=28  (default)" in text
    assert "--model.net.width=500" in text
    assert "test_fraction" not in text


@pytest.mark.parametrize("path", recipe_files(), ids=lambda path: path.stem)
def test_every_recipe_has_one_with_keys_that_are_accepted(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, "fit", path.stem)
    assert {"model", "trainer", "data", "run_name"} <= {
        key.split(".")[0] for key in re.findall(r"^  --([\w.]+)=", text, re.M)
    }
    assert "  --model.net." in text


@pytest.mark.parametrize("command", ["test", "validate"])
def test_it_knows_the_settings_of_a_run(command: str, digits_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--model.net.width=300" in help_of(capsys, command, str(digits_run))
    assert "--data.val_fraction=0.1" in help_of(capsys, command, str(digits_run / "checkpoints" / "best.ckpt"))


def test_an_error_names_a_help_that_shows_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "digits", "--model.net.thresholdz=3"]) == 2
    command = re.search(r"`lgn (.*) --help` lists every key", capsys.readouterr().err)
    assert command is not None
    assert "--model.net.thresholds=" in help_of(capsys, *command[1].split())

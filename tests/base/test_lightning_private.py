"""What is private in Lightning does what the package takes it for, in the release that is installed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from lgn_lightning.base import lightning_private as private


class Module(private.PlainHookName, BoringModel):
    pass


class See(pl.Callback):
    """Keeps what a function gives at a hook of every step."""

    def __init__(self, hook: str, look: Any) -> None:
        self.seen: list[Any] = []
        setattr(self, hook, lambda trainer, *_: self.seen.append(look(trainer)))


def trainer(folder: Path, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    settings: dict[str, Any] = {"max_steps": 8, "limit_val_batches": 1, "num_sanity_val_steps": 0, **quiet}
    return pl.Trainer(
        **{**settings, "accelerator": "cpu", "default_root_dir": folder, "callbacks": [*callbacks], **options}
    )


def test_the_name_of_the_hook_is_a_plain_attribute_and_nothing_else_is(tmp_path: Path) -> None:
    module = Module()
    fit = trainer(tmp_path, seen := See("on_train_batch_start", lambda trainer: vars(module).get("_current_fx_name")))
    fit.fit(module)
    assert set(seen.seen) == {"on_train_batch_start"}
    module.extra = nn.Linear(2, 2)
    assert "extra.weight" in module.state_dict()


def test_a_module_knows_its_data(tmp_path: Path) -> None:
    module, data = Module(), BoringDataModule()
    assert private.datamodule_of(module) is None
    fit = trainer(tmp_path, max_steps=1)
    fit.fit(module)
    assert private.datamodule_of(module) is None
    fit.fit(module, datamodule=data)
    assert private.datamodule_of(module) is data


def test_settings_of_a_trainer(tmp_path: Path) -> None:
    callback = pl.Callback()
    plain = trainer(tmp_path, callback, log_every_n_steps=7)
    assert callback in private.callbacks_of(plain)
    assert private.log_interval(plain) == 7
    assert not private.is_rehearsal(plain)
    assert private.is_rehearsal(trainer(tmp_path, fast_dev_run=True))
    assert not private.detects_anomalies(plain)
    assert private.detects_anomalies(trainer(tmp_path, detect_anomaly=True))
    assert private.shards_data(plain)
    assert not private.shards_data(trainer(tmp_path, use_distributed_sampler=False))


@pytest.mark.parametrize(("interval", "steps"), [(3, [2, 5]), (0, [])])
def test_the_steps_that_are_logged(tmp_path: Path, interval: int, steps: list[int]) -> None:
    seen = See("on_train_batch_start", private.logs_this_step)
    trainer(tmp_path, seen, log_every_n_steps=interval).fit(Module())
    assert [step for step, logs in enumerate(seen.seen) if logs] == steps


def test_which_ddp_needs_all_gradients(tmp_path: Path) -> None:
    assert private.needs_all_gradients(DDPStrategy())
    assert not private.needs_all_gradients(DDPStrategy(find_unused_parameters=True))
    assert not private.needs_all_gradients(trainer(tmp_path).strategy)


@pytest.mark.parametrize("every", [3, 4])
def test_a_validation_is_foreseen(tmp_path: Path, every: int) -> None:
    foreseen = See("on_train_batch_end", private.validates_after_batch)
    validated = See("on_validation_start", lambda trainer: trainer.global_step)
    trainer(tmp_path, foreseen, validated, val_check_interval=every).fit(Module())
    assert validated.seen == [every, 2 * every]
    assert [step for step, validates in enumerate(foreseen.seen, 1) if validates] == validated.seen


def test_a_resumed_epoch_can_be_like_any_other(tmp_path: Path) -> None:
    saves = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=3, save_top_k=-1)
    trainer(tmp_path, saves, enable_checkpointing=True).fit(Module())

    def look(trainer: pl.Trainer) -> list[bool]:
        before = trainer.fit_loop.restarting
        private.end_restart(trainer)
        return [before, trainer.fit_loop.restarting, trainer.fit_loop.epoch_loop.val_loop.restarting]

    seen = See("on_train_batch_start", look)
    trainer(tmp_path, seen).fit(Module(), ckpt_path=tmp_path / "step=3.ckpt", weights_only=True)
    inside = seen.seen[0][2]
    assert seen.seen == [[True, False, inside], *[[False, False, inside]] * 4]


@pytest.mark.parametrize("again", [False, True])
def test_the_last_checkpoint_is_written_again(tmp_path: Path, again: bool) -> None:
    saves = ModelCheckpoint(tmp_path, every_n_train_steps=3, save_last=True)
    watch = See("on_train_end", lambda _: private.write_last(saves, wanted=True) if again else None)
    trainer(tmp_path, watch, saves, enable_checkpointing=True).fit(Module())
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == (8 if again else 6)


def test_no_other_file_uses_what_is_private() -> None:
    """Names of the trainer and its parts that begin with an underscore, and attributes that mypy does not know."""
    root = Path(private.__file__).parents[1]
    files = {*root.rglob("*.py"), *(root / "callbacks").resolve().rglob("*.py")} - {Path(private.__file__)}
    assert len(files) > 100
    pattern = re.compile(r"(trainer|_loop|strategy|checkpoint)\._[a-z]|trainer\..*type: ignore\[attr-defined")
    found = [
        f"{file.name}: {line.strip()}"
        for file in files
        for line in file.read_text(encoding="utf-8").splitlines()
        if pattern.search(line) and "self._" not in line
    ]
    assert found == []

"""Targets on two processes: metrics, thresholds, mean and spread are those of one that sees all rows."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from lgn_lightning import LogicModule
from lgn_lightning.training.ddp import LogicDDPStrategy
from tests.training.table_toy import TARGETS, loader, module


class Recorder(pl.Callback):
    """Leaves what each rank ends with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, LogicModule)
        found = {
            "metrics": {name: value for name, value in trainer.callback_metrics.items() if name.startswith("val/")},
            "state": pl_module.target.state_dict(),
            "decoding": pl_module.target.decoding(),
        }
        torch.save(found, self.folder / f"{trainer.global_rank}.pt")


def measured(kind: str, folder: Path, ranks: int, **options: Any) -> list[dict[str, Any]]:
    """What each rank has after a training that changes nothing and its validation."""
    folder.mkdir()
    torch.manual_seed(0)
    several: dict[str, Any] = {"devices": 2, "strategy": LogicDDPStrategy(start_method="fork")} if ranks == 2 else {}
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        num_sanity_val_steps=0,
        callbacks=[Recorder(folder)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
        **several,
    )
    still = module(kind, optimizer=partial(torch.optim.SGD, lr=0.0), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(still, loader(kind), loader(kind, 132, 1, batch=11))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(ranks)]


@pytest.mark.parametrize("kind", TARGETS)
def test_two_ranks_measure_and_choose_what_one_does(kind: str, tmp_path: Path) -> None:
    alone = measured(kind, tmp_path / "one", 1)[0]
    assert len(alone["metrics"]) > 4
    ranks = measured(kind, tmp_path / "two", 2)
    assert ranks[0]["decoding"] == ranks[1]["decoding"]
    for rank in ranks:
        for name, value in alone["decoding"].items():  # scales of sums in another order
            exact = isinstance(value, str) or name == "thresholds"
            assert rank["decoding"][name] == (value if exact else pytest.approx(value))
        for part in ("state", "metrics"):
            assert rank[part].keys() == alone[part].keys()
            for name, value in alone[part].items():
                torch.testing.assert_close(
                    rank[part][name], value, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
                )


def test_a_weighted_loss_of_two_ranks_is_that_of_one(tmp_path: Path) -> None:
    loss = torch.nn.CrossEntropyLoss(torch.tensor([1.0, 5.0, 0.25]))
    alone = measured("classes", tmp_path / "one", 1, loss=loss)[0]["metrics"]
    for rank in measured("classes", tmp_path / "two", 2, loss=loss):
        assert float(rank["metrics"]["val/loss_hard"]) == pytest.approx(float(alone["val/loss_hard"]), rel=1e-5)

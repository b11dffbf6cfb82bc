"""A stand-in for CUDA graphs, and fits that train by it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from lgn_lightning import LogicClassifier
from tests.training.toy import loader, net, trainer

RATE = 2.0**-6  # the same in float32 as in float64, so that a rate in memory changes no bit
Adam = partial(torch.optim.Adam, lr=RATE, fused=True)


class StandIn:
    """Records without running, as CUDA does, and keeps count."""

    def __init__(self, error: str | None = None) -> None:
        self.error = error
        self.warmed_up = self.recorded = self.replayed = 0

    def warm_up(self, step: Callable[[], Tensor]) -> Tensor:
        self.warmed_up += 1
        return step()

    def record(self, step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        if self.error:
            raise RuntimeError(self.error)
        self.recorded += 1
        result = torch.full((), torch.nan)

        def replay() -> None:
            self.replayed += 1
            result.copy_(step())

        return replay, result


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def classifier(**arguments: Any) -> LogicClassifier:
    torch.manual_seed(3)
    return LogicClassifier(net(), 2, **{"optimizer": Adam, "cuda_graph": True, **arguments})


def fit(tmp_path: Path, model: LogicClassifier, checkpoint: str | None = None, **settings: Any) -> pl.Trainer:
    run = trainer(tmp_path, **{"max_epochs": 3, "log_every_n_steps": 1, **settings})
    run.fit(model, loader(230), loader(130, seed=1), ckpt_path=checkpoint)  # four batches of 50 and one of 30
    return run

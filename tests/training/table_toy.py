"""Rows of bits, targets of every kind that they decide, and a net that learns them in a second."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lgn_lightning import GroupSum, LogicLayer, LogicModule
from lgn_lightning.nn import LogicSequential
from tests.training.toy import trainer

BITS = 12
#: Targets with the number of their classes, labels, numbers or levels.
TARGETS = {"classes": 3, "yes_no": 2, "labels": 3, "number": 1, "numbers": 2, "ordinal": 4}


def rows(n: int = 400, seed: int = 0) -> Tensor:
    return torch.rand(n, BITS, generator=torch.Generator().manual_seed(seed)) > 0.5


def labels(x: Tensor, kind: str) -> Tensor:
    """What the target of a kind is of rows."""
    ones = x.long()
    if kind == "labels":
        return torch.stack([x[:, 0], x[:, 1] & x[:, 2], x[:, 3] | x[:, 4]], 1)
    if kind == "yes_no":
        return (x[:, 0] & (x[:, 1] | x[:, 2])).long()
    if kind == "number":
        return 1000.0 + 50 * ones[:, :4].sum(1)
    if kind == "numbers":
        return torch.stack([1e6 + 3e3 * ones[:, :3].sum(1), -0.25 * ones[:, 4].float()], 1)
    return ones[:, : TARGETS[kind] - 1].sum(1)


def net(kind: str, width: int = 60, sampler: str = "straight_through") -> LogicSequential:
    groups = 1 if kind in ("yes_no", "ordinal") else TARGETS[kind]
    layer = partial(LogicLayer, parametrization="sigmoid", sampler=sampler)
    return LogicSequential(layer(BITS, width), layer(width, width), GroupSum(groups, 0.35 * (width / groups) ** 0.5))


def module(kind: str, of: nn.Module | None = None, lr: float = 0.1, **options: Any) -> LogicModule:
    word = "number" if kind == "numbers" else kind
    arguments = {"optimizer": partial(torch.optim.Adam, lr=lr), "target": word, **options}
    return LogicModule(net(kind) if of is None else of, TARGETS[kind], **arguments)


def loader(kind: str, n: int = 400, seed: int = 0, batch: int = 50) -> Any:
    x = rows(n, seed)
    return DataLoader(TensorDataset(x, labels(x, kind)), batch)


def fitted(tmp_path: Path, kind: str, epochs: int = 10, **options: Any) -> tuple[LogicModule, Any]:
    """A module that was trained, and its trainer."""
    torch.manual_seed(0)
    trained = module(kind, **options)
    run = trainer(tmp_path, max_epochs=epochs)
    run.fit(trained, loader(kind), loader(kind, 130, 1))
    return trained, run

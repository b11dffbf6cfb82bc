"""Targets that look at all labels do so before the first step, once, and never without end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from lgn_lightning.base.errors import DataError
from tests.training.table_toy import labels, loader, module, rows
from tests.training.toy import trainer


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        x = rows(64)
        while True:
            yield from zip(x, labels(x, self.kind), strict=True)

    def __init__(self, kind: str) -> None:
        self.kind = kind


@pytest.mark.parametrize("kind", ["number", "ordinal"])
def test_loaders_without_a_length(kind: str, tmp_path: Path) -> None:
    endless = DataLoader(Endless(kind), batch_size=16)
    untold = module(kind)
    with pytest.raises(DataError, match=r"has no length, .*call module\.target\.fit\(labels\) before"):
        trainer(tmp_path, max_epochs=-1, max_steps=3).fit(untold, endless)
    told = module(kind)
    told.target.fit(labels(rows(64), kind))
    run = trainer(tmp_path, max_epochs=-1, max_steps=3)
    run.fit(told, endless)
    assert run.global_step == 3


def test_of_sized_loaders_all_labels_count_once(tmp_path: Path) -> None:
    trained = module("number")
    data = loader("number", 100)
    trainer(tmp_path).fit(trained, data)
    y = data.dataset.tensors[1].double()
    state: Any = trained.target.state_dict()
    torch.testing.assert_close((state["mean"][0], state["spread"][0]), (y.mean(), y.std(correction=0)))
    trainer(tmp_path).fit(trained, loader("number", 60, 7))  # which goes on in the same unit
    assert trained.target.state_dict()["mean"] == state["mean"]

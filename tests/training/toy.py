"""A net of a hundred gates and images that it learns in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lgn_lightning.models import LogicMLP


def toy(n: int = 200, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images whose left half is brighter (class 1) or darker (class 0) than the right one."""
    x = torch.randint(256, (n, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return x, (x[..., :2].float().mean((1, 2, 3)) > x[..., 2:].float().mean((1, 2, 3))).long()


def loader(n: int = 200, batch: int = 50, seed: int = 0) -> Any:
    return DataLoader(TensorDataset(*toy(n, seed)), batch)


def net() -> LogicMLP:
    return LogicMLP((1, 4, 4), 2, width=64, depth=2, tau=4.0)


def trainer(tmp_path: Path, **arguments: Any) -> pl.Trainer:
    return pl.Trainer(
        **{
            "max_epochs": 1,
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "default_root_dir": tmp_path,
            **arguments,
        }
    )

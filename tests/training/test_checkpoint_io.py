"""Checkpoints are written whole or not at all."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from lgn_lightning.base.errors import CheckpointError
from lgn_lightning.runs.checkpoints import read_checkpoint
from lgn_lightning.training.checkpoint_io import AtomicCheckpointIO


def test_a_full_disk_is_one_message_and_the_last_checkpoint_stays(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    io = AtomicCheckpointIO()
    io.save_checkpoint({"state_dict": {"x": torch.ones(10)}}, path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(CheckpointError, match=r"cannot write checkpoint .*last.ckpt: File too large; .* is still"):
            io.save_checkpoint({"state_dict": {"x": torch.ones(1_000_000)}}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert torch.equal(read_checkpoint(path)["state_dict"]["x"], torch.ones(10))
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]

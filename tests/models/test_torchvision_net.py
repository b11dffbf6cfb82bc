from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lgn_lightning.base.errors import CheckpointError
from lgn_lightning.models import TorchvisionNet


def test_torchvision_net() -> None:
    net = TorchvisionNet("resnet18", (3, 32, 32), 7, mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.2]).eval()
    x = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    assert net(x).shape == (2, 7)
    torch.testing.assert_close(net(x), net(x / 255))
    grey = TorchvisionNet("resnet18", (1, 28, 28), 7).eval()
    assert grey(x[:, :1, :28, :28]).shape == (2, 7)


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'resnet19'.* did you mean 'resnet1"):
        TorchvisionNet("resnet19", (3, 32, 32), 7)
    with pytest.raises(ValueError, match=r"in_shape=\[2, 8, 8\].* 1 or 3 channels"):
        TorchvisionNet("resnet18", (2, 8, 8), 7)
    (tmp_path / "weights.pt").write_text("no weights")
    with pytest.raises(CheckpointError, match=r"weights\.pt"):
        TorchvisionNet("squeezenet1_1", (3, 32, 32), 7, weights=str(tmp_path / "weights.pt"))

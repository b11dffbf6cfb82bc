from __future__ import annotations

import torch

from lgn_lightning.nn.autocast import autocast_dtype, without_autocast


def test_dtype_of_autocast_where_there_is_one() -> None:
    assert autocast_dtype("cpu") is None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert autocast_dtype("cpu") == torch.bfloat16
        with without_autocast("cpu"):
            assert autocast_dtype("cpu") is None
            assert (torch.rand(2, 2) @ torch.rand(2, 2)).dtype == torch.float32
        assert (torch.rand(2, 2) @ torch.rand(2, 2)).dtype == torch.bfloat16


def test_devices_without_autocast() -> None:
    assert autocast_dtype("meta") is None
    with without_autocast("meta"):
        assert torch.rand(2, device="meta").is_meta

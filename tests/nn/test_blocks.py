from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from lgn_lightning import GroupSum, LogicLayer
from lgn_lightning.circuit import Circuit
from lgn_lightning.gates import GATE_NAMES, TRUTH_TABLES
from lgn_lightning.nn import LogicConcat, LogicResidual, LogicSequential


class Feature(nn.Module):
    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, self.index]


@pytest.mark.parametrize("gate", GATE_NAMES)
def test_residual_is_its_gate(gate: str) -> None:
    block, table = LogicResidual(Feature(0), gate, shortcut=Feature(1)), TRUTH_TABLES[GATE_NAMES.index(gate)]
    bits = torch.tensor(list(itertools.product((0.0, 1.0), repeat=2)))
    assert block(bits).tolist() == list(table)
    p, q = torch.rand(2, 5, dtype=torch.float64)
    t00, t01, t10, t11 = table
    soft = t00 * (1 - p) * (1 - q) + t01 * (1 - p) * q + t10 * p * (1 - q) + t11 * p * q
    torch.testing.assert_close(block(torch.stack([p, q], 1)), soft)


def test_residual_refuses_other_shapes_and_gates() -> None:
    with pytest.raises(ValueError, match="gate='maybe'"):
        LogicResidual(nn.Identity(), "maybe")
    with pytest.raises(ValueError, match=r"body gives \[2, 6\] and the path around it \[2, 4\]; give shortcut="):
        LogicResidual(LogicLayer(4, 6))(torch.rand(2, 4))


def test_concat_joins_features_and_channels() -> None:
    block = LogicConcat(nn.Identity(), LogicLayer(6, 5), nn.Identity())
    x = torch.rand(3, 6)
    assert torch.equal(block(x)[:, :6], x)
    assert block(x).shape == (3, 17)
    assert LogicConcat(nn.Identity(), nn.Identity())(torch.rand(2, 3, 4, 4)).shape == (2, 6, 4, 4)
    assert block(x > 0.5).dtype == torch.float32
    with pytest.raises(ValueError, match="at least one branch"):
        LogicConcat()


def test_blocks_become_circuits() -> None:
    torch.manual_seed(0)
    net = LogicSequential(
        LogicConcat(nn.Identity(), LogicLayer(8, 12)), LogicResidual(LogicLayer(20, 20), "xor"), GroupSum(4)
    ).eval()
    x = torch.rand(256, 8) < 0.5
    circuit = Circuit.from_module(net)
    assert circuit.scores(x).tolist() == net(x.float()).int().tolist()
    assert circuit.num_gates == 52

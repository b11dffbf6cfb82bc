from __future__ import annotations

import numpy as np
import pytest
import torch

from lgn_lightning.circuit import Circuit
from lgn_lightning.models import LogicSkipNet


@pytest.mark.parametrize(("skip", "gates"), [("concat", 180), ("xor", 300)])
def test_circuit_is_the_net(skip: str, gates: int) -> None:
    torch.manual_seed(0)
    net = LogicSkipNet((1, 4, 4), 5, width=60, depth=3, skip=skip, thresholds=(0.3, 0.6), init="gaussian").eval()
    x = torch.randint(0, 256, (200, 1, 4, 4), dtype=torch.uint8)
    circuit = Circuit.from_module(net)
    assert np.array_equal(circuit.scores(x.numpy()), (net(x) * circuit.tau).round().int().numpy())
    assert circuit.num_gates == net.num_gates == gates


def test_refuses_layers_that_cannot_read_all() -> None:
    with pytest.raises(ValueError, match=r"LogicLayer\(180, 60\) with all before it"):
        LogicSkipNet((1, 4, 4), 5, width=60, depth=4)
    with pytest.raises(ValueError, match="gate='nix'"):
        LogicSkipNet((1, 4, 4), 5, width=60, depth=2, skip="nix")

from __future__ import annotations

from typing import Any

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


def test_learned_wires_reach_layers_further_back() -> None:
    """All before a layer are more inputs than its gates have, of which learned ones choose."""
    sizes: dict[str, Any] = {"in_shape": (1, 4, 4), "num_classes": 2, "width": 20, "depth": 5}
    with pytest.raises(ValueError, match="cannot use all 60"):
        LogicSkipNet(**sizes, connections="random")
    net = LogicSkipNet(**sizes, connections="learned")
    x = torch.randint(256, (9, 1, 4, 4), dtype=torch.uint8)
    assert torch.equal(net.train()(x), net.eval()(x))

"""Indices that reach beyond the input are refused when they are loaded, and the layer keeps its own."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch

from lgn_lightning.nn import GateLayer, LogicLayer, LogicTreeConv2d, LutLayer


def dense() -> LogicLayer:
    return LogicLayer(10, 40)


def lut() -> LutLayer:
    return LutLayer(10, 12, 4)


def learned() -> LogicLayer:
    return LogicLayer(16, 40, connections="learned")


def tree() -> LogicTreeConv2d:
    return LogicTreeConv2d(2, 3, (3, 4), 2)


def learned_tree() -> LogicTreeConv2d:
    return LogicTreeConv2d(4, 6, 3, 2, connections="learned", num_candidates=3)


CASES: list[tuple[Any, str, Any, str]] = [
    (dense, "indices_a", 10, "10…10, but the layer has 10 inputs"),
    (dense, "indices_b", -1, "-1…-1"),
    (lut, "indices", 14, "14…14, but the layer has 10 inputs"),
    (learned, "learned.candidates", 16, "16…16, but the layer has 16"),
    (tree, "leaves", [2, 0, 0], "channels 2…2, but the layer has 2"),
    (tree, "leaves", [0, 3, 0], "rows 3…3, but the layer has 3"),
    (tree, "leaves", [0, 0, 4], "columns 4…4, but the layer has 4"),
    (learned_tree, "learned.candidates", 36, "36…36, but the layer has 36"),
]


@pytest.mark.parametrize(("make", "name", "value", "message"), CASES)
@pytest.mark.parametrize("clone", [lambda layer: layer, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_indices_beyond_the_input_are_refused(make: Any, name: str, value: Any, message: str, clone: Any) -> None:
    layer: GateLayer = clone(make())
    before = copy.deepcopy(layer.state_dict())
    bad = torch.tensor(value, dtype=torch.int32).view(-1, *[1] * (before[name].ndim - 1)).expand_as(before[name])
    with pytest.raises(RuntimeError, match=rf"{name} of the checkpoint .*{message}"):
        layer.load_state_dict({**before, name: bad})
    assert all(torch.equal(tensor, before[key]) for key, tensor in layer.state_dict().items())


@pytest.mark.parametrize("make", [dense, lut, learned, tree, learned_tree])
def test_indices_within_it_are_taken(make: Any) -> None:
    layer, other = make(), make()
    layer.load_state_dict(other.state_dict())
    assert all(torch.equal(tensor, other.state_dict()[key]) for key, tensor in layer.state_dict().items())


def test_another_shape_is_torchs_own_error() -> None:
    with pytest.raises(RuntimeError, match="size mismatch for indices_a"):
        LogicLayer(10, 20).load_state_dict(dense().state_dict())

"""The table of the net: inputs, gates, wires and parametrization of each layer."""

from __future__ import annotations

import re

import pytest
from rich.console import Console
from torch import nn

from lgn_lightning.callbacks.layer_summary import layer_table
from lgn_lightning.models import MLP, LogicMLP, LogicTreeNet


def printed(net: nn.Module) -> str:
    console = Console(width=80)
    with console.capture() as capture:
        console.print(layer_table(net))
    return capture.get()


def test_dense_layers() -> None:
    wires = ["learned", "random"]
    text = printed(LogicMLP((1, 8, 8), 10, [2000, 1000], connections=wires, num_candidates=16, parametrization="walsh"))
    assert "LogicMLP: 3,000 gates, 76,000 parameters" in text
    assert re.search(r"1 +LogicLayer +64 +2,000 +learned, of 16 +walsh", text)
    assert re.search(r"2 +LogicLayer +2,000 +1,000 +random +walsh", text)


@pytest.mark.parametrize("arity", [3, 4])
def test_gates_of_more_inputs(arity: int) -> None:
    text = printed(LogicMLP((1, 8, 8), 10, 100, 2, arity=arity, parametrization="sigmoid"))
    assert re.search(r"2 +LutLayer +100 +100 +unique +sigmoid", text)


def test_convolutions_and_all_their_places() -> None:
    net = LogicTreeNet((3, 8, 8), 2, [6, 8], [40, 20], kernel_size=[5, 3], padding=[2, 1])
    text = printed(net)
    assert f"158 gates, {net.num_gates:,} at all places of the image" in text
    assert re.search(r"1 +LogicTreeConv2d +3×5×5 +42 +random +softmax", text)
    assert max(map(len, text.splitlines())) <= 80


def test_a_net_without_gates_has_its_parameters() -> None:
    text = printed(MLP((1, 8, 8), 10, 16, 2))
    assert "MLP: 1,210 parameters" in text
    assert re.search(r"1 +Linear +1,040", text)

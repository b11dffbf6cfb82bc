"""Circuits with their methods: every form of a net gives its scores, and the form goes by size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn

from lgn_lightning import GroupSum, LogicLayer
from lgn_lightning.circuit import (
    Circuit,
    CircuitError,
    LoopedCircuit,
    circuit_of_net,
    export_circuit,
)
from lgn_lightning.circuit.emit import export
from tests.circuit.random_conv_nets import conv_nets, hard_scores, tree_net


def test_the_form_of_a_net_goes_by_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    net = tree_net()
    assert circuit_of_net(net) == Circuit.from_module(net)
    assert circuit_of_net(net, form="loops") == LoopedCircuit.from_module(net)
    monkeypatch.setattr(export, "LOOPS_ABOVE", 1000)
    assert isinstance(circuit_of_net(net), LoopedCircuit)
    assert isinstance(circuit_of_net(net, form="table"), Circuit)
    assert isinstance(circuit_of_net(net, formats=("c", "verilog")), Circuit)
    dense = nn.Sequential(LogicLayer(1200, 1200), GroupSum(4)).eval()
    assert isinstance(circuit_of_net(dense), Circuit)
    with pytest.raises(CircuitError, match="form must be one of auto, code, table, loops, got 'poem'"):
        circuit_of_net(net, form="poem")
    with pytest.raises(CircuitError, match="verilog cannot hold loops"):
        circuit_of_net(net, form="loops", formats=("verilog",))
    with pytest.raises(CircuitError, match=r"aiger cannot hold loops: export circuit\.unroll\(\)"):
        export_circuit(LoopedCircuit.from_module(net), "none", "net", ("aiger",))


@given(conv_nets())
def test_every_form_of_a_net_gives_its_scores(example: tuple[nn.Module, torch.Tensor]) -> None:
    net, images = example
    expected = hard_scores(net, images)
    looped = LoopedCircuit.from_module(net)
    assert np.array_equal(looped.scores(images), expected)
    flat = Circuit.from_module(net)
    assert looped.unroll() == flat
    for level in (1, 2):
        small = looped.optimize(level)
        assert np.array_equal(small.scores(images), expected)
        assert np.array_equal(small.unroll().scores(images), expected)
        assert small.num_gates <= looped.num_gates


def test_a_layer_without_loops_and_a_net_of_plain_gates() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(LogicLayer(20, 40), LogicLayer(40, 40), GroupSum(4)).eval()
    looped, flat = LoopedCircuit.from_module(net), Circuit.from_module(net)
    assert looped.stages == ()
    assert looped.tail == flat == looped.unroll()
    assert looped.optimize().unroll() == flat.optimize()


def test_names_and_encoding_are_kept() -> None:
    net = tree_net()
    names = ("a", "b", "c", "d")
    looped = LoopedCircuit.from_module(net, names)
    flat = Circuit.from_module(net, names)
    for attribute in ("num_inputs", "num_classes", "tau", "class_names", "image_shape", "num_pixels"):
        assert getattr(looped, attribute) == getattr(flat, attribute)
    assert looped.with_class_names(None).unroll() == flat.with_class_names(None)
    images = torch.randint(256, (9, 1, 16, 16), dtype=torch.uint8)
    assert np.array_equal(looped.predict(images), flat.predict(images))
    assert "3 thresholds on (1, 16, 16), 4 loops" in repr(looped)

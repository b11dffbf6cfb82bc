"""The form of a circuit, by its size or as asked for."""

from __future__ import annotations

import pytest
from torch import nn

from lgn_lightning import GroupSum, LogicLayer
from lgn_lightning.circuit import Circuit, CircuitError, LoopedCircuit, circuit_of_net, export_circuit
from lgn_lightning.circuit.emit import export
from tests.circuit.net.test_looped import tree_net


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

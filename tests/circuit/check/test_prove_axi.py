"""Proofs of AXI4-Stream top levels: right ones hold for ever, and small mistakes are found."""

from __future__ import annotations

import pytest

from lgn_lightning.circuit.check.prove_axi import ALWAYS, prove_axi
from lgn_lightning.circuit.check.tools import ToolError
from lgn_lightning.circuit.emit.axi_stream import AxiStream
from lgn_lightning.circuit.emit.verilog import emit_verilog
from lgn_lightning.circuit.emit.verilog_stream import emit_verilog_stream
from tests.circuit.random_circuits import random_circuit
from tests.circuit.random_streams import random_stream
from tests.circuit.tools import needs, needs_abc

pytestmark = [needs("yosys"), needs_abc]
PLAIN = random_circuit(1, 8, 9, 2, 1)
STREAM = random_stream()


def top(pipeline: int | None) -> AxiStream:
    if pipeline is None:
        return AxiStream(STREAM, emit_verilog_stream(STREAM, name="net"), "net", 8)
    return AxiStream(PLAIN, emit_verilog(PLAIN, name="net", pipeline=pipeline), "net", 8)


@pytest.mark.parametrize("pipeline", [0, 2, 1, None])
def test_nothing_is_lost_ever(pipeline: int | None) -> None:
    found = prove_axi(top(pipeline))
    assert found
    assert found.log == ALWAYS


@pytest.mark.parametrize("inputs", [9, 40])
def test_samples_of_several_beats(inputs: int) -> None:
    circuit = random_circuit(1, inputs, 50, 2, 1)
    axi = AxiStream(circuit, emit_verilog(circuit, name="net", pipeline=3), "net", 8)
    assert axi.beats > 1
    assert prove_axi(axi).log == ALWAYS


def test_other_registers_are_searched_for_some_cycles() -> None:
    axi = top(0)
    found = prove_axi(axi, axi.text().replace("stored", "filled"), search=2)
    assert found
    assert int(found.log) > 8


@pytest.mark.parametrize(
    ("pipeline", "right", "wrong"),
    [
        (0, "if (pop) tail", "if (m_axis_tvalid) tail"),
        (0, "free <= 4", "free <= 7"),  # more samples are let in than there is room for
        (2, ", start} : 0", ", taken} : 0"),
        (None, " && !ends;", ";"),  # a step while the state begins anew
        (None, "aresetn && ends;", "1'b0;"),  # a state that never begins anew
    ],
)
def test_mistakes_are_found(pipeline: int | None, right: str, wrong: str) -> None:
    axi = top(pipeline)
    text = axi.text()
    assert text.count(right) == 1
    assert "in cycle" in prove_axi(axi, text.replace(right, wrong)).log


def test_a_file_without_the_net_is_no_top_level() -> None:
    with pytest.raises(ToolError, match="no instance of net"):
        prove_axi(top(0), "module net_axis; endmodule")

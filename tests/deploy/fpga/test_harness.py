"""The shift registers around a net: what goes in serially comes out as the net decides."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lgn_lightning.circuit import SequentialCircuit
from lgn_lightning.circuit.simulate import encode
from lgn_lightning.deploy.fpga.harness import harness
from lgn_lightning.deploy.trial import random_samples
from tests.circuit.emit.test_axi_stream import pixel_circuit, row_circuit
from tests.circuit.random_circuits import random_circuit
from tests.circuit.random_streams import random_stream
from tests.circuit.tools import needs


@needs("iverilog", "vvp")
@pytest.mark.parametrize(("pipeline", "luts"), [(0, None), (3, None), (2, "ecp5"), (3, "ice40")])
@pytest.mark.parametrize("circuit", [pixel_circuit(), row_circuit(), random_circuit(4, 9, 60, 3, 5)], ids=str)
def test_the_net_inside_decides(circuit: Any, pipeline: int, luts: str | None, tmp_path: Path) -> None:
    design = harness(circuit, pipeline, luts)
    samples = random_samples(circuit, 20)
    # Bits that are read, the last one first into the register.
    raw = encode(circuit, samples) if circuit.is_plain else np.unpackbits(_bytes(samples), axis=1, bitorder="little")
    used = _read_bits(circuit)
    assert design.inputs == len(used)
    vectors = ["".join(map(str, row[used][::-1].astype(int))) for row in raw]
    steps = "".join(
        f"        x = {design.inputs}'b{vector};\n"
        f"        for (i = {design.inputs - 1}; i >= 0; i = i - 1) begin d = x[i]; tick; end\n"
        f"        for (i = 0; i < {design.latency + 1}; i = i + 1) tick_held;\n"
        '        $display("%0d", dut.measured.result);\n'
        for vector in vectors
    )
    bench = f"""module bench;
    reg clk = 0, d;
    wire q;
    integer i;
    reg [{design.inputs - 1}:0] x;
    harness dut (.clk(clk), .d(d), .q(q));
    task tick; begin #1 clk = 1; #1 clk = 0; end endtask
    task tick_held; begin force dut.x = x; #1 clk = 1; #1 clk = 0; release dut.x; end endtask
    initial begin
{steps}        $finish;
    end
endmodule
"""
    (tmp_path / "net.v").write_text(design.text + bench)
    subprocess.run(["iverilog", "-g2005", "-s", "bench", "-o", "net.vvp", "net.v"], cwd=tmp_path, check=True)
    printed = subprocess.run(["vvp", "net.vvp"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert [int(line) for line in printed.split()] == circuit.predict(samples).tolist()


def _bytes(samples: np.ndarray) -> np.ndarray:
    return samples.reshape(len(samples), -1).view(np.uint8).reshape(len(samples), -1)


def _read_bits(circuit: Any) -> list[int]:
    from lgn_lightning.circuit.hardware.design import design_of, with_encoder

    net = with_encoder(design_of(circuit), circuit).netlist
    used = np.unique(np.concatenate([*net.operands, net.outputs]))
    return [int(bit) for bit in used if bit < net.num_inputs]


def test_a_step_of_a_circuit_with_state_has_its_controls() -> None:
    circuit: SequentialCircuit = random_stream(1, inputs=5)
    design = harness(circuit)
    assert design.inputs == 7
    assert design.latency == 1
    assert ".reset(x[5])" in design.text

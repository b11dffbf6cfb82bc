"""What a circuit costs on an FPGA, in a second: lookup tables, levels and registers of each of its parts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.circuit import native
from lgn_lightning.circuit.hardware.design import ENCODER, PARTS, Design, design_of, with_encoder
from lgn_lightning.circuit.hardware.tables import map_nodes
from lgn_lightning.circuit.net.netlist import Netlist


@dataclass(frozen=True)
class PartCost:
    """What a part of a design costs.

    Attributes:
        lut6: Lookup tables of up to six inputs. A gate that a table of another part takes in counts there.
        lut4: Tables of up to four inputs, if there are no others.
        levels: Tables of up to six inputs that it adds to the longest path.
        registers: Of the pipeline; 0 without one.
    """

    lut6: int
    lut4: int
    levels: int
    registers: int


@dataclass(frozen=True)
class FpgaEstimate:
    """An estimate of the whole design.

    Attributes:
        parts: By the names of `PARTS`.
        gates_alone: Six-input tables of the gates if they stood alone.
        latency: Clock cycles; 0 without a pipeline. The initiation interval is 1.
        pipeline: Levels of gates, or of the tables that are written, between registers; 0 for none.
    """

    parts: dict[str, PartCost]
    gates_alone: int
    latency: int
    pipeline: int

    def total(self, what: str) -> int:
        """Sum of a count over all parts."""
        return sum(getattr(part, what) for part in self.parts.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        totals = {what: self.total(what) for what in ("lut6", "lut4", "levels", "registers")}
        return (
            totals
            | {key: value for key, value in asdict(self).items() if key != "parts"}
            | {"parts": {name: asdict(part) for name, part in self.parts.items()}}
        )

    def table(self) -> str:
        """Lines of text."""
        rows = [*self.parts.items(), ("all", PartCost(*(self.total(w) for w in PartCost.__dataclass_fields__)))]
        head = f"{'part':<10}{'LUT6':>9}{'LUT4':>9}{'levels':>8}" + f"{'registers':>11}" * (self.pipeline > 0)
        lines = [head]
        for name, cost in rows:
            registers = f"{cost.registers:>11,}" * (self.pipeline > 0)
            lines.append(f"{name:<10}{cost.lut6:>9,}{cost.lut4:>9,}{cost.levels:>8}{registers}")
        return "\n".join(lines)


def estimate(circuit: Netlist, pipeline: int = 0, table_inputs: int = 0) -> FpgaEstimate:
    """Estimates what a circuit costs; optimise it before.

    Tables are counted by a cover of the design as depth-optimal mappers find it, see ``ext/circuit/cover_luts.cpp``;
    registers are those that `emit_verilog` writes. Columns of a table have all bits of their types.

    Args:
        circuit: The circuit.
        pipeline: Gate levels between registers, as in `emit_verilog`; 0 for none.
        table_inputs: Of Verilog of lookup tables, most inputs of one (`LUT_CELLS`), and ``pipeline`` is in levels of
            them; 0 for Verilog of expressions.

    Raises:
        BuildError: Without a C++ compiler.
    """
    plain = design_of(circuit)
    design = with_encoder(plain, circuit)
    with ThreadPoolExecutor() as threads:  # the library lets other threads run
        whole, small, own = threads.map(native.cover_luts, (design.netlist, design.netlist, circuit), (6, 4, 6))
    covers = {6: whole, 4: small}
    tables = {inputs: np.bincount(design.parts[cover.sizes > 0], minlength=4) for inputs, cover in covers.items()}
    sizes, levels = covers[6].sizes, covers[6].levels
    ends = [int(levels[(sizes > 0) & (design.parts <= part)].max(initial=0)) for part in range(len(PARTS))]
    if pipeline and table_inputs:
        registers, latency = _table_registers(
            plain if circuit.levels is None else design, circuit, pipeline, table_inputs
        )
    else:
        registers, latency = _registers(plain, circuit, pipeline)
    parts = {
        name: PartCost(int(tables[6][i]), int(tables[4][i]), ends[i] - (ends[i - 1] if i else 0), int(registers[i]))
        for i, name in enumerate(PARTS)
    }
    return FpgaEstimate(parts, int((own.sizes > 0).sum()), latency, pipeline)


def _registers(design: Design, circuit: Netlist, pipeline: int) -> tuple[NDArray[np.int64], int]:
    """Registers of the parts, int64 ``[4]``, and the latency."""
    if not pipeline:
        return np.zeros(len(PARTS), np.int64), 0
    net, stages = design.netlist, design.stages(pipeline)
    last = np.zeros(net.num_nodes, np.int64)
    read = np.zeros(net.num_nodes, np.bool_)
    for operand in net.operands:
        np.maximum.at(last, operand, stages[net.num_inputs :])
        read[operand] = True
    latency = int(stages[net.outputs].max()) + 1
    last[net.outputs] = latency
    read[net.outputs] = True
    late = np.maximum(last - stages, 0)
    late[net.num_inputs :][(net.gates == 0) | (net.gates == 255)] = 0
    parts = np.concatenate([np.full(net.num_inputs, ENCODER), design.parts])
    registers = np.bincount(parts, late, minlength=len(PARTS)).astype(np.int64)
    if not circuit.is_plain:
        registers[ENCODER] += int(read[: net.num_inputs].sum())
        latency += 1
    return registers, latency


def _table_registers(
    design: Design, circuit: Netlist, pipeline: int, table_inputs: int
) -> tuple[NDArray[np.int64], int]:
    """The same where a design, that of pixels with its encoder, is written as lookup tables."""
    known, mapped = map_nodes(design.netlist, table_inputs)
    stages = mapped.stages(pipeline)
    latency = max([stages[node] for node in mapped.outputs if node >= 0], default=0) + 1
    last = list(stages)
    for node, leaves in enumerate(mapped.leaves, mapped.num_inputs):
        for leaf in leaves:
            last[leaf] = max(last[leaf], stages[node])
    for node in mapped.outputs:
        if node >= 0:
            last[node] = latency
    read = {leaf for leaves in mapped.leaves for leaf in leaves} | set(mapped.outputs)
    parts = [ENCODER] * len(stages)
    for node, part in zip(known[mapped.num_inputs :], design.parts.tolist(), strict=True):
        if mapped.num_inputs <= node < len(stages):
            parts[node] = part
    registers = np.bincount(parts, np.subtract(last, stages), minlength=len(PARTS)).astype(np.int64)
    if circuit.comparisons is not None:
        registers[ENCODER] += sum(node < mapped.num_inputs for node in read if node >= 0)
        latency += 1
    return registers, latency

"""Netlists of hard logic gate networks: built, made smaller, run, checked and written in other formats."""

from typing import TYPE_CHECKING

from lgn_lightning.base.lazy import lazy_names
from lgn_lightning.circuit.api import (
    Circuit,
    CircuitBuilder,
    LoopedCircuit,
    SequentialCircuit,
    circuit_of_net,
    load_circuit,
)
from lgn_lightning.circuit.check.stats import CircuitStats
from lgn_lightning.circuit.check.verify import Verification
from lgn_lightning.circuit.emit.c import emit_c
from lgn_lightning.circuit.emit.compiled import CompiledCircuit
from lgn_lightning.circuit.emit.export import ExportedFiles, ExportOptions, export_circuit
from lgn_lightning.circuit.emit.logic import emit_aiger, emit_blif
from lgn_lightning.circuit.emit.verilog import Verilog, emit_test_bench, emit_verilog
from lgn_lightning.circuit.hardware.estimate import FpgaEstimate, PartCost, estimate
from lgn_lightning.circuit.net.decoding import ARGMAX, Decoding
from lgn_lightning.circuit.net.netlist import CircuitError
from lgn_lightning.circuit.passes.flat import (
    absorb_inverters,
    fold_constants,
    hash_structure,
    map_to_luts,
    order_in_chains,
    remove_dead_gates,
)
from lgn_lightning.circuit.passes.optimize import PassReport, optimize, optimize_for_export, optimize_with_report
from lgn_lightning.circuit.run.engine import Engine, EngineError
from lgn_lightning.circuit.run.sequences import SequenceEngine
from lgn_lightning.circuit.run.stream import Stream

if TYPE_CHECKING:
    from lgn_lightning.circuit.compiled_net import CompiledLogicNet

__all__ = [
    "ARGMAX",
    "Circuit",
    "CircuitBuilder",
    "CircuitError",
    "CircuitStats",
    "CompiledCircuit",
    "CompiledLogicNet",
    "Decoding",
    "Engine",
    "EngineError",
    "ExportOptions",
    "ExportedFiles",
    "FpgaEstimate",
    "LoopedCircuit",
    "PartCost",
    "PassReport",
    "SequenceEngine",
    "SequentialCircuit",
    "Stream",
    "Verification",
    "Verilog",
    "absorb_inverters",
    "circuit_of_net",
    "emit_aiger",
    "emit_blif",
    "emit_c",
    "emit_test_bench",
    "emit_verilog",
    "estimate",
    "export_circuit",
    "fold_constants",
    "hash_structure",
    "load_circuit",
    "map_to_luts",
    "optimize",
    "optimize_for_export",
    "optimize_with_report",
    "order_in_chains",
    "remove_dead_gates",
]

# Imported on first use: it needs torch, and a circuit is read and run without.
__getattr__ = lazy_names(__name__, {"CompiledLogicNet": "compiled_net"})[0]

"""Netlists of hard logic gate networks: built, made smaller, run, checked and written in other formats."""

from typing import TYPE_CHECKING

from lgn_lightning.base.lazy import lazy_names

if TYPE_CHECKING:
    from lgn_lightning.circuit.api import Circuit, CircuitBuilder, LoopedCircuit, circuit_of_net, load_circuit
    from lgn_lightning.circuit.check.stats import CircuitStats
    from lgn_lightning.circuit.check.verify import Verification
    from lgn_lightning.circuit.compiled_net import CompiledLogicNet
    from lgn_lightning.circuit.emit.c import emit_c
    from lgn_lightning.circuit.emit.compiled import CompiledCircuit
    from lgn_lightning.circuit.emit.export import ExportedFiles, ExportOptions, export_circuit
    from lgn_lightning.circuit.emit.logic import emit_aiger, emit_blif
    from lgn_lightning.circuit.emit.verilog import Verilog, emit_test_bench, emit_verilog
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

__all__ = [
    "Circuit",
    "CircuitBuilder",
    "CircuitError",
    "CircuitStats",
    "CompiledCircuit",
    "CompiledLogicNet",
    "Engine",
    "EngineError",
    "ExportOptions",
    "ExportedFiles",
    "LoopedCircuit",
    "PassReport",
    "Verification",
    "Verilog",
    "absorb_inverters",
    "circuit_of_net",
    "emit_aiger",
    "emit_blif",
    "emit_c",
    "emit_test_bench",
    "emit_verilog",
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

#: The module of each public name, which is imported on first use: a circuit is read and run without torch.
_HOMES = {
    "api": ("Circuit", "CircuitBuilder", "LoopedCircuit", "circuit_of_net", "load_circuit"),
    "check.stats": ("CircuitStats",),
    "check.verify": ("Verification",),
    "compiled_net": ("CompiledLogicNet",),
    "emit.c": ("emit_c",),
    "emit.compiled": ("CompiledCircuit",),
    "emit.export": ("ExportOptions", "ExportedFiles", "export_circuit"),
    "emit.logic": ("emit_aiger", "emit_blif"),
    "emit.verilog": ("Verilog", "emit_test_bench", "emit_verilog"),
    "net.netlist": ("CircuitError",),
    "passes.flat": (
        "absorb_inverters",
        "fold_constants",
        "hash_structure",
        "map_to_luts",
        "order_in_chains",
        "remove_dead_gates",
    ),
    "passes.optimize": ("PassReport", "optimize", "optimize_for_export", "optimize_with_report"),
    "run.engine": ("Engine", "EngineError"),
}
__getattr__, __dir__ = lazy_names(__name__, {name: home for home, names in _HOMES.items() for name in names})

"""Netlist, passes, simulation, engines and emitters of hard logic gate networks."""

from typing import TYPE_CHECKING

from lgn_lightning.base.lazy import lazy_names
from lgn_lightning.circuit.build.builder import CircuitBuilder
from lgn_lightning.circuit.net.looped import LoopedCircuit
from lgn_lightning.circuit.net.netlist import Circuit, CircuitError

if TYPE_CHECKING:
    from lgn_lightning.circuit.emit.compiled import CompiledCircuit, CompiledLogicNet
    from lgn_lightning.circuit.emit.export import ExportedFiles, export_circuit

__all__ = [
    "Circuit",
    "CircuitBuilder",
    "CircuitError",
    "CompiledCircuit",
    "CompiledLogicNet",
    "ExportedFiles",
    "LoopedCircuit",
    "export_circuit",
]

# Imported on first use, so that a circuit can be read and run without importing torch.
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "CompiledCircuit": "emit.compiled",
        "CompiledLogicNet": "emit.compiled",
        "ExportedFiles": "emit.export",
        "export_circuit": "emit.export",
    },
)

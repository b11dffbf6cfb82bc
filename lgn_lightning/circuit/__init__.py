"""Netlist, passes, simulation, engines and emitters of hard logic gate networks."""

from typing import TYPE_CHECKING, Any

from lgn_lightning.circuit.builder import CircuitBuilder
from lgn_lightning.circuit.looped import LoopedCircuit
from lgn_lightning.circuit.netlist import Circuit, CircuitError

if TYPE_CHECKING:
    from lgn_lightning.circuit.compiled import CompiledCircuit, CompiledLogicNet
    from lgn_lightning.circuit.export import ExportedFiles, export_circuit

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
_LAZY = {
    "CompiledCircuit": "lgn_lightning.circuit.compiled",
    "CompiledLogicNet": "lgn_lightning.circuit.compiled",
    "ExportedFiles": "lgn_lightning.circuit.export",
    "export_circuit": "lgn_lightning.circuit.export",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)

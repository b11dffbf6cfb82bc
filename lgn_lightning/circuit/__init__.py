"""Netlist, passes, simulation, engines and emitters of hard logic gate networks."""

from lgn_lightning.circuit.builder import CircuitBuilder
from lgn_lightning.circuit.netlist import Circuit, CircuitError

__all__ = ["Circuit", "CircuitBuilder", "CircuitError"]

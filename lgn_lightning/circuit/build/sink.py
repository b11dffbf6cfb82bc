"""`GateSink`: the little that the expansion of kernels and lookup tables needs of a builder."""

from __future__ import annotations

from typing import Protocol

from numpy.typing import ArrayLike

from lgn_lightning.circuit.net.netlist import NodeIds


class GateSink(Protocol):
    """Takes two-input gates and numbers them; `NetlistBuilder` is one."""

    def gates(self, gates: ArrayLike, a: ArrayLike, b: ArrayLike) -> NodeIds:
        """Adds gates and returns their node ids."""
        ...

    def constant(self, value: bool) -> int:
        """Returns the node id of a constant."""
        ...

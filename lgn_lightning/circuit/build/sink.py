"""`GateSink`: the little that the expansion of kernels and lookup tables needs of a builder."""

from typing import Protocol

from numpy.typing import ArrayLike

from lgn_lightning.circuit.net.netlist import NodeIds


class GateSink(Protocol):
    """Takes two-input gates and numbers them; `NetlistBuilder` is one."""

    def gates(self, gates: ArrayLike, a: ArrayLike, b: ArrayLike) -> NodeIds: ...

    def constant(self, value: bool) -> int: ...

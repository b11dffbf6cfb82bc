"""What the dense layers of gates have in common: widths, inputs, packed bits."""

import math
from abc import abstractmethod
from collections.abc import Collection
from numbers import Real
from typing import Any, ClassVar, TypeAlias, cast

from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.base.choice import check_choice
from lgn_lightning.base.sizes import check_widths, choices_of
from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.net.netlist import NodeIds
from lgn_lightning.nn.gate_layer import GateLayer, as_activations, on_rows
from lgn_lightning.nn.packed import PackBitsTensor

#: What ``indices`` are where gates have two inputs; a layer of others overrides what takes them.
_Pair: TypeAlias = tuple[Tensor, Tensor]


class DenseLayer(GateLayer):
    """Base of layers of ``out_dim`` gates, each with ``arity`` inputs among ``in_dim``; takes packed bits, too.

    Args:
        in_dim: Number of inputs.
        out_dim: Number of gates, at least ``in_dim / arity`` so that every input can be used; with learned
            connections ``in_dim / (arity · num_candidates)``.
        connections: How the inputs of gates are chosen.
        grad_factor: Factor on the gradient that flows to the inputs.
        arity: Inputs of a gate.
        num_candidates: What each of them chooses among where connections are learned.
        **options: The other arguments of :class:`GateLayer`.

    Raises:
        ValueError: If an argument is not one of the choices, ``grad_factor`` is no number, or the widths do not fit.
    """

    #: The choices of ``connections``.
    connection_kinds: ClassVar[Collection[str]]
    #: What ``init`` is if it is not given.
    default_init: ClassVar[str]

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        connections: str,
        grad_factor: float,
        arity: int = 2,
        num_candidates: int = 1,
        **options: Any,
    ) -> None:
        name = f"{type(self).__name__}({in_dim}, {out_dim}{'' if arity == 2 else f', arity={arity}'})"
        check_widths(name, in_dim, out_dim, arity, choices_of(connections, num_candidates))
        if not is_finite(grad_factor):
            raise ValueError(f"{name}: grad_factor={grad_factor!r} is not a finite number")
        check_choice("connections", connections, self.connection_kinds)
        super().__init__(out_dim, arity=arity, **options)
        self._name = name
        self.in_dim, self.out_dim, self.grad_factor = in_dim, out_dim, grad_factor
        self.connections = connections

    def forward(self, x: Tensor | PackBitsTensor) -> Any:
        """Evaluates the gates: ``[..., in_dim]`` → ``[..., out_dim]``, tensors, or packed bits in ``.eval()`` mode.

        Raises:
            ValueError: If the input has another width.
            TypeError: If packed bits are given in training mode, or the input is complex.
        """
        self._check_input(x)
        return self._on_packed(x) if isinstance(x, PackBitsTensor) else on_rows(self._on_tensor, x)

    @abstractmethod
    def _on_tensor(self, x: Tensor) -> Tensor:
        """Evaluates the gates: ``[batch, in_dim]`` to ``[batch, out_dim]``."""

    def _on_words(self, words: Tensor) -> Tensor:
        """Evaluates the hard gates on packed samples: words ``[rows, in_dim]`` to ``[rows, out_dim]``."""
        return ops.logic_packed(words, self.gates(), *cast(_Pair, self.indices))

    def add_to_circuit(self, builder: NetlistBuilder, wires: NodeIds) -> NodeIds:
        """Adds the gates settled on to a circuit that is being built; ``wires`` are the nodes of the inputs."""
        self._check_wires(wires)
        a, b = (part.cpu().numpy() for part in cast(_Pair, self.indices))
        return builder.gates(self.gates().cpu().numpy(), wires[a], wires[b])

    def _on_packed(self, x: PackBitsTensor) -> PackBitsTensor:
        if self.training:
            raise TypeError("packed bits cannot train a net: call .eval() first, or pass the tensor itself")
        return PackBitsTensor.from_words(self._on_words(x.t), x.batch)

    def _check_input(self, x: Tensor | PackBitsTensor) -> None:
        if not len(x.shape) or x.shape[-1] != self.in_dim:
            raise ValueError(f"{self._name} got an input of shape {list(x.shape)} and takes [..., {self.in_dim}]")

    def activations(self, x: Tensor) -> Tensor:
        """The input in the dtype to compute in, looked at once a stage: see :meth:`check_numbers`."""
        activations = as_activations(x, self.weights.dtype)
        self.check_numbers(x)
        return activations

    def _check_wires(self, wires: NodeIds) -> None:
        """Refuses the nodes of an image, of which a circuit would be built wrongly: Flatten is missing."""
        if wires.shape != (self.in_dim,):
            raise ValueError(f"it takes wires [{self.in_dim}], got {list(wires.shape)}; add a Flatten before it")

    def extra_repr(self) -> str:
        arity = "" if self.arity == 2 else f", arity={self.arity}"
        options = self.options_text(init=self.default_init, grad_factor=1.0)
        return f"in_dim={self.in_dim}, out_dim={self.out_dim}{arity}{options}"


def is_finite(value: object) -> bool:
    """Whether a value is a number, and neither infinite nor NaN."""
    return isinstance(value, Real) and math.isfinite(value)

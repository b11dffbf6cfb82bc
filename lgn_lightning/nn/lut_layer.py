"""The dense layer of gates with up to six inputs: lookup tables, as FPGAs have them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.nn.choice import check_choice
from lgn_lightning.nn.gate_layer import (
    GateLayer,
    as_activations,
    check_grad_factor,
    check_indices_when_loaded,
    scale_gradient,
    table_dtype,
)
from lgn_lightning.nn.lut_connections import LUT_CONNECTIONS
from lgn_lightning.nn.packed import PackBitsTensor
from lgn_lightning.nn.parametrizations import Parametrization
from lgn_lightning.nn.samplers import GateSample, Sampler
from lgn_lightning.ops import lookup_tables, schema

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lgn_lightning.circuit.build.builder import CircuitBuilder


class LutLayer(GateLayer):
    """A layer of ``out_dim`` gates, each with ``arity`` inputs among ``in_dim`` and 2^arity trained table entries.

    In ``.train()`` mode a gate is its soft table, interpolated multilinearly, or what the sampler makes of it; in
    ``.eval()`` mode it is the Boolean function that its weights settle on. Gates with more inputs make wider and
    shallower nets; in a circuit they become two-input gates, of which one with k inputs takes up to 2^k − 3.

    Args:
        in_dim: Number of inputs, at least ``arity``.
        out_dim: Number of gates, at least ``in_dim / arity`` so that every input can be used.
        arity: Inputs of a gate, 2 to 6. For 2, :class:`~lgn_lightning.LogicLayer` is faster.
        device: Device of the parameters; torch's default device if not given.
        grad_factor: Factor on the gradient that flows to the inputs.
        implementation: As in :class:`~lgn_lightning.LogicLayer`. The formula in plain torch holds 2^arity numbers a
            gate and sample.
        connections: ``"random"``, each input used equally often, or ``"unique"``, where in addition no two gates have
            the same inputs. The inputs of a gate are different in both.
        init: ``"gaussian"`` weights, or ``"residual"``: every gate starts close to its first input.
        parametrization: ``"sigmoid"`` (a logit an entry), ``"walsh"`` (a coefficient a subset of the inputs), or an
            instance, see :mod:`lgn_lightning.nn.parametrizations`. There is none with a weight for each of the
            2^2^arity gates.
        sampler: ``"soft"``, ``"gumbel"``, ``"straight_through"``, or an instance, which layers may share.

    Shape:
        - Input: ``[batch, in_dim]`` floats in [0, 1] or bool, or a :class:`PackBitsTensor` in ``.eval()`` mode. With a
          straight-through sampler training takes bits, and rounds other inputs: a bit is ``x > 0.5``.
        - Output: ``[batch, out_dim]``, feature-major in memory; packed if the input was.

    Raises:
        ValueError: If an argument is not one of the choices, ``grad_factor`` is no number, or the widths do not fit.
    """

    indices: Tensor
    index_buffers = ("indices",)

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        arity: int = 4,
        device: torch.device | str | None = None,
        grad_factor: float = 1.0,
        implementation: str | None = None,
        connections: str = "random",
        init: str = "residual",
        parametrization: str | Parametrization = "sigmoid",
        sampler: str | Sampler = "soft",
    ) -> None:
        name = f"LutLayer({in_dim}, {out_dim}, arity={arity})"
        if in_dim < 1 or out_dim < 1:
            raise ValueError(f"{name}: both widths must be at least 1")
        if not 2 <= arity <= lookup_tables.MAX_INPUTS:
            raise ValueError(f"{name}: a gate has 2 to {lookup_tables.MAX_INPUTS} inputs")
        if arity * out_dim < in_dim:
            raise ValueError(
                f"{name}: {out_dim} gates have {arity * out_dim} inputs and cannot use all {in_dim}; make the layer at "
                f"least {-(-in_dim // arity)} wide"
            )
        check_choice("connections", connections, tuple(LUT_CONNECTIONS))
        super().__init__(out_dim, device, implementation, init, parametrization, sampler, arity)
        self.in_dim = in_dim
        self.out_dim = out_dim
        self.grad_factor = check_grad_factor(grad_factor)
        self.connections = connections
        self.register_buffer("indices", LUT_CONNECTIONS[connections](in_dim, out_dim, arity).to(self.weights.device))
        check_indices_when_loaded(self)
        self.reset_parameters()

    def sample(self) -> GateSample:
        """What the layer computes with: what the sampler makes of the weights, or hard tables in evaluation mode."""
        return super().sample() if self.training else GateSample(self.hard_table().to(table_dtype(self.weights.dtype)))

    def forward(self, x: Tensor | PackBitsTensor) -> Any:
        """Evaluates the gates.

        Args:
            x: ``[batch, in_dim]`` tensor, or packed bits in ``.eval()`` mode.

        Returns:
            ``[batch, out_dim]`` of the same kind.

        Raises:
            ValueError: If the input has another width.
            TypeError: If packed bits are given in training mode, or the input is complex.
        """
        if x.shape[-1] != self.in_dim or len(x.shape) != 2:
            raise ValueError(
                f"LutLayer({self.in_dim}, {self.out_dim}) got an input of shape {list(x.shape)} and takes "
                f"[batch, {self.in_dim}]"
            )
        if isinstance(x, PackBitsTensor):
            if self.training:
                raise TypeError("packed bits cannot train a net: call .eval() first, or pass the tensor itself")
            return PackBitsTensor.from_words(ops.lut_packed(x.t, self.gates().long(), self.indices), x.batch)
        x = scale_gradient(as_activations(x, self.weights.dtype), self.grad_factor)
        sample = self.sample()
        table = sample.table.to(table_dtype(x.dtype))
        plain = self.implementation == "python"
        if sample.gates is not None:
            return _StraightThrough.apply(x, table, sample.gates, self.indices, plain)
        return (lookup_tables.reference if plain else ops.lut)(x, table, self.indices)

    def add_to_circuit(self, builder: CircuitBuilder, wires: NDArray[np.int32]) -> NDArray[np.int32]:
        """Adds the gates, as two-input ones, to a circuit that is being built; ``wires`` are the inputs' nodes."""
        if len(wires) != self.in_dim:
            raise ValueError(f"LutLayer({self.in_dim}, {self.out_dim}) follows a layer of {len(wires)} outputs")
        return builder.luts(self.hard_table().cpu().numpy(), wires[self.indices.t().cpu().numpy()])

    def extra_repr(self) -> str:
        """Widths, arity and what differs from the defaults."""
        changed = self.changed_options(
            ("connections", self.connections, "random"),
            ("init", self.init, "residual"),
            ("grad_factor", self.grad_factor, 1.0),
        )
        return f"{self.in_dim}, {self.out_dim}, arity={self.arity}{changed}"


class _StraightThrough(torch.autograd.Function):
    """Hard tables on bits, with the gradient of soft ones: see :mod:`lgn_lightning.nn.straight_through`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, gates: Tensor, indices: Tensor, plain: bool) -> Tensor:
        bits = (x > 0.5).to(x.dtype)
        ctx.save_for_backward(bits, table, indices)
        ctx.plain = plain
        # Of two inputs a gate's id is a byte.
        hard = ops.lut_table(gates.long(), len(indices), table.dtype)
        return (lookup_tables.reference if plain else ops.lut)(bits, hard, indices)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        need_x, need_table = ctx.needs_input_grad[:2]
        backward: Any = lookup_tables.reference_backward if ctx.plain else partial(schema.backward, "lut_backward")
        grad_x, grad_table = backward(grads[0], *ctx.saved_tensors, need_x)
        return grad_x if need_x else None, grad_table if need_table else None, None, None, None

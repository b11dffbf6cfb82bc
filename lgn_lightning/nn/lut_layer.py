"""The dense layer of gates with up to six inputs: lookup tables, as FPGAs have them."""

from typing import Any, cast

import torch
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.base.sizes import LEARNED
from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.net.netlist import NodeIds
from lgn_lightning.nn.connections import LUT_CONNECTIONS
from lgn_lightning.nn.dense_layer import DenseLayer
from lgn_lightning.nn.evaluate import evaluate
from lgn_lightning.nn.learned_connections import LearnedConnections, own_inputs
from lgn_lightning.nn.loaded_indices import check_indices_when_loaded
from lgn_lightning.nn.parametrizations import Parametrization
from lgn_lightning.nn.samplers import Sampler
from lgn_lightning.ops.dense_stack import scale_gradient
from lgn_lightning.ops.lut import MAX_INPUTS


class LutLayer(DenseLayer):
    """A layer of ``out_dim`` gates, each with ``arity`` inputs among ``in_dim`` and 2^arity trained table entries.

    In ``.train()`` mode a gate is its soft table, interpolated multilinearly, or what the sampler makes of it; in
    ``.eval()`` mode it is the Boolean function that its weights settle on. Gates with more inputs make wider and
    shallower nets; in a circuit they become two-input gates, of which one with k inputs takes up to 2^k − 3.

    Args:
        in_dim: Number of inputs, at least ``arity``.
        out_dim: Number of gates, at least ``in_dim / arity`` so that every input can be used; with learned
            connections ``in_dim / (arity · num_candidates)``.
        arity: Inputs of a gate, 2 to 6. For 2, :class:`~lgn_lightning.LogicLayer` is faster.
        device: Device of the parameters; torch's default device if not given.
        grad_factor: Factor on the gradient that flows to the inputs.
        implementation: As in :class:`~lgn_lightning.LogicLayer`. The formula in plain torch holds 2^arity numbers a
            gate and sample.
        connections: ``"random"``, each input used equally often, ``"unique"``, where in addition no two gates have
            the same inputs, or ``"balanced"``, as in :class:`~lgn_lightning.LogicLayer`. The inputs of a gate are
            different in all of them. Or ``"learned"`` or ``"mixture"`` ones, see
            :class:`LearnedConnections`, of which a gate may have one twice.
        init: ``"gaussian"`` weights, or ``"residual"``: every gate starts close to its first input.
        parametrization: ``"sigmoid"`` (a logit an entry), ``"walsh"`` or ``"warp"`` (a coefficient a subset of the
            inputs), or an instance, see :mod:`lgn_lightning.nn.parametrizations`. There is none with a weight for each
            of the 2^2^arity gates.
        sampler: ``"soft"``, ``"gumbel"``, ``"straight_through"``, ``"finite_difference"``, or an instance, which layers
            may share.
        num_candidates: Inputs that learned connections choose among.

    Attributes:
        indices: Inputs of the gates, int32 ``[arity, out_dim]``; None if they are learned, see :meth:`settled_indices`.
        learned: The :class:`LearnedConnections`; None if connections are fixed.

    Shape:
        - Input: ``[..., in_dim]`` floats in [0, 1] or bool, or a :class:`PackBitsTensor` in ``.eval()`` mode. With a
          straight-through sampler training takes bits, and rounds other inputs: a bit is ``x > 0.5``.
        - Output: ``[..., out_dim]``, feature-major in memory; packed if the input was.

    Raises:
        ValueError: If an argument is not one of the choices, ``grad_factor`` is no number, or the widths do not fit.
    """

    indices: Tensor | None
    connection_kinds = (*LUT_CONNECTIONS, *LEARNED)
    default_init = "residual"

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
        num_candidates: int = 8,
    ) -> None:
        if not 2 <= arity <= MAX_INPUTS:
            raise ValueError(f"LutLayer({in_dim}, {out_dim}, arity={arity}): a gate has 2 to {MAX_INPUTS} inputs")
        options: dict[str, Any] = {"device": device, "implementation": implementation, "init": init}
        options |= {"parametrization": parametrization, "sampler": sampler}
        super().__init__(in_dim, out_dim, connections, grad_factor, arity, num_candidates, **options)
        indices = None
        if connections in LEARNED:
            mixture, place = connections == "mixture", self.weights.device
            self.learned = LearnedConnections(in_dim, out_dim, num_candidates, place, None, arity, mixture)
        else:
            indices = LUT_CONNECTIONS[connections](in_dim, out_dim, arity).to(self.weights.device)
        self.register_buffer("indices", indices)
        check_indices_when_loaded(self, {"indices": {"inputs": in_dim}})
        self.reset_parameters()

    def settled_indices(self) -> Tensor:
        """Inputs of the gates, int32 ``[arity, out_dim]``; learned ones by their logits."""
        if self.learned is not None:
            return torch.stack(self.learned.settled(self.plain))
        return cast(Tensor, self.indices)

    def _on_tensor(self, x: Tensor) -> Tensor:
        x = scale_gradient(self.activations(x), self.grad_factor)
        sample = self.sample()
        if self.learned is not None and self.learns_wires:
            x = self.learned.read(x, self.sampler.choice_noise, self.plain)
            indices = torch.stack(own_inputs(self.out_dim, self.arity, x.device))
        else:
            indices = self.settled_indices()
        return evaluate("lut", x, sample, self.hard_of(sample), (indices,), self.plain)

    def _on_words(self, words: Tensor) -> Tensor:
        return ops.lut_packed(words, self.gates().long(), self.settled_indices())

    def add_to_circuit(self, builder: NetlistBuilder, wires: NodeIds) -> NodeIds:
        """Adds the gates, as two-input ones, to a circuit that is being built; ``wires`` are the inputs' nodes."""
        self._check_wires(wires)
        return builder.luts(self.hard_table().cpu().numpy(), wires[self.settled_indices().t().cpu().numpy()])

"""The dense layer of two-input gates."""

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.base.sizes import LEARNED
from lgn_lightning.nn.autocast import autocast_dtype
from lgn_lightning.nn.connections import CONNECTIONS
from lgn_lightning.nn.deferred import defer
from lgn_lightning.nn.dense_layer import DenseLayer
from lgn_lightning.nn.evaluate import Learn, evaluate
from lgn_lightning.nn.gate_layer import on_rows, table_dtype
from lgn_lightning.nn.group_sum import GroupSum
from lgn_lightning.nn.learned_connections import Connections, LearnedConnections, own_inputs
from lgn_lightning.nn.loaded_indices import check_indices_when_loaded
from lgn_lightning.nn.packed import PackBitsTensor
from lgn_lightning.nn.parametrizations import Parametrization
from lgn_lightning.nn.samplers import GateSample, Sampler
from lgn_lightning.ops.dense_stack import scale_gradient


class LogicLayer(DenseLayer):
    """A layer of ``out_dim`` gates, each with two inputs among ``in_dim`` (Petersen et al., NeurIPS 2022).

    In ``.train()`` mode a gate is what the sampler makes of its distribution over the 16 gates, by default the
    expectation over the softmax of 16 logits; in ``.eval()`` mode it is the gate that its weights settle on.

    Args:
        in_dim: Number of inputs.
        out_dim: Number of gates, at least ``in_dim / 2`` so that every input can be used; with learned
            connections ``in_dim / (2 · num_candidates)``.
        device: Device of the parameters; torch's default device if not given.
        grad_factor: Factor on the gradient that flows to the inputs; 2 helps nets of more than 6 layers.
        implementation: ``None`` or ``"auto"`` takes the fastest there is; ``"python"`` the formula in plain torch;
            ``"cpu"`` and ``"cuda"`` the native kernels of that device.
        connections: ``"random"``, ``"unique"`` or ``"balanced"`` input pairs, or ``"learned"`` or ``"mixture"`` ones:
            see :class:`LearnedConnections`.
        init: ``"gaussian"`` weights, or ``"residual"``: every gate starts as "A" with a probability of about 0.9, which
            trains deep nets (Petersen et al., NeurIPS 2024).
        parametrization: How weights give gates: ``"softmax"`` (16 logits), ``"sigmoid"`` (4), ``"walsh"``,
            ``"warp"`` or ``"covjac"`` (4 coefficients), or an instance, see :mod:`lgn_lightning.nn.parametrizations`.
        sampler: What training computes with: ``"soft"``, ``"gumbel"``, ``"straight_through"``, or an instance, which
            layers may share, see :mod:`lgn_lightning.nn.samplers`.
        num_candidates: Inputs that learned connections choose among.

    Attributes:
        indices_a: First inputs, int32 ``[out_dim]``; None if connections are learned, see :attr:`indices`.
        indices_b: Second inputs, likewise.
        learned: The :class:`LearnedConnections`; None if connections are fixed.

    Shape:
        - Input: ``[..., in_dim]`` floats in [0, 1] or bool, or a :class:`PackBitsTensor` in ``.eval()`` mode. With a
          straight-through sampler training takes bits, and rounds other inputs: a bit is ``x > 0.5``.
        - Output: ``[..., out_dim]``, feature-major in memory; packed if the input was.

    Raises:
        ValueError: If an argument is not one of the choices, ``grad_factor`` is no number, or the widths do not fit.
    """

    indices_a: Tensor | None
    indices_b: Tensor | None
    connection_kinds = (*CONNECTIONS, *LEARNED)
    default_init = "gaussian"

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        device: torch.device | str | None = None,
        grad_factor: float = 1.0,
        implementation: str | None = None,
        connections: str = "random",
        init: str = "gaussian",
        parametrization: str | Parametrization = "softmax",
        sampler: str | Sampler = "soft",
        num_candidates: int = 8,
    ) -> None:
        options: dict[str, Any] = {"device": device, "implementation": implementation, "init": init}
        options |= {"parametrization": parametrization, "sampler": sampler}
        super().__init__(in_dim, out_dim, connections, grad_factor, 2, num_candidates, **options)
        a = b = None
        if connections in LEARNED:
            mixture = connections == "mixture"
            self.learned = LearnedConnections(in_dim, out_dim, num_candidates, self.weights.device, mixture=mixture)
        else:
            a, b = (indices.to(self.weights.device) for indices in CONNECTIONS[connections](in_dim, out_dim))
        self.register_buffer("indices_a", a)
        self.register_buffer("indices_b", b)
        check_indices_when_loaded(self, {"indices_a": {"inputs": in_dim}, "indices_b": {"inputs": in_dim}})
        self.reset_parameters()

    @property
    def indices(self) -> tuple[Tensor, Tensor]:
        """Indices of the first and of the second inputs, int32 ``[out_dim]`` each: if learned, those settled on."""
        if self.learned is not None:
            a, b = self.learned.settled(self.plain)
            return a, b
        return cast(Tensor, self.indices_a), cast(Tensor, self.indices_b)

    def sample_connections(self) -> Connections:
        """What a forward pass connects the gates to: if learned, in ``.train()`` mode what the sampler chooses."""
        if self.learned is not None and self.training:
            return self.learned.sample(self.sampler.choice_noise, self.plain)
        return Connections(*self.indices)

    @property
    def num_weights(self) -> int:
        """Another name of :attr:`out_dim`, which the original library has: the number of gates."""
        return self.out_dim

    @property
    def runs_on_bits(self) -> bool:
        """Whether the layer is in straight-through training that packed bits can do: native and in single precision."""
        native = not self.plain and self.weights.dtype != torch.float64 and not self.reads_mixture
        return self.training and native and self.sampler.runs_on_bits(self.parametrization)

    def bit_layer(self, sample: GateSample, connections: Connections) -> ops.BitLayer:
        """The layer as ops on packed bits take it, of what a step sampled."""
        a, b, shares, candidates = connections
        gates = cast(Tensor, sample.gates)
        logits = None if self.learned is None or shares is None else self.learned.logits.float()
        drawn = logits, shares, candidates
        return ops.BitLayer(sample.table.float(), gates, a, b, self.grad_factor, sample.of_logits, *drawn)

    def hard_bit_layer(self) -> ops.BitLayer:
        """The gates that the layer settled on, as ops on packed bits take them; they have no gradient."""
        a, b = self.indices
        return ops.BitLayer(self.weights.new_zeros(self.out_dim, 4, dtype=torch.float32), self.gates(), a, b)

    @property
    def runs_in_stack(self) -> bool:
        """Whether :func:`lgn_lightning.ops.logic_stack` does all of it: soft tables and fixed wires, or no training."""
        noisy = self.parametrization.interpolates_logits and not self.sampler.same_on_ranks
        soft = not (self.sampler.hard or noisy) and self.learned is None
        return not self.plain and (soft or not self.training)

    def soft_layer(self, activations: torch.dtype) -> ops.SoftLayer:
        """The layer as :func:`lgn_lightning.ops.logic_stack` takes it, for activations of a dtype."""
        sample = self.sample_for_stack()
        table = sample.table.to(table_dtype(activations))
        return ops.SoftLayer(table, *self.indices, self.grad_factor, sample.of_logits, sample.warped)

    def forward(self, x: Tensor | PackBitsTensor, group_sum: GroupSum | None = None) -> Any:
        """As `DenseLayer.forward`; a ``group_sum`` is applied to the outputs, in the same op if that can be."""
        if group_sum is None:
            waiting = None
            if type(self) is LogicLayer:
                waiting = defer(self, x, lambda: self._out_shape(x), autocast_dtype(self.weights.device.type))
            return super().forward(x) if waiting is None else waiting
        if isinstance(x, PackBitsTensor) or not self.runs_in_stack:
            return group_sum(super().forward(x))
        self._check_input(x)
        k, tau = group_sum.k, group_sum.divisor
        return group_sum.scores_of(on_rows(lambda rows: self._in_stack(self.activations(rows), k, tau), x))

    def _out_shape(self, x: Tensor | PackBitsTensor) -> tuple[int, ...]:
        self._check_input(x)
        return (*x.shape[:-1], self.out_dim)

    def _in_stack(self, x: Tensor, k: int = 0, tau: float = 1.0) -> Tensor:
        return ops.logic_stack(x, [self.soft_layer(x.dtype)], k, tau)

    def _on_tensor(self, x: Tensor) -> Tensor:
        x = self.activations(x)
        if self.runs_in_stack:
            return self._in_stack(x)
        x = scale_gradient(x, self.grad_factor)
        sample = self.sample()
        learn: Learn | None = None
        if self.learned is not None and self.learns_wires and (self.reads_mixture or sample.slopes is not None):
            x = self.learned.read(x, self.sampler.choice_noise, self.plain)
            a, b = own_inputs(self.out_dim, 2, x.device)
        else:
            a, b, shares, candidates = self.sample_connections()
            # Neither frozen nor without a gradient.
            if shares is not None and candidates is not None and shares.requires_grad:
                learn = partial(_learn_choices, shares, (a, b, candidates), self.plain)
        return evaluate("logic", x, sample, self.hard_of(sample), (a, b), self.plain, learn)


def _learn_choices(
    shares: Tensor, wires: tuple[Tensor, Tensor, Tensor], plain: bool, y: Tensor, x: Tensor, table: Tensor
) -> Tensor:
    return ops.learn_choices(y, shares, x, table, *wires, plain)

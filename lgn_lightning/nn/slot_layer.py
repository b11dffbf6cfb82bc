"""The dense layer whose gates and wires are chosen together: slots of a gate and its two inputs."""

import math
from typing import Any

import torch
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.base.choice import check_choice
from lgn_lightning.gates import NUM_GATES, PASS_A
from lgn_lightning.nn.connections import random_connections
from lgn_lightning.nn.dense_layer import DenseLayer
from lgn_lightning.nn.gate_layer import table_dtype
from lgn_lightning.nn.loaded_indices import check_indices_when_loaded
from lgn_lightning.nn.parametrizations import Parametrization, Softmax, make_parametrization
from lgn_lightning.nn.samplers import Gumbel, Sampler, Soft, make_sampler
from lgn_lightning.nn.straight_through import round_to_bits
from lgn_lightning.ops import dense
from lgn_lightning.ops.dense_stack import scale_gradient

#: Probability of a slot with gate "A" under residual initialization.
_RESIDUAL = 0.9


class SlotLayer(DenseLayer):
    """A layer whose neurons choose among slots, each a gate with wires of its own (CompactLogic, arXiv 2602.05830).

    y = Σ_s p_s · g_s(x[a_s], x[b_s]) with p = softmax(w / temperature). In ``.eval()`` mode a neuron is the gate, on
    the wires, of the slot with the largest weight. So what is learned is the pair of gate and wires, where
    ``connections="learned"`` of :class:`~lgn_lightning.LogicLayer` chooses each by itself. The callback
    :class:`~lgn_lightning.callbacks.ResampleSlots` exchanges slots that have lost. Slots start as the 16 gates in turn,
    on random wires. A layer whose weights require no gradient is frozen: in training, too, it is the gates it has
    settled on, one op on their wires, see :class:`~lgn_lightning.callbacks.FreezeSlots`.

    Args:
        in_dim: Number of inputs.
        out_dim: Number of neurons, at least ``in_dim / (2 · num_candidates)``.
        device: As this and the next two in :class:`~lgn_lightning.LogicLayer`.
        grad_factor: Likewise.
        implementation: Likewise.
        connections: ``"slots"``.
        init: ``"gaussian"``, or ``"residual"``: the first slot with gate "A", or the last one of fewer than four, has a
            probability of 0.9.
        parametrization: ``"softmax"``, which is over the slots here.
        sampler: ``"soft"`` or ``"gumbel"``, or an instance of these; with a straight-through one the forward pass takes
            the slot that the noise draws.
        num_candidates: Number of slots, at least 2.

    Attributes:
        weights: ``[out_dim, slots]``.
        slot_gates: Ids of the slots' gates, uint8 ``[out_dim, slots]``.
        slot_a: Their first inputs, int32 ``[out_dim, slots]``.
        slot_b: Their second inputs, likewise.

    Shape:
        - Input: ``[..., in_dim]`` floats in [0, 1] or bool, or a :class:`PackBitsTensor` in ``.eval()`` mode.
        - Output: ``[..., out_dim]``; packed if the input was.

    Raises:
        ValueError: If an argument is not one of the choices, or sizes do not fit.
    """

    slot_gates: Tensor
    slot_a: Tensor
    slot_b: Tensor
    connection_kinds = ("slots",)
    default_init = "gaussian"

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        device: torch.device | str | None = None,
        grad_factor: float = 1.0,
        implementation: str | None = None,
        connections: str = "slots",
        init: str = "gaussian",
        parametrization: str | Parametrization = "softmax",
        sampler: str | Sampler = "soft",
        num_candidates: int = 16,
    ) -> None:
        sampler, chosen = make_sampler(sampler), make_parametrization(parametrization)
        check_choice("parametrization of slots", chosen.name, ("softmax",))
        if not isinstance(sampler, (Soft, Gumbel)):
            raise ValueError(f"sampler {sampler.name!r} has no slots to sample; take 'soft' or 'gumbel'")
        if num_candidates < 2:
            raise ValueError(f"num_candidates={num_candidates}, but a neuron chooses among at least 2 slots")
        options: dict[str, Any] = {"device": device, "implementation": implementation, "init": init}
        options |= {"parametrization": _SlotSoftmax(num_candidates), "sampler": sampler}
        super().__init__(in_dim, out_dim, connections, grad_factor, 2, num_candidates, **options)
        gates = (torch.arange(num_candidates) % NUM_GATES).to(torch.uint8).repeat(out_dim, 1)
        drawn = zip(*(random_connections(in_dim, out_dim) for _ in range(num_candidates)), strict=True)
        a, b = (torch.stack(wires, dim=1).to(self.weights.device) for wires in drawn)
        self.register_buffer("slot_gates", gates.to(self.weights.device))
        self.register_buffer("slot_a", a)
        self.register_buffer("slot_b", b)
        limits = {"slot_a": {"inputs": in_dim}, "slot_b": {"inputs": in_dim}, "slot_gates": {"gates": NUM_GATES}}
        check_indices_when_loaded(self, limits)
        self.reset_parameters()

    @property
    def indices(self) -> tuple[Tensor, Tensor]:
        """First and second inputs of the slots that the neurons settle on, int32 ``[out_dim]`` each."""
        settled = self._settled()[:, None]
        return self.slot_a.gather(1, settled)[:, 0], self.slot_b.gather(1, settled)[:, 0]

    @property
    def frozen(self) -> bool:
        """Whether the neurons have their slots for good: the weights require no gradient."""
        return not self.weights.requires_grad

    def _settled(self) -> Tensor:
        return self.weights.detach().argmax(1)

    def gates(self) -> Tensor:
        """Gate ids of the slots that the neurons settle on: uint8 ``[out_dim]``."""
        return self.slot_gates.gather(1, self._settled()[:, None])[:, 0]

    def hard_table(self) -> Tensor:
        """Tables of those gates: bool ``[out_dim, 4]``."""
        return ops.hard_table(self.gates(), torch.bool)

    def gate_probabilities(self) -> Tensor:
        """Probability of each of the 16 gates, summed over the slots that hold it: ``[out_dim, 16]``, detached."""
        shares = torch.softmax(self.weights.detach().float(), dim=1)
        return shares.new_zeros(len(shares), NUM_GATES).scatter_add_(1, self.slot_gates.long(), shares)

    def table(self) -> Tensor:
        """Mean table of the slots, by their shares, in training mode; else that of the slot settled on."""
        if not self.training or self.frozen:
            return self.hard_values(self.gates(), table_dtype(self.weights.dtype))
        return (self.sample().table[:, :, None] * self._slot_tables()).sum(1)

    def _slot_tables(self) -> Tensor:
        return ops.hard_table(self.slot_gates.flatten(), torch.float32).view(*self.slot_gates.shape, 4)

    def _on_tensor(self, x: Tensor) -> Tensor:
        x = scale_gradient(self.activations(x), self.grad_factor)
        if not self.training or self.frozen:
            table = self.hard_values(self.gates(), table_dtype(x.dtype))
            return (dense.logic_reference if self.plain else ops.logic)(x, table, *self.indices)
        sample = self.sample()  # shares of the slots, and the slots drawn
        if sample.gates is not None:
            x = round_to_bits(x)
        table = (sample.table[:, :, None] * self._slot_tables()).flatten(0, 1).to(table_dtype(x.dtype))
        # The slots of all neurons as one layer, summed neuron by neuron.
        op = dense.logic_group_sum_reference if self.plain else ops.logic_group_sum
        return op(x, table, self.slot_a.flatten(), self.slot_b.flatten(), self.out_dim, 1.0).to(x.dtype)


class _SlotSoftmax(Softmax):
    """A softmax over slots: its "tables" are their shares ``[n, slots]``, its "gates" the number of the slot."""

    soft_gate = "a mixture of gates on wires of their own"

    def __init__(self, slots: int) -> None:
        super().__init__(math.log(_RESIDUAL / (1 - _RESIDUAL) * (slots - 1)))
        self.slots = slots

    def num_weights(self, inputs: int = 2) -> int:
        """One a slot."""
        return self.slots

    def _residual(self, like: Tensor) -> Tensor:
        weights = like.new_zeros(self.slots)
        weights[min(PASS_A, self.slots - 1)] = self.residual_logit
        return weights

    def table_of_logits(self, logits: Tensor) -> Tensor:
        """Shares of the slots: ``[n, slots]``."""
        return torch.softmax(logits, dim=1)

    def formula(self, logits: Tensor) -> Tensor:
        return torch.softmax(logits, dim=1)

    def hard_table_of_logits(self, logits: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(logits.argmax(-1), self.slots).bool()

    def gates_of_logits(self, logits: Tensor) -> Tensor:
        return logits.argmax(-1)

    def least_confidence(self, inputs: int = 2) -> float:
        return 1 / self.slots

    def from_table(self, table: Tensor) -> Tensor:
        """Not there: slots hold gates and wires, which no table has."""
        raise ValueError("slots cannot be converted to or from another parametrization")

    def distance_to_full(self, weights: Tensor) -> Tensor:
        raise ValueError("a price on wires knows no slots: leave WirePenalty out")

    def probabilities_of(self, weights: Tensor, tables: Tensor) -> Tensor:
        raise ValueError("a price on gates knows no slots: leave HardwarePrice out")

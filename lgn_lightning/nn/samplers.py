"""Samplers: what gate a neuron computes with in a training step, given its distribution over gates.

A sampler turns weights into :class:`GateSample`: the table that the layer differentiates, and, for the straight-through
ones, the hard gates that the forward pass evaluates on bits. Their numbers (``temperature``, ``noise``,
``choice_noise``) may change from step to step, see :class:`~lgn_lightning.callbacks.SamplerSchedule`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.base.choice import check_choice, make_choice
from lgn_lightning.nn.autocast import without_autocast
from lgn_lightning.nn.parametrizations import Parametrization


class GateSample(NamedTuple):
    """What a layer of gates computes with.

    Attributes:
        table: ``[n, 4]`` (``[n, 2^k]`` of k inputs), differentiable. Without ``gates`` it is the table of the forward
            pass; with them its values are the slopes of the backward pass, and it receives the gradient.
        gates: Ids of the hard gates of the forward pass, uint8 ``[n]`` (int64 of more than two inputs); None if the
            forward pass is soft.
        of_logits: Whether ``table`` holds the logits that the op makes the table of, see
            :func:`lgn_lightning.ops.logic_stack`; of :meth:`Sampler.for_stack` only.
        warped: Whether ``table`` holds logits and a gate is the sigmoid of their interpolation; with ``gates`` its
            rounding, with the gradient of the sigmoid.
        slopes: Of hard gates the slope of the output along each input at every entry of the table, ``[k, n, 2^k]``,
            where these are not the differences of ``table``.
        noise: Of a warped sample the scale of logistic noise on the interpolated logits, drawn for every gate and
            sample.
    """

    table: Tensor
    gates: Tensor | None = None
    of_logits: bool = False
    warped: bool = False
    noise: float = 0.0
    slopes: Tensor | None = None


class Sampler(ABC):
    """Chooses the gates of a training step.

    Args:
        temperature: Logits are divided by it; small values make soft tables hard.
        choice_noise: Scale of the noise by which learned connections are chosen, see
            :func:`lgn_lightning.ops.choose`: 1 draws candidates at their probability, 0 takes the likeliest.

    Raises:
        ValueError: If the temperature is not positive or the noise is negative.
    """

    #: Short name, as recipes write it.
    name: ClassVar[str]
    #: Whether the table is a function of the weights alone, and so the same in every process of a training.
    same_on_ranks: ClassVar[bool] = False

    def __init__(self, temperature: float = 1.0, choice_noise: float = 0.0) -> None:
        if not temperature > 0:
            raise ValueError(f"{type(self).__name__}(temperature={temperature}): the temperature must be positive")
        if not choice_noise >= 0:
            raise ValueError(f"{type(self).__name__}(choice_noise={choice_noise}): the noise must not be negative")
        self.temperature = temperature
        self.choice_noise = choice_noise

    @property
    @abstractmethod
    def hard(self) -> bool:
        """Whether the forward pass evaluates hard gates, and so takes bits."""

    @abstractmethod
    def __call__(self, parametrization: Parametrization, weights: Tensor, plain: bool = False) -> GateSample:
        """Samples a layer of weights ``[n, …]``; ``plain`` takes the formula in plain torch, not a native kernel."""

    @abstractmethod
    def without_noise(self) -> Sampler:
        """The sampler that soft accuracy is measured with: this one with no randomness."""

    def for_stack(self, parametrization: Parametrization, weights: Tensor) -> GateSample:
        """Samples a layer for an op on whole stacks, to which a sampler may leave making the table of the logits."""
        return self(parametrization, weights)

    def runs_on_bits(self, parametrization: Parametrization) -> bool:
        """Whether training needs bits alone, and the slopes of a table: :meth:`for_stack`."""
        return self.hard and not parametrization.interpolates_logits

    def _table(self, parametrization: Parametrization, logits: Tensor, plain: bool) -> Tensor:
        logits = self._cooled(logits)
        if not plain:
            return parametrization.table_of_logits(logits)
        # Outside of autocast, so that the table stays float32 as in the native kernels.
        with without_autocast(logits.device.type):
            return parametrization.formula(logits)

    def _soft(
        self, parametrization: Parametrization, logits: Tensor, plain: bool, gates: Tensor | None = None
    ) -> GateSample:
        if parametrization.interpolates_logits:
            return GateSample(self._cooled(logits), gates, warped=True)
        return GateSample(self._table(parametrization, logits, plain), gates)

    def _cooled(self, logits: Tensor) -> Tensor:
        return logits if self.temperature == 1.0 else logits / self.temperature

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value}' for key, value in vars(self).items())})"


class Soft(Sampler):
    """The expectation over all gates (Petersen et al., NeurIPS 2022): table = t(w / temperature)."""

    name = "soft"
    same_on_ranks = True
    hard = False

    def __call__(self, parametrization: Parametrization, weights: Tensor, plain: bool = False) -> GateSample:
        return self._soft(parametrization, parametrization.logits(weights), plain)

    def for_stack(self, parametrization: Parametrization, weights: Tensor) -> GateSample:
        """Gives the same, the table left to the op."""
        if parametrization.table_form is None or parametrization.interpolates_logits:
            return super().for_stack(parametrization, weights)
        return GateSample(self._cooled(parametrization.logits(weights)), of_logits=True)

    def without_noise(self) -> Sampler:
        """The same with connections chosen by the logits alone."""
        return Soft(self.temperature)


class Gumbel(Sampler):
    """Noise on the logits: Gumbel LGNs (Yousefi et al., NeurIPS 2025, arXiv 2506.07500).

    table = t((w + G) / temperature) with Gumbel noise G for a softmax over gates, and its difference, logistic noise,
    for entries that are sigmoids. With ``straight_through`` the forward pass takes the gate of the largest noisy logit,
    and the gradient is that of the noisy soft table at the hard one, as in the straight-through Gumbel-softmax. WARP
    adds the noise to the sum of every gate and sample, y = σ((z + G) / temperature), and rounds that.

    Args:
        temperature: Of the noisy logits.
        straight_through: Whether the forward pass is hard.
        choice_noise: Scale of the noise by which learned connections are chosen.
    """

    name = "gumbel"

    def __init__(self, temperature: float = 1.0, straight_through: bool = False, choice_noise: float = 0.0) -> None:
        super().__init__(temperature, choice_noise)
        self.straight_through = straight_through

    @property
    def hard(self) -> bool:
        return self.straight_through

    def __call__(self, parametrization: Parametrization, weights: Tensor, plain: bool = False) -> GateSample:
        logits = parametrization.logits(weights)
        if parametrization.interpolates_logits:
            gates = parametrization.gates_of_logits(logits) if self.straight_through else None
            return GateSample(self._cooled(logits), gates, warped=True, noise=1 / self.temperature)
        noisy = logits + parametrization.noise_like(logits.detach())
        table = self._table(parametrization, noisy, plain)
        if not self.straight_through:
            return GateSample(table)
        gates = parametrization.gates_of_logits(noisy)
        # The values are hard, so that gradients flow to the inputs along the slopes of the gate that was drawn.
        values = parametrization.hard_table_of_logits(noisy.detach()).to(table.dtype)
        return GateSample(values + (table - table.detach()), gates)

    def without_noise(self) -> Sampler:
        """Soft, or hard where this one is."""
        return StraightThrough(self.temperature) if self.straight_through else Soft(self.temperature)


class StraightThrough(Sampler):
    """Hard gates forward, soft gradient backward (Hard-ST in Kim, arXiv 2603.14157; Bengio et al., arXiv 1308.3432).

    The forward pass evaluates the gate that the weights settle on, on bits: the net that trains is the net that ships,
    so there is no discretization gap. The backward pass is that of the soft table t(w / temperature) at those bits,
    both for the table and, along the slopes of the soft gate, for the inputs, so that a gate whose hard form ignores an
    input still passes a gradient to it. With ``slopes="hard"`` gradients flow to the inputs along the slopes of the
    hard gate, and to the weights as before: a straight-through estimate of the table alone, as torchlogix has it.

    Args:
        temperature: Of the soft table of the backward pass.
        noise: Scale of noise on the logits that the forward pass settles by: 1 draws gates at their probability, 0 has
            no randomness. Lower it to 0 while training, or the net that trains is not quite the net that ships.
        choice_noise: The same for the choice of learned connections.
        slopes: ``"soft"`` or ``"hard"``: which gate's slopes pass the gradient to the inputs.

    Raises:
        ValueError: If the temperature is not positive, the noise is negative or there are no such slopes.
    """

    name = "straight_through"
    hard = True
    same_on_ranks = True  # noise is in the gates of the forward pass and not in the table

    def __init__(
        self, temperature: float = 1.0, noise: float = 0.0, choice_noise: float = 0.0, slopes: str = "soft"
    ) -> None:
        super().__init__(temperature, choice_noise)
        if not noise >= 0:
            raise ValueError(f"StraightThrough(noise={noise}): the noise must not be negative")
        check_choice("slopes", slopes, ("soft", "hard"))
        self.noise, self.slopes = noise, slopes

    def __call__(self, parametrization: Parametrization, weights: Tensor, plain: bool = False) -> GateSample:
        logits = parametrization.logits(weights)
        gates = self._gates(parametrization, logits)
        if self.slopes == "soft":
            return self._soft(parametrization, logits, plain, gates)
        table = self._table(parametrization, logits, plain)
        values = hard_tables(gates, table.shape[1].bit_length() - 1, table.dtype)
        return GateSample(values + (table - table.detach()), gates)

    def runs_on_bits(self, parametrization: Parametrization) -> bool:
        """As in the base; with hard slopes those of WARP are the table's, too."""
        return self.slopes == "hard" or super().runs_on_bits(parametrization)

    def for_stack(self, parametrization: Parametrization, weights: Tensor) -> GateSample:
        """Gives the same, the sigmoids of a table's entries left to the op."""
        if self.slopes == "hard" or parametrization.table_form != "sigmoid":
            return super().for_stack(parametrization, weights)
        logits = parametrization.logits(weights)
        return GateSample(self._cooled(logits), self._gates(parametrization, logits), of_logits=True)

    def _gates(self, parametrization: Parametrization, logits: Tensor) -> Tensor:
        settled = logits.detach()
        if self.noise > 0:
            settled = settled + self.noise * parametrization.noise_like(settled)
        return parametrization.gates_of_logits(settled)

    def without_noise(self) -> Sampler:
        """The same with noise 0."""
        return StraightThrough(self.temperature, slopes=self.slopes)


class FiniteDifference(StraightThrough):
    """Hard gates with the extended finite difference of DWN (Bacellar et al., ICML 2024, arXiv 2410.11112).

    The forward pass and the gradient of the table are those of :class:`StraightThrough`. At the entry a that the bits
    address, the slope along input j is that of all entries of the table, the nearer ones weighing more:

    ∂y/∂x_j = Σ_e (−1)^(1 − e_j) · t_e / (H_j(e, a) + 1)

    with H_j the number of inputs but j in which e and a differ: of the entries with H_j = 0 it is the difference that
    :class:`StraightThrough` takes. Native kernels give values and the gradient of the table, on floats.

    Args:
        temperature: As in :class:`StraightThrough`.
        noise: Likewise.
        choice_noise: Likewise.
    """

    name = "finite_difference"

    def __init__(self, temperature: float = 1.0, noise: float = 0.0, choice_noise: float = 0.0) -> None:
        super().__init__(temperature, noise, choice_noise)

    def __call__(self, parametrization: Parametrization, weights: Tensor, plain: bool = False) -> GateSample:
        logits = parametrization.logits(weights)
        table = self._table(parametrization, logits, plain)
        return GateSample(table, self._gates(parametrization, logits), slopes=extended_slopes(table.detach()))

    def runs_on_bits(self, parametrization: Parametrization) -> bool:
        return False

    def without_noise(self) -> Sampler:
        """The same with noise 0."""
        return FiniteDifference(self.temperature)


def extended_slopes(table: Tensor) -> Tensor:
    """Extended finite differences of tables ``[n, 2^k]`` along each input at each entry: ``[k, n, 2^k]``."""
    inputs = table.shape[1].bit_length() - 1
    entry = torch.arange(table.shape[1], device=table.device)
    differ = entry[:, None] ^ entry
    slopes = []
    for place in range(inputs - 1, -1, -1):  # the first input is the most significant digit
        others = differ & ~(1 << place)
        distance = sum((others >> i & 1 for i in range(inputs)), start=torch.zeros_like(others))
        sign = 2 * (entry >> place & 1) - 1
        with without_autocast(table.device.type):
            slopes.append(table @ (sign[:, None] / (distance + 1)).to(table.dtype))
    return torch.stack(slopes)


def hard_tables(gates: Tensor, arity: int, dtype: torch.dtype) -> Tensor:
    """Tables ``[n, 2^arity]`` of gate ids, 0 or 1."""
    return ops.hard_table(gates, dtype) if arity == 2 else ops.lut_table(gates.long(), arity, dtype)


#: The choices of ``LogicLayer(sampler=…)``.
SAMPLERS: dict[str, type[Sampler]] = {kind.name: kind for kind in (Soft, Gumbel, StraightThrough, FiniteDifference)}


def make_sampler(chosen: str | Sampler) -> Sampler:
    """Gives the sampler of a short name, or the instance itself; ValueError if there is none."""
    return make_choice("sampler", chosen, Sampler, SAMPLERS)  # type: ignore[type-abstract]

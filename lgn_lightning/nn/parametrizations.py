"""Parametrizations: how the weights of a gate give its table, and which gate they settle on.

A gate of k inputs is its table: 2^k numbers in [0, 1], the first input being the most significant digit of an entry's
number. Layers know nothing else, so that every parametrization here trains, and exports, with every layer.

All of them have *logits* that are linear in the weights; a sampler adds noise to the logits or divides them by a
temperature without knowing which parametrization it has (:mod:`lgn_lightning.nn.samplers`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from lgn_lightning import ops
from lgn_lightning.gates import GATE_NAMES, NUM_GATES
from lgn_lightning.nn.autocast import without_autocast
from lgn_lightning.nn.choice import check_choice, make_choice
from lgn_lightning.ops import dense

#: The choices of ``init``.
INITS = ("gaussian", "residual")
#: Logit of gate "A" under residual initialization; 90 % of the softmax's mass (Petersen et al., NeurIPS 2024).
RESIDUAL_LOGIT = 5.0
#: Its counterpart for a table entry: 88 % to be what gate "A" has there.
RESIDUAL_ENTRY_LOGIT = 2.0
#: That of WARP: 95.1 % to be what gate "A" is.
RESIDUAL_WARP_LOGIT = math.log(0.951 / 0.049)
_PASS_A = GATE_NAMES.index("a")
#: Offset that maps an int16 to the middle of its step of (0, 1): −32,768 + 32,768.5 is half a step above 0.
_HALF_STEPS = 32_768.5


class Parametrization(ABC):
    """Maps the weights of gates, ``[n, num_weights(k)]``, to their tables, ``[n, 2^k]``.

    It holds options and no state: the weights belong to the layer, one instance may serve many layers.
    """

    #: Short name, as recipes write it.
    name: ClassVar[str]
    #: What a gate is while it is soft, as a report says it.
    soft_gate: ClassVar[str] = "a table of numbers between 0 and 1"
    #: What :meth:`table_of_logits` is if it is that and nothing else, so that an op may take it on itself: the
    #: "sigmoid" of each entry, or the "softmax" over 16 gates.
    table_form: ClassVar[str | None] = None
    #: Whether real inputs are put into the logits, of which the sigmoid is taken then, and not into the table.
    interpolates_logits: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "table_of_logits" in vars(cls) and "table_form" not in vars(cls):
            cls.table_form = None  # a formula of its own

    @abstractmethod
    def num_weights(self, inputs: int = 2) -> int:
        """Weights of a gate with that number of inputs; ValueError if there are no such gates."""

    def initialize(self, weights: Tensor, init: str = "gaussian") -> None:
        """Draws weights ``[n, num_weights(k)]`` in place from a standard normal distribution.

        With ``"residual"`` for ``"gaussian"`` they are those of gates close to "first input"; another word is a
        ValueError.
        """
        check_choice("init", init, INITS)
        with torch.no_grad():
            if init == "residual":
                weights.copy_(self._residual(weights))
            else:
                weights.normal_()

    def _residual(self, like: Tensor) -> Tensor:
        """Weights of a gate close to its first input, ``[num_weights(k)]`` of the dtype and device of ``like``."""
        raise NotImplementedError

    @abstractmethod
    def logits(self, weights: Tensor) -> Tensor:
        """The numbers that are compared to find the hard gate; linear in the weights, differentiable."""

    @abstractmethod
    def table_of_logits(self, logits: Tensor) -> Tensor:
        """Tables ``[n, 2^k]`` in [0, 1] from logits; differentiable, natively where there is a kernel."""

    def formula(self, logits: Tensor) -> Tensor:
        """:meth:`table_of_logits` as a formula in plain torch."""
        return self.table_of_logits(logits)

    @abstractmethod
    def hard_table_of_logits(self, logits: Tensor) -> Tensor:
        """Tables of the gates that the logits settle on: bool ``[n, 2^k]``."""

    @abstractmethod
    def noise_like(self, logits: Tensor) -> Tensor:
        """Draws noise so that the hard gate of ``logits + noise`` is a gate drawn at its probability."""

    @abstractmethod
    def from_table(self, table: Tensor) -> Tensor:
        """Weights ``[n, num_weights(k)]`` whose :meth:`table` is the given one ``[n, 2^k]``, up to rounding.

        Entries of exactly 0 or 1 are taken as the nearest that a finite weight gives.
        """

    @abstractmethod
    def gate_probabilities(self, weights: Tensor) -> Tensor:
        """Probability of each gate when gates are drawn: ``[n, 2^2^k]``, detached; for k = 2 by gate id."""

    @abstractmethod
    def entropy(self, weights: Tensor) -> Tensor:
        """Entropy of each gate's distribution over gates, in bits, from 0 to 2^k: ``[n]``, differentiable."""

    @abstractmethod
    def distance_to_full(self, weights: Tensor) -> Tensor:
        """How far logits are from those of a gate that depends on all inputs: ``[n]``, differentiable, 0 of such gates.

        It is the least by which one logit has to pass another one, or 0, until the hard gate ignores no input.
        """

    def probabilities_of(self, weights: Tensor, tables: Tensor) -> Tensor:
        """Probability that a drawn gate is each of some, bool ``[m, 2^k]``: ``[n, m]``, differentiable.

        A ValueError of a parametrization that does not say so.
        """
        raise ValueError(f"{type(self).__name__} has no probabilities of gates: leave HardwarePrice out")

    def idle_probabilities(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities that a drawn gate is a constant, and that it is an input or its complement: ``[n]`` each."""
        entries = weights.shape[-1] if self.table_form != "softmax" else 4
        number = torch.arange(entries, device=weights.device)
        inputs = [number >> k & 1 == 1 for k in range(entries.bit_length() - 1)]
        constants = [torch.zeros_like(inputs[0])]
        tables = torch.stack([table ^ flip for table in constants + inputs for flip in (False, True)])
        found = self.probabilities_of(weights, tables)
        return found[:, :2].sum(-1), found[:, 2:].sum(-1)

    def table(self, weights: Tensor) -> Tensor:
        """Soft tables: ``[n, num_weights(k)]`` to ``[n, 2^k]`` in [0, 1]; differentiable."""
        return self.table_of_logits(self.logits(weights))

    def hard_table(self, weights: Tensor) -> Tensor:
        """Tables of the gates that the weights settle on: bool ``[n, 2^k]``."""
        return self.hard_table_of_logits(self.logits(weights.detach()))

    def gates_of_logits(self, logits: Tensor) -> Tensor:
        """Ids of the gates that the logits settle on: uint8 ``[n]``; of more inputs than two int64, ``ops.lut_ids``."""
        return ops.gate_ids(logits)

    def hard_gates(self, weights: Tensor) -> Tensor:
        """Ids of the gates that the weights settle on, as :meth:`gates_of_logits` gives them."""
        return self.gates_of_logits(self.logits(weights.detach()))

    def convert(self, weights: Tensor, other: Parametrization) -> Tensor:
        """Weights of another parametrization that have the same soft tables.

        The hard gates are the same too, except from :class:`Softmax`, whose most likely gate may differ from the
        rounded table: two gates of 0.4 that agree in an entry outvote one of 0.5 there.
        """
        with torch.no_grad():
            return other.from_table(self.table(weights.detach()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value}' for key, value in vars(self).items())})"


class Softmax(Parametrization):
    """The original: a softmax over the 16 two-input gates (Petersen et al., NeurIPS 2022).

    p = softmax(w), t_ab = Σ_g p_g · g(a, b). The hard gate is the one of the largest logit.

    Args:
        residual_logit: Logit of gate "A" under residual initialization, the others being 0 (Petersen et al., NeurIPS
            2024).
    """

    name = "softmax"
    soft_gate = "a mixture of the 16"
    table_form = "softmax"

    def __init__(self, residual_logit: float = RESIDUAL_LOGIT) -> None:
        self.residual_logit = residual_logit

    def num_weights(self, inputs: int = 2) -> int:
        """16, for two inputs only: three inputs would take 256."""
        if inputs != 2:
            raise ValueError(
                f"parametrization 'softmax' has a weight for each of 2^2^{inputs} gates and is there for 2 inputs "
                "only; take 'sigmoid' or 'walsh'"
            )
        return NUM_GATES

    def _residual(self, like: Tensor) -> Tensor:
        weights = like.new_zeros(NUM_GATES)
        weights[_PASS_A] = self.residual_logit
        return weights

    def logits(self, weights: Tensor) -> Tensor:
        """The weights themselves: ``[n, 16]``."""
        return weights

    def table_of_logits(self, logits: Tensor) -> Tensor:
        """Expected table of a gate drawn from the softmax: ``[n, 4]``."""
        return ops.softmax_table(logits)

    def formula(self, logits: Tensor) -> Tensor:
        return dense.softmax_table_reference(logits)

    def hard_table_of_logits(self, logits: Tensor) -> Tensor:
        """Table of the gate with the largest logit: bool ``[n, 4]``."""
        return dense.hard_table(logits.argmax(-1), torch.bool)

    def noise_like(self, logits: Tensor) -> Tensor:
        """Gumbel noise, −log(−log u): the largest of logit + noise is drawn from the softmax."""
        return -torch.empty_like(logits).exponential_().log_()

    def from_table(self, table: Tensor) -> Tensor:
        """Logits of the distribution in which the four entries are independent; ValueError on other than two inputs."""
        if table.shape[-1] != 4:
            raise ValueError(f"tables of {table.shape[-1]} entries have no softmax over 16 gates, those of 4 do")
        entries = _inside(table).unsqueeze(-2)
        bits = dense.hard_table(torch.arange(NUM_GATES, device=table.device), torch.bool)
        return torch.where(bits, entries, 1 - entries).log().sum(-1)

    def entropy(self, weights: Tensor) -> Tensor:
        """−Σ_g p_g log2 p_g = (log Σ_g exp w_g − Σ_g p_g w_g) / ln 2: ``[n]``."""
        shifted = weights - weights.detach().amax(-1, keepdim=True)
        probabilities = torch.softmax(shifted, dim=-1)
        # Where p is 0, p·w is, even if w is −∞; in this form gradients are finite there.
        mean = (probabilities * torch.where(probabilities > 0, shifted, 0.0)).sum(-1)
        return (torch.logsumexp(shifted, dim=-1) - mean) / math.log(2)

    def distance_to_full(self, weights: Tensor) -> Tensor:
        """Largest logit of a gate that ignores an input minus that of one that ignores none, if positive: ``[n]``."""
        tables = dense.hard_table(torch.arange(NUM_GATES, device=weights.device), torch.bool)
        ignores = _ignores_an_input(tables)
        largest = [weights.masked_fill(mask, -math.inf).max(-1).values for mask in (~ignores, ignores)]
        return (largest[0] - largest[1]).relu()

    def probabilities_of(self, weights: Tensor, tables: Tensor) -> Tensor:
        digits = 1 << torch.arange(tables.shape[-1] - 1, -1, -1, device=tables.device)
        return torch.softmax(weights, dim=-1)[:, (tables * digits).sum(-1)]

    def gate_probabilities(self, weights: Tensor) -> Tensor:
        """Softmax of the logits: ``[n, 16]``."""
        return torch.softmax(weights.detach().float(), dim=-1)


class _Entrywise(Parametrization):
    """What parametrizations share whose table entries are sigmoids of one logit each."""

    table_form = "sigmoid"

    def __init__(self, residual_logit: float = RESIDUAL_ENTRY_LOGIT) -> None:
        self.residual_logit = residual_logit

    def num_weights(self, inputs: int = 2) -> int:
        """2^k: one a table entry."""
        return 1 << inputs

    def _weights_of_logits(self, logits: Tensor) -> Tensor:
        raise NotImplementedError

    def _residual(self, like: Tensor) -> Tensor:
        first_is_one = torch.arange(like.shape[-1], device=like.device) >= like.shape[-1] // 2
        logits = torch.where(first_is_one, self.residual_logit, -self.residual_logit).to(like.dtype)
        return self._weights_of_logits(logits)

    def table_of_logits(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits)

    def hard_table_of_logits(self, logits: Tensor) -> Tensor:
        """The rounded table: entries with a positive logit are 1."""
        return logits > 0

    def noise_like(self, logits: Tensor) -> Tensor:
        """Logistic noise, log u − log(1 − u): an entry is positive with the probability of its sigmoid."""
        # 16 random bits an entry are plenty, and a quarter of the random words.
        words = torch.empty(-(-logits.numel() // 4), dtype=torch.int64, device=logits.device).random_(-(2**63), None)
        steps = words.view(torch.int16)[: logits.numel()].view(logits.shape).to(torch.float32)
        return steps.add_(_HALF_STEPS).div_(65_536).logit_().to(logits.dtype)

    def gates_of_logits(self, logits: Tensor) -> Tensor:
        return ops.gate_ids(logits) if logits.shape[-1] == 4 else ops.lut_ids(logits)

    def from_table(self, table: Tensor) -> Tensor:
        """The inverse of the sigmoid, as weights."""
        return self._weights_of_logits(torch.logit(_inside(table)))

    def entropy(self, weights: Tensor) -> Tensor:
        """Sum over the entries, which are independent, of H(σ(l)) = (softplus(l) − l·σ(l)) / ln 2: ``[n]``."""
        logits = self.logits(weights)
        magnitude = logits.abs()  # H is even; softplus(−|l|) + |l|·σ(−|l|) cancels nothing
        entries = functional.softplus(-magnitude) + magnitude * torch.sigmoid(-magnitude)
        return entries.sum(-1) / math.log(2)

    def distance_to_full(self, weights: Tensor) -> Tensor:
        """Smallest magnitude of the logits if the rounded table ignores an input, else 0: ``[n]``.

        A table that ignores an input holds each of its values twice, so its number of ones is even. One entry flipped
        makes it odd, and an odd table depends on every input.
        """
        logits = self.logits(weights)
        # Of equal ones the first alone has a gradient: all of them would pass 0 together.
        return logits.abs().min(-1).values * _ignores_an_input(self.hard_table_of_logits(logits.detach()))

    def probabilities_of(self, weights: Tensor, tables: Tensor) -> Tensor:
        logits, ones = self.logits(weights), tables.to(weights.dtype)
        return (functional.logsigmoid(logits) @ ones.T + functional.logsigmoid(-logits) @ (1 - ones).T).exp()

    def gate_probabilities(self, weights: Tensor) -> Tensor:
        """Product over the entries, which are independent of one another."""
        table = torch.sigmoid(self.logits(weights.detach().float()))
        entries = table.shape[-1]
        if entries > 8:
            raise ValueError(f"gates of {entries} entries are 2^{entries} gates, too many to list their probabilities")
        probabilities = table.new_ones((*table.shape[:-1], 1))
        for entry in table.unbind(-1):  # the first entry is the most significant bit of a gate's id
            pair = torch.stack((1 - entry, entry), dim=-1)
            probabilities = (probabilities.unsqueeze(-1) * pair.unsqueeze(-2)).flatten(-2)
        return probabilities


class Sigmoid(_Entrywise):
    """A sigmoid a table entry: "light" or input-wise parametrization (Rüttgers et al., arXiv 2510.03250).

    t_ab = σ(w_ab): 4 weights instead of 16, and no two weight vectors share a table. The hard gate is the rounded
    table.

    Args:
        residual_logit: Under residual initialization the logit of entries where gate "A" is 1, and its negative where
            it is 0.
    """

    name = "sigmoid"
    soft_gate = "a table of numbers between 0 and 1, each the sigmoid of a weight"

    def logits(self, weights: Tensor) -> Tensor:
        """The weights themselves: ``[n, 2^k]``."""
        return weights

    def _weights_of_logits(self, logits: Tensor) -> Tensor:
        return logits


class Walsh(_Entrywise):
    """Walsh coefficients of the table, which is interpolated as with the other parametrizations.

    t_ab = σ(Σ_S w_S · χ_S(a, b)) with characters χ_S = Π_{i ∈ S} (2·x_i − 1); for two inputs
    t_ab = σ(w_0 + w_B·(2b−1) + w_A·(2a−1) + w_AB·(2a−1)(2b−1)), weights in that order. The hard gate is the rounded
    table. On bits this is the gate of :class:`Warp`; between bits it is not.

    Args:
        residual_logit: Under residual initialization the coefficient w_A, the others being 0.
    """

    name = "walsh"
    soft_gate = "a table of numbers between 0 and 1, each the sigmoid of a Walsh sum"

    def logits(self, weights: Tensor) -> Tensor:
        """Walsh–Hadamard transform of the weights: ``[n, 2^k]``."""
        with without_autocast(weights.device.type):
            return weights @ _walsh_matrix(weights)

    def _weights_of_logits(self, logits: Tensor) -> Tensor:
        with without_autocast(logits.device.type):
            return logits @ _walsh_matrix(logits).t() / logits.shape[-1]


class Warp(Walsh):
    """Walsh coefficients with real inputs in the characters: WARP (Gerlach et al., arXiv 2510.15655 and 2602.03527).

    y = σ(Σ_S w_S · χ_S(x) / T) at real x, with the characters, the order of the weights and the hard gates of
    :class:`Walsh`. The sum is the multilinear interpolation of the logits, so kernels compute it as they do tables.
    The papers take (−1)^x for 2x − 1, which changes the sign of odd coefficients only, and their sign as a whole.
    Their stochastic smoothing, logistic noise on the sum of every gate and sample, is the sampler ``gumbel``.

    Args:
        residual_logit: As in :class:`Walsh`; by default the gate is its first input with a probability of 0.951.
    """

    name = "warp"
    soft_gate = "the sigmoid of a Walsh sum of its inputs"
    interpolates_logits = True

    def __init__(self, residual_logit: float = RESIDUAL_WARP_LOGIT) -> None:
        super().__init__(residual_logit)


def _walsh_matrix(like: Tensor) -> Tensor:
    """``matrix[S, entry]`` = χ_S(entry) = Π_{i ∈ S} (2·bit_i(entry) − 1): −1 for each bit of S that the entry lacks."""
    # Made on the device at each call, for the reasons given in dense.hard_table.
    number = torch.arange(like.shape[-1], device=like.device)
    lacking = number[:, None] & ~number
    for shift in (4, 2, 1):  # parity of up to 8 bits
        lacking = lacking ^ lacking >> shift
    return (1 - 2 * (lacking & 1)).to(like.dtype)


def _ignores_an_input(tables: Tensor) -> Tensor:
    """Which tables do not depend on all inputs, constants included: bool ``[n, 2^k]`` to ``[n]``."""
    inputs = tables.shape[-1].bit_length() - 1
    digits = tables.view(-1, *[2] * inputs)
    equal = [(digits.select(i, 0) == digits.select(i, 1)).flatten(1).all(1) for i in range(1, inputs + 1)]
    return torch.stack(equal).any(0)


def _inside(table: Tensor) -> Tensor:
    eps = torch.finfo(table.dtype).eps
    return table.clamp(eps, 1 - eps)


#: The choices of ``LogicLayer(parametrization=…)``.
PARAMETRIZATIONS: dict[str, type[Parametrization]] = {kind.name: kind for kind in (Softmax, Sigmoid, Walsh, Warp)}


def make_parametrization(chosen: str | Parametrization) -> Parametrization:
    """Gives the parametrization of a short name, or the instance itself; ValueError if there is none."""
    return make_choice("parametrization", chosen, Parametrization, PARAMETRIZATIONS)  # type: ignore[type-abstract]

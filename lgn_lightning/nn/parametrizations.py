"""The parametrizations that there are: a softmax over gates, and here those whose table entries are sigmoids."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from lgn_lightning.base.choice import make_choice
from lgn_lightning.nn.autocast import without_autocast
from lgn_lightning.nn.gate_mixtures import RESIDUAL_LOGIT, CovJac, Softmax
from lgn_lightning.nn.parametrization import INITS, Parametrization, ignores_an_input, inside

__all__ = [
    "INITS",
    "PARAMETRIZATIONS",
    "RESIDUAL_ENTRY_LOGIT",
    "RESIDUAL_LOGIT",
    "CovJac",
    "Parametrization",
    "Sigmoid",
    "Softmax",
    "Walsh",
    "Warp",
    "make_parametrization",
]

#: Logit of a table entry under residual initialization: 88 % to be what gate "A" has there.
RESIDUAL_ENTRY_LOGIT = 2.0
#: The same of WARP: 95.1 % to be what gate "A" is.
RESIDUAL_WARP_LOGIT = math.log(0.951 / 0.049)
#: Offset that maps an int16 to the middle of its step of (0, 1): −32,768 + 32,768.5 is half a step above 0.
_HALF_STEPS = 32_768.5


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

    def from_table(self, table: Tensor) -> Tensor:
        """The inverse of the sigmoid, as weights."""
        return self._weights_of_logits(torch.logit(inside(table)))

    def entropy(self, weights: Tensor) -> Tensor:
        """Sum over the entries, which are independent, of H(σ(l)) = (softplus(l) − l·σ(l)) / ln 2: ``[n]``."""
        logits = self.logits(weights)
        magnitude = logits.abs()  # H is even; softplus(−|l|) + |l|·σ(−|l|) cancels nothing
        entries = functional.softplus(-magnitude) + magnitude * torch.sigmoid(-magnitude)
        return entries.sum(-1) / math.log(2)

    def confidence(self, weights: Tensor) -> Tensor:
        """Product over the entries, which are independent, of σ(|l|): ``[n]``."""
        return torch.sigmoid(self.logits(weights).abs()).prod(-1)

    def distance_to_full(self, weights: Tensor) -> Tensor:
        """Smallest magnitude of the logits if the rounded table ignores an input, else 0: ``[n]``.

        A table that ignores an input holds each of its values twice, so its number of ones is even. One entry flipped
        makes it odd, and an odd table depends on every input.
        """
        logits = self.logits(weights)
        # Of equal ones the first alone has a gradient: all of them would pass 0 together.
        return logits.abs().min(-1).values * ignores_an_input(self.hard_table_of_logits(logits.detach()))

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


#: The choices of ``LogicLayer(parametrization=…)``.
PARAMETRIZATIONS: dict[str, type[Parametrization]] = {
    kind.name: kind for kind in (Softmax, Sigmoid, Walsh, Warp, CovJac)
}


def make_parametrization(chosen: str | Parametrization) -> Parametrization:
    """Gives the parametrization of a short name, or the instance itself; ValueError if there is none."""
    return make_choice("parametrization", chosen, Parametrization, PARAMETRIZATIONS)  # type: ignore[type-abstract]

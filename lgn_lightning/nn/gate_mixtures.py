"""Parametrizations by a softmax over the 16 gates: of a logit each, or of their distances to a point."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.gates import NUM_GATES, PASS_A
from lgn_lightning.nn.autocast import without_autocast
from lgn_lightning.nn.parametrization import Parametrization, ignores_an_input, inside
from lgn_lightning.ops import dense

#: Logit of gate "A" under residual initialization; 90 % of the softmax's mass (Petersen et al., NeurIPS 2024).
RESIDUAL_LOGIT = 5.0
_NEWTON_STEPS = 40


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
        weights[PASS_A] = self.residual_logit
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
        entries = inside(table).unsqueeze(-2)
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
        ignores = ignores_an_input(tables)
        largest = [weights.masked_fill(mask, -math.inf).max(-1).values for mask in (~ignores, ignores)]
        return (largest[0] - largest[1]).relu()

    def probabilities_of(self, weights: Tensor, tables: Tensor) -> Tensor:
        digits = 1 << torch.arange(tables.shape[-1] - 1, -1, -1, device=tables.device)
        return torch.softmax(self.logits(weights), dim=-1)[:, (tables * digits).sum(-1)]

    def confidence(self, weights: Tensor) -> Tensor:
        """Largest probability of the softmax: ``[n]``."""
        return torch.softmax(self.logits(weights), dim=-1).amax(-1)

    def gate_probabilities(self, weights: Tensor) -> Tensor:
        """Softmax of the logits: ``[n, 16]``."""
        return torch.softmax(weights.detach().float(), dim=-1)


class CovJac(Softmax):
    """Four polynomial coefficients a gate, quantized softly: CovJac (Kim, arXiv 2605.08657).

    A gate is g(a, b) = c_0 + c_a·a + c_b·b + c_ab·ab, so the 16 gates are points G_j of R⁴. A weight vector is such a
    point, c = (c_0, c_a, c_b, c_ab), and stands for

        c_soft = Σ_j ω_j·G_j with ω = softmax_j(−‖c − G_j‖² / temperature).

    The Jacobian of c_soft is (2 / temperature) · Cov_ω(G), by which c_ab gets a gradient where ab = 0, too. The hard
    gate is the nearest point. It is a softmax over 16 logits that are affine in the weights, 2·c·G_j − ‖G_j‖², so that
    all kernels of the softmax compute it. The paper's start is not known here: Gaussian weights are drawn around the
    centre of the points, (½, 0, 0, 0).

    Args:
        residual: Probability of a one under residual initialization where gate "A" is one, and of a zero elsewhere.
    """

    name = "covjac"
    soft_gate = "a mixture of the 16, by their distances to a point"
    table_form = "softmax"

    def __init__(self, residual: float = 0.9) -> None:
        super().__init__()
        del self.residual_logit
        self.residual = residual

    def num_weights(self, inputs: int = 2) -> int:
        """4, for two inputs only."""
        return super().num_weights(inputs) // 4

    def initialize(self, weights: Tensor, init: str = "gaussian") -> None:
        """As the base, Gaussian weights being drawn around (½, 0, 0, 0)."""
        super().initialize(weights, init)
        if init == "gaussian":
            with torch.no_grad():
                weights[:, 0] += 0.5

    def _residual(self, like: Tensor) -> Tensor:
        table = like.new_tensor([[1 - self.residual] * 2 + [self.residual] * 2])
        return self.from_table(table)[0]

    def logits(self, weights: Tensor) -> Tensor:
        """−‖c − G_j‖² + ‖c‖², which is affine in the weights: ``[n, 16]``."""
        points = _points(weights)
        with without_autocast(weights.device.type):
            return torch.addmm(-points.square().sum(1), weights, points.t(), alpha=2)

    def from_table(self, table: Tensor) -> Tensor:
        """The point whose mixture has the table, by Newton's method on the logits of the entries."""
        if table.shape[-1] != 4:
            return super().from_table(table)
        points, wanted = _points(table.double()), torch.logit(inside(table).double())
        corners = dense.hard_table(torch.arange(NUM_GATES, device=table.device), torch.float64)
        norms = points.square().sum(1)
        u = wanted.clone()  # logits of entries that were independent
        for _ in range(_NEWTON_STEPS):
            shares = torch.softmax(u @ corners.t() - norms, 1)
            mean = (shares @ corners).clamp(1e-300, 1 - 1e-16)
            centred = corners - mean[:, None]
            slopes = (shares[:, :, None] * centred).mT @ centred / (mean * (1 - mean))[:, :, None]
            u = u + torch.linalg.solve(slopes, wanted - torch.logit(mean)).clamp(-4, 4)
        # u·corner = 2·c·point for each corner of the cube: the points are these by a fixed matrix.
        back: Tensor = torch.linalg.pinv(points) @ corners
        return (u @ back.t() / 2).to(table.dtype)

    def entropy(self, weights: Tensor) -> Tensor:
        """That of the softmax of the logits."""
        return super().entropy(self.logits(weights))

    def distance_to_full(self, weights: Tensor) -> Tensor:
        """As the softmax, of the logits."""
        return super().distance_to_full(self.logits(weights))

    def gate_probabilities(self, weights: Tensor) -> Tensor:
        """Softmax of the logits: ``[n, 16]``."""
        return super().gate_probabilities(self.logits(weights.detach()))


def _points(like: Tensor) -> Tensor:
    """Polynomial coefficients (c_0, c_a, c_b, c_ab) of the 16 gates, ``[16, 4]``."""
    t00, t01, t10, t11 = dense.hard_table(torch.arange(NUM_GATES, device=like.device), like.dtype).unbind(1)
    return torch.stack([t00, t10 - t00, t01 - t00, t11 - t10 - t01 + t00], 1)

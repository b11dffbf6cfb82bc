"""Connections that are learned: every input of a gate chooses one of K candidates."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lgn_lightning import ops
from lgn_lightning.nn.connections import random_connections

#: Standard deviation of the first logits: small, so that at first every candidate is as likely as the others.
INIT_STD = 0.01


class Wires(NamedTuple):
    """What the gates of a layer are connected to in one forward pass.

    Attributes:
        a: First inputs, int32 ``[n]``.
        b: Second inputs, likewise.
        shares: Share of each candidate, ``[n, 2, K]``, which receives the gradient; None if connections are fixed.
        candidates: int32 ``[n, 2, K]``; None if connections are fixed.
    """

    a: Tensor
    b: Tensor
    shares: Tensor | None = None
    candidates: Tensor | None = None


class LearnedConnections(nn.Module):
    """Chooses the two inputs of each gate among candidates (Bacellar et al., LILogic, arXiv 2511.12340).

    A step reads the chosen candidates, so the net stays one of plain wires; the gradient is that of the mixture of all
    candidates by the softmax of their logits. Memory and time grow with the number of candidates, not of inputs.

    Args:
        in_dim: Number of inputs.
        out_dim: Number of gates.
        num_candidates: Candidates of each input of a gate, at least 2; each place among them uses all inputs equally.
        device: Device of the parameters.
        candidates: Those to choose among, int32 ``[out_dim, 2, num_candidates]``; drawn if not given.

    Attributes:
        candidates: int32 ``[out_dim, 2, num_candidates]``.
        logits: Parameter of the same shape. Frozen logits leave the wires as they are.
        change_soon: Whether frozen logits are to learn on within a few steps. The wires are then taken as those of one
            step, for which no order of visiting gates is worked out.

    Raises:
        ValueError: If there are fewer than 2 candidates.
    """

    candidates: Tensor

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        num_candidates: int = 8,
        device: torch.device | str | None = None,
        candidates: Tensor | None = None,
    ) -> None:
        super().__init__()
        if num_candidates < 2:
            raise ValueError(
                f"num_candidates={num_candidates}, but learned connections choose among at least 2; for one wire take "
                "connections='random'"
            )
        self.in_dim = in_dim
        self.change_soon = False
        if candidates is None:
            drawn = [torch.stack(random_connections(in_dim, out_dim), dim=1) for _ in range(num_candidates)]
            candidates = torch.stack(drawn, dim=2)
        self.logits = nn.Parameter(torch.empty(out_dim, 2, num_candidates, device=device))
        self.register_buffer("candidates", candidates.to(self.logits.device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the logits anew; the candidates stay."""
        nn.init.normal_(self.logits, std=INIT_STD)

    def settled(self) -> tuple[Tensor, Tensor]:
        """The wires that the logits settle on: int32 ``[out_dim]`` each, without a gradient."""
        a, b, _ = ops.choose(self.logits.detach(), self.candidates)
        return a, b

    def sample(self, noise: float) -> Wires:
        """The wires of a training step, chosen with noise of a scale, see :func:`lgn_lightning.ops.choose`.

        While the logits are frozen, by ``logits.requires_grad_(False)``, they are the settled ones, and the layer
        trains by the kernels of fixed wires, unless they are to change soon.
        """
        if self.logits.requires_grad:
            return Wires(*ops.choose(self.logits, self.candidates, noise), self.candidates)
        if self.change_soon:
            return Wires(*ops.choose(self.logits, self.candidates), self.candidates)
        return Wires(*self.settled())

    def extra_repr(self) -> str:
        """Number of candidates."""
        return f"{self.candidates.shape[2]} candidates an input"

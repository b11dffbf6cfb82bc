"""Connections that are learned: every input of a gate, or leaf of a tree, chooses one of K candidates."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lgn_lightning import ops
from lgn_lightning.base.machine import check_memory
from lgn_lightning.nn.connections import (
    distinct_candidates,
    draw_leaves,
    random_connections,
    random_lut_connections,
)
from lgn_lightning.nn.loaded_indices import check_indices_when_loaded
from lgn_lightning.nn.operands import read_operands
from lgn_lightning.ops.tree import decode_places, encode_places

#: Standard deviation of the first logits: small, so that at first every candidate is as likely as the others.
INIT_STD = 0.01


class Connections(NamedTuple):
    """First and second inputs of the gates of a layer in one forward pass, int32 ``[n]`` each.

    Of learned connections also the candidates, int32 ``[n, 2, K]``, and their shares, which receive the gradient.
    """

    a: Tensor
    b: Tensor
    shares: Tensor | None = None
    candidates: Tensor | None = None


class LeafConnections(NamedTuple):
    """Channel, row and column in the kernel of the leaves of trees in one forward pass, int32 ``[3, trees, leaves]``.

    Of learned leaves also the candidates, and their shares ``[trees, leaves, K]``, which receive the gradient.
    """

    places: Tensor
    shares: Tensor | None = None
    candidates: Tensor | None = None


class LearnedConnections(nn.Module):
    """Chooses the inputs of each gate among candidates (Bacellar et al., LILogic, arXiv 2511.12340).

    A step reads the chosen candidates, so the net stays one of plain wires; the gradient is that of the mixture of all
    candidates by the softmax of their logits. With ``mixture`` a step reads that mixture itself, as the authors'
    library does: the wires settle in evaluation alone, and there is a gap. Memory and time grow with the number of
    candidates, not of inputs.

    Args:
        in_dim: Number of inputs.
        out_dim: Number of gates.
        num_candidates: Candidates of each input of a gate, at least 2, all different; from ``in_dim`` on, all inputs.
            Each place among them uses all inputs equally often, or about so if there are fewer than 2K.
        device: Device of the parameters.
        candidates: Those to choose among, int32 ``[out_dim, arity, num_candidates]``; drawn if not given.
        arity: Inputs of a gate.
        mixture: Whether a training step reads mixtures.

    Attributes:
        candidates: int32 ``[out_dim, arity, K]``; K is ``num_candidates``, or ``in_dim`` if that is less.
        logits: Parameter of the same shape. Frozen logits leave the wires as they are.
        groups: Number of equal parts of the gates whose candidates stay apart, one after the other.
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
        arity: int = 2,
        mixture: bool = False,
    ) -> None:
        super().__init__()
        if num_candidates < 2:
            raise ValueError(
                f"num_candidates={num_candidates}, but learned connections choose among at least 2; for one wire take "
                "connections='random'"
            )
        self.in_dim = in_dim
        self.num_candidates = num_candidates
        self.change_soon, self.mixture, self.groups = False, mixture, 1
        count = min(num_candidates, in_dim)
        check_memory(8 * arity * out_dim * count, f"{count:,} candidates for each input of {out_dim:,} gates")
        if candidates is None:
            drawn = [_drawn(in_dim, out_dim, arity) for _ in range(count)]
            candidates = distinct_candidates(drawn, in_dim, arity * out_dim)
        self.logits = nn.Parameter(torch.empty(candidates.shape, device=device))
        self.register_buffer("candidates", candidates.to(self.logits.device))
        check_indices_when_loaded(self, {"candidates": {"inputs": in_dim}})
        self.reset_parameters()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Version 0.1 took more candidates than there are inputs, some of them twice.
        loaded, own = state_dict.get(f"{prefix}candidates"), self.candidates.shape
        if loaded is not None and own != loaded.shape == (*own[:2], self.num_candidates):
            self.candidates = self.candidates.new_zeros(loaded.shape)
            self.logits.data = self.logits.data.new_zeros(loaded.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def reset_parameters(self) -> None:
        """Draws the logits anew; the candidates stay."""
        nn.init.normal_(self.logits, std=INIT_STD)

    def settled(self, plain: bool = False) -> tuple[Tensor, ...]:
        """The wires that the logits settle on, a tensor an input of gates: int32 ``[out_dim]``, without a gradient."""
        return self.choose(self.logits.detach(), plain=plain)[0]

    def sample(self, noise: float, plain: bool = False) -> Connections:
        """The wires of a training step, chosen with noise of a scale, see :func:`lgn_lightning.ops.choose`.

        While the logits are frozen, by ``logits.requires_grad_(False)``, they are the settled ones, and the layer
        trains by the kernels of fixed wires, unless they are to change soon. Of gates with two inputs.
        """
        if not self.logits.requires_grad and not self.change_soon:
            return Connections(*self.settled(plain))
        (a, b), shares = self.choose(self.logits, noise if self.logits.requires_grad else 0.0, plain)
        return Connections(a, b, shares, self.candidates)

    def choose(self, logits: Tensor, noise: float = 0.0, plain: bool = False) -> tuple[tuple[Tensor, ...], Tensor]:
        """Chosen inputs of the gates, a tensor an input, and the shares of the candidates, ``[out_dim, arity, K]``."""
        gates, arity, count = logits.shape
        pairs, candidates = logits, self.candidates
        if arity != 2:  # the op takes inputs by two
            rows, candidates = logits.reshape(-1, count), candidates.reshape(-1, count)
            if len(rows) % 2:
                rows, candidates = torch.cat((rows, rows[:1])), torch.cat((candidates, candidates[:1]))
            pairs, candidates = rows.view(-1, 2, count), candidates.view(-1, 2, count)
        a, b, shares = ops.choose(pairs, candidates, noise, plain)
        if arity == 2:
            return (a, b), shares
        chosen = torch.stack((a, b), dim=1).flatten()[: gates * arity].view(gates, arity).t().contiguous()
        return chosen.unbind(0), shares.flatten(0, 1)[: gates * arity].view(logits.shape)

    def read(self, x: Tensor, noise: float, plain: bool = False) -> Tensor:
        """Reads the inputs of all gates in a training step: ``[batch, in_dim]`` to ``[batch, arity · out_dim]``.

        First inputs of all gates, then second ones, and so on: chosen, or with ``mixture`` mixed, either with the
        gradient of the candidates.
        """
        wires, shares = self.choose(self.logits, noise, plain)
        shares, candidates = (part.transpose(0, 1).flatten(0, 1) for part in (shares, self.candidates))
        return read_operands(x, shares, candidates, None if self.mixture else torch.cat(wires), plain)

    def extra_repr(self) -> str:
        return f"{self.candidates.shape[2]} candidates an input"


class LearnedLeaves(LearnedConnections):
    """Leaves that choose among candidates: the learned connections of the lowest gates of all trees.

    A candidate is a place of the receptive field over all channels, (channel · height + row) · width + column of the
    kernel. The first candidates of all leaves are one draw of fixed leaves, the second ones another, and so on: in a
    draw a tree reads ``channels_per_tree`` channels, so the candidates of a leaf are spread over up to K times as many.
    Of receptive fields of fewer than 2K places, and for what is still twice in small trees, they are any places.

    Args:
        in_channels: As this and the next two in :class:`LogicTreeConv2d`.
        out_channels: Number of trees.
        kernel_size: Height and width of the receptive field.
        leaves: Leaves of a tree.
        channels_per_tree: Channels of a tree in one draw.
        num_candidates: Candidates of a leaf, at least 2, else a ValueError; all different, at most all places.
        device: Device of the parameters.
        arity: Inputs of a gate.
        mixture: As in :class:`LearnedConnections`.
        groups: As in :class:`LogicTreeConv2d`.

    Attributes:
        candidates: int32 ``[trees · leaves / arity, arity, K]``: a row a gate that has leaves as its inputs.
        logits: Parameter of the same shape.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        leaves: int,
        channels_per_tree: int,
        num_candidates: int,
        device: torch.device | str | None = None,
        arity: int = 2,
        mixture: bool = False,
        groups: int = 1,
    ) -> None:
        field = in_channels * kernel_size[0] * kernel_size[1]
        sizes = (in_channels // groups, out_channels // groups, kernel_size, leaves, channels_per_tree)
        count = min(num_candidates, field // groups)
        parts = []
        for group in range(groups if count else 0):
            draws = [encode_places(draw_leaves(*sizes), kernel_size).view(-1, arity) for _ in range(count)]
            parts.append(distinct_candidates(draws, field // groups, leaves) + group * (field // groups))
        candidates = torch.cat(parts) if parts else None
        super().__init__(field, out_channels * leaves // arity, num_candidates, device, candidates, arity, mixture)
        self.kernel_size, self.groups = kernel_size, groups
        self.shape = (out_channels, leaves)

    def settled_leaves(self, plain: bool = False) -> Tensor:
        """The leaves that the logits settle on: int32 ``[3, trees, leaves]``, without a gradient."""
        return self._places(*self.settled(plain))

    def sample_leaves(self, noise: float, plain: bool = False) -> LeafConnections:
        """The leaves of a training step, chosen with noise of a scale, as :meth:`LearnedConnections.sample` does."""
        if not self.logits.requires_grad:
            return LeafConnections(self.settled_leaves(plain))
        wires, shares = self.choose(self.logits, noise, plain)
        by_leaf = (*self.shape, self.candidates.shape[2])
        return LeafConnections(self._places(*wires), shares.view(by_leaf), self.candidates.view(by_leaf))

    def _places(self, *wires: Tensor) -> Tensor:
        return decode_places(torch.stack(wires, dim=1).view(self.shape), self.kernel_size)

    def extra_repr(self) -> str:
        return f"{self.candidates.shape[2]} candidates a leaf"


def _drawn(in_dim: int, gates: int, arity: int) -> Tensor:
    if arity == 2:
        return torch.stack(random_connections(in_dim, gates), dim=1)
    return random_lut_connections(in_dim, gates, arity).t().contiguous()


def own_inputs(gates: int, arity: int, device: torch.device) -> tuple[Tensor, ...]:
    """Wires of gates that read what :meth:`LearnedConnections.read` gives: int32 ``[gates]`` an input."""
    return torch.arange(arity * gates, dtype=torch.int32, device=device).view(arity, gates).unbind(0)

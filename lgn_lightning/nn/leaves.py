"""What the leaves of trees read: positions of the receptive field, drawn once or learned."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lgn_lightning.nn.learned_connections import LearnedConnections
from lgn_lightning.ops.tree_choices import decode_places


class Leaves(NamedTuple):
    """What the leaves read in one forward pass.

    Attributes:
        places: Channel, row and column in the kernel of each leaf, int32 ``[3, trees, leaves]``.
        shares: Share of each candidate, ``[trees, leaves, K]``, which receives the gradient; None of fixed leaves.
        candidates: What learned leaves choose among, see :class:`LearnedLeaves`; None of fixed ones.
    """

    places: Tensor
    shares: Tensor | None = None
    candidates: Tensor | None = None


def draw_leaves(
    in_channels: int, out_channels: int, kernel_size: tuple[int, int], leaves: int, channels_per_tree: int
) -> Tensor:
    """Draws what the leaves of every tree read (Petersen et al., 2024, sec. 3.1).

    Every tree has its own set of ``channels_per_tree`` channels, all channels being used equally often up to one, and
    reads equally many leaves from each, at distinct positions as long as there are enough. Trees are sorted by channel:
    neighbours then read the same activations, and their order means nothing to the layers behind.

    Args:
        in_channels: Channels of the input.
        out_channels: Number of trees.
        kernel_size: Height and width of the receptive field.
        leaves: Leaves of a tree.
        channels_per_tree: Channels of a tree, at most ``in_channels`` and ``leaves``.

    Returns:
        Channel, row and column of each leaf, int32 ``[3, out_channels, leaves]``.
    """
    sets = in_channels // channels_per_tree
    rounds = -(-out_channels // sets)
    shuffled = torch.rand(rounds, in_channels).argsort(1)[:, : sets * channels_per_tree]
    channels = shuffled.reshape(-1, channels_per_tree)[:out_channels].sort(1).values
    channels = channels[channels[:, 0].argsort(stable=True)]
    slot = torch.arange(leaves) % channels_per_tree
    positions = kernel_size[0] * kernel_size[1]
    each = -(-leaves // channels_per_tree)
    drawn = torch.rand(out_channels, channels_per_tree, positions).argsort(2)
    drawn = drawn.repeat(1, 1, -(-each // positions))[:, :, :each]
    position = drawn[:, slot, torch.arange(leaves) // channels_per_tree]
    order = torch.rand(out_channels, leaves).argsort(1)
    position = position.gather(1, order)
    channel = channels[:, slot].gather(1, order)
    return torch.stack((channel, position // kernel_size[1], position % kernel_size[1])).to(torch.int32)


class LearnedLeaves(LearnedConnections):
    """Leaves that choose among candidates: the learned connections of the lowest gates of all trees.

    A candidate is a place of the receptive field over all channels, (channel · height + row) · width + column of the
    kernel. The first candidates of all leaves are one draw of fixed leaves, the second ones another, and so on: in a
    draw a tree reads ``channels_per_tree`` channels, so the candidates of a leaf are spread over up to K times as many.

    Args:
        in_channels: Channels of the input.
        out_channels: Number of trees.
        kernel_size: Height and width of the receptive field.
        leaves: Leaves of a tree.
        channels_per_tree: Channels of a tree in one draw.
        num_candidates: Candidates of a leaf, at least 2.
        device: Device of the parameters.

    Attributes:
        candidates: int32 ``[trees · leaves / 2, 2, num_candidates]``: a row a gate that has leaves as its inputs.
        logits: Parameter of the same shape.

    Raises:
        ValueError: If there are fewer than 2 candidates.
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
    ) -> None:
        height, width = kernel_size
        sizes = (in_channels, out_channels, kernel_size, leaves, channels_per_tree)
        drawn = [draw_leaves(*sizes) for _ in range(num_candidates)]
        places = [(channel * height + row) * width + column for channel, row, column in drawn]
        pairs = out_channels * leaves // 2
        candidates = torch.stack(places, dim=2).view(pairs, 2, num_candidates) if places else None
        super().__init__(in_channels * height * width, pairs, num_candidates, device, candidates)
        self.kernel_size = kernel_size
        self.shape = (out_channels, leaves)

    def settled_leaves(self) -> Tensor:
        """The leaves that the logits settle on: int32 ``[3, trees, leaves]``, without a gradient."""
        return self._places(*self.settled())

    def sample_leaves(self, noise: float) -> Leaves:
        """The leaves of a training step, chosen with noise of a scale, as :meth:`LearnedConnections.sample` does."""
        if not self.logits.requires_grad:
            return Leaves(self.settled_leaves())
        a, b, shares, candidates = self.sample(noise)
        assert shares is not None
        assert candidates is not None
        by_leaf = (*self.shape, candidates.shape[2])
        return Leaves(self._places(a, b), shares.view(by_leaf), candidates.view(by_leaf))

    def _places(self, a: Tensor, b: Tensor) -> Tensor:
        return decode_places(torch.stack((a, b), dim=1).view(self.shape), self.kernel_size)

    def extra_repr(self) -> str:
        """Number of candidates."""
        return f"{self.candidates.shape[2]} candidates a leaf"

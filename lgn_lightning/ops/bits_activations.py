"""Activations of straight-through training as packed bits, with an edge that carries their gradient.

Words are integers and have no gradient. Beside them goes an *edge*: a float tensor of the shape of the activations that
takes no memory (all its elements are one zero) and stands for them in the graph of autograd, so that gradients, which
are not bits, flow from layer to layer as usual.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from lgn_lightning.ops import library
from lgn_lightning.ops.bits import pack_bits_reference

__all__ = ["BitActivations", "pack_activations"]

#: Samples of a word.
BITS = 64
#: Native rows of bits are padded to that many words.
_ROW_WORDS = 2


class BitActivations(NamedTuple):
    """Zeros and ones of a batch between two layers.

    Attributes:
        words: int64 ``[ceil(batch / 64), …]``, bit j of word i is sample 64·i + j. Bits past the batch may be anything.
        edge: What receives the gradient, float32 ``[batch, …]`` without memory of its own; the values mean nothing.
    """

    words: Tensor
    edge: Tensor

    def flatten(self) -> BitActivations:
        """The same as ``[batch, features]``."""
        return BitActivations(self.words.flatten(1), self.edge.flatten(1))

    def unpack(self, dtype: torch.dtype) -> Tensor:
        """0 and 1 as ``[batch, …]`` of a floating dtype, batch innermost in memory."""
        return cast(Tensor, _Unpack.apply(self.edge, self.words, dtype))


def pack_activations(x: Tensor) -> BitActivations:
    """Rounds images ``[batch, C, H, W]`` to bits, 1 where x > 0.5; the gradient passes as if nothing was rounded."""
    return BitActivations(*_Pack.apply(x))


def new_edge(like: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """A float32 tensor of any shape that takes the memory of one number."""
    return like.new_zeros((), dtype=torch.float32).expand(shape)


def empty_words(op: str, like: Tensor, rows: int, features: int) -> Tensor:
    """Empty words ``[rows, features]`` in the memory format of the op's kernel."""
    if not library.has_native(op, like.device.type):
        return like.new_empty((rows, features), dtype=torch.int64)
    return like.new_empty_strided((rows, features), (1, word_pitch(rows)), dtype=torch.int64)


def word_pitch(rows: int) -> int | torch.SymInt:
    """Words from a feature to the next one, where kernels make rows of so many words; at least a pair."""
    return (torch.sym_max(rows, 1) + _ROW_WORDS - 1) // _ROW_WORDS * _ROW_WORDS


class _Pack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.dtype = x.dtype
        words = torch.ops.lgn.round_to_bits(x)
        ctx.mark_non_differentiable(words)
        ctx.set_materialize_grads(False)  # no zeros for the words
        return words, new_edge(x, x.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Tensor:
        return cast(Tensor, grads[1].to(ctx.dtype))


class _Unpack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, edge: Tensor, words: Tensor, dtype: torch.dtype) -> Tensor:
        bits = torch.ops.lgn.unpack_bits(words.flatten(1), edge.shape[0])
        batch, *sizes = edge.shape
        # No view of another tensor: what comes next may work in place.
        out = bits.new_empty((*sizes, batch), dtype=dtype).movedim(-1, 0).detach()
        return cast(Tensor, out.copy_(bits.view(edge.shape)))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        return grads[0].float(), None, None


def _fake_round_to_bits(x: Tensor) -> Tensor:
    rows = (x.shape[0] + BITS - 1) // BITS
    return empty_words("round_to_bits", x, rows, math.prod(x.shape[1:])).view(rows, *x.shape[1:])


@library.op("round_to_bits(Tensor x) -> Tensor", _fake_round_to_bits)
def round_to_bits_reference(x: Tensor) -> Tensor:
    """The words of :func:`pack_activations` in plain torch."""
    bits = x if x.dtype == torch.bool else x > 0.5
    return pack_bits_reference(bits.flatten(1), BITS).view(-1, *x.shape[1:])

"""A batch of booleans packed into machine words, for fast evaluation of hard nets."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lgn_lightning import ops


class PackBitsTensor:
    """A boolean batch with one bit a value, which a net in ``.eval()`` mode takes in place of a tensor.

    Samples are packed along the batch: sample ``i·bit_count + j`` is bit ``j`` of row ``i``.

    Args:
        t: bool ``[batch, features]``.
        bit_count: Word width: 8, 16, 32 or 64.
        device: Where to pack and evaluate; the device of ``t`` if not given.

    Raises:
        TypeError: If ``t`` is not a boolean matrix.
        ValueError: If ``bit_count`` is another number.
    """

    def __init__(self, t: Tensor, bit_count: int = 32, device: torch.device | str | None = None) -> None:
        t = t if device is None else t.to(device)
        self._set(ops.pack_bits(t, bit_count), t.shape[0])

    def _set(self, words: Tensor, batch: int) -> None:
        self.t = words
        self.batch = batch

    @classmethod
    def from_words(cls, words: Tensor, batch: int) -> PackBitsTensor:
        """Wraps words that are packed already: ``[ceil(batch / bits), features]``."""
        packed = cls.__new__(cls)
        packed._set(words, batch)
        return packed

    @property
    def bit_count(self) -> int:
        """Bits in a word."""
        return torch.iinfo(self.t.dtype).bits

    @property
    def device(self) -> torch.device:
        """Where the words are."""
        return self.t.device

    @property
    def pad_len(self) -> int:
        """Unused bits at the end of the last row."""
        return self.t.shape[0] * self.bit_count - self.batch

    @property
    def shape(self) -> torch.Size:
        """Shape of the boolean batch."""
        return torch.Size((self.batch, self.t.shape[1]))

    def group_sum(self, k: int) -> Tensor:
        """Counts the set bits in ``k`` equal groups of features: int32 ``[batch, k]``."""
        return ops.group_sum_packed(self.t, k, self.batch)

    def unpack(self) -> Tensor:
        """Gives back the booleans ``[batch, features]``."""
        return ops.unpack_bits(self.t, self.batch)

    def flatten(self, start_dim: int = 0, end_dim: int = -1, **_: Any) -> PackBitsTensor:
        """Returns itself, so that a ``Flatten`` at the start of a net does nothing."""
        return self

    def __repr__(self) -> str:
        rows = [
            " ".join(np.binary_repr(word, self.bit_count)[::-1] for word in row[:3]) + (" …" if len(row) > 3 else "")
            for row in self.t[:4, :4].tolist()
        ]
        head = f"PackBitsTensor(batch={self.batch}, features={self.t.shape[1]}, bit_count={self.bit_count})"
        return "\n".join([head, *rows, *(["…"] if self.t.shape[0] > 4 else [])])

"""`KeywordStream`: streams of symbols, and at every step which word was just said: the smallest task of spotting."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lgn_lightning.base.padding import IGNORED, PADDING
from lgn_lightning.data.base import SampleDataModule, Samples

#: Bits of a symbol.
BITS = 4


class KeywordStream(SampleDataModule):
    """Streams of symbols of 4 bits, uint8 ``[N, steps, 4]``; labels are int64 ``[N, steps]``, a class at every step.

    Words are drawn once, by ``word_seed``. A step has the class of the word that ended at it or less than ``hold``
    steps before, the newest if there are several, or "none". Streams have half of ``steps`` to ``steps`` symbols;
    behind their end all bytes are 255 and labels -100, which do not count. ``root`` is not used.

    Args:
        *args: Arguments of `SampleDataModule`.
        steps: Symbols of a stream, at most.
        words: Number of words.
        length: Symbols of a word.
        hold: Steps that a word stays heard.
        count: Training streams.
        test_count: Test streams.
        word_seed: Of the words.
        **kwargs: More arguments of `SampleDataModule`.

    Raises:
        ValueError: If a number is not positive, or a stream has no room for a word.
    """

    noun = "streams"

    def __init__(
        self,
        *args: Any,
        steps: int = 32,
        words: int = 3,
        length: int = 3,
        hold: int = 3,
        count: int = 4096,
        test_count: int = 1000,
        word_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if min(words, length, hold, count, test_count) < 1 or steps < 2 * length:
            raise ValueError(
                f"words={words}, length={length}, hold={hold}, count={count} and test_count={test_count} must be 1 or "
                f"more, and steps={steps} twice the length"
            )
        self.steps, self.hold, self.count, self.test_count = steps, hold, count, test_count
        generator = torch.Generator().manual_seed(word_seed)
        #: Symbols of the words, int64 ``[words, length]``.
        self.words = torch.randint(2**BITS, (words, length), generator=generator)

    @property
    def class_names(self) -> list[str]:
        return ["none", *(f"word_{number}" for number in range(len(self.words)))]

    @property
    def task(self) -> str:
        """A class at every step."""
        return "steps"

    def heard(self, symbols: Tensor) -> Tensor:
        """The classes of streams ``[N, steps]`` of symbols."""
        labels = torch.zeros_like(symbols)
        length = self.words.shape[1]
        for end in range(length - 1, symbols.shape[1]):
            said = (symbols[:, end - length + 1 : end + 1, None] == self.words.t()).all(1)  # [N, words]
            for number in range(len(self.words)):
                labels[said[:, number], end : end + self.hold] = number + 1
        return labels

    def _streams(self, count: int, seed: int) -> Samples:
        generator = torch.Generator().manual_seed(seed)
        length = self.words.shape[1]
        symbols = torch.randint(2**BITS, (count, self.steps), generator=generator)
        for start in range(0, self.steps - length + 1, length + self.hold):  # words at random in half of the places
            chosen = torch.randint(2 * len(self.words), (count,), generator=generator)
            said = chosen < len(self.words)
            symbols[said, start : start + length] = self.words[chosen[said]]
        symbols = torch.stack([torch.roll(row, int(shift)) for row, shift in zip(symbols, symbols[:, -1], strict=True)])
        lengths = torch.randint(self.steps // 2, self.steps + 1, (count, 1), generator=generator)
        counts = torch.arange(self.steps) < lengths
        bits = (symbols[:, :, None] >> torch.arange(BITS) & 1).to(torch.uint8)
        bits[~counts] = PADDING
        return bits, torch.where(counts, self.heard(symbols), IGNORED)

    def _load_train(self) -> Samples:
        return self._streams(self.count, self.split_seed)

    def _load_test(self) -> Samples:
        return self._streams(self.test_count, self.split_seed + 1)

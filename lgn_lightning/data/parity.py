"""`ParityStream`: streams of random bits, and whether the number of ones so far is odd. The smallest task of memory."""

from typing import Any

import torch

from lgn_lightning.base.padding import PADDING
from lgn_lightning.data.base import SampleDataModule, Samples


class ParityStream(SampleDataModule):
    """Sequences of random bits, uint8 ``[N, steps, 1]``; the class is their parity.

    Training sequences have 1 to ``steps`` bits, short ones more often, and 255 behind their end; test sequences are all
    of ``test_steps`` bits, far longer than those. ``root`` is not used.

    Args:
        *args: Arguments of `SampleDataModule`.
        steps: Bits of a training sequence, at most.
        test_steps: Bits of a test sequence.
        count: Training sequences.
        test_count: Test sequences.
        **kwargs: More arguments of `SampleDataModule`.

    Raises:
        ValueError: If there is no sequence, or one has no step.
    """

    noun = "sequences"

    def __init__(
        self,
        *args: Any,
        steps: int = 16,
        test_steps: int = 1000,
        count: int = 4096,
        test_count: int = 1000,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if min(steps, test_steps, count, test_count) < 1:
            raise ValueError(
                f"steps={steps}, test_steps={test_steps}, count={count}, test_count={test_count}: 1 or more"
            )
        self.steps, self.test_steps, self.count, self.test_count = steps, test_steps, count, test_count

    @property
    def class_names(self) -> list[str]:
        return ["even", "odd"]

    def _load_train(self) -> Samples:
        generator = torch.Generator().manual_seed(self.split_seed)
        bits = torch.randint(2, (self.count, self.steps), generator=generator)
        shares = torch.rand(self.count, 1, generator=generator)
        lengths = (self.steps * shares**3).long() + 1  # short ones, from which the rule is learned, come more often
        counts = torch.arange(self.steps) < lengths
        x = torch.where(counts, bits, PADDING).to(torch.uint8)
        return x.unsqueeze(2), (bits * counts).sum(1) % 2

    def _load_test(self) -> Samples:
        generator = torch.Generator().manual_seed(self.split_seed + 1)
        bits = torch.randint(2, (self.test_count, self.test_steps), generator=generator)
        return bits.to(torch.uint8).unsqueeze(2), bits.sum(1) % 2

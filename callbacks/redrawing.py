"""What callbacks need that draw parts of a net anew: seeds that a resumed run has again, and moments of 0."""

import os

import numpy as np
import torch
from torch import Tensor


def seed_of_run(seed: int | None) -> int:
    """A seed that was given, else the one of ``seed_everything``, else 0."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed


def seeded_generator(*numbers: int) -> torch.Generator:
    """A generator on the CPU whose draws depend on these numbers alone."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1)


def deal(values: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """So many of the values, ``[count]``, all equally often, one shuffled pack after the other."""
    packs = [values[torch.randperm(len(values), generator=generator)] for _ in range(-(-count // len(values)))]
    return torch.cat([values[:0], *packs])[:count]


def forget_moments(optimizer: torch.optim.Optimizer, parameter: Tensor, rows: Tensor) -> None:
    """Sets the optimizer's state of some rows to 0, its value before the first gradient."""
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value[rows] = 0

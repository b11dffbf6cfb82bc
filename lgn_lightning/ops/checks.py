"""Checks of arguments, made before an op is called, so that errors read the same on all devices.

A wrong shape or number is a ValueError, a wrong dtype a TypeError.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lgn_lightning.ops.library import sum_dtype

#: The word of each number of packed samples.
WORDS = {8: torch.int8, 16: torch.int16, 32: torch.int32, 64: torch.int64}


def word_dtype(bits: int) -> torch.dtype:
    """Gives the integer dtype that holds ``bits`` packed samples; refuses other numbers than 8, 16, 32 and 64."""
    if bits not in WORDS:
        raise ValueError(f"bits is {bits}, but samples are packed into words of 8, 16, 32 or 64 bits")
    return WORDS[bits]


def check_matrix(x: Tensor) -> None:
    """Refuses what is not ``[batch, features]``."""
    if x.ndim != 2:
        raise ValueError(f"x has shape {list(x.shape)}, but the op takes [batch, features]")


def check_floating(x: Tensor) -> None:
    """Refuses integers and booleans."""
    if not x.is_floating_point():
        raise TypeError(f"x is {x.dtype}, but the op takes floating point; convert it with x.float()")


def check_table(x: Tensor, table: Tensor, shape: tuple[int, int], of: str, name: str = "table") -> None:
    """Refuses a table of another shape than ``of`` takes, or of another dtype than ``x`` takes."""
    if table.shape != shape:
        raise ValueError(f"{name} has shape {list(table.shape)}, but {of} take {list(shape)}")
    if table.dtype != sum_dtype(x.dtype):
        raise TypeError(f"{name} is {table.dtype}, but x of {x.dtype} takes a table of {sum_dtype(x.dtype)}")


def check_indices(**indices: Tensor) -> None:
    """Refuses indices that are not int32."""
    for name, index in indices.items():
        if index.dtype != torch.int32:
            raise TypeError(f"{name} is {index.dtype}, but indices are torch.int32")


def check_wires(gates: int, a: Tensor, b: Tensor) -> None:
    """Refuses wires that are not two int32 vectors of an entry a gate."""
    if not a.shape == b.shape == (gates,):
        raise ValueError(f"a {list(a.shape)} and b {list(b.shape)} do not fit {gates} gates: both must be [{gates}]")
    check_indices(a=a, b=b)


def check_words(x: Tensor, batch: int | None = None) -> None:
    """Refuses what is no matrix of packed samples, or does not hold ``batch`` of them."""
    if x.ndim != 2 or x.dtype not in WORDS.values():
        raise TypeError(f"x is {x.dtype} {list(x.shape)}, but packed samples are int8, int16, int32 or int64 [rows, n]")
    bits = torch.iinfo(x.dtype).bits
    if batch is not None and x.shape[0] != -(-batch // bits):
        raise ValueError(f"{x.shape[0]} rows of {bits}-bit words do not hold a batch of {batch}")


def check_groups(features: int, k: int) -> None:
    """Refuses a number of features that does not divide into ``k`` groups."""
    if k < 1 or features % k:
        raise ValueError(f"{features} features do not divide into k = {k} equal groups; take a multiple of k")


def check_candidates(shares: Tensor, candidates: Tensor, rows: Sequence[int], of: str) -> None:
    """Refuses candidates or their shares (or logits) that are not ``[*rows, K]``; ``of`` names what has these rows."""
    if candidates.ndim != len(rows) + 1 or candidates.shape[:-1] != tuple(rows) or shares.shape != candidates.shape:
        raise ValueError(
            f"shares or logits {list(shares.shape)} and candidates {list(candidates.shape)} do not fit {of}: both are "
            f"[{', '.join(map(str, rows))}, K]"
        )
    check_indices(candidates=candidates)

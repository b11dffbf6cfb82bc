"""What the tensors of every op must be, by ``ext/cpu/arguments.h``: checked for kernels there, for references here.

Public functions check more before they call an op, and say it in their own words; these are for ``torch.ops.lgn``.
"""

import re
from functools import cache
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

_REAL = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_SINGLE = {"float": torch.float32, "int": torch.int32, "long": torch.int64, "byte": torch.uint8, "bool": torch.bool}
_DTYPES = {
    "real": _REAL,
    "bits": (torch.bool, *_REAL),
    "words": (torch.int8, torch.int16, torch.int32, torch.int64),
    **{name: (dtype,) for name, dtype in _SINGLE.items()},
}


@cache
def _lines() -> dict[str, list[tuple[str, str, list[str]]]]:
    """Name, dtype and sizes of the tensors of each op."""
    text = (files("lgn_lightning.ext") / "cpu" / "arguments.h").read_text(encoding="utf-8")
    lines: dict[str, list[tuple[str, str, list[str]]]] = {}
    for op, arguments in re.findall(r'^LGN_ARGUMENTS\((\w+), "(.*)"\);$', text, re.MULTILINE):
        parts = re.findall(r"([\w?*]+): (\w+) \[(.*?)\]", arguments)
        lines[op] = [(name, dtype, sizes.split(", ")) for name, dtype, sizes in parts]
    return lines


def check(op: str, *tensors: Any) -> None:
    """Refuses tensors, in the order of ``arguments.h``, whose shapes, dtypes or devices do not fit an op."""
    known: dict[str, int] = {}
    real = torch.float32
    for (name, dtype, sizes), tensor in zip(_lines()[op], tensors, strict=True):
        if (name[-1] == "?" and tensor is None) or (name[-1] == "*" and tensor.numel() == 0):
            continue
        name = name.rstrip("?*")
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise TypeError(f"{op}: {name} is no dense tensor")
        if tensor.device != tensors[0].device:
            where = f"{name} is on {tensor.device}, not on {tensors[0].device}"
            raise RuntimeError(f"{op}: {where}; move the module and its input to one device")
        summed = torch.float64 if real == torch.float64 else torch.float32
        if tensor.dtype not in _DTYPES.get(dtype, (summed,)):
            raise TypeError(f"{op}: {name} is {tensor.dtype}, but must be {dtype}")
        real = tensor.dtype if dtype == "real" else real
        fit = tensor.ndim == len(sizes) and all(
            n == (int(size) if size.isdigit() else known.setdefault(size, n))
            for size, n in zip(sizes, tensor.shape, strict=True)
        )
        if not fit:
            values = "".join(f", {size} = {known[size]}" for size in sizes if size in known)
            raise ValueError(f"{op}: {name} has shape {list(tensor.shape)}, but must be [{', '.join(sizes)}]{values}")

"""Blocks of layers: skips and branches."""

from typing import cast

import torch
from torch import Tensor, nn

from lgn_lightning.base.choice import check_choice
from lgn_lightning.gates import GATE_NAMES, TRUTH_TABLES


class LogicResidual(nn.Module):
    """A body and a path around it, joined by a gate at each output: residual learning (He et al., 2016) for gates.

    Soft activations are joined by the gate's soft form, y = t00 + (t10 − t00)·a + (t01 − t00)·b + (t11 − t10 − t01 +
    t00)·ab with a of the body and b of the path around it; bits by the gate itself.

    Args:
        body: Layers of gates.
        gate: Name of the gate, one of :data:`lgn_lightning.gates.GATE_NAMES`, such as ``"or"`` or ``"xor"``.
        shortcut: What the path around the body applies to the input, so that both shapes are equal; nothing by default.

    Shape:
        - Input: What body and shortcut take.
        - Output: What they give, of one shape.

    Raises:
        ValueError: If there is no such gate, or, when called, the shapes differ.
    """

    def __init__(self, body: nn.Module, gate: str = "or", shortcut: nn.Module | None = None) -> None:
        super().__init__()
        check_choice("gate", gate, GATE_NAMES)
        self.body, self.gate = body, gate
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Joins both paths."""
        around, a = self.shortcut(x), self.body(x)
        if a.shape != around.shape:
            raise ValueError(
                f"LogicResidual: the body gives {list(a.shape)} and the path around it {list(around.shape)}; "
                "give shortcut= a module that makes the shapes equal"
            )
        t00, t01, t10, t11 = TRUTH_TABLES[GATE_NAMES.index(self.gate)]
        b = around.to(a.dtype)
        y = torch.full_like(a, t00) if t00 else None
        for factor, term in ((t10 - t00, a), (t01 - t00, b), (t11 - t10 - t01 + t00, a * b)):
            if factor:
                y = factor * term if y is None else torch.add(y, term, alpha=factor)
        return torch.zeros_like(a) if y is None else y

    def extra_repr(self) -> str:
        return f"gate={self.gate!r}"


class LogicConcat(nn.Module):
    """Branches side by side: all get the same input, and their outputs follow one another, features or channels.

    With an ``nn.Identity`` among them the input is kept, as in densely connected nets (Huang et al., 2017).

    Args:
        *branches: Layers, or what is made of them.

    Shape:
        - Input: What the branches take.
        - Output: ``[batch, …]``, dimension 1 as long as those of all branches together.

    Raises:
        ValueError: If there is no branch.
    """

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        if not branches:
            raise ValueError("LogicConcat(): give at least one branch")
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """Applies every branch to ``x``."""
        parts = [cast(Tensor, branch(x)) for branch in self.branches]
        dtype = next((part.dtype for part in parts if part.is_floating_point()), parts[0].dtype)
        return torch.cat([part.to(dtype) for part in parts], 1)

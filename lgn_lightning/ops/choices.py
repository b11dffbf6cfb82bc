"""Learned connections: the choice of a step, and the gradient that learns it.

A gate's input is one of K candidates. The forward pass reads the chosen one, a plain wire; the gradient is that of the
mixture in which candidate k has the share p_k: ∂L/∂p_k = Σ_samples ∂L/∂u · x[c_k] (Bacellar et al., LILogic,
arXiv 2511.12340), at the values of the forward pass, so a straight-through estimate.
"""

from typing import Any, cast

import torch
from torch import Tensor

from lgn_lightning.ops import library
from lgn_lightning.ops.checks import check_candidates

__all__ = ["choose", "learn_choices"]


def choose(
    logits: Tensor, candidates: Tensor, noise: float = 0.0, plain: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Chooses the inputs of gates among their candidates.

    Args:
        logits: Of each candidate, floating point ``[n, 2, K]``.
        candidates: Inputs to choose from, int32 ``[n, 2, K]``.
        noise: Scale of Gumbel noise on the logits that the choice is made by: 1 draws candidates at their share, 0
            takes the first with the largest logit.
        plain: Whether to compute by the formula in plain torch.

    Returns:
        First and second inputs, int32 ``[n]``, and the shares, the softmax of the logits, ``[n, 2, K]``.
    """
    check_choices(logits, candidates, len(candidates))
    shape = logits.shape[:2] if noise > 0 else (0, 2)
    level = torch.rand(shape, dtype=torch.float32, device=logits.device)
    if plain or logits.dtype != torch.float32:
        return choose_reference(logits, candidates, level, noise)
    return cast(tuple[Tensor, Tensor, Tensor], torch.ops.lgn.choose(logits, candidates, level, noise))


def learn_choices(
    y: Tensor, shares: Tensor, x: Tensor, table: Tensor, a: Tensor, b: Tensor, candidates: Tensor, plain: bool = False
) -> Tensor:
    """Gives ``y`` as it is, and in the backward pass the gradient of the candidates' shares.

    Args:
        y: Outputs of a layer of gates, ``[batch, n]``.
        shares: Share of each candidate in its input, ``[n, 2, K]``, floating point, which receives the gradient.
        x: Inputs that the layer read, ``[batch, in]``, floating point.
        table: Tables of the layer's backward pass, ``[n, 4]``.
        a: Chosen first inputs, int32 ``[n]``.
        b: Chosen second inputs, likewise.
        candidates: Inputs to choose from, int32 ``[n, 2, K]``.
        plain: Whether to compute by the formula in plain torch, which has derivatives of any order.
    """
    check_choices(shares, candidates, y.shape[1])
    return cast(Tensor, _LearnChoices.apply(plain, y, shares, x, table, a, b, candidates))


class _LearnChoices(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plain: bool, y: Tensor, shares: Tensor, *rest: Tensor) -> Tensor:
        ctx.save_for_backward(*rest)
        ctx.plain, ctx.dtype = plain, shares.dtype
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        shares = None
        if ctx.needs_input_grad[2]:
            arguments = grads[0], *ctx.saved_tensors
            if ctx.plain:
                shares = choices_backward_reference(*arguments)
            else:
                shares = library.backward("choices_backward", *arguments)
            shares = shares.to(ctx.dtype)
        return None, grads[0], shares, *(None,) * 5


def check_choices(shares: Tensor, candidates: Tensor, gates: int) -> None:
    """Refuses candidates that do not fit the gates or their shares."""
    check_candidates(shares, candidates, (gates, 2), f"{gates} gates")


@library.op(
    "choose(Tensor logits, Tensor candidates, Tensor level, float noise) -> (Tensor, Tensor, Tensor)",
    lambda logits, candidates, level, noise: (
        candidates.new_empty(len(candidates)),
        candidates.new_empty(len(candidates)),
        torch.empty_like(logits, memory_format=torch.contiguous_format),
    ),
)
def choose_reference(logits: Tensor, candidates: Tensor, level: Tensor, noise: float) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`choose` in plain torch; ``level`` are the uniform numbers ``[n, 2]`` that noise draws by."""
    index = logits.argmax(2)
    if noise > 0:
        sums = torch.softmax(logits.detach() / noise, dim=2).cumsum(2)
        # Rounding can leave the last sum below 1.
        index = (sums <= level.unsqueeze(2)).sum(2).clamp_(max=logits.shape[2] - 1)
    a, b = candidates.gather(2, index.unsqueeze(2)).squeeze(2).unbind(1)
    return a.contiguous(), b.contiguous(), torch.softmax(logits, dim=2)


@library.op(
    "choose_backward(Tensor grad, Tensor shares) -> Tensor",
    lambda grad, shares: torch.empty_like(shares, memory_format=torch.contiguous_format),
)
def choose_backward_reference(grad: Tensor, shares: Tensor) -> Tensor:
    """From the gradient of shares ``[n, 2, K]`` to that of the logits."""
    return shares * (grad - (grad * shares).sum(2, keepdim=True))


@library.op("choices_backward(Tensor grad, Tensor x, Tensor table, Tensor a, Tensor b, Tensor candidates) -> Tensor")
def choices_backward_reference(
    grad: Tensor, x: Tensor, table: Tensor, a: Tensor, b: Tensor, candidates: Tensor
) -> Tensor:
    """Gradient of the shares, ``[n, 2, K]``, from that of the layer's outputs ``[batch, n]``."""
    wide = library.sum_dtype(x.dtype)
    # Feature-major, so that a row of candidates is gathered whole.
    rows, g = x.t().to(wide), grad.t().to(wide)
    t00, t01, t10, t11 = table.to(wide).unsqueeze(2).unbind(1)
    mixed = t11 - t10 - t01 + t00
    u, v = rows[a.long()], rows[b.long()]
    slopes = g * (t10 - t00 + mixed * v), g * (t01 - t00 + mixed * u)
    sides = zip(slopes, candidates.unbind(1), strict=True)
    shares = [[(slope * rows[wires.long()]).sum(1) for wires in side.unbind(1)] for slope, side in sides]
    return torch.stack([torch.stack(side, dim=1) for side in shares], dim=1)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(*output[:2])
    ctx.save_for_backward(output[2])


def _gradient(ctx: Any, _a: None, _b: None, grad: Tensor) -> tuple[Tensor | None, ...]:
    return library.backward("choose_backward", grad, *ctx.saved_tensors), None, None, None


library.define_gradient("choose", _setup, _gradient)

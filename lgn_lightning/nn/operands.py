"""The inputs of gates whose wires are learned, as rows of their own: chosen, or mixed of all candidates."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional


def read_operands(
    x: Tensor, shares: Tensor, candidates: Tensor, chosen: Tensor | None = None, plain: bool = False
) -> Tensor:
    """Reads every input of gates from its candidates; the gradient of the shares is that of their mixture.

    u = x[chosen], or without a choice the mixture u = Σ_k p_k · x[c_k] (LILogic, arXiv 2511.12340, as its authors'
    library trains). In both ∂L/∂p_k = Σ_samples ∂L/∂u · x[c_k].

    Args:
        x: ``[batch, in]``, floating point.
        shares: Share of each candidate, ``[m, K]``, which receives the gradient.
        candidates: Inputs to choose among, int32 ``[m, K]``.
        chosen: Those chosen, int32 ``[m]``; None for the mixture.
        plain: Whether to compute by the formula in plain torch, which has derivatives of any order.

    Returns:
        ``[batch, m]`` in the dtype of ``x``, feature-major in memory.
    """
    rows, shares = x.t(), shares.to(x.dtype)
    if plain:
        return _plain(rows, shares, candidates, chosen).t()
    rows = rows.contiguous()
    if chosen is None:
        return _mixture(rows, shares, candidates).t()
    return cast(Tensor, _Chosen.apply(rows, shares, candidates, chosen)).t()


def _mixture(rows: Tensor, shares: Tensor, candidates: Tensor) -> Tensor:
    # An embedding bag is this sum, for words of a sentence: torch has it in a kernel of its own, with both gradients.
    return functional.embedding_bag(candidates, rows, mode="sum", per_sample_weights=shares)


def _plain(rows: Tensor, shares: Tensor, candidates: Tensor, chosen: Tensor | None) -> Tensor:
    # Of a choice the candidates give a gradient to their shares alone.
    read = rows if chosen is None else rows.detach()
    parts = [shares[:, k, None] * read[wires.long()] for k, wires in enumerate(candidates.unbind(1))]
    mixed = torch.stack(parts).sum(0)
    return mixed if chosen is None else rows[chosen.long()] + (mixed - mixed.detach())


class _Chosen(torch.autograd.Function):
    """The chosen rows, without the mixture whose gradient the shares get."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, shares: Tensor, candidates: Tensor, chosen: Tensor) -> Tensor:
        ctx.save_for_backward(rows, shares, candidates, chosen)
        return rows.index_select(0, chosen)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        rows, shares, candidates, chosen = ctx.saved_tensors
        (grad,) = grads
        grad_rows = grad_shares = None
        if ctx.needs_input_grad[0]:
            grad_rows = torch.zeros_like(rows).index_add_(0, chosen, grad)
        if ctx.needs_input_grad[1]:
            with torch.enable_grad():
                wanted = shares.detach().requires_grad_()
                mixture = _mixture(rows.detach(), wanted, candidates)
            (grad_shares,) = torch.autograd.grad(mixture, wanted, grad.contiguous())
        return grad_rows, grad_shares, None, None

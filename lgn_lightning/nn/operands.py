"""The inputs of gates whose wires are learned, as rows of their own: chosen, or mixed of all candidates."""

from typing import Any, cast

import torch
from torch import Tensor

#: Products that are there at once: on accelerators, and on CPUs.
_PRODUCTS = (1 << 24, 1 << 17)


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
    if not plain:
        return cast(Tensor, _Read.apply(x, shares, candidates, chosen))
    rows, weights = x.t(), shares.to(x.dtype)
    # Of a choice the candidates give a gradient to their shares alone.
    read = rows if chosen is None else rows.detach()
    mixed = torch.stack([weights[:, k, None] * read[wires.long()] for k, wires in enumerate(candidates.unbind(1))]).sum(
        0
    )
    if chosen is not None:
        mixed = rows[chosen.long()] + (mixed - mixed.detach())
    return mixed.t()


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shares: Tensor, candidates: Tensor, chosen: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, shares, candidates, chosen)
        rows = x.t()
        if chosen is not None:
            return rows.index_select(0, chosen).t()
        weights = shares.to(x.dtype)
        mixed = torch.zeros(len(candidates), len(x), dtype=x.dtype, device=x.device)
        for k, wires in enumerate(candidates.unbind(1)):
            mixed.addcmul_(weights[:, k, None], rows.index_select(0, wires))
        return mixed.t()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        x, shares, candidates, chosen = ctx.saved_tensors
        rows, grad = x.t(), grads[0].t()
        grad_x = grad_shares = None
        if ctx.needs_input_grad[0]:
            sums = torch.zeros(rows.shape, dtype=x.dtype, device=x.device)
            if chosen is not None:
                sums.index_add_(0, chosen, grad)
            else:
                for k, wires in enumerate(candidates.unbind(1)):
                    sums.index_add_(0, wires, shares[:, k, None].to(x.dtype) * grad)
            grad_x = sums.t()
        if ctx.needs_input_grad[1]:
            grad_shares = _shares_gradient(rows.contiguous(), grad, candidates).to(shares.dtype)
        return grad_x, grad_shares, None, None


def _shares_gradient(rows: Tensor, grad: Tensor, candidates: Tensor) -> Tensor:
    """The sum over the samples of each input's gradient times each of its candidates, ``[m, K]``, a few inputs at once.

    On a CPU so few that their products stay in its caches, which takes a tenth of the time.
    """
    at_once = max(1, _PRODUCTS[grad.device.type == "cpu"] // max(1, candidates.shape[1] * grad.shape[1]))
    parts = zip(torch.split(grad, at_once), torch.split(candidates, at_once), strict=True)
    read = ((rows.index_select(0, wires.flatten()).view(*wires.shape, -1), part.unsqueeze(1)) for part, wires in parts)
    return torch.cat([values.mul_(part).sum(2) for values, part in read])

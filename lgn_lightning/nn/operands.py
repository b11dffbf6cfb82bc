"""The inputs of gates whose wires are learned, as rows of their own: chosen, or mixed of all candidates."""

import functools
import warnings
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
    return cast(Tensor, _Read.apply(rows.contiguous(), shares, candidates, chosen)).t()


def _plain(rows: Tensor, shares: Tensor, candidates: Tensor, chosen: Tensor | None) -> Tensor:
    # Of a choice the candidates give a gradient to their shares alone.
    read = rows if chosen is None else rows.detach()
    parts = [shares[:, k, None] * read[wires.long()] for k, wires in enumerate(candidates.unbind(1))]
    mixed = torch.stack(parts).sum(0)
    return mixed if chosen is None else rows[chosen.long()] + (mixed - mixed.detach())


class _Read(torch.autograd.Function):
    """The chosen rows or the mixed ones. Feature-major: all products below are of whole rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, shares: Tensor, candidates: Tensor, chosen: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, shares, candidates, chosen)
        if chosen is not None:
            return rows.index_select(0, chosen)
        return _mixture(rows, shares, candidates)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        rows, shares, candidates, chosen = ctx.saved_tensors
        grad = grads[0].contiguous()
        grad_rows = grad_shares = None
        if ctx.needs_input_grad[0]:
            grad_rows = _rows_gradient(grad, len(rows), *((candidates, shares) if chosen is None else (chosen,)))
        if ctx.needs_input_grad[1]:
            grad_shares = _shares_gradient(grad, rows, candidates)
        return grad_rows, grad_shares, None, None


def _mixture(rows: Tensor, shares: Tensor, candidates: Tensor) -> Tensor:
    # An embedding bag is this sum, for words of a sentence: torch has it in a kernel of its own.
    return functional.embedding_bag(candidates, rows, mode="sum", per_sample_weights=shares)


def _rows_gradient(grad: Tensor, count: int, wires: Tensor, shares: Tensor | None = None) -> Tensor:
    """The transpose of reading: each of ``count`` rows gets the gradients of what reads it, ``[count, batch]``.

    A bag of the readers for each row adds whole rows in one order, which neither the embedding bag's own gradient nor
    ``index_add_`` does.
    """
    flat = wires.flatten()
    order = flat.argsort(stable=True)
    ends = torch.bincount(flat, minlength=count).cumsum(0)
    return functional.embedding_bag(
        order // (flat.numel() // len(grad)),  # which gate's input it is
        grad,
        functional.pad(ends, (1, 0)),
        mode="sum",
        include_last_offset=True,
        per_sample_weights=None if shares is None else shares.flatten()[order],
    )


def _shares_gradient(grad: Tensor, rows: Tensor, candidates: Tensor) -> Tensor:
    """∂L/∂p_k = Σ_samples ∂L/∂u · x[c_k], ``[m, K]``: the product of two matrices, at the candidates' places alone."""
    if not rows.is_cpu:  # of places out of order, which these are, the sparse product below is tested on the CPU alone
        with torch.enable_grad():
            shares = grad.new_zeros(candidates.shape).requires_grad_()
            mixture = _mixture(rows, shares, candidates)
        return torch.autograd.grad(mixture, shares, grad)[0]
    wide = torch.promote_types(grad.dtype, torch.float32)  # there is no sparse product of half precision
    (m, k), read = candidates.shape, rows.to(wide).t()
    starts = torch.arange(0, m * k + 1, k, dtype=candidates.dtype)
    values, shape = read.new_zeros(m * k), (m, len(rows))
    _silence_sparse_warning()
    places = torch.sparse_csr_tensor(starts, candidates.flatten(), values, shape, check_invariants=False)
    products: Tensor = torch.sparse.sampled_addmm(places, grad.to(wide), read, beta=0)
    return products.values().view(m, k).to(grad.dtype)


@functools.cache
def _silence_sparse_warning() -> None:
    """Makes the first sparse tensor, of which torch warns that they are new: no user can act on that."""
    with warnings.catch_warnings():  # not in every step: it makes Python forget which warnings it has shown
        warnings.simplefilter("ignore", UserWarning)
        torch.sparse_csr_tensor(torch.tensor([0, 0]), torch.tensor([]), torch.tensor([]), (1, 1))

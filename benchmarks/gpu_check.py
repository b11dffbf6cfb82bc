"""Compares what `gpu.py` times with the reference in float64, at sizes that take a moment."""

from __future__ import annotations

import torch
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.nn.connections import draw_leaves
from lgn_lightning.ops import bit_tree, dense
from lgn_lightning.ops.bits import logic_packed_reference, pack_bits_reference, unpack_bits_reference
from lgn_lightning.ops.lut import lut_backward_reference, lut_ids_reference, lut_packed_reference, lut_reference

lgn = torch.ops.lgn


def check(device: torch.device, dtype: torch.dtype, batch: int = 100, inputs: int = 3_000, gates: int = 5_000) -> float:
    """Compares a layer, lookup tables, a convolution on packed bits, their gradients and packed evaluation.

    Returns:
        The greatest error, as a share of the greatest value of each result.

    Raises:
        SystemExit: If it is more than rounding explains.
    """
    x, table = torch.rand(batch, inputs).to(dtype), torch.rand(gates, 4)
    a, b = (torch.randint(inputs, (gates,), dtype=torch.int32) for _ in range(2))
    grad = torch.randn(batch, gates).to(dtype)
    on = [t.to(device) for t in (x, table, a, b)]
    exact = [x.double(), table.double(), a, b]
    bits, ids = torch.rand(batch, inputs) > 0.5, torch.randint(16, (gates,)).byte()
    if not torch.equal(
        ops.logic_packed(ops.pack_bits(bits.to(device), 32), ids.to(device), *on[2:]).cpu(),
        logic_packed_reference(pack_bits_reference(bits, 32), ids, a, b),
    ):
        raise SystemExit("packed evaluation differs from the reference: no time is worth measuring")
    indices = torch.randint(inputs, (4, gates), dtype=torch.int32)
    entries = torch.rand(gates, 1 << len(indices))
    luts, exact_luts = (x, entries, indices), (x.double(), entries.double(), indices)
    luts_on = [t.to(device) for t in luts]
    words, lut_ids = ops.pack_bits(bits.to(device), 32), ops.lut_ids(entries.to(device) - 0.5)
    if not torch.equal(
        ops.lut_packed(words, lut_ids, luts_on[2]).cpu(),
        lut_packed_reference(pack_bits_reference(bits, 32), lut_ids_reference(entries - 0.5), indices),
    ):
        raise SystemExit("packed lookup tables differ from the reference: no time is worth measuring")
    pairs = [
        (ops.lut(*luts_on), lut_reference(*exact_luts)),
        *zip(
            lgn.lut_backward(grad.to(device), *luts_on, True),
            lut_backward_reference(grad.double(), *exact_luts, True),
            strict=True,
        ),
        (ops.logic(*on), dense.logic_reference(*exact)),
        (ops.logic_group_sum(*on, 10, 10.0), dense.logic_group_sum_reference(*exact, 10, 10.0)),
        *bit_convolution(device, batch),
        *zip(
            lgn.logic_backward(grad.to(device), *on, True),
            dense.logic_backward_reference(grad.double(), *exact, True),
            strict=True,
        ),
    ]
    error = max(((got.cpu().double() - want).abs().max() / want.abs().max()).item() for got, want in pairs)
    if not error < (1e-5 if dtype == torch.float32 else 1e-2):
        raise SystemExit(f"{dtype} differs from the reference by {error:.1e}: no time is worth measuring")
    return error


def bit_convolution(device: torch.device, batch: int) -> list[tuple[Tensor, Tensor]]:
    """Gradients of a tree convolution on packed bits and of the reference.

    Raises:
        SystemExit: If the values or winners are not those of the reference.
    """
    leaves, gates = draw_leaves(6, 20, (3, 3), 8, 2), torch.randint(16, (140,)).byte()
    geometry = ops.ConvGeometry((3, 3), padding=(1, 1), pool=(2, 2))
    x, soft, grad = torch.rand(batch, 6, 8, 8), torch.rand(140, 4), torch.randn(batch, 20, 4, 4)
    words = pack_bits_reference(x.flatten(1) > 0.5, 64).view(-1, *x.shape[1:])
    made = lgn.bit_tree_conv(lgn.round_to_bits(x.to(device)), gates.to(device), leaves.to(device), *geometry)
    conv = bit_tree.BitTreeConv(words, gates, leaves, geometry, soft.double())
    expected = bit_tree.forward_reference(conv)
    for got, want in zip(made, expected, strict=True):
        if not torch.equal(*(unpack_bits_reference(part.cpu().flatten(1), batch) for part in (got, want))):
            raise SystemExit("convolutions on packed bits differ from the reference: no time is worth measuring")
    on = [t.to(device) for t in (gates, soft, leaves)]
    back = lgn.bit_tree_conv_backward(grad.to(device), made[1], lgn.round_to_bits(x.to(device)), *on, *geometry, True)
    exact = bit_tree.backward_reference(grad.double(), expected[1], conv, True)
    return list(zip(back, exact, strict=True))

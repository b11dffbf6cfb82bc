"""All steps on packed bits have the values and the gradients of the steps one after the other."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.nn.straight_through import straight_through
from lgn_lightning.ops import BitLayer, BitSteps
from lgn_lightning.ops import straight_through_steps as module

pytestmark = pytest.mark.usefixtures("native_device")

BATCH, STEPS, IN, STATE = 70, 6, 5, 4


def layers_of(own: int, memory: str, generator: torch.Generator) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Logits of tables and wires of two layers."""
    widths = [IN + STATE, 9, own + {"gates": 1, "multiplexer": 2, "delay": 0}[memory] * STATE]
    return [
        (
            torch.randn(n, 4, generator=generator).requires_grad_(),
            torch.randint(width, (n,), generator=generator, dtype=torch.int32),
            torch.randint(width, (n,), generator=generator, dtype=torch.int32),
        )
        for width, n in pairwise(widths)
    ]


def one_by_one(
    x: Tensor, layers: list[tuple[Tensor, Tensor, Tensor]], steps: BitSteps, initial: Tensor, lengths: Tensor | None
) -> Tensor:
    state, scores = (initial > 0.5).float() + (initial - initial.detach()), []
    state = state.expand(len(x), -1)
    for t in range(x.shape[1]):
        if steps.truncate and t and t % steps.truncate == 0:
            state = state.detach()
        y, before = torch.cat([x[:, t], state], 1), state
        given = y
        for logits, a, b in layers:
            y = straight_through("logic", y, torch.sigmoid(logits), (logits > 0).float(), (a, b), plain=True)
        own, rest = y[:, : steps.own], y[:, steps.own :]
        state = rest
        if steps.memory == "delay":
            state = given[:, :STATE]
        if steps.memory == "multiplexer":
            update, candidate = rest.split(STATE, 1)
            state = update * candidate + (1 - update) * before
        scores.append((own if steps.own else state).unflatten(1, (steps.k, -1)).sum(2) / steps.tau)
    every = torch.stack(scores, 1)
    ends = torch.full((len(x),), x.shape[1]) if lengths is None else lengths
    counts = torch.arange(x.shape[1]) < ends[:, None]
    if steps.readout == "every":
        return every
    if steps.readout == "last":
        counts = torch.arange(1, x.shape[1] + 1) == ends[:, None]
    return (every * counts[:, :, None]).sum(1)


@pytest.mark.parametrize("truncate", [0, 1, 4])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("readout", ["last", "sum", "every"])
@pytest.mark.parametrize("own", [0, 6])
@pytest.mark.parametrize("memory", ["gates", "multiplexer", "delay"])
def test_values_and_gradients(memory: str, own: int, readout: str, masked: bool, truncate: int) -> None:
    if memory == "delay" and not own:
        pytest.skip("a delay line has no outputs of its own")
    generator = torch.Generator().manual_seed(0)
    layers = layers_of(own, memory, generator)
    x = torch.randint(2, (BATCH, STEPS, IN), generator=generator).float().requires_grad_()
    initial = torch.rand(STATE, generator=generator).requires_grad_()
    lengths = torch.randint(1, STEPS + 1, (BATCH,), generator=generator) if masked else None
    steps = BitSteps(own, STATE, memory, readout, 2, 1.5, truncate)
    found, wanted = [], []
    for packed, grads in ((True, found), (False, wanted)):
        if packed:
            given = [BitLayer(logits, ops.gate_ids(logits), a, b, of_logits=True) for logits, a, b in layers]
            y = ops.bit_steps(x, given, steps, initial, lengths)
        else:
            y = one_by_one(x, layers, steps, initial, lengths)
        weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
        grads += [y, *gradients((y * weights).sum(), [x, initial, *(logits for logits, _, _ in layers)])]
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def gradients(loss: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))


def test_nothing_is_kept_where_no_gradient_is_wanted() -> None:
    layers = layers_of(0, "gates", torch.Generator().manual_seed(0))
    given = [BitLayer(logits.detach(), ops.gate_ids(logits), a, b, of_logits=True) for logits, a, b in layers]
    x = torch.randint(2, (3, STEPS, IN)).bool()
    y = ops.bit_steps(x, given, BitSteps(0, STATE, "gates", "last", 4))
    assert y.shape == (3, 4)
    assert y.grad_fn is None


@pytest.mark.parametrize("memory", ["gates", "multiplexer", "delay"])
@pytest.mark.parametrize(("batch", "readout"), [(3, "last"), (128, "every"), (333, "sum")])
def test_native_kernels_have_the_values_and_gradients_of_the_reference(memory: str, batch: int, readout: str) -> None:
    """Layers of learned wires among them, wide batches, sequences of different lengths."""
    g = torch.Generator().manual_seed(batch)
    own, widths = 6, [IN + STATE, 20, 14, 6 + {"gates": 1, "multiplexer": 2, "delay": 0}[memory] * STATE]
    tables, gates, a, b, shares, candidates = ([] for _ in range(6))
    for layer, (inputs, n) in enumerate(pairwise(widths)):
        tables.append(torch.randn(n, 4, generator=g))
        gates.append(ops.gate_ids(tables[-1]))
        wires = torch.randint(inputs, (n, 2, 5), generator=g, dtype=torch.int32)
        a.append(wires[:, 0, 0].contiguous())
        b.append(wires[:, 1, 0].contiguous())
        learned = layer != 1
        shares.append(torch.rand(n, 2, 5, generator=g).softmax(2) if learned else torch.empty(0))
        candidates.append(wires if learned else torch.empty(0, dtype=torch.int32))
    words = ops.bits.pack_bits_reference(torch.rand(batch, STEPS * IN, generator=g) > 0.5, 64).view(-1, STEPS, IN)
    initial, lengths = torch.rand(STATE, generator=g), torch.randint(1, STEPS + 1, (batch,), generator=g)
    lists, given = (gates, a, b, candidates), (own, STATE, memory, readout)
    forward = words, initial, lengths, *lists, batch, *given, 2, 1.5, True
    scores, inputs = torch.ops.lgn.bit_steps(*forward)
    wanted, kept = module.bit_steps_reference(*forward)
    assert torch.equal(scores, wanted)
    assert torch.equal(inputs[: batch // 64], kept[: batch // 64])  # of the last word, bits past the batch are anything
    grad = torch.randn(wanted.shape, generator=g)
    lists = (gates, tables, a, b, shares, candidates)
    for truncate, need_x, need_initial in ((0, True, True), (2, False, False), (3, True, False)):
        rest = [True] * 3, *given, 1.5, truncate, [1.0, 0.5, 1.0], need_x, need_initial
        found = torch.ops.lgn.bit_steps_backward(grad, inputs, lengths, *lists, *rest)
        expected = module.bit_steps_backward_reference(grad, kept, lengths, *lists, *rest)
        for x, y in zip(flat(found), flat(expected), strict=True):
            assert torch.allclose(x, y, atol=2e-4)


def flat(results: Any) -> list[Tensor]:
    return [tensor for part in results for tensor in (part if isinstance(part, (list, tuple)) else [part])]

"""Random convolutional nets and their hypothesis strategy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import nn

from lgn_lightning import GroupSum, LogicLayer, LogicTreeConv2d, OrPool2d, Threshold
from lgn_lightning.circuit import LoopedCircuit
from lgn_lightning.circuit.net.looped import Loop
from lgn_lightning.models import LogicTreeNet
from lgn_lightning.nn import EdgeChannels, LogicSequential, logic_layers

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def conv_nets(draw: st.DrawFn, max_blocks: int = 2) -> tuple[nn.Module, torch.Tensor]:
    """A hard net of random gates, and 70 images for it."""
    torch.manual_seed(draw(st.integers(0, 1000)))
    size = draw(st.tuples(st.integers(4, 9), st.integers(4, 9)))
    shape = (draw(st.integers(1, 3)), *size)
    net = LogicSequential(Threshold([0.3, 0.6], shape, flatten=False))
    channels = 2 * shape[0]
    if draw(st.booleans()):
        net.append(EdgeChannels(2, shape))
        channels = net[-1].out_shape[0]
    for _ in range(draw(st.integers(1, max_blocks))):
        out = draw(st.integers(1, 5))
        kernel, stride = draw(pairs), draw(pairs)
        padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
        depth = draw(st.integers(1, 4))
        assume(all(n + 2 * p >= k for n, p, k in zip(size, padding, kernel, strict=True)))
        conv = LogicTreeConv2d(
            channels, out, kernel, depth, padding, stride, draw(st.integers(1, min(2, channels))), init="gaussian"
        )
        size, channels = conv.output_size(*size), out
        net.append(conv)
        # Windows that may leave a remainder; with a stride of its own, that overlap or leave gaps.
        window = draw(st.tuples(st.integers(1, size[0]), st.integers(1, size[1])))
        steps = draw(st.one_of(st.just(window), pairs))
        border = draw(st.tuples(*(st.sampled_from([0, w // 2]) for w in window)))
        if draw(st.booleans()):
            net.append(OrPool2d(window, steps, border))
            size = net[-1].output_size(*size)
    features = channels * size[0] * size[1]
    net.append(nn.Flatten())
    if draw(st.booleans()):
        net.append(LogicLayer(features, features + features % 2, init="gaussian"))
        features += features % 2
    net.append(GroupSum(2 if features % 2 == 0 else 1))
    return net.eval(), torch.randint(256, (70, *shape), dtype=torch.uint8)


def hard_scores(net: Any, x: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return (net(x) * getattr(net[-1], "tau", 1.0)).round().int().numpy()


def tree_net(size: int = 16, **options: object) -> LogicTreeNet:
    torch.manual_seed(0)
    dense = [60 * size, 30 * size]
    net = LogicTreeNet((1, size, size), 4, [8, 24], dense, tau=2.0, thresholds=3, **options)  # type: ignore[arg-type]
    for layer in logic_layers(net).values():
        torch.nn.init.normal_(layer.weights)
    return net.eval()


def loops_of(circuit: LoopedCircuit) -> list[Loop]:
    return [stage for stage in circuit.stages if isinstance(stage, Loop)]

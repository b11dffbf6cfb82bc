"""The engines run looped circuits as simulation does, in every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn

from lgn_lightning import GroupSum, LogicLayer, LogicTreeConv2d, OrPool2d, Threshold
from lgn_lightning.circuit import CircuitError, LoopedCircuit
from lgn_lightning.circuit.run.engine import Engine
from lgn_lightning.circuit.run.loop_program import GateStep, KernelStep, loop_program
from lgn_lightning.circuit.simulate import encode, pack_bits
from lgn_lightning.nn import LogicSequential
from tests.circuit.engines import AVAILABLE
from tests.circuit.random_conv_nets import conv_nets, hard_scores


@given(conv_nets())
def test_engines_agree_with_the_net(example: tuple[nn.Module, torch.Tensor]) -> None:
    net, images = example
    expected = hard_scores(net, images)
    looped = LoopedCircuit.from_module(net)
    words = pack_bits(encode(looped, images))
    # Optimised, and as trained: then there are constants, copies and gates without readers in the kernels.
    for circuit, optimized in ((looped, False), (looped, True)):
        for name, isa in AVAILABLE:
            engine = Engine(circuit, name, isa=isa, optimized=optimized)
            scores, classes = engine.scores_and_classes(images)
            assert np.array_equal(scores, expected), (name, isa)
            assert np.array_equal(classes, expected.argmax(axis=1)), (name, isa)
            assert np.array_equal(engine.packed(words, len(images)), expected), (name, isa)
            assert np.array_equal(engine.outputs(words), circuit.simulate(words)), (name, isa)


def steps_of(*layers: nn.Module, shape: tuple[int, int, int]) -> list[GateStep | KernelStep]:
    net = LogicSequential(Threshold([0.5], shape, flatten=False), *layers, nn.Flatten(), GroupSum(1)).eval()
    images = torch.randint(256, (600, *shape), dtype=torch.uint8)
    looped = LoopedCircuit.from_module(net).optimize(level=1)
    for name, isa in AVAILABLE:
        assert np.array_equal(Engine(looped, name, isa=isa, optimized=True)(images), hard_scores(net, images))
    return list(loop_program(looped).steps)


def test_images_are_copied_only_where_they_lie_otherwise() -> None:
    torch.manual_seed(0)
    plain = [LogicTreeConv2d(2, 6, 3, 3, init="gaussian"), OrPool2d(2), LogicTreeConv2d(6, 5, 3, 2, padding=2)]
    # The pooled image is written into a block with the border that the second convolution reads.
    assert [type(step) for step in steps_of(*plain, shape=(2, 10, 9 + 1))] == [KernelStep, KernelStep]
    padded = LogicTreeConv2d(2, 6, 3, 3, padding=(0, 1), init="gaussian")
    # The inputs have no border: they are copied, the rest is not.
    assert [type(step) for step in steps_of(padded, OrPool2d(2), shape=(2, 10, 10))] == [GateStep, KernelStep]
    # One row: how far the next one would be has to be known all the same.
    rows = [LogicTreeConv2d(2, 6, (4, 1), 2, init="gaussian"), LogicTreeConv2d(6, 4, 3, 3, padding=1, init="gaussian")]
    assert [type(step) for step in steps_of(*rows, shape=(2, 4, 7))] == [KernelStep, KernelStep]


def test_registers_are_few_and_parts_are_trees() -> None:
    torch.manual_seed(0)
    (step,) = steps_of(LogicTreeConv2d(2, 40, 3, 4, init="gaussian"), OrPool2d(2), shape=(2, 8, 8))
    assert isinstance(step, KernelStep)
    assert step.part_gates.size == 41
    assert step.registers <= 8  # the first level of a tree of 16 leaves
    assert step.window == 4
    assert step.reads.size == 36
    assert step.writes.size == 9


@pytest.mark.parametrize("samples", [0, 1, 511, 512, 513, 5000])
def test_any_number_of_samples_on_threads(samples: int) -> None:
    torch.manual_seed(0)
    net = LogicSequential(
        Threshold([0.5], (1, 8, 8), flatten=False),
        LogicTreeConv2d(1, 30, 3, 2, padding=1, init="gaussian", channels_per_tree=1),
        OrPool2d(2),
        nn.Flatten(),
        LogicLayer(480, 400, init="gaussian"),
        GroupSum(4),
    ).eval()
    looped = LoopedCircuit.from_module(net)
    images = torch.randint(256, (samples, 1, 8, 8), dtype=torch.uint8)
    expected = looped.scores(images)
    for name, isa in AVAILABLE:
        engine = Engine(looped, name, isa=isa, threads=3)
        for _ in range(2):  # the workspaces of the first call are used again
            assert np.array_equal(engine(images), expected)


def test_info_counts_what_runs_and_bad_input_is_refused() -> None:
    torch.manual_seed(0)
    net = LogicSequential(Threshold([0.5], (2, 6, 6), flatten=False), LogicTreeConv2d(2, 8, 3, 2, init="gaussian"))
    net = net.extend([OrPool2d(2), nn.Flatten(), GroupSum(4)]).eval()
    looped = LoopedCircuit.from_module(net).optimize(level=1)
    engine = Engine(looped, "interpreter", optimized=True)
    assert engine.info["operations"] == looped.num_gates  # no copies, and a tail without gates
    assert "LoopedCircuit" in repr(engine)
    with pytest.raises(CircuitError, match="samples must be"):
        engine(np.zeros((2, 5), bool))
    with pytest.raises(CircuitError, match="packed words"):
        engine.packed(np.zeros((5, 1), np.uint64))

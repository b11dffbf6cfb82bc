"""Looped circuits: built, simulated, unrolled and optimised, they compute what the net computes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn

from lgn_lightning import GroupSum, LogicLayer, LogicTreeConv2d, OrPool2d, Threshold
from lgn_lightning.circuit import Circuit, CircuitBuilder, CircuitError, LoopedCircuit, optimize_with_report
from lgn_lightning.circuit.file import circuit_from_bytes, circuit_to_bytes
from lgn_lightning.circuit.net.kernel import Places, identity_kernel, tree_kernel
from lgn_lightning.circuit.net.looped import Loop
from lgn_lightning.circuit.passes.looped import fuse_windows
from lgn_lightning.models import LogicTreeNet
from lgn_lightning.nn import EdgeChannels, LogicSequential, logic_layers
from tests.circuit.random_conv_nets import conv_nets, hard_scores


@given(conv_nets())
def test_every_form_of_a_net_gives_its_scores(example: tuple[nn.Module, torch.Tensor]) -> None:
    net, images = example
    expected = hard_scores(net, images)
    looped = LoopedCircuit.from_module(net)
    assert np.array_equal(looped.scores(images), expected)
    flat = Circuit.from_module(net)
    assert looped.unroll() == flat
    for level in (1, 2):
        small = looped.optimize(level)
        assert np.array_equal(small.scores(images), expected)
        assert np.array_equal(small.unroll().scores(images), expected)
        assert small.num_gates <= looped.num_gates


def tree_net(**options: object) -> LogicTreeNet:
    torch.manual_seed(0)
    net = LogicTreeNet((1, 16, 16), 4, [8, 24], [960, 480], tau=2.0, thresholds=3, **options)  # type: ignore[arg-type]
    for layer in logic_layers(net).values():
        torch.nn.init.normal_(layer.weights)
    return net.eval()


def loops_of(circuit: LoopedCircuit) -> list[Loop]:
    return [stage for stage in circuit.stages if isinstance(stage, Loop)]


def test_pooling_is_fused_and_kernels_shrink() -> None:
    net = tree_net(edges=[0])
    looped = LoopedCircuit.from_module(net)
    assert [stage.places.window for stage in loops_of(looped)] == [(1, 1), (2, 2)] * 2
    assert looped.num_gates == Circuit.from_module(net).num_gates - 1  # the flat one has a gate for the border
    assert looped.num_stored_gates < looped.num_gates / 3
    fused = fuse_windows(looped)
    assert [stage.places.window for stage in loops_of(fused)] == [(2, 2)] * 2
    small, reports = optimize_with_report(looped)
    assert [report.name for report in reports] == ["fuse_windows", "fold_kernels", "remove_dead_channels"]
    assert small.num_gates == reports[-1].after < looped.num_gates / 2
    for before, after in zip(loops_of(fused), loops_of(small), strict=True):
        assert after.kernel.num_gates < before.kernel.num_gates
        assert not np.isin(after.kernel.gates, (0, 15)).any()
    images = torch.randint(256, (100, 1, 16, 16), dtype=torch.uint8)
    assert np.array_equal(small.scores(images), hard_scores(net, images))


def test_windows_stay_apart_where_others_read_what_they_join() -> None:
    class Both(nn.Module):
        """Pools and hands the unpooled values on, too."""

        def add_to_circuit(self, builder: CircuitBuilder, wires: np.ndarray) -> np.ndarray:
            pooled = builder.or_windows(wires, (2, 2), (2, 2))
            return np.concatenate([wires.reshape(-1), pooled.reshape(-1)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x.flatten(1), nn.functional.max_pool2d(x, 2).flatten(1)], 1)

    torch.manual_seed(1)
    net = nn.Sequential(
        Threshold([0.5], (2, 6, 6), flatten=False), LogicTreeConv2d(2, 4, 3, 2, init="gaussian"), Both()
    )
    net = net.append(GroupSum(5)).eval()
    images = torch.randint(256, (200, 2, 6, 6), dtype=torch.uint8)
    looped = LoopedCircuit.from_module(net)
    assert len(loops_of(looped.optimize())) == 2
    for circuit in (looped, looped.optimize(), looped.unroll()):
        assert np.array_equal(circuit.scores(images), hard_scores(net, images))


def test_constant_and_equal_channels_reach_the_next_kernel() -> None:
    # Trees of one gate: constant 0, constant 1, a XOR twice; behind it one that reads all of them.
    first = tree_kernel(
        np.array([0, 15, 6, 6], np.uint8), np.tile([[[0, 1]], [[0, 1]], [[0, 1]]], (1, 4, 1)), 2, (2, 2)
    )
    leaves = np.array([[[0, 1, 2, 3]], [[0, 0, 0, 0]], [[0, 0, 0, 0]]])
    second = tree_kernel(np.array([7, 8, 14], np.uint8), leaves, 4, (1, 1))  # NAND(0 OR 1, NOR(x, x)) = NOT NOT x
    builder_nets = []
    for padding in ((0, 0), (1, 1)):
        wires = np.arange(2 * 9, dtype=np.int32).reshape(2, 3, 3)
        one = Loop(first, wires, Places((3, 3), (2, 2)))
        two = Loop(second, np.arange(18, 34, dtype=np.int32).reshape(4, 2, 2), Places((2, 2), padding=padding))
        nodes = 34 + two.num_nodes
        none = np.zeros(0, np.int32)
        outputs = np.arange(34, nodes, dtype=np.int32)
        tail = Circuit(nodes, none.astype(np.uint8), none, none, outputs, 1)
        builder_nets.append(LoopedCircuit(18, (one, two), tail))
    inside, padded = builder_nets
    words = np.random.default_rng(0).integers(0, 2**63, (18, 3), dtype=np.uint64)
    for circuit in builder_nets:
        assert np.array_equal(circuit.optimize().simulate(words), circuit.simulate(words))
        assert np.array_equal(circuit.unroll().simulate(words), circuit.simulate(words))
    assert [stage.kernel.num_gates for stage in loops_of(inside.optimize())] == [1, 0]
    # At the border the constant 1 is a 0: it has to stay, as plain gates now.
    assert [len(stage.wires) for stage in loops_of(padded.optimize())] == [2, 2]
    assert loops_of(padded.optimize())[1].kernel.num_gates == 1


def test_a_layer_without_loops_and_a_net_of_plain_gates() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(LogicLayer(20, 40), LogicLayer(40, 40), GroupSum(4)).eval()
    looped, flat = LoopedCircuit.from_module(net), Circuit.from_module(net)
    assert looped.stages == ()
    assert looped.tail == flat == looped.unroll()
    assert looped.optimize().unroll() == flat.optimize()


def test_names_and_encoding_are_kept() -> None:
    net = tree_net()
    names = ("a", "b", "c", "d")
    looped = LoopedCircuit.from_module(net, names)
    flat = Circuit.from_module(net, names)
    for attribute in ("num_inputs", "num_classes", "tau", "class_names", "image_shape", "num_pixels"):
        assert getattr(looped, attribute) == getattr(flat, attribute)
    assert looped.with_class_names(None).unroll() == flat.with_class_names(None)
    images = torch.randint(256, (9, 1, 16, 16), dtype=torch.uint8)
    assert np.array_equal(looped.predict(images), flat.predict(images))
    assert "3 thresholds on (1, 16, 16), 4 loops" in repr(looped)


def test_a_file_gives_the_circuit_back_and_damage_is_an_error(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = [Threshold([0.5], (1, 4, 4), flatten=False), EdgeChannels(1, (1, 4, 4)), LogicTreeConv2d(9, 2, 2, 1)]
    net = LogicSequential(*layers, OrPool2d((1, 3)), nn.Flatten(), LogicLayer(6, 6), GroupSum(2)).eval()
    looped = LoopedCircuit.from_module(net, ("no", "yes"))
    looped.save(tmp_path / "net.lgn")
    assert LoopedCircuit.load(tmp_path / "net.lgn") == looped
    assert looped != LoopedCircuit.from_module(net) != looped.unroll()
    with pytest.raises(CircuitError, match="holds a looped circuit"):
        Circuit.load(tmp_path / "net.lgn")
    looped.unroll().save(tmp_path / "flat.lgn")
    with pytest.raises(CircuitError, match="holds a circuit without loops"):
        LoopedCircuit.load(tmp_path / "flat.lgn")
    data = circuit_to_bytes(looped)
    for position in range(0, len(data), 3):
        with pytest.raises(CircuitError):
            circuit_from_bytes(data[:position] + bytes([data[position] ^ 0x40]) + data[position + 1 :])
    # A file that was written wrongly, with a checksum that agrees.
    for old, new in ((b'"kind":"loop"', b'"kind":"leap"'), (b'"channels":9', b'"channels":8'), (b"[4,4]", b"[4,5]")):
        body = data[:-32].replace(old, new)
        with pytest.raises(CircuitError, match=r"header|no valid circuit"):
            circuit_from_bytes(body + hashlib.sha256(body).digest())


def test_bad_circuits_are_refused() -> None:
    looped = LoopedCircuit.from_module(tree_net())
    loop = loops_of(looped)[0]
    with pytest.raises(CircuitError, match="stage 0: the wires must be earlier nodes"):
        replace(looped, stages=(replace(loop, wires=loop.wires + 1), *looped.stages[1:]))
    with pytest.raises(CircuitError, match=r"stage 0: the wires must be int32 \[channels, 16, 16\]"):
        replace(looped, stages=(replace(loop, wires=loop.wires.astype(np.int64)), *looped.stages[1:]))
    with pytest.raises(CircuitError, match=r"stage 0: a kernel of .* is a circuit of"):
        replace(looped, stages=(replace(loop, kernel=identity_kernel(2)), *looped.stages[1:]))
    with pytest.raises(CircuitError, match="the tail must be a circuit"):
        replace(looped, stages=looped.stages[:-1])
    with pytest.raises(CircuitError, match="not 2 inputs"):
        replace(looped, num_inputs=2)
    with pytest.raises(CircuitError, match="larger than the padded image"):
        Places((3, 3), (5, 1))
    with pytest.raises(CircuitError, match="at least 1"):
        Places((3, 3), stride=(0, 1))
    with pytest.raises(CircuitError, match="no optimization level 3 of a LoopedCircuit; levels are 0, 1, 2"):
        looped.optimize(3)
    with pytest.raises(CircuitError, match=r"words must be uint64 \[768, w\]"):
        looped.simulate(np.zeros((3, 1), np.uint64))
    with pytest.raises(CircuitError, match="samples must be"):
        looped.scores(np.zeros((2, 1, 8, 8), np.uint8))


def test_the_builder_refuses_what_does_not_fit() -> None:
    builder = CircuitBuilder()
    wires = builder.inputs(12)
    with pytest.raises(ValueError, match=r"wires of an image are \[channels, height, width\], got \[12\]"):
        builder.convolve(wires, identity_kernel(1), (1, 1))
    with pytest.raises(ValueError, match=r"a kernel of .* of 3 channels is a circuit of 3 inputs"):
        builder.convolve(wires.reshape(3, 2, 2), identity_kernel(1), (1, 1))
    with pytest.raises(ValueError, match="larger than"):
        builder.or_windows(wires.reshape(3, 2, 2), (3, 1), (1, 1))


def test_pooling_of_the_input_itself() -> None:
    net = LogicSequential(
        Threshold([0.5], (1, 6, 6), flatten=False), OrPool2d(2), OrPool2d((3, 1), (1, 1)), nn.Flatten()
    )
    net = net.append(GroupSum(3)).eval()
    images = torch.randint(256, (50, 1, 6, 6), dtype=torch.uint8) // 2
    for circuit in (looped := LoopedCircuit.from_module(net), looped.optimize()):
        assert np.array_equal(circuit.scores(images), hard_scores(net, images))

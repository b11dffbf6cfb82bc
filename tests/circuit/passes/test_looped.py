"""Passes over looped circuits keep scores and loops, and shrink kernels."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from lgn_lightning import GroupSum, LogicTreeConv2d, Threshold
from lgn_lightning.circuit import Circuit, CircuitBuilder, LoopedCircuit, optimize_with_report
from lgn_lightning.circuit.net.kernel import Places
from lgn_lightning.circuit.net.looped import Loop
from lgn_lightning.circuit.net.netlist import Netlist
from lgn_lightning.circuit.passes.looped import fuse_windows
from tests.circuit.random_conv_nets import hard_scores, loops_of, tree_net


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
    low, high = np.zeros(4, np.int32), np.full(4, 7, np.int32)
    first = Netlist(8, np.array([0, 15, 6, 6], np.uint8), low, high, np.arange(8, 12, dtype=np.int32), 4)
    a, b, root = np.array([0, 2, 4], np.int32), np.array([1, 3, 5], np.int32), np.array([6], np.int32)
    second = Netlist(4, np.array([7, 8, 14], np.uint8), a, b, root, 1)  # NAND(0 OR 1, NOR(x, x)) = NOT NOT x
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

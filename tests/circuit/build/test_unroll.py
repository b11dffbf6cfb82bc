"""A convolutional net, its circuit and everything that is made of it agree on real digits."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lgn_lightning import GroupSum, LogicLayer, LogicTreeConv2d, OrPool2d, Threshold
from lgn_lightning.circuit import Circuit, CircuitError, CompiledCircuit, export_circuit
from lgn_lightning.circuit.emit.verilog import emit_test_bench, emit_verilog
from lgn_lightning.circuit.run.engine import ENGINES
from lgn_lightning.data import Digits
from lgn_lightning.models import LogicTreeNet
from lgn_lightning.nn import LogicSequential

Images = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture(scope="module")
def digits() -> Images:
    data = Digits()
    data.setup("fit")
    batches = list(data.train_dataloader())
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


@pytest.fixture(scope="module")
def trained(digits: Images) -> LogicTreeNet:
    """A small tree net after enough steps for its gates to differ from those that it started with."""
    torch.manual_seed(0)
    net = LogicTreeNet((1, 8, 8), 10, [8, 24], [200, 100], tau=2.0, thresholds=3, edges=[0])
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    images, labels = digits
    for batch in torch.arange(1200).split(100):
        loss = nn.functional.cross_entropy(net(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


def hard_scores(net: nn.Module, x: torch.Tensor, tau: float = 1.0) -> np.ndarray:
    with torch.no_grad():
        return (net(x) * tau).round().int().numpy()


def test_circuit_passes_engines_and_c_agree_with_the_net(trained: LogicTreeNet, digits: Images, tmp_path: Path) -> None:
    images = digits[0]
    expected = hard_scores(trained, images, 2.0)
    assert len(np.unique(expected, axis=0)) > 20  # a net that has something to get wrong
    circuit = Circuit.from_module(trained)
    assert np.array_equal(circuit.scores(images), expected)
    for level in (1, 2, 3):
        assert np.array_equal(circuit.optimize(level).scores(images), expected)
    for engine in ENGINES:
        assert np.array_equal(circuit.compile(engine)(images), expected)
    small = circuit.optimize()
    exported = export_circuit(small, tmp_path, "net", ("library", "circuit"))
    assert np.array_equal(CompiledCircuit(exported.files["library"], "net").scores(images), expected)
    assert Circuit.load(exported.files["circuit"]) == small


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="iverilog not installed")
def test_verilog_agrees_with_the_net(trained: LogicTreeNet, digits: Images, tmp_path: Path) -> None:
    circuit, images = Circuit.from_module(trained), digits[0][:50]
    assert np.array_equal(circuit.scores(images), hard_scores(trained, images, 2.0))
    verilog = emit_verilog(circuit.optimize(), name="net")
    (tmp_path / "net.v").write_text(verilog.text)
    (tmp_path / "tb.v").write_text(emit_test_bench(circuit, verilog, images, name="net"))
    subprocess.run(["iverilog", "-g2001", "-o", "net.vvp", "net.v", "tb.v"], cwd=tmp_path, check=True)
    out = subprocess.run(["vvp", "net.vvp"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert out.strip() == "PASS 50 vectors"


@given(
    depth=st.integers(1, 4),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    size=st.tuples(st.integers(4, 7), st.integers(4, 7)),
    pooled=st.booleans(),
)
def test_any_geometry(
    depth: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    size: tuple[int, int],
    pooled: bool,
) -> None:
    conv = LogicTreeConv2d(3, 4, kernel, depth, padding, stride, init="gaussian")
    height, width = conv.output_size(*size)
    pool = OrPool2d((1 + pooled * (height > 1), 2 if width > 1 else 1), (1, 1))
    net = LogicSequential(Threshold([0.5], (3, *size), flatten=False), conv, pool, nn.Flatten())
    outputs = int(np.prod((4, *pool.output_size(height, width))))
    net.extend([LogicLayer(outputs, outputs, init="residual"), GroupSum(2 if outputs % 2 == 0 else 1)])
    net.eval()
    images = torch.randint(256, (70, 3, *size), dtype=torch.uint8)
    assert np.array_equal(Circuit.from_module(net).scores(images), hard_scores(net, images))


def test_a_net_without_encoder_needs_the_size_of_the_image() -> None:
    net = LogicSequential(LogicTreeConv2d(2, 3, 3, 2), OrPool2d(2), nn.Flatten(), LogicLayer(12, 12), GroupSum(3))
    with pytest.raises(CircuitError, match=r"pass input_shape=\(C, H, W\)"):
        Circuit.from_module(net)
    bits = torch.rand(100, 2, 6, 6) < 0.5
    circuit = Circuit.from_module(net.eval(), input_shape=(2, 6, 6))
    assert np.array_equal(circuit.scores(bits.flatten(1)), hard_scores(net, bits.float()))
    with pytest.raises(CircuitError, match="it takes 12 inputs, but the part of the net before it gives 27"):
        Circuit.from_module(net, input_shape=(2, 8, 8))
    with pytest.raises(CircuitError, match=r"it takes wires \[2, height, width\], got \[3, 6, 6\]"):
        Circuit.from_module(net, input_shape=(3, 6, 6))


def test_another_image_size_is_refused(trained: LogicTreeNet) -> None:
    with pytest.raises(CircuitError, match=r"built for images \(1, 8, 8\), not \(1, 16, 16\).*leave input_shape out"):
        Circuit.from_module(trained, input_shape=(1, 16, 16))
    with pytest.raises(CircuitError, match="samples must be"):
        Circuit.from_module(trained).scores(np.zeros((3, 1, 16, 16), np.uint8))

"""Circuit files keep what a circuit knows."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from lgn_lightning import GroupSum, LogicLayer, LogicTreeConv2d, OrPool2d, Threshold
from lgn_lightning.base import machine
from lgn_lightning.circuit import Circuit, CircuitError, LoopedCircuit
from lgn_lightning.circuit.file import circuit_from_bytes, circuit_to_bytes
from lgn_lightning.circuit.net.kernel import Places
from lgn_lightning.cli.main import main
from lgn_lightning.nn import EdgeChannels, LogicSequential
from tests.circuit.random_circuits import circuits, image_circuit, random_circuit
from tests.circuit.random_conv_nets import tree_net


@pytest.mark.parametrize("loops", [False, True])
def test_a_circuit_keeps_the_preparation_of_its_images(loops: bool) -> None:
    plain = LoopedCircuit.from_module(tree_net()) if loops else image_circuit()
    circuit = plain.with_preparation("resize")
    assert circuit != plain
    assert circuit_from_bytes(circuit_to_bytes(circuit)) == circuit
    assert b"preparation" not in circuit_to_bytes(plain)  # so that files are as they were before there was one
    assert circuit_from_bytes(circuit_to_bytes(plain)).preparation is None
    assert circuit.optimize().preparation == "resize"
    if isinstance(circuit, LoopedCircuit):
        assert circuit.unroll().optimize().preparation == "resize"
    assert random_circuit().with_preparation("resize").preparation is None  # it takes bits and no images


@pytest.mark.parametrize("command", ["verify", "bench", "predict", "export"])
def test_a_circuit_that_no_memory_holds_is_one_error(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "free_memory", lambda: 8 * 10**9)
    none = np.zeros(0, np.int32)
    circuit = Circuit(10**9, none.astype(np.uint8), none, none, np.zeros(2, np.int32), 2)
    circuit.save("x.lgn")
    np.save("x.npy", np.zeros((1, 9), bool))
    assert main([command, "x.lgn", *(["x.npy"] if command == "predict" else [])]) == 1
    error = capsys.readouterr().err
    assert "1000000000 inputs" in error
    assert "takes at least 24 GB of memory" in error
    assert not Path("export").exists()


def test_padding_beyond_all_nodes_is_refused() -> None:
    with pytest.raises(CircuitError, match="more places than a circuit has nodes"):
        Places((5, 5), (2, 2), (1 << 30, 1 << 30), (1 << 30, 1 << 30))


def test_a_file_gives_the_circuit_back_and_damage_is_an_error(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = [Threshold([0.5], (1, 4, 4), flatten=False), EdgeChannels(1, (1, 4, 4)), LogicTreeConv2d(9, 2, 2, 1)]
    net = LogicSequential(*layers, OrPool2d((1, 3)), nn.Flatten(), LogicLayer(6, 6), GroupSum(2)).eval()
    looped = LoopedCircuit.from_module(net, ("no", "yes"))
    looped.save(tmp_path / "net.lgn")
    assert LoopedCircuit.load(tmp_path / "net.lgn") == looped
    assert looped != LoopedCircuit.from_module(net) != looped.unroll()
    with pytest.raises(CircuitError, match="holds a LoopedCircuit"):
        Circuit.load(tmp_path / "net.lgn")
    looped.unroll().save(tmp_path / "flat.lgn")
    with pytest.raises(CircuitError, match="holds a Circuit:"):
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


@settings(deadline=None, max_examples=20)
@given(circuits)
def test_a_file_gives_the_circuit_back(circuit: Circuit) -> None:
    assert circuit_from_bytes(circuit_to_bytes(circuit)) == circuit


def test_every_flipped_byte_and_every_truncation_is_an_error() -> None:
    data = circuit_to_bytes(dataclasses.replace(image_circuit(), tau=3.5))
    for position in range(len(data)):
        for mask in (0x01, 0x40, 0x80, 0xFF):
            with pytest.raises(CircuitError):
                circuit_from_bytes(data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :])
    for length in range(len(data)):
        with pytest.raises(CircuitError):
            circuit_from_bytes(data[:length])


def test_save_and_load(tmp_path) -> None:
    circuit = image_circuit()
    circuit.save(tmp_path / "net.lgn")
    assert Circuit.load(tmp_path / "net.lgn") == circuit
    (tmp_path / "other.lgn").write_text("no circuit at all, but long enough to hold a digest and a header")
    with pytest.raises(CircuitError, match=r"other\.lgn is not a circuit file"):
        Circuit.load(tmp_path / "other.lgn")


def forged(circuit: Circuit | LoopedCircuit, **changes: Any) -> bytes:
    """The circuit's file with another header, and a checksum that agrees."""
    body = circuit_to_bytes(circuit)[:-32]
    magic, version, length = struct.unpack_from("<8sII", body)
    header = json.dumps(json.loads(body[16 : 16 + length]) | changes).encode()
    body = struct.pack("<8sII", magic, version, len(header)) + header + body[16 + length :]
    return body + hashlib.sha256(body).digest()


@pytest.mark.parametrize(
    "changes",
    [
        {"num_inputs": float("inf")},
        {"num_inputs": 10**30},
        {"num_inputs": None},
        {"num_classes": float("nan")},
        {"tau": "x"},
        {"tau": float("nan")},
        {"tau": -1.0},
        {"image_shape": [float("inf")] * 3},
        {"image_shape": 3},
        {"image_shape": [10**12, 10**12, 1]},
        {"class_names": 3},
        {"arrays": [[-1, 2]]},
        {"arrays": [["gates", -1]]},
        {"arrays": [["gates", 2**70]]},
        {"arrays": [["gates", 1.5]]},
        {"arrays": [[["gates"], 1]]},
        {"arrays": [{"gates": 1}]},
        {"arrays": "gates"},
        {"arrays": {"gates": 1}},
        {"stages": 3},
    ],
)
def test_a_forged_header_is_one_error(changes: dict[str, Any]) -> None:
    looped = LoopedCircuit.from_module(tree_net())
    for circuit in (image_circuit(), looped) if "stages" not in changes else (looped,):
        with pytest.raises(CircuitError, match="circuit file"):
            circuit_from_bytes(forged(circuit, **changes))

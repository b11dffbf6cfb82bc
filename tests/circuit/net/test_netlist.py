from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings

from lgn_lightning.circuit import Circuit, CircuitBuilder, CircuitError
from lgn_lightning.circuit.file import circuit_from_bytes, circuit_to_bytes
from lgn_lightning.circuit.simulate import pack_bits, unpack_bits
from tests.circuit.random_circuits import circuits, image_circuit, random_bits, random_circuit, slow_scores


@settings(deadline=None, max_examples=30)
@given(circuits)
def test_simulation_agrees_with_one_gate_at_a_time(circuit: Circuit) -> None:
    bits = random_bits(circuit, 5)
    assert np.array_equal(circuit.scores(bits), slow_scores(circuit, bits))


@settings(deadline=None, max_examples=30)
@given(circuits)
def test_dead_gates_are_removed_and_nothing_else_changes(circuit: Circuit) -> None:
    live = circuit.remove_dead_gates()
    bits = random_bits(circuit, 70)
    assert np.array_equal(live.scores(bits), circuit.scores(bits))
    assert live.remove_dead_gates() == live
    read = {int(node) for part in (*live.operands, live.outputs) for node in part}
    assert set(range(live.num_inputs, live.num_nodes)) <= read
    assert circuit.stats().live_gates == live.num_gates


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 200])
def test_packing_and_back(count: int) -> None:
    bits = np.random.default_rng(0).integers(0, 2, (count, 7)).astype(bool)
    words = pack_bits(bits)
    assert words.shape == (7, -(-count // 64))
    for sample in range(count):
        assert np.array_equal(words[:, sample // 64] >> np.uint64(sample % 64) & np.uint64(1), bits[sample])
    assert np.array_equal(unpack_bits(words, count), bits)


def test_pixels_become_thresholds_in_feature_order() -> None:
    circuit = image_circuit()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 1, 3, 5)).astype(np.uint8)
    pixels[0, 0, 0, :3] = 63, 64, 200
    bits = np.concatenate([(pixels > level).reshape(9, -1) for level in (63, 200)], axis=1)
    assert np.array_equal(circuit.scores(pixels), circuit.scores(bits))
    assert np.array_equal(circuit.scores(pixels.reshape(9, 15)), circuit.scores(bits))


def test_stats_say_what_is_counted() -> None:
    circuit = Circuit(
        num_inputs=3,
        gates=np.array([1, 12, 15, 6, 7], np.uint8),  # and, not, one, xor; or is dead
        a=np.array([0, 3, 0, 4, 0], np.int32),
        b=np.array([1, 0, 0, 5, 1], np.int32),
        outputs=np.array([6, 0], np.int32),
        num_classes=2,
    )
    stats = circuit.stats()
    assert (stats.gates, stats.live_gates, stats.logic_gates, stats.depth) == (5, 4, 2, 3)
    assert (stats.inputs, stats.used_inputs, stats.outputs, stats.classes) == (3, 2, 2, 2)
    assert stats.kinds == {"and": 1, "xor": 1, "not_a": 1, "one": 1}


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


def test_more_nodes_than_there_are_numbers_are_refused() -> None:
    builder = CircuitBuilder()
    (node,) = builder.inputs(1)
    with pytest.raises(ValueError, match="2147483649 nodes are asked for; a circuit holds at most 2147483647"):
        # Arrays of one stored element each.
        builder.gates(*(np.broadcast_to(np.int32(value), 2**31) for value in (1, node, node)))
    with pytest.raises(ValueError, match="between 1 and 2147483646 inputs"):
        CircuitBuilder().inputs(2**31)


def test_save_and_load(tmp_path) -> None:
    circuit = image_circuit()
    circuit.save(tmp_path / "net.lgn")
    assert Circuit.load(tmp_path / "net.lgn") == circuit
    (tmp_path / "other.lgn").write_text("no circuit at all, but long enough to hold a digest and a header")
    with pytest.raises(CircuitError, match=r"other\.lgn is not a circuit file"):
        Circuit.load(tmp_path / "other.lgn")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": np.array([0, 5], np.int32)}, "operand a of gate 1.*cycle"),
        ({"b": np.array([0, -1], np.int32)}, "operand b of gate 1"),
        ({"gates": np.array([1, 16], np.uint8)}, "id 16"),
        ({"gates": np.array([1, 2])}, "gates must be a vector of uint8"),
        ({"a": np.array([0], np.int32)}, "1 entries for 2 gates"),
        ({"outputs": np.array([4], np.int32)}, "output is node 4"),
        ({"num_classes": 2}, "2 equal groups"),
        ({"num_inputs": 2**31}, "num_inputs"),
        ({"levels": np.array([1], np.uint8)}, "belong together"),
        ({"levels": np.array([1], np.uint8), "image_shape": (1, 1, 3)}, "not 2 inputs"),
        ({"class_names": ("a", "b")}, "2 class names"),
        ({"class_names": ("a\n",)}, "class name"),
    ],
)
def test_invalid_circuits_are_refused(change: dict, message: str) -> None:
    parts = {
        "num_inputs": 2,
        "gates": np.array([1, 6], np.uint8),
        "a": np.array([0, 2], np.int32),
        "b": np.array([1, 1], np.int32),
        "outputs": np.array([3], np.int32),
        "num_classes": 1,
    }
    Circuit(**parts)
    with pytest.raises(CircuitError, match=message):
        Circuit(**parts | change)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((3, 11), bool),
        np.zeros((3, 12), np.uint8),
        np.zeros((3, 12), np.float32),
        np.zeros(12, bool),
    ],
)
def test_wrong_samples_are_refused(x: np.ndarray) -> None:
    with pytest.raises(CircuitError, match=r"bool \[N, 12\]"):
        random_circuit().scores(x)

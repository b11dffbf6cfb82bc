from __future__ import annotations

import numpy as np
import pytest

from lgn_lightning.circuit.hardware.design import design_of, with_encoder
from lgn_lightning.circuit.hardware.tables import LutNetlist, map_netlist
from lgn_lightning.circuit.net.netlist import Netlist
from lgn_lightning.circuit.net.rewire import ONE, ZERO
from lgn_lightning.circuit.simulate import pack_bits, simulate, unpack_bits
from tests.circuit.random_circuits import image_circuit, random_circuit


def evaluate(mapped: LutNetlist, words: list[int], ones: int) -> list[int]:
    """Outputs on inputs that are whole numbers, a sample a bit; ``ones`` has a bit for each sample."""
    values = list(words)
    for read, table in zip(mapped.leaves, mapped.tables, strict=True):
        terms = [ones if table >> entry & 1 else 0 for entry in range(1 << len(read))]
        for leaf in read:  # the lowest bit of an entry first
            chosen = values[leaf]
            terms = [low ^ ((low ^ high) & chosen) for low, high in zip(terms[::2], terms[1::2], strict=True)]
        values.append(terms[0])
    return [values[bit] if bit >= 0 else ones * (bit == ONE) for bit in mapped.outputs]


def outputs(mapped: LutNetlist, bits: np.ndarray) -> np.ndarray:
    words = [int("".join(map(str, column[::-1])), 2) for column in bits.astype(int).T]
    values = evaluate(mapped, words, (1 << len(bits)) - 1)
    return np.array([[value >> sample & 1 for value in values] for sample in range(len(bits))], np.bool_)


def nets() -> list[Netlist]:
    image = image_circuit()
    random = [random_circuit(0), random_circuit(4, arity=3), random_circuit(6, classes=1, group=1)]
    return [*random, *(design_of(net).netlist for net in random), with_encoder(design_of(image), image).netlist]


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("inputs", [6, 4, 3])
def test_tables_compute_the_netlist(number: int, inputs: int) -> None:
    net = nets()[number]
    mapped = map_netlist(net, inputs)
    bits = np.random.default_rng(0).integers(0, 2, (500, net.num_inputs)).astype(np.bool_)
    assert np.array_equal(outputs(mapped, bits), unpack_bits(simulate(net, pack_bits(bits)), len(bits)))
    assert all(len(read) <= inputs for read in mapped.leaves)
    assert all(leaf < net.num_inputs + i for i, read in enumerate(mapped.leaves) for leaf in read)
    assert len(mapped.tables) >= len(map_netlist(net, 6).tables)


def test_constants_and_wires_need_no_table() -> None:
    gates, a = np.array([6, 15, 3, 1], np.uint8), np.array([0, 0, 1, 3], np.int32)
    b = np.array([0, 0, 0, 1], np.int32)  # x0 ^ x0, 1, x1, 1 & x1
    mapped = map_netlist(Netlist(2, gates, a, b, np.array([2, 3, 4, 5, 0], np.int32), 1), 6)
    assert (mapped.tables, mapped.outputs) == ((), (ZERO, ONE, 1, 1, 0))


def test_stages_are_levels_of_tables() -> None:
    mapped = LutNetlist(1, ((0,), (1,), (2,), (3,)), (1, 1, 1, 1), (4,))
    assert mapped.levels() == [0, 1, 2, 3, 4]
    assert mapped.stages(2) == [0, 0, 0, 1, 1]
    assert mapped.stages(0) == [0] * 5

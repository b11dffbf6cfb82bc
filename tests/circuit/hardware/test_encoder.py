from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from lgn_lightning.base.columns import Comparisons
from lgn_lightning.circuit import Circuit
from lgn_lightning.circuit.hardware.design import design_of, with_encoder
from lgn_lightning.circuit.simulate import pack_bits, simulate, unpack_bits
from lgn_lightning.deploy.encoder import encoder_circuit
from lgn_lightning.deploy.random_rows import edge_rows
from tests.circuit.random_circuits import image_circuit
from tests.circuit.tables import comparisons


def bits_of(circuit: Circuit, samples: np.ndarray) -> np.ndarray:
    """Scores of a circuit by the netlist of its design, encoder included, from the bits of pixels or columns."""
    design = with_encoder(design_of(circuit), circuit)
    columns = [samples.reshape(len(samples), -1)]
    if circuit.comparisons is not None:
        rows = samples.view(circuit.comparisons.row_dtype)[:, 0]
        columns = [rows[column.name].copy().view(np.uint8).reshape(len(rows), -1) for column in circuit.columns or ()]
    raw = np.unpackbits(np.concatenate(columns, axis=1), axis=1, bitorder="little").view(bool)
    values = unpack_bits(simulate(design.netlist, pack_bits(raw)), len(samples))[:, : design.num_scores]
    groups = values.reshape(len(samples), circuit.num_classes, -1)
    return groups @ (1 << np.arange(groups.shape[2]))


def test_pixels() -> None:
    circuit = image_circuit()
    pixels = np.random.default_rng(0).integers(0, 256, (300, 1, 3, 5)).astype(np.uint8)
    assert circuit.levels is not None
    pixels[:100] = np.random.default_rng(1).choice(
        np.concatenate([circuit.levels, circuit.levels + 1]), pixels[:100].shape
    )
    assert np.array_equal(bits_of(circuit, pixels), circuit.scores(pixels))


@given(made=comparisons())
@settings(max_examples=40, deadline=None)
def test_rows_at_all_edges(made: Comparisons) -> None:
    circuit = encoder_circuit(made)
    rows = edge_rows(made)
    assert np.array_equal(bits_of(circuit, rows), circuit.scores(rows))

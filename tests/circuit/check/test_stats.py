from __future__ import annotations

import numpy as np

from lgn_lightning.circuit import Circuit


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

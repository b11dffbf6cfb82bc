from __future__ import annotations

import numpy as np
import pytest

from lgn_lightning.circuit import Circuit, CircuitError


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

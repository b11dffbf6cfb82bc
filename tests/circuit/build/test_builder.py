from __future__ import annotations

import numpy as np
import pytest

from lgn_lightning.circuit import CircuitBuilder
from lgn_lightning.circuit.net.kernel import identity_kernel


def test_the_builder_refuses_what_does_not_fit() -> None:
    builder = CircuitBuilder()
    wires = builder.inputs(12)
    with pytest.raises(ValueError, match=r"wires of an image are \[channels, height, width\], got \[12\]"):
        builder.convolve(wires, identity_kernel(1), (1, 1))
    with pytest.raises(ValueError, match=r"a kernel of .* of 3 channels is a circuit of 3 inputs"):
        builder.convolve(wires.reshape(3, 2, 2), identity_kernel(1), (1, 1))
    with pytest.raises(ValueError, match="larger than"):
        builder.or_windows(wires.reshape(3, 2, 2), (3, 1), (1, 1))


def test_more_nodes_than_there_are_numbers_are_refused() -> None:
    builder = CircuitBuilder()
    (node,) = builder.inputs(1)
    with pytest.raises(ValueError, match="2147483649 nodes are asked for; a circuit holds at most 2147483647"):
        # Arrays of one stored element each.
        builder.gates(*(np.broadcast_to(np.int32(value), 2**31) for value in (1, node, node)))
    with pytest.raises(ValueError, match="between 1 and 2147483646 inputs"):
        CircuitBuilder().inputs(2**31)


def test_builder_refuses_what_is_no_circuit() -> None:
    builder = CircuitBuilder()
    builder.inputs(3)
    with pytest.raises(ValueError, match="only nodes 0…2 exist"):
        builder.gates([1], [0], [3])
    with pytest.raises(ValueError, match="gate ids"):
        builder.gates([16], [0], [1])
    with pytest.raises(ValueError, match="first layer"):
        builder.threshold_inputs([1], (1, 1, 3))
    with pytest.raises(ValueError, match="shape of the threshold encoder is not known"):
        CircuitBuilder().threshold_inputs([1])
    with pytest.raises(ValueError, match="inputs"):
        CircuitBuilder().inputs(2**31)

"""Looped circuits: built, simulated, unrolled and optimised, they compute what the net computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lgn_lightning.circuit import CircuitError, LoopedCircuit
from lgn_lightning.circuit.net.kernel import identity_kernel
from tests.circuit.random_conv_nets import loops_of, tree_net


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

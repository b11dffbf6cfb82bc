"""Circuits that remember in different ways are proven to say the same, or not."""

from dataclasses import replace

import numpy as np
import pytest

from lgn_lightning.circuit import CircuitError, SequentialCircuit
from lgn_lightning.circuit.build.sequential import SequentialBuilder
from lgn_lightning.circuit.check.prove_decisions import prove_decisions
from lgn_lightning.gates import GATE_NAMES
from tests.circuit.tools import needs_abc

XOR, NOT, AND = (GATE_NAMES.index(name) for name in ("xor", "not_a", "and"))


def ones(bits: int) -> SequentialCircuit:
    """Whether the last bits of a stream were all one, as a delay line and the "and" of it; no says "and" first."""
    builder = SequentialBuilder(bits)
    (bit,), state = builder.inputs(1), builder.take_state(np.zeros(bits, np.bool_))
    value = bit
    for other in state:
        value = builder.gates([AND], [value], [other])[0]
    builder.next_state(np.array([bit, *state[:-1]], np.int32))
    no = builder.gates([NOT], [value], [value])[0]
    made = builder.finish_sequential([no, value])
    return SequentialCircuit(made.num_inputs, made.step, made.initial, 2)


def counter() -> SequentialCircuit:
    """The same for three bits, as the number of ones since the last zero, two bits that stop at two."""
    builder = SequentialBuilder(2)
    (bit,), (low, high) = builder.inputs(1), builder.take_state(np.zeros(2, np.bool_))
    value = builder.gates([AND], [bit], [high])[0]  # two before it, and this one
    first = builder.gates([GATE_NAMES.index("nor")], [low], [high])[0]
    builder.next_state(
        np.array(
            [
                builder.gates([AND], [bit], [first])[0],
                builder.gates([AND], [bit], [builder.gates([GATE_NAMES.index("or")], [low], [high])[0]])[0],
            ],
            np.int32,
        )
    )
    made = builder.finish_sequential([builder.gates([NOT], [value], [value])[0], value])
    return SequentialCircuit(made.num_inputs, made.step, made.initial, 2)


@needs_abc
def test_two_ways_to_remember() -> None:
    assert prove_decisions(ones(2), counter())
    assert prove_decisions(counter(), ones(2))


@needs_abc
def test_what_differs_late_or_in_the_beginning_is_found() -> None:
    found = prove_decisions(ones(9), ones(8))
    assert not found
    assert found.log == "they differ after 9 steps"
    wrong = replace(counter(), initial=np.array([False, True]))
    assert prove_decisions(wrong, counter()).log == "they differ after 1 steps"


def test_what_has_no_proof() -> None:
    with pytest.raises(CircuitError, match="no bound"):
        prove_decisions(replace(counter(), readout="sum"), counter())
    wide = replace(counter(), num_inputs=1)
    builder = SequentialBuilder(1)
    x, state = builder.inputs(2), builder.take_state(np.zeros(1, np.bool_))
    builder.next_state(builder.gates([XOR], x[:1], state))
    made = builder.finish_sequential(x)
    with pytest.raises(CircuitError, match="1 and 2 bits a step"):
        prove_decisions(wide, SequentialCircuit(made.num_inputs, made.step, made.initial, 2))

"""Rules that data follow, as circuits: what a trained circuit can be proven equal to."""

from __future__ import annotations

import numpy as np

from lgn_lightning.circuit import Circuit, CircuitBuilder, SequentialCircuit
from lgn_lightning.circuit.build.sequential import SequentialBuilder
from lgn_lightning.data.base import SampleDataModule
from lgn_lightning.data.life import GameOfLife
from lgn_lightning.data.parity import ParityStream
from lgn_lightning.gates import NOT_A, XOR
from lgn_lightning.nn import life_circuit
from lgn_lightning.nn.automaton import FIELD


def rule_circuit(data: SampleDataModule) -> Circuit | SequentialCircuit | None:
    """The circuit of the rule that gives the labels of data, if they follow one: its decisions are the labels."""
    if isinstance(data, ParityStream):
        return parity_circuit()
    return life_board_circuit(data.size) if isinstance(data, GameOfLife) else None


def parity_circuit() -> SequentialCircuit:
    """The exclusive or of all bits of a stream so far, one bit a step: classes even and odd."""
    builder = SequentialBuilder(1)
    bit = builder.inputs(1)
    odd = builder.gates([XOR], bit, builder.take_state(np.zeros(1, np.bool_)))
    even = builder.gates([NOT_A], odd, odd)
    builder.next_state(odd)
    made = builder.finish_sequential([even[0], odd[0]])
    return SequentialCircuit(made.num_inputs, made.step, made.initial, made.num_classes)


def life_board_circuit(size: int) -> Circuit:
    """A step of Conway's Game of Life on a torus of ``size`` × ``size`` cells: a class a cell."""
    builder = CircuitBuilder()
    board = builder.inputs(size * size).reshape(1, size, size)
    around = np.pad(board, ((0, 0), (1, 1), (1, 1)), mode="wrap")
    return builder.finish(builder.convolve(around, life_circuit(), (FIELD, FIELD)))

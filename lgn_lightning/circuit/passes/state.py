"""State bits of a sequential circuit that need no register: constant, equal to another one, or never read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.circuit.net.netlist import Netlist
from lgn_lightning.circuit.net.rewire import ONE, ZERO, Known, rewired
from lgn_lightning.circuit.net.sequential import AnySequential, SequentialNetlist
from lgn_lightning.circuit.passes.flat import remove_dead_gates, simplify

#: A state bit that nothing reads.
UNREAD = -3


def find_state(circuit: SequentialNetlist) -> tuple[Known, NDArray[np.intp]]:
    """Finds what each state bit is, by induction over the steps.

    All bits are at first taken for constants that stay as they begin. With that assumption put into the step, what has
    another next value is split off, bits of equal next values together, until the assumption confirms itself: it holds
    before the first step, and each step keeps it (van Eijk, 2000, by structure alone).

    Returns:
        For each bit the number of a kept one that it equals, `ZERO`, `ONE` or `UNREAD`, ``[state]``; and the kept bits
        in order.
    """
    n, count = circuit.num_inputs, circuit.num_state
    label: Known = np.where(circuit.initial, ONE, ZERO).astype(np.int64)
    while count:
        small = simplify(_assumed(circuit, label))
        following = small.outputs[small.outputs.size - count :].astype(np.int64)
        gate = following - small.num_inputs
        table = small.gates[np.maximum(gate, 0)] if small.num_gates else np.ones(count, np.uint8)
        key = np.where((gate >= 0) & (table == 0), ZERO, np.where((gate >= 0) & (table == 15), ONE, following))
        refined = _split(label, key)
        if np.array_equal(refined, label):
            break
        label = refined
    kept = _read(_assumed(circuit, label), n, count)
    number = np.full(count, UNREAD, np.int64)
    number[kept] = np.arange(kept.size)
    return np.where(label < 0, label, number[np.maximum(label, 0)]) if count else label, kept


def reduce_state(circuit: AnySequential) -> AnySequential:
    """Removes such bits, and the gates that only they need."""
    source, kept = find_state(circuit)
    n, scores = circuit.num_inputs, circuit.counted.outputs.size
    if kept.size == circuit.num_state:
        return circuit.with_step(_bitwise(simplify(circuit.step)))
    step = rewired_state(circuit, source, kept.size)
    outputs = np.concatenate([step.outputs[:scores], step.outputs[scores + kept]])
    small = simplify(replace(step, outputs=outputs, num_classes=outputs.size))
    assert small.num_inputs == n + kept.size
    return circuit.with_step(_bitwise(small), circuit.initial[kept])


def rewired_state(circuit: SequentialNetlist, source: Known, state: int) -> Netlist:
    """The step with all of its outputs, whose state inputs are made of ``state`` others, as `find_state` says."""
    bits = np.where(source < 0, np.where(source == ONE, ONE, ZERO), circuit.num_inputs + source)
    everything = np.concatenate([np.arange(circuit.num_inputs), bits])
    return rewired(circuit.step, everything, circuit.num_inputs + state)


def _assumed(circuit: SequentialNetlist, label: Known) -> Netlist:
    """The step in which the state is what the labels say."""
    return rewired_state(circuit, label, circuit.num_state)


def _split(label: Known, key: Known) -> Known:
    """Labels of the bits that have both in common: constants that stay, else the first bit of the group."""
    groups: dict[tuple[int, int], int] = {}
    refined = label.copy()
    for bit, pair in enumerate(zip(label.tolist(), key.tolist(), strict=True)):
        first = groups.setdefault(pair, bit)
        refined[bit] = pair[0] if pair[0] < 0 and pair[0] == pair[1] else first
    return refined


def _read(step: Netlist, inputs: int, count: int) -> NDArray[np.intp]:
    """State bits that the scores depend on, directly or through the next values of others."""
    scores = step.outputs.size - count
    kept: NDArray[np.intp] = np.zeros(0, np.intp)
    while count:
        outputs = np.concatenate([step.outputs[:scores], step.outputs[scores + kept]])
        live = remove_dead_gates(replace(step, outputs=outputs, num_classes=outputs.size))
        read = live.inputs_read
        found = (read[(read >= inputs) & (read < inputs + count)] - inputs).astype(np.intp)
        found = np.union1d(found, kept)
        if found.size == kept.size:
            break
        kept = found
    return kept


def _bitwise(step: Netlist) -> Netlist:
    return replace(step, num_classes=step.outputs.size)

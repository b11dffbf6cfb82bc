"""Proofs that two sequential circuits score all sequences alike: one step by ABC, on all states, and how they begin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lgn_lightning.circuit.check.prove import Proof, prove
from lgn_lightning.circuit.check.tools import TOOL_SECONDS
from lgn_lightning.circuit.net.netlist import CircuitError, Netlist, NodeIds
from lgn_lightning.circuit.net.rewire import ONE, rewired
from lgn_lightning.circuit.net.sequential import SequentialNetlist
from lgn_lightning.circuit.passes.state import UNREAD, find_state, rewired_state


def prove_sequential(left: SequentialNetlist, right: SequentialNetlist, timeout: float = TOOL_SECONDS) -> Proof:
    """Proves that a step gives equal bits and equal next states for all inputs and states, reachable or not.

    With equal initial states, which are compared first, all sequences of any length then have equal scores.

    Raises:
        CircuitError: If the circuits differ in inputs, outputs, state or how sequences are scored.
        ToolError: If ABC is missing or has no answer.
    """
    for what in ("num_inputs", "num_state", "num_classes", "readout"):
        if getattr(left, what) != getattr(right, what):
            raise CircuitError(f"the circuits differ in {what}: {getattr(left, what)} and {getattr(right, what)}")
    wrong = np.flatnonzero(left.initial != right.initial)
    if wrong.size:
        return Proof(False, "comparison", f"bit {wrong[0]} of the initial states differs")
    return prove(left.step, right.step, timeout)


def prove_reduced(full: SequentialNetlist, reduced: SequentialNetlist, timeout: float = TOOL_SECONDS) -> Proof:
    """Proves that what `reduce_state` leaves scores all sequences as the circuit that it was given.

    What the bits that are gone are made of is put into the full step. That it holds at the beginning is compared; that
    a step which begins with it ends with it, and gives the same scores, is proven by ABC, for all kept states.

    Raises:
        CircuitError: If the reduced circuit has other state than `find_state` leaves.
        ToolError: As in `prove_sequential`.
    """
    source, kept = find_state(full)
    if reduced.num_state != kept.size or reduced.num_inputs != full.num_inputs:
        raise CircuitError(f"the circuits have {kept.size} and {reduced.num_state} bits of state that count")
    read = source != UNREAD
    begins = source == ONE
    if kept.size:
        begins = np.where(source >= 0, reduced.initial[np.maximum(source, 0)], begins)
    wrong = np.flatnonzero(read & (begins != full.initial))
    if wrong.size:
        return Proof(False, "comparison", f"bit {wrong[0]} of the initial states differs")
    scores = full.counted.outputs.size
    step = rewired_state(full, source, kept.size)
    left = _with_outputs(step, np.concatenate([step.outputs[:scores], step.outputs[scores:][read]]))
    right = rewired(reduced.step, np.arange(reduced.step.num_inputs), reduced.step.num_inputs)
    first = right.num_inputs  # the gates of the constants 0 and 1 come before the others
    following = right.outputs[scores:]
    expanded = np.where(source == ONE, first + 1, first)
    if kept.size:
        expanded = np.where(source >= 0, following[np.maximum(source, 0)], expanded)
    wanted = np.concatenate([right.outputs[:scores], expanded[read].astype(np.int32)])
    return prove(left, _with_outputs(right, wanted.astype(np.int32)), timeout)


def _with_outputs(step: Netlist, outputs: NodeIds) -> Netlist:
    return replace(step, outputs=outputs, num_classes=outputs.size)

"""Proofs that two circuits with state decide alike at every step of every stream, however they remember."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np

from lgn_lightning.circuit.check.prove import Proof
from lgn_lightning.circuit.check.tools import TOOL_SECONDS, ToolError, find_abc, run_abc
from lgn_lightning.circuit.emit.logic import emit_blif
from lgn_lightning.circuit.hardware.design import design_of
from lgn_lightning.circuit.net.netlist import CircuitError, Netlist
from lgn_lightning.circuit.net.sequential import SequentialNetlist


def prove_decisions(left: SequentialNetlist, right: SequentialNetlist, timeout: float = TOOL_SECONDS) -> Proof:
    """Proves that two circuits say the same after every step, from their initial states on.

    Their states may be different ones. Both go side by side, with sums and comparisons of their scores as gates, and
    ABC's property directed reachability (``pdr``) shows that they differ in no state that the pair can reach.

    Raises:
        CircuitError: If they differ in inputs, or in what they can say, or add their scores up over the steps, for
            which no number of bits is enough.
        ToolError: If ABC is missing, or has no answer.
    """
    if "sum" in (left.readout, right.readout):
        raise CircuitError("the scores of a circuit that adds them up over the steps have no bound: nothing to prove")
    if left.num_inputs != right.num_inputs:
        raise CircuitError(f"the circuits take {left.num_inputs} and {right.num_inputs} bits a step")
    steps = [_decided(circuit) for circuit in (left, right)]
    decisions = {step.outputs.size - circuit.num_state for step, circuit in zip(steps, (left, right), strict=True)}
    if len(decisions) > 1:
        raise CircuitError("the circuits do not decide among equally many classes")
    (bits,) = decisions
    x = range(left.num_inputs)
    top = [".model pair", ".inputs " + " ".join(f"x{i}" for i in x), ".outputs differs"]
    for side, circuit in (("l", left), ("r", right)):
        first = circuit.initial.astype(int).tolist()
        top += [f".latch {side}n{i} {side}s{i} {bit}" for i, bit in enumerate(first)]
        pins = [f"x[{i}]=x{i}" for i in x] + [f"x[{len(x) + i}]={side}s{i}" for i in range(len(first))]
        pins += [f"y{i}={side}d{i}" for i in range(bits)] + [f"y{bits + i}={side}n{i}" for i in range(len(first))]
        top.append(f".subckt {side} " + " ".join(pins))
    for i in range(bits):
        top += [f".names ld{i} rd{i} differ{i}", "10 1", "01 1"]
    top.append(".names " + " ".join(f"differ{i}" for i in range(bits)) + " differs")
    top += ["-" * i + "1" + "-" * (bits - 1 - i) + " 1" for i in range(bits)]
    models = [emit_blif(step, side) for side, step in zip("lr", steps, strict=True)]
    with tempfile.TemporaryDirectory(prefix="lgn-") as name:
        (Path(name) / "pair.blif").write_text("\n".join([*top, ".end", "", *models]))
        log = run_abc(f"read_blif pair.blif; strash; pdr -T {max(1, int(timeout))}", Path(name), timeout + 5)
    if "Property proved" in log:
        return Proof(True, find_abc(), log)
    if found := re.search(r"asserted in frame (\d+)", log):
        return Proof(False, find_abc(), f"they differ after {int(found[1]) + 1} steps")
    raise ToolError(f"ABC gave no answer:\n{log.strip()[-2000:]}")


def _decided(circuit: SequentialNetlist) -> Netlist:
    """A step whose outputs are the bits of its decision, and the next state."""
    design = design_of(circuit.counted)  # in which the nodes of the step have their numbers
    following = circuit.step.outputs[circuit.counted.outputs.size :]
    outputs = np.concatenate([design.netlist.outputs[design.num_scores :], following])
    net = design.netlist
    return Netlist(net.num_inputs, net.gates, net.a, net.b, outputs, outputs.size, net.c)

"""A formal proof that two circuits are equal, by Berkeley ABC's combinational equivalence checker."""

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.circuit.check.tools import TOOL_SECONDS, ToolError, find_abc, find_example, run_abc
from lgn_lightning.circuit.emit.logic import emit_blif
from lgn_lightning.circuit.net.netlist import CircuitError, Netlist


@dataclass(frozen=True)
class Proof:
    """Outcome of `prove`, by which tool, with its log and, if it found one, a counterexample: bool ``[inputs]``."""

    equal: bool
    tool: str
    log: str
    counterexample: NDArray[np.bool_] | None = None

    def __bool__(self) -> bool:
        return self.equal


def prove(left: Netlist, right: Netlist, timeout: float = TOOL_SECONDS) -> Proof:
    """Proves that two circuits have equal output bits for every input; a ToolError if ABC is missing or has no answer.

    Equal bits in equal order give equal group sums; circuits whose outputs are reordered are not equal here. If inputs,
    outputs or classes differ in number, that is a CircuitError.
    """
    for what in ("num_inputs", "num_classes"):
        if getattr(left, what) != getattr(right, what):
            raise CircuitError(f"the circuits differ in {what}: {getattr(left, what)} and {getattr(right, what)}")
    if left.outputs.size != right.outputs.size:
        raise CircuitError(f"the circuits have {left.outputs.size} and {right.outputs.size} outputs")
    with tempfile.TemporaryDirectory(prefix="lgn-") as name:
        folder = Path(name)
        (folder / "left.blif").write_text(emit_blif(left))
        (folder / "right.blif").write_text(emit_blif(right))
        return prove_files(folder / "left.blif", folder / "right.blif", timeout, left.num_inputs)


def prove_circuit_and_file(circuit: Netlist, path: Path, timeout: float = TOOL_SECONDS) -> Proof:
    """Proves that a BLIF or AIGER file has the output bits of a circuit; see `prove_files`."""
    with tempfile.TemporaryDirectory(prefix="lgn-") as name:
        (Path(name) / "circuit.blif").write_text(emit_blif(circuit))
        # A plain name: ABC splits its command line at spaces.
        copy = shutil.copyfile(path, Path(name) / f"file{path.suffix}")
        return prove_files(Path(name) / "circuit.blif", copy, timeout, circuit.num_inputs)


def prove_files(left: Path, right: Path, timeout: float = TOOL_SECONDS, num_inputs: int | None = None) -> Proof:
    """Proves that two files, as `emit_blif`, `emit_aiger` or yosys write them, are equal; bits are matched by name.

    With the number of input bits ``x[0] …`` an inequality comes with a counterexample. A ToolError if ABC is missing,
    cannot read a file or gives no answer within ``timeout`` seconds.
    """
    pair = f"{left.resolve()} {right.resolve()}"
    log = run_abc(f"cec {pair}", left.parent, timeout)
    if re.search(r"Networks are equivalent", log):
        return Proof(True, find_abc(), log)
    if re.search(r"NOT EQUIVALENT", log):
        if num_inputs is None:
            return Proof(False, find_abc(), log)
        with tempfile.TemporaryDirectory(prefix="lgn-") as name:
            return Proof(False, find_abc(), log, find_example(f"miter {pair}", Path(name), num_inputs, timeout)[0])
    raise ToolError(f"ABC gave no answer:\n{log.strip()[-2000:]}")

"""Compares everything that is made of a circuit with state with it: step by step, by proof of one step, in Verilog."""

from __future__ import annotations

import re
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.base.errors import LgnError
from lgn_lightning.circuit import SequenceEngine, SequentialCircuit, optimize_for_export
from lgn_lightning.circuit.check.prove_decisions import prove_decisions
from lgn_lightning.circuit.check.prove_sequential import prove_reduced, prove_sequential
from lgn_lightning.circuit.check.prove_verilog import prove_verilog
from lgn_lightning.circuit.check.simulate_stream import simulate_verilog_stream
from lgn_lightning.circuit.emit.axi_stream import AxiStream
from lgn_lightning.circuit.emit.compiled_stream import CompiledStream
from lgn_lightning.circuit.emit.verilog import Verilog
from lgn_lightning.circuit.emit.verilog_stream import emit_verilog_stream
from lgn_lightning.deploy.trial import hard_counts
from lgn_lightning.deploy.verifier import Verifier, axi_of

if TYPE_CHECKING:
    from torch import nn

#: Sequences that Icarus simulates.
_SEQUENCES = 4


class SequentialVerifier(Verifier):
    """A `Verifier` of circuits with state: what it compares on samples are sequences from the state at the beginning.

    A step that is proven equal on all states, reachable or not, with equal states at the beginning, is equal for all
    sequences of any length.
    """

    compiled = CompiledStream

    def verify_all(self, net: nn.Module | None = None) -> None:
        """Compares everything that can be made of the circuit here, and its net if there is one."""
        circuit = self._sequential
        if net is not None:
            self._compare_scores("hard net in torch", hard_counts(circuit, net, self.trial.inputs))
        if circuit.comparisons is not None:
            self._verify_encoder(circuit.comparisons, net)
        exported, _ = optimize_for_export(circuit)
        what = f"optimised circuit, {exported.num_gates:,} gates and {exported.num_state:,} bits of state"
        self.verify_reduced(what, exported)
        self._verify_engines(lambda name, isa: SequenceEngine(circuit, name, isa=isa))
        self._verify_c(exported.to_c())
        self._verify_step_verilog(exported)

    def verify_reduced(self, what: str, other: SequentialCircuit) -> None:
        """Compares what the passes leave of the circuit."""
        self._compare_scores(what, other.scores(self.trial.inputs))
        self._compare_steps(what, other)
        self._prove(what, lambda timeout: prove_reduced(self._sequential, other, timeout))

    @property
    def _sequential(self) -> SequentialCircuit:
        assert isinstance(self.circuit, SequentialCircuit)
        return self.circuit

    def verify_other(self, what: str, other: SequentialCircuit) -> None:
        """Compares another circuit, with the same state or with what the passes leave of it."""
        self._compare_steps(what, other)
        if other.num_state == self._sequential.num_state:
            self._prove(what, lambda timeout: prove_sequential(self._sequential, other, timeout))
        else:
            self._prove(what, lambda timeout: prove_reduced(self._sequential, optimize_for_export(other)[0], timeout))

    def verify_rule(self, what: str, rule: SequentialCircuit, steps: int = 1000) -> None:
        """Compares decisions after each step with those of the circuit of a rule, and proves them for all streams."""
        circuit = self._sequential
        bits = np.random.default_rng(0).integers(0, 2, (64, steps, rule.num_inputs)).astype(np.bool_)
        if (circuit.num_inputs, circuit.num_classes) != (rule.num_inputs, rule.num_classes):
            raise LgnError(
                f"the {what} has {rule.num_inputs} inputs and {rule.num_classes} classes: {circuit!r} has not"
            )
        said = [each.decoding.decide(each.every_step(bits).reshape(-1, each.num_classes)) for each in (circuit, rule)]
        self._compare(
            what, np.array_equal(said[0], said[1]), f"decisions after each step of 64 streams of {steps:,} steps", None
        )
        exported, _ = optimize_for_export(circuit)
        self._prove(f"{what}, at every step of every stream", lambda timeout: prove_decisions(exported, rule, timeout))

    def _compare_steps(self, what: str, other: SequentialCircuit, steps: int = 1000) -> None:
        self._compare(what, self._sequential.verify(other, steps), f"64 sequences of {steps:,} steps, each step", None)

    def verify_file(self, path: Path) -> None:
        """Compares an exported Verilog, C file or library with the circuit."""
        if path.suffix in (".c", ".so"):
            self.verify_compiled_file(path)
            return
        if path.suffix != ".v":
            raise LgnError(f"{path} cannot be compared with a circuit with state: give .v, .c, .so or a circuit file")
        if top := axi_of(self._sequential, path, self._read_verilog):
            self._verify_axi(*top, path.name)
            return
        exported, _ = optimize_for_export(self._sequential)
        self._prove(path.name, lambda timeout: prove_verilog(exported.step, path, timeout))
        name, verilog = self._read_verilog(path)
        self._simulate_stream(verilog, name, f"simulated {path.name}")

    def _read_verilog(self, path: Path) -> tuple[str, Verilog]:
        """Name and Verilog of an exported file."""
        text = path.read_text(encoding="utf-8")
        found = re.search(r"^module (\w+)_logic\b", text, re.MULTILINE)
        if found is None:
            raise LgnError(f"{path} is no Verilog of a circuit with state: it has no module …_logic")
        bits = emit_verilog_stream(self._sequential, name=found[1])
        return found[1], Verilog(text, 1, bits.score_bits, bits.class_bits)

    def _verify_step_verilog(self, exported: SequentialCircuit) -> None:
        verilog = emit_verilog_stream(exported, name="net")
        with tempfile.TemporaryDirectory(prefix="lgn-") as folder:
            path = Path(folder) / "net.v"
            path.write_text(verilog.text, encoding="utf-8")
            what = "step in Verilog, read back by yosys"
            self._prove(what, lambda timeout: prove_verilog(exported.step, path, timeout))
        self._simulate_stream(verilog, "net", "simulated Verilog")
        self._verify_axi(AxiStream(self._sequential, verilog, "net"))

    def _axi_samples(self, count: int) -> NDArray[Any]:
        return np.asarray(self.trial.inputs[:_SEQUENCES])

    def _simulate_stream(self, verilog: Verilog, name: str, what: str) -> None:
        sequences = self.trial.inputs[:_SEQUENCES]
        simulate = partial(simulate_verilog_stream, self._sequential, verilog, sequences, name)
        result = self._simulated(what, simulate)
        if result is not None:
            how = f"{result.samples} steps in Icarus Verilog, with resets and pauses, decisions included"
            self._compare(what, result.equal, how, None)

    def _compare_scores(self, what: str, actual: NDArray[np.int32], decided: NDArray[np.int32] | None = None) -> None:
        wrong = self.trial.differences(actual, decided)
        self._compare(what, not wrong.size, f"{len(actual):,} sequences", None)

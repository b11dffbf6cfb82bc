"""Compares everything that is made of a circuit with it: by samples, by formal proof, by simulation of Verilog."""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.base.columns import Comparisons
from lgn_lightning.base.errors import LgnError
from lgn_lightning.circuit import (
    Circuit,
    CompiledCircuit,
    Engine,
    EngineError,
    LoopedCircuit,
    SequenceEngine,
    SequentialCircuit,
    Verilog,
    emit_verilog,
    native,
    optimize,
    optimize_for_export,
)
from lgn_lightning.circuit.api import AnyCircuit
from lgn_lightning.circuit.check.prove import Proof, prove, prove_circuit_and_file
from lgn_lightning.circuit.check.prove_axi import ALWAYS, prove_axi
from lgn_lightning.circuit.check.prove_design import prove_decision, prove_sums, prove_thresholds
from lgn_lightning.circuit.check.prove_top import prove_top
from lgn_lightning.circuit.check.prove_verilog import module_of_tables, prove_verilog, read_verilog
from lgn_lightning.circuit.check.simulate_axi import simulate_axi
from lgn_lightning.circuit.check.simulate_verilog import simulate_verilog
from lgn_lightning.circuit.check.tools import TOOL_SECONDS, ToolError
from lgn_lightning.circuit.check.verify import Verification, differences_around, verify
from lgn_lightning.circuit.emit.axi_stream import AxiStream
from lgn_lightning.circuit.emit.compiler import CompilerError, compile_library, find_compiler
from lgn_lightning.circuit.emit.export import c_name
from lgn_lightning.circuit.emit.verilog import sample_ports, vector_order
from lgn_lightning.circuit.net.netlist import CircuitInputs
from lgn_lightning.circuit.run.engine import native_engines
from lgn_lightning.circuit.simulate import encode
from lgn_lightning.deploy.encoder import encoder_circuit, encoder_scores
from lgn_lightning.deploy.random_rows import edge_rows
from lgn_lightning.deploy.trial import Trial, hard_counts

if TYPE_CHECKING:
    from torch import nn

#: Gate levels of a stage of the pipeline that is proven.
_PIPELINE = 4
#: Above this many gates the Verilog as a whole is not read back.
_TOP_GATES = 100_000
#: Seconds that ABC looks for a wrong cycle of a top level, cycle by cycle.
_SEARCH_SECONDS = 3
#: Seconds after which, and between which, a proof says that it goes on.
_PATIENCE = 10
#: Icarus takes seconds a vector for 50,000 gates: large nets get fewer.
_VECTORS, _VECTOR_GATES = 64, 200_000
_BY_PROOF = "formal proof by ABC, all inputs"


class Verifier:
    """Compares with one circuit and prints each result at once, as proofs of large nets take a while.

    Args:
        circuit: The circuit that everything is compared with. Proofs and Verilog need one without loops.
        samples: Random samples where nothing is proven.
        timeout: Seconds that one proof may take; None for no proofs.

    Attributes:
        equal: False as soon as one comparison failed.
        proven: Whether a formal proof went through, or all inputs were tried.
        skipped: Whether a comparison was left out.
        proven_whole: Whether thresholds, sums and decision of the Verilog are proven, too.
        counterexample: Input bits of the first failure that has some, bool ``[inputs]``.
    """

    #: What runs C that was compiled of such a circuit.
    compiled: ClassVar[type[CompiledCircuit]] = CompiledCircuit

    def __init__(self, circuit: AnyCircuit, samples: int, timeout: float | None) -> None:
        self.circuit, self.samples, self.timeout = circuit, samples, timeout
        self.equal, self.proven, self.skipped, self.proven_whole = True, False, False, False
        self.counterexample: NDArray[np.bool_] | None = None

    @cached_property
    def trial(self) -> Trial:
        """The samples, with the circuit's scores."""
        return Trial.of_circuit(self.circuit, self.samples)

    def verify_all(self, net: nn.Module | None = None) -> None:
        """Compares everything that can be made of the circuit here, and its net if there is one."""
        circuit = self.circuit
        assert not isinstance(circuit, SequentialCircuit)  # a verifier of their own
        if net is not None:
            self._compare_scores("hard net in torch", hard_counts(circuit, net, self.trial.inputs))
        if circuit.comparisons is not None:
            self._verify_encoder(circuit.comparisons, net)
        exported, _ = optimize_for_export(circuit)
        if isinstance(circuit, LoopedCircuit):
            what = f"optimised circuit, {exported.num_gates:,} gates"
            self._compare_scores(what, exported.scores(self.trial.inputs))
        else:
            self._verify_passes(circuit)
        self._verify_engines(lambda name, isa: Engine(circuit, name, isa=isa))
        self._verify_c(exported.to_c())
        if isinstance(circuit, Circuit) and isinstance(exported, Circuit):
            self._verify_verilog(circuit, exported)
        else:
            self._skip("proofs and Verilog: a circuit with loops has none; --form code unrolls it")

    def _verify_encoder(self, comparisons: Comparisons, net: nn.Module | None) -> None:
        """Compares the bits of rows, by a circuit whose scores they are, at all edges of all comparisons."""
        circuit, rows = encoder_circuit(comparisons), edge_rows(comparisons)
        trial = Trial(rows, comparisons.encode(rows.view(comparisons.row_dtype)[:, 0]).astype(np.int32))
        encoders = {} if net is None else {"hard net": encoder_scores(net, rows)}
        with suppress(native.BuildError):
            for name, isa in native_engines():
                with suppress(EngineError):
                    encoders[f"{name} engine ({isa})"] = Engine(circuit, name, isa=isa)(rows)
        with suppress(CompilerError):
            encoders["compiled C"] = CompiledCircuit.of_source(circuit.to_c()).scores(rows)
        equal = [what for what, bits in encoders.items() if not trial.differences(bits).size]
        how = f"{len(comparisons):,} comparisons at their constants, right below and above: {', '.join(encoders)}"
        self._compare("encoder", len(equal) == len(encoders), how, None)
        for what in encoders.keys() - set(equal):
            self._say("NOT EQUAL", f"encoder of the {what}")

    def verify_decisions(self, what: str, rows: NDArray[Any], labels: NDArray[Any]) -> None:
        """Compares what the circuit decides with what is true of all rows there are."""
        wrong = np.flatnonzero(self.circuit.predict(rows) != labels)
        example = encode(self.circuit, rows[wrong[:1]])[0] if wrong.size else None
        how = f"on {wrong.size:,} of all {len(rows):,} rows" if wrong.size else f"on all {len(rows):,} rows"
        self._compare(what, not wrong.size, how, example)

    def compare_around(self, what: str, other: CircuitInputs) -> None:
        """Compares how inputs are read, what scores mean and what classes are called with those of another circuit."""
        different = differences_around(self.circuit, other)
        how = f"they differ in {', '.join(different)}" if different else "inputs, decision and names"
        self._compare(what, not different, how, None)

    def verify_circuit(self, what: str, circuit: Circuit, other: Circuit) -> None:
        """Compares another circuit with ``circuit`` on samples, and formally."""
        result = verify(circuit, other)
        how = f"all {result.samples:,} inputs" if result.exhaustive else f"{result.samples:,} samples"
        self._compare(what, result.equal, how, result.counterexample, proves=result.exhaustive)
        if result.equal:
            self._prove(what, lambda timeout: prove(circuit, other, timeout))

    def verify_logic_file(self, circuit: Circuit, path: Path) -> None:
        """Proves an exported Verilog, BLIF or AIGER file equal to ``circuit``; Verilog is simulated as well."""
        if self.timeout is None:
            raise LgnError(f"{path.suffix} files are compared by a formal proof: leave --no-proof out")
        is_verilog = path.suffix == ".v"
        if is_verilog and (top := axi_of(circuit, path, partial(read_verilog, circuit))):
            self._verify_axi(*top, path.name)
            return
        # Without the proof nothing would be known about the file: its errors are errors here.
        result = (prove_verilog if is_verilog else prove_circuit_and_file)(circuit, path, self.timeout)
        what = f"gates of {path.name}" if is_verilog else path.name
        self._compare(what, result.equal, _BY_PROOF, result.counterexample, proves=True)
        if is_verilog:
            try:
                name, verilog = read_verilog(circuit, path)
            except ToolError as error:
                self._skip(f"simulated {path.name}: {error}")
            else:
                self._simulate(circuit, verilog, name, f"simulated {path.name}")
                exported, _ = optimize_for_export(circuit)
                self._verify_around(exported)
                if module_of_tables(verilog.text) is None:  # else that is done
                    self._prove_top(exported, verilog, name, f"{path.name} as a whole, thresholds, sums and decision")
                self.proven_whole = self.proven and self.equal and not self.skipped

    def verify_compiled_file(self, path: Path) -> None:
        """Compares an exported C file or library on samples."""
        with tempfile.TemporaryDirectory(prefix="lgn-") as folder:
            library = path
            if path.suffix == ".c":
                library = Path(folder) / "net.so"
                compile_library(path, library)
            compiled = self.compiled(library, c_name(path.stem))
            inputs, classes = self.circuit.num_inputs, self.circuit.num_classes
            kind = self.circuit.decoding.kind
            if (compiled.num_inputs, compiled.num_classes, compiled.decoding) != (inputs, classes, kind):
                raise LgnError(
                    f"{path} has {compiled.num_inputs} inputs and {compiled.num_classes} classes and says "
                    f"{compiled.decoding}, the circuit {inputs} and {classes} and {kind}: they are of different nets"
                )
            self._compare_scores(path.name, compiled.scores(self.trial.inputs), compiled.predict(self.trial.inputs))

    def _verify_passes(self, circuit: Circuit) -> None:
        try:
            small, mapped = optimize(circuit, level=2), optimize(circuit, level=3)
        except native.BuildError as error:
            self._skip(f"passes: {error}")
            return
        self.verify_circuit(f"optimised circuit, {small.num_gates:,} gates", circuit, small)
        self.verify_circuit(f"circuit of three-input gates, {mapped.num_gates:,} gates", circuit, mapped)

    def _verify_engines(self, build: Callable[[str, str], Engine | SequenceEngine]) -> None:
        """Compares the engines that there are, each built of its name and instruction set."""
        try:
            engines = native_engines()
        except native.BuildError as error:
            self._skip(f"engines: {error}")
            return
        for name, isa in engines:
            what = f"{name} engine ({isa})"
            try:
                engine = build(name, isa)
            except EngineError as error:
                self._skip(f"{what}: {error}")
            else:
                self._compare_scores(what, *engine.scores_and_classes(self.trial.inputs))

    def _verify_c(self, source: str) -> None:
        try:
            find_compiler()
        except CompilerError as error:
            self._skip(f"compiled C: {error}")
            return
        compiled = self.compiled.of_source(source)
        scores, decided = compiled.scores(self.trial.inputs), compiled.predict(self.trial.inputs)
        self._compare_scores("compiled C", scores, decided)

    def _verify_verilog(self, circuit: Circuit, exported: Circuit) -> None:
        verilog = emit_verilog(exported, name="net")
        with tempfile.TemporaryDirectory(prefix="lgn-") as folder:
            path = Path(folder) / "net.v"
            path.write_text(verilog.text, encoding="utf-8")
            self._prove("Verilog, read back by yosys", lambda timeout: prove_verilog(circuit, path, timeout))
        self._simulate(circuit, verilog, "net", "simulated Verilog")
        self._verify_around(exported)
        whole = "Verilog as a whole, with thresholds, sums and decision"
        self._prove_top(exported, verilog, "net", whole)
        piped = emit_verilog(exported, name="net", pipeline=_PIPELINE)
        what = f"pipelined Verilog as a whole, {piped.latency} cycles late"
        if self._prove_top(exported, piped, "net", what):
            # Wide beats: the fewer there are, the more samples are in the cycles that are checked.
            bits = sum(width for _, width in sample_ports(exported)[1])
            self._verify_axi(AxiStream(exported, piped, "net", min(4096, 8 * -(-bits // 16))))

    def _verify_around(self, exported: Circuit) -> None:
        """Proves that what is around the gates, of which Verilog is made, computes what the circuit says."""
        how = {"thresholds": "all values of each pixel", "sums": "by rewriting, all inputs", "decision": "all scores"}
        proofs = {
            "thresholds": lambda _: prove_thresholds(exported),
            "sums": lambda _: prove_sums(exported),
            "decision": lambda timeout: prove_decision(exported, timeout),
        }
        for what in how:
            if what != "thresholds" or exported.levels is not None:
                self._prove(f"{what} of the design", proofs[what], how[what])

    def _prove_top(self, exported: Circuit, verilog: Verilog, name: str, what: str) -> bool:
        """Proves the top module of Verilog, and says whether that was tried; the proofs before are part of it."""
        if self.timeout is not None and exported.num_gates > _TOP_GATES:
            self._skip(f"{what}: yosys takes minutes for more than {_TOP_GATES:,} gates")
            return False
        self._prove(what, lambda timeout: prove_top(exported, verilog, name, timeout))
        self.proven_whole = self.proven and self.equal and not self.skipped
        return True

    def _verify_axi(self, axi: AxiStream, text: str | None = None, what: str = "AXI4-Stream top level") -> None:
        """Simulates a top level on a few samples."""
        count = max(2, min(_VECTORS, _VECTOR_GATES // (8 * max(1, axi.circuit.num_gates))))
        samples = self._axi_samples(count)
        result = self._simulated(what, partial(simulate_axi, axi, samples, text))
        if result is not None:
            how = f"{result.samples} samples in Icarus Verilog, both sides with random pauses"
            self._compare(what, result.equal, how, None)
        if self.timeout is None:
            return
        try:
            with going_on(f"proving: {what}", self.timeout):
                found = prove_axi(axi, text, self.timeout, min(self.timeout, _SEARCH_SECONDS))
        except ToolError as error:
            self._skip(f"{what}: no proof: {error}")
        else:
            when = "proof by induction" if found.log == ALWAYS else f"in the first {found.log} cycles, by ABC"
            how = f"nothing lost, repeated or swapped, whoever waits: {when}"
            self._compare(what, found.equal, how if found else found.log, None)

    def _axi_samples(self, count: int) -> NDArray[Any]:
        return self.trial.inputs[vector_order(self.trial.scores)[:count]]

    def _simulate(self, circuit: Circuit, verilog: Verilog, name: str, what: str) -> None:
        count = max(2, min(_VECTORS, _VECTOR_GATES // max(1, verilog.text.count("wire n"))))
        vectors = self.trial.inputs[vector_order(self.trial.scores)[:count]]
        result = self._simulated(what, partial(simulate_verilog, circuit, verilog, vectors, name))
        if result is not None:
            how = f"{result.samples} samples in Icarus Verilog, sums and decisions included"
            self._compare(what, result.equal, how, result.counterexample)

    def _simulated(self, what: str, simulate: Callable[[float], Verification]) -> Verification | None:
        """What a simulation found that may take so many seconds; None, and says why, if there is none."""
        limit = TOOL_SECONDS if self.timeout is None else self.timeout
        try:
            with going_on(f"simulating: {what.removeprefix('simulated ')}", limit):
                return simulate(limit)
        except ToolError as error:
            self._skip(f"{what}: {error}")
            return None

    def _compare(
        self, what: str, equal: bool, how: str, counterexample: NDArray[np.bool_] | None, proves: bool = False
    ) -> None:
        self._say("equal" if equal else "NOT EQUAL", f"{what}: {how}")
        self.proven |= equal and proves
        self.equal &= equal
        if not equal and self.counterexample is None:
            self.counterexample = counterexample

    def _compare_scores(self, what: str, actual: NDArray[np.int32], decided: NDArray[Any] | None = None) -> None:
        wrong = self.trial.differences(actual, decided)[:1]
        example = encode(self.circuit, self.trial.inputs[wrong])[0] if wrong.size else None
        self._compare(what, not wrong.size, f"{self.samples:,} samples", example)

    def _prove(self, what: str, proof: Callable[[float], Proof], how: str = _BY_PROOF) -> None:
        """Proves, if proofs are wanted, or says why there is no proof."""
        if self.timeout is None:
            return
        try:
            with going_on(f"proving: {what}", self.timeout):
                result = proof(self.timeout)
        except ToolError as error:
            self._skip(f"{what}: no proof: {error}")
        else:
            self._compare(what, result.equal, how, result.counterexample, proves=how == _BY_PROOF)

    def _skip(self, what: str) -> None:
        self.skipped = True
        self._say("skipped", what)

    @staticmethod
    def _say(result: str, what: str) -> None:
        print(f"{result:<10} {what}", flush=True)


def axi_of(
    circuit: Circuit | SequentialCircuit, path: Path, read: Callable[[Path], tuple[str, Verilog]]
) -> tuple[AxiStream, str] | None:
    """The top level that a file is, and its text; None if it is none. What is in it has to lie beside it.

    ``read`` gives name and Verilog of the file of what is in it.
    """
    text = path.read_text(encoding="utf-8")
    found = re.match(r"// AXI4-Stream around \w+: \d+ beats of (\d+) bits a sample", text)
    if found is None:
        return None
    inner = path.with_name(f"{path.stem.removesuffix('_axis')}.v")
    if not inner.is_file():
        raise LgnError(f"{path} is around a net that should lie beside it, in {inner.name}")
    name, verilog = read(inner)
    return AxiStream(circuit, verilog, name, int(found[1])), text


@contextmanager
def going_on(what: str, limit: float) -> Iterator[None]:
    """Says on standard error that something goes on, every few seconds, and how long it may."""
    done, start = Event(), time.monotonic()

    def tell() -> None:
        while not done.wait(_PATIENCE):
            print(f"{what}: {time.monotonic() - start:.0f} s of at most {limit:.0f}", file=sys.stderr, flush=True)

    thread = Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()

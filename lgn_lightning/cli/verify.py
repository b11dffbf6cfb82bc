"""``lgn verify``: that a net, its circuit, the passes, the engines and the emitted files all compute the same."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.base.errors import LgnError
from lgn_lightning.circuit import (
    Circuit,
    CompiledCircuit,
    Engine,
    EngineError,
    LoopedCircuit,
    native,
    optimize,
    optimize_for_export,
)
from lgn_lightning.circuit.check.prove import Proof, ProofError, prove, prove_circuit_and_file
from lgn_lightning.circuit.check.prove_verilog import prove_verilog, read_verilog
from lgn_lightning.circuit.check.verify import verify
from lgn_lightning.circuit.emit.c import c_form
from lgn_lightning.circuit.emit.compiler import CompilerError, compile_library, compile_source, find_compiler
from lgn_lightning.circuit.emit.export import LOOPS_ABOVE, c_name
from lgn_lightning.circuit.emit.verilog import Verilog, emit_test_bench, emit_verilog, vector_order
from lgn_lightning.circuit.run.engine import native_engines
from lgn_lightning.circuit.simulate import encode
from lgn_lightning.deploy.source import CircuitSource, read_source
from lgn_lightning.deploy.trial import Trial, hard_counts

LOGIC_FILES = (".v", ".blif", ".aig")
COMPILED_FILES = (".c", ".so")
#: Icarus takes seconds a vector for 50,000 gates: large nets get fewer.
_BENCH_VECTORS, _BENCH_GATES = 64, 200_000


@dataclass
class Verdict:
    """What was found; prints itself line by line.

    Attributes:
        circuit: The circuit that everything is compared with.
        equal: False as soon as one comparison failed.
        proven: Whether a formal proof of it went through.
        counterexample: Input bits of the first failure that has some, bool ``[inputs]``.
    """

    circuit: Circuit | LoopedCircuit
    equal: bool = True
    proven: bool = False
    counterexample: NDArray[np.bool_] | None = None
    lines: list[str] = field(default_factory=list)

    def say(self, result: str, what: str) -> None:
        """Prints a line at once: proofs of large nets take a while."""
        self.lines.append(f"{result:<10} {what}")
        print(self.lines[-1], flush=True)

    @property
    def skipped(self) -> bool:
        """Whether a check was left out."""
        return any(line.startswith("skipped") for line in self.lines)

    def compare(self, what: str, equal: bool, how: str, counterexample: NDArray[np.bool_] | None = None) -> None:
        """Notes a comparison."""
        self.say("equal" if equal else "NOT EQUAL", f"{what}: {how}")
        if not equal:
            self.equal = False
            if self.counterexample is None:
                self.counterexample = counterexample

    def compare_scores(self, what: str, trial: Trial, actual: NDArray[np.int32]) -> None:
        """Notes a comparison of scores with those of a trial."""
        wrong = trial.differences(actual)
        example = encode(self.circuit, trial.inputs[wrong[:1]])[0] if wrong.size else None
        self.compare(what, not wrong.size, f"{len(trial.inputs):,} samples", example)

    def prove(self, what: str, proof: Callable[[], Proof]) -> None:
        """Notes a formal proof, or why there is none."""
        try:
            result = proof()
        except ProofError as error:
            self.say("skipped", f"{what}: no proof: {error}")
            return
        self.compare(what, result.equal, "formal proof by ABC, all inputs", result.counterexample)
        self.proven |= result.equal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.description = (
        "With one argument: the net, its circuit, the optimised circuit, every engine, compiled C and Verilog. "
        "With two: both of them. Exits with 1 and a counterexample if they differ."
    )
    parser.add_argument("first", type=Path, help="circuit file, checkpoint, or folder of a run")
    parser.add_argument(
        "second",
        type=Path,
        nargs="?",
        help=f"the same, or an exported file ({', '.join(LOGIC_FILES + COMPILED_FILES)})",
    )
    parser.add_argument("--samples", type=int, default=4096, help="random samples where nothing is proven")
    parser.add_argument("--no-proof", action="store_true", help="compare on samples only")
    parser.add_argument(
        "--loops",
        action=argparse.BooleanOptionalAction,
        help="keep convolutions as loops, on samples only, or unroll them (default: by size)",
    )
    parser.add_argument("--timeout", type=float, default=600, help="seconds that one proof may take (default: 600)")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    if arguments.samples < 1:
        raise LgnError(f"--samples must be at least 1, got {arguments.samples}")
    if arguments.second is not None and not arguments.second.exists():
        raise LgnError(f"there is no file or folder {arguments.second}")
    source = _read(arguments.first, arguments.second, arguments.loops)
    print(f"{source.title}: {source.circuit}")
    verdict = Verdict(source.circuit)
    timeout = None if arguments.no_proof else arguments.timeout
    if arguments.second is None:
        verify_source(source, verdict, arguments.samples, timeout)
    elif arguments.second.suffix in LOGIC_FILES:
        verify_logic_file(source.flat, arguments.second, verdict, arguments.samples, timeout)
    elif arguments.second.suffix in COMPILED_FILES:
        verify_compiled_file(source.circuit, arguments.second, verdict, arguments.samples)
    else:
        other = read_source(arguments.second, form="code")
        print(f"{other.title}: {other.flat}")
        verify_pair("both circuits", source.flat, other.flat, verdict, timeout)
    if not verdict.equal:
        print("\nNOT EQUAL" + _show(source.circuit, verdict.counterexample))
        return 1
    found = ", gates proven for all inputs" if verdict.proven else " on everything tried; not proven"
    print(f"\nequal{found}" + ("; what was skipped is not checked" if verdict.skipped else ""))
    return 0


def _read(path: Path, second: Path | None, loops: bool | None) -> CircuitSource:
    """Reads the first argument; circuits keep their loops where they are large or where that is asked for."""
    if second is not None and second.suffix not in COMPILED_FILES:
        if loops:
            raise LgnError(f"{second} is compared with a circuit without loops: leave --loops out")
        loops = False
    source = read_source(path, {None: "auto", True: "loops", False: "code"}[loops])
    # A circuit file may hold loops although it is small.
    small = isinstance(source.circuit, LoopedCircuit) and source.circuit.num_gates <= LOOPS_ABOVE
    return replace(source, circuit=source.flat) if loops is None and small else source


def verify_source(source: CircuitSource, verdict: Verdict, samples: int, timeout: float | None) -> None:
    """Compares everything that is made of one net with its circuit as trained."""
    circuit = source.circuit
    trial = Trial.of_circuit(circuit, samples)
    if source.net is not None:
        verdict.compare_scores("hard net in torch", trial, hard_counts(circuit, source.net, trial.inputs))
    if isinstance(circuit, LoopedCircuit):
        smaller, _ = optimize_for_export(circuit)
        what = f"optimised circuit, {smaller.num_gates:,} gates"
        verdict.compare_scores(what, trial, smaller.scores(trial.inputs))
        _verify_engines(circuit, trial, verdict)
        _verify_c(trial, smaller, verdict)
        verdict.say("skipped", "proofs and Verilog: there are none of loops; --no-loops unrolls them")
        return
    try:
        small, mapped = optimize(circuit, level=2), optimize(circuit, level=3)
    except native.BuildError as error:
        verdict.say("skipped", f"passes: {error}")
    else:
        for what, other in (("optimised circuit", small), ("circuit of three-input gates", mapped)):
            verify_pair(f"{what}, {other.num_gates:,} gates", circuit, other, verdict, timeout)
    _verify_engines(circuit, trial, verdict)
    exported, _ = optimize_for_export(circuit)
    _verify_c(trial, exported, verdict)
    _verify_verilog(circuit, exported, trial, verdict, timeout)


def verify_pair(what: str, left: Circuit, right: Circuit, verdict: Verdict, timeout: float | None) -> None:
    """Compares two circuits on samples, and formally."""
    result = verify(left, right)
    how = f"all {result.samples:,} inputs" if result.exhaustive else f"{result.samples:,} samples"
    verdict.compare(what, result.equal, how, result.counterexample)
    verdict.proven |= result.equal and result.exhaustive
    if timeout is not None and result.equal:
        verdict.prove(what, lambda: prove(left, right, timeout))


def verify_logic_file(circuit: Circuit, path: Path, verdict: Verdict, samples: int, timeout: float | None) -> None:
    """Proves an exported Verilog, BLIF or AIGER file equal to a circuit; what Verilog has beside gates is simulated."""
    if timeout is None:
        raise LgnError(f"{path.suffix} files are compared by a formal proof: leave --no-proof out")
    proof = prove_verilog if path.suffix == ".v" else prove_circuit_and_file
    # Without the proof nothing would be known about the file: its errors are errors here.
    result = proof(circuit, path, timeout)
    gates = "gates of " if path.suffix == ".v" else ""
    verdict.compare(f"{gates}{path.name}", result.equal, "formal proof by ABC, all inputs", result.counterexample)
    verdict.proven |= result.equal
    if path.suffix == ".v":
        what = f"simulated {path.name}"
        try:
            name, verilog = read_verilog(circuit, path)
        except ProofError as error:
            verdict.say("skipped", f"{what}: {error}")
        else:
            _simulate_verilog(circuit, verilog, name, Trial.of_circuit(circuit, samples), what, verdict)


def verify_compiled_file(circuit: Circuit | LoopedCircuit, path: Path, verdict: Verdict, samples: int) -> None:
    """Compares an exported C file or library with a circuit on samples."""
    with tempfile.TemporaryDirectory(prefix="lgn-") as folder:
        library = path
        if path.suffix == ".c":
            library = Path(folder) / "net.so"
            compile_library(path, library)
        compiled = CompiledCircuit(library, c_name(path.stem))
        if (compiled.num_inputs, compiled.num_classes) != (circuit.num_inputs, circuit.num_classes):
            raise LgnError(
                f"{path} has {compiled.num_inputs} inputs and {compiled.num_classes} classes, the circuit "
                f"{circuit.num_inputs} and {circuit.num_classes}: they are of different nets"
            )
        trial = Trial.of_circuit(circuit, samples)
        verdict.compare_scores(path.name, trial, compiled.scores(trial.inputs))


def _verify_engines(circuit: Circuit | LoopedCircuit, trial: Trial, verdict: Verdict) -> None:
    try:
        engines = native_engines()
    except native.BuildError as error:
        verdict.say("skipped", f"engines: {error}")
        return
    for name, isa in engines:
        label = f"{name} engine ({isa})"
        try:
            engine = Engine(circuit, name, isa=isa)
        except EngineError as error:
            verdict.say("skipped", f"{label}: {error}")
        else:
            verdict.compare_scores(label, trial, engine(trial.inputs))


def _verify_c(trial: Trial, exported: Circuit | LoopedCircuit, verdict: Verdict) -> None:
    try:
        find_compiler()
    except CompilerError as error:
        verdict.say("skipped", f"compiled C: {error}")
        return
    with tempfile.TemporaryDirectory(prefix="lgn-") as folder:
        path = Path(folder) / "net.so"
        compile_source(exported.to_c(form=c_form(exported)), path)
        verdict.compare_scores("compiled C", trial, CompiledCircuit(path).scores(trial.inputs))


def _verify_verilog(circuit: Circuit, exported: Circuit, trial: Trial, verdict: Verdict, timeout: float | None) -> None:
    verilog = emit_verilog(exported, name="net")
    with tempfile.TemporaryDirectory(prefix="lgn-") as name:
        folder = Path(name)
        (folder / "net.v").write_text(verilog.text)
        if timeout is not None:
            verdict.prove("Verilog, read back by yosys", lambda: prove_verilog(circuit, folder / "net.v", timeout))
    _simulate_verilog(circuit, verilog, "net", trial, "simulated Verilog", verdict)


def _simulate_verilog(circuit: Circuit, verilog: Verilog, name: str, trial: Trial, what: str, verdict: Verdict) -> None:
    """Compares Verilog with a circuit on some of the samples: what proofs leave out is part of it, and its latency."""
    if shutil.which("iverilog") is None or shutil.which("vvp") is None:
        verdict.say("skipped", f"{what}: Icarus Verilog is not on PATH (Debian: apt-get install iverilog)")
        return
    gates = verilog.text.count("wire n")
    count = max(2, min(_BENCH_VECTORS, _BENCH_GATES // max(1, gates)))
    vectors = trial.inputs[vector_order(trial.scores)[:count]]
    with tempfile.TemporaryDirectory(prefix="lgn-") as temporary:
        folder = Path(temporary)
        (folder / "net.v").write_text(verilog.text, encoding="utf-8")
        (folder / "net_tb.v").write_text(emit_test_bench(circuit, verilog, vectors, name=name))
        command = ["iverilog", "-g2001", "-o", "net.vvp", "net.v", "net_tb.v"]
        compiled = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if compiled.returncode:
            raise LgnError(f"{what}: Icarus Verilog refuses it:\n{compiled.stderr.strip()[-2000:]}")
        output = subprocess.run(["vvp", "net.vvp"], cwd=folder, check=True, capture_output=True, text=True).stdout
    how = f"{len(vectors)} samples in Icarus Verilog, sums and argmax included"
    wrong = re.search(r"^vector (\d+):", output, re.MULTILINE)
    example = encode(circuit, vectors[int(wrong[1])][None])[0] if wrong else None
    verdict.compare(what, output.strip().startswith("PASS"), how, example)


def _show(circuit: Circuit | LoopedCircuit, counterexample: NDArray[np.bool_] | None) -> str:
    if counterexample is None:
        return ""
    ones = np.flatnonzero(counterexample).tolist()
    shown = ", ".join(map(str, ones[:200])) + (", …" if len(ones) > 200 else "")
    scores = circuit.scores(counterexample[None])[0].tolist()
    return (
        f", for example on the input bits that are one at {shown or 'no place'} ({len(ones)} of {circuit.num_inputs}); "
        f"the first circuit's scores there are {scores}"
    )

"""``lgn verify``: that a net, its circuit, the passes, the engines and the emitted files all compute the same."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lgn_lightning.base.errors import LgnError, some
from lgn_lightning.base.settings_text import read_settings
from lgn_lightning.circuit import Circuit, LoopedCircuit, SequentialCircuit
from lgn_lightning.circuit.check.tools import TOOL_SECONDS
from lgn_lightning.circuit.emit.export import LOOPS_ABOVE
from lgn_lightning.cli import verify_region
from lgn_lightning.cli.options import SHIPPED, add_form, add_trust
from lgn_lightning.deploy.source import CircuitSource, find_source, read_source
from lgn_lightning.deploy.stream_verifier import SequentialVerifier
from lgn_lightning.deploy.verifier import Verifier
from lgn_lightning.runs.recipes import find_recipe

if TYPE_CHECKING:
    from lgn_lightning.data.base import SampleDataModule

LOGIC_FILES = (".v", ".blif", ".aig")
COMPILED_FILES = (".c", ".so")
#: Random sequences at most: their compiled C runs one after the other.
_MOST_SEQUENCES = 512


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "With one argument: the net, its circuit, the optimised circuit, every engine, compiled C and Verilog. "
        "With two: both of them. Exits with 1 and a counterexample if they differ."
    )
    parser.add_argument("first", type=Path, help=f"circuit file, checkpoint, or folder of a run; {SHIPPED}")
    text = f"the same, or an exported file ({', '.join(LOGIC_FILES + COMPILED_FILES)})"
    parser.add_argument("second", type=Path, nargs="?", help=text)
    parser.add_argument("--samples", type=int, default=4096, help="random samples where nothing is proven")
    text = "also: that it always decides as the rule of this recipe's data: monk1 to monk3, parity-stream, game-of-life"
    parser.add_argument("--rule", metavar="RECIPE", help=text)
    parser.add_argument("--no-proof", action="store_true", help="compare on samples only")
    add_form(parser)
    parser.add_argument(
        "--timeout", type=float, default=TOOL_SECONDS, help="seconds that one proof may take (default: %(default)s)"
    )
    verify_region.add_arguments(parser)
    add_trust(parser)


def run(arguments: argparse.Namespace) -> int:
    if not arguments.timeout > 0:
        raise LgnError(f"--timeout must be positive, got {arguments.timeout:g}; --no-proof leaves out the proofs")
    if arguments.robust or arguments.independent_of:
        return verify_region.run(arguments)
    second = None if arguments.second is None else find_source(arguments.second)
    if arguments.samples < 1:
        raise LgnError(f"--samples must be at least 1, got {arguments.samples}")
    source = _read(arguments.first, second, arguments.form)
    print(f"{source.title}: {source.circuit}")
    timeout = None if arguments.no_proof else arguments.timeout
    if isinstance(source.circuit, SequentialCircuit):
        return _run_sequential(source, source.circuit, second, arguments.samples, timeout, arguments.rule)
    verifier = Verifier(source.circuit, arguments.samples, timeout)
    if arguments.rule is not None:
        _verify_rule(verifier, source, arguments.rule)
    if second is None:
        verifier.verify_all(source.net)
    elif second.suffix in LOGIC_FILES:
        verifier.verify_logic_file(source.flat, second)
    elif second.suffix in COMPILED_FILES:
        verifier.verify_compiled_file(second)
    else:
        other = read_source(second, form="code")
        print(f"{other.title}: {other.flat}")
        verifier.compare_around("around the gates", other.flat)
        verifier.verify_circuit("both circuits", source.flat, other.flat)
    parts = "gates, sums and decision" if verifier.proven_whole else "gates"
    return _conclude(verifier, _show(verifier), f"{parts} proven for all inputs")


def _run_sequential(
    source: CircuitSource,
    circuit: SequentialCircuit,
    second: Path | None,
    samples: int,
    timeout: float | None,
    recipe: str | None,
) -> int:
    """The same for a circuit with state, whose samples are sequences."""
    verifier = SequentialVerifier(circuit, min(samples, _MOST_SEQUENCES), timeout)
    if recipe is not None:
        rule = _rule_of(recipe)[1]
        if not isinstance(rule, SequentialCircuit):
            raise LgnError(f"the rule of {recipe} is not one of streams, which this circuit takes")
        verifier.verify_rule(f"rule of {recipe}", rule)
    if second is None:
        verifier.verify_all(source.net)
    elif second.suffix in LOGIC_FILES + COMPILED_FILES:
        verifier.verify_file(second)
    else:
        other = read_source(second)
        print(f"{other.title}: {other.circuit}")
        if not isinstance(other.circuit, SequentialCircuit):
            raise LgnError(f"{second} holds a circuit without state, and {source.path} one with state")
        verifier.compare_around("around the gates", other.circuit)
        verifier.verify_other("both circuits", other.circuit)
    bits = verifier.counterexample
    shown = (
        ""
        if bits is None
        else f", for example in a step of these inputs and state: {''.join(map(str, bits.astype(int)))}"
    )
    return _conclude(verifier, shown, "a step proven for all inputs and states, and so all sequences")


def _conclude(verifier: Verifier, shown: str, proven: str) -> int:
    if not verifier.equal:
        print(f"\nNOT EQUAL{shown}")
        return 1
    found = f", {proven}" if verifier.proven else " on everything tried; not proven"
    print(f"\nequal{found}" + ("; what was skipped is not checked" if verifier.skipped else ""))
    return 0


def _read(path: Path, second: Path | None, form: str) -> CircuitSource:
    """Reads the first argument; circuits keep their loops where they are large or where that is asked for."""
    if second is not None and second.suffix not in COMPILED_FILES:
        if form == "loops":
            raise LgnError(f"{second} is compared with a circuit without loops: leave --form loops out")
        form = "code"
    source = read_source(path, form)
    # A circuit file may hold loops although it is small.
    small = isinstance(source.circuit, LoopedCircuit) and source.circuit.num_gates <= LOOPS_ABOVE
    return replace(source, circuit=source.flat) if form == "auto" and small else source


def _rule_of(recipe: str) -> tuple[SampleDataModule, Circuit | SequentialCircuit | None]:
    """The data of a recipe, and the circuit of their rule, if they follow one that is not of rows."""
    from lgn_lightning.data.from_settings import data_module  # torch takes seconds, which circuit files do not need
    from lgn_lightning.deploy.rules import rule_circuit

    data = data_module(read_settings(find_recipe(recipe)))
    return data, rule_circuit(data)


def _verify_rule(verifier: Verifier, source: CircuitSource, recipe: str) -> None:
    data, rule = _rule_of(recipe)
    if isinstance(rule, Circuit):
        return verifier.verify_circuit(f"rule of {recipe}", source.flat, rule)
    every = getattr(data, "every_row", lambda: None)()
    if every is None:
        raise LgnError(f"the data of the recipe {recipe} follow no rule that is known for all that this circuit takes")
    columns = verifier.circuit.columns
    if columns is None:
        raise LgnError(f"the rule of {recipe} is one of rows of a table, which this circuit does not take")
    data.check_columns(columns)
    verifier.verify_decisions(f"rule of {recipe}", *(part.numpy() for part in every))


def _show(verifier: Verifier) -> str:
    example, circuit = verifier.counterexample, verifier.circuit
    if example is None:
        return ""
    ones = np.flatnonzero(example).tolist()
    scores = circuit.scores(example[None])[0].tolist()
    return (
        f", for example where these input bits are one: {some(ones, 200) or 'none'} "
        f"({len(ones)} of {circuit.num_inputs}); the first circuit's scores there are {scores}"
    )

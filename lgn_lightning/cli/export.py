"""``lgn export``: the circuit of a checkpoint or circuit file as files, checked against what it was made of."""

import argparse
import sys
from pathlib import Path
from typing import Any

from lgn_lightning.base.errors import LgnError, note
from lgn_lightning.base.settings_text import read_settings
from lgn_lightning.circuit import Circuit, CircuitError, optimize_for_export
from lgn_lightning.circuit.api import AnyCircuit
from lgn_lightning.circuit.check.fpga_report import fpga_report
from lgn_lightning.circuit.check.tools import ToolError
from lgn_lightning.circuit.emit.c import WORD_BITS
from lgn_lightning.circuit.emit.compiler import CompilerError, find_compiler
from lgn_lightning.circuit.emit.export import FORMATS, FORMS, STEM, TOPS, ExportOptions, c_name
from lgn_lightning.circuit.emit.verilog import row_ports
from lgn_lightning.circuit.emit.verilog_luts import LUT_CELLS
from lgn_lightning.circuit.hardware.estimate import estimate
from lgn_lightning.circuit.passes.approximate import leave_out_bits
from lgn_lightning.cli.options import SHIPPED, add_trust
from lgn_lightning.deploy.folder import MANIFEST, check_replaceable, write_circuit_folder
from lgn_lightning.deploy.source import read_source
from lgn_lightning.deploy.trial import Trial, as_inputs
from lgn_lightning.runs.recipes import find_recipe

#: What ABC may take for ``--report``, and above how many gates it is not asked.
_ABC_SECONDS, _ABC_GATES = 60, 200_000
#: Samples in a word of the C, and bits of a beat of AXI4-Stream, where none are given.
_WORD_BITS, _BEAT = 64, 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Export the circuit of a checkpoint, optimised and checked, with a manifest."
    parser.add_argument("source", type=Path, help=f"checkpoint, folder of a run, or circuit file; {SHIPPED}")
    parser.add_argument("--out", type=Path, default=Path("export"), help="folder to write to (default: export)")
    text = f"comma-separated, of {', '.join(FORMATS)}; library insists on a C compiler (default: c)"
    parser.add_argument("--format", default="c", help=text)
    text = "C with a statement or a table row a gate, or convolutions as loops over places, also in the circuit file"
    parser.add_argument("--form", default="auto", choices=FORMS, help=f"{text} (default: auto, by size)")
    text = "gate levels between registers in Verilog (default: 0, combinational)"
    parser.add_argument("--pipeline", type=int, default=0, metavar="LEVELS", help=text)
    text = "Verilog of lookup tables that synthesis keeps: modules for any tool (lut6, lut4), or a vendor's"
    parser.add_argument("--luts", choices=list(LUT_CELLS), help=text)
    text = "a table's column as a signed Verilog port of so many bits, some of them a fraction; may be given again"
    parser.add_argument("--port", action="append", default=[], metavar="COLUMN=BITS.FRACTION", help=text)
    text = "an AXI4-Stream top level beside the Verilog, with VHDL, README and cocotb test bench (default: plain, none)"
    parser.add_argument("--top", choices=TOPS, default="plain", help=text)
    text = "bits of a beat of AXI4-Stream (default: 32)"
    parser.add_argument("--beat", type=int, default=_BEAT, metavar="BITS", help=text)
    text = "name of files and Verilog module, prefix of C names: nets of different names fit into one program"
    parser.add_argument("--name", default=STEM, help=f"{text} (default: {STEM})")
    text = "samples in a word of the packed entry points of the C (default: 64)"
    parser.add_argument("--word-bits", type=int, default=_WORD_BITS, choices=WORD_BITS, help=text)
    parser.add_argument("--raw", action="store_true", help="every gate as trained, without passes")
    text = "leave out bits of the sums that change no decision on the training samples of this recipe's data"
    parser.add_argument("--approximate", metavar="RECIPE", help=text)
    text = "share of the training samples that --approximate may decide otherwise (default: 0)"
    parser.add_argument("--may-change", type=float, default=0.0, metavar="SHARE", help=text)
    text = "what encoder, gates, sums and decision cost on an FPGA, by an estimate and by Berkeley ABC; takes seconds"
    parser.add_argument("--report", action="store_true", help=text)
    add_trust(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command: what the callback ``ExportCircuit`` does at training time."""
    options, folder = _options(arguments), arguments.out
    check_replaceable(folder)
    source = read_source(arguments.source, options.form, options.formats)
    if source.why:
        print(source.title, file=sys.stderr)
    circuit = source.circuit
    if "aiger" in options.formats and circuit.arity != 2:
        raise LgnError(f"{source.path} holds gates of three inputs, which AIGER cannot: export blif instead")
    compiler = None
    if "c" in options.formats or "library" in options.formats:
        try:
            compiler = find_compiler()
        except CompilerError:
            if "library" in options.formats:
                raise
    about: dict[str, Any] = {"checkpoint": source.path.name}
    if arguments.approximate is not None:
        circuit, about["approximate"] = _approximate(source.flat, arguments.approximate, arguments.may_change)
        trial = Trial.of_circuit(circuit)  # the net is another one now
    else:
        trial = Trial.of_circuit(circuit) if source.net is None else Trial.of_net(circuit, source.net)
    try:
        exported = write_circuit_folder(circuit, trial, folder, about, options, compiler, optimize=not arguments.raw)
    except OSError as error:
        raise LgnError(f"cannot write {folder} ({error.strerror or error}); give another folder with --out") from error
    for path in sorted(folder.iterdir(), key=lambda path: (path.name == MANIFEST, path)):
        print(path)
    _note_ports(exported, options)
    if arguments.report:
        shipped = exported if isinstance(exported, Circuit) and not arguments.raw else None
        _report(shipped or optimize_for_export(source.flat)[0], options)
    return 0


def _note_ports(circuit: AnyCircuit, options: ExportOptions) -> None:
    for name, (width, fraction) in options.ports.items():
        count = row_ports(circuit, options.ports).beyond(name)
        least, most = (value / (1 << fraction) for value in (-1 << (width - 1), (1 << (width - 1)) - 1))
        if count:
            note(
                f"the port of {name!r} holds {least:g} to {most:g}: {count:,} comparisons with numbers beyond come out "
                "alike for all of them; a wider port tells more apart"
            )


def _approximate(circuit: Circuit, recipe: str, share: float) -> tuple[Circuit, dict[str, Any]]:
    """The circuit without the bits of its sums that matter to no training sample, and what the manifest says of it."""
    from lgn_lightning.data.from_settings import data_module  # torch takes seconds, which circuit files do not need

    if not 0 <= share < 1:
        raise LgnError(f"--may-change {share}: a share of the training samples, from 0 to 1")
    data = data_module(read_settings(find_recipe(recipe)))
    data.prepare_data()
    samples = as_inputs(circuit, data.training_samples()[0].numpy())
    smaller, left_out, changed = leave_out_bits(circuit, samples, share)
    bits = f"{left_out:,} of {circuit.outputs.size:,} summed bits are constants now"
    print(f"{bits}; {changed:,} of {len(samples):,} training samples are decided otherwise")
    return smaller, {"data": recipe, "bits_left_out": left_out, "samples": len(samples), "changed": changed}


def _options(arguments: argparse.Namespace) -> ExportOptions:
    name, formats = arguments.name, tuple(part.strip() for part in arguments.format.split(","))
    top = arguments.top if arguments.top != "plain" else None
    of_verilog = {"pipeline": arguments.pipeline, "port": arguments.port, f"top {top}": top, "luts": arguments.luts}
    for option, given in of_verilog.items():
        if given and "verilog" not in formats:
            raise LgnError(f"--{option} applies to Verilog only: add --format verilog")
    of_others = {
        "word-bits": (arguments.word_bits != _WORD_BITS and not {"c", "library"} & set(formats), "C: add --format c"),
        "may-change": (arguments.may_change and arguments.approximate is None, "--approximate RECIPE: add it"),
        "beat": (arguments.beat != _BEAT and top is None, "--top axi-stream: add it"),
    }
    for option, (unused, wanted) in of_others.items():
        if unused:
            raise LgnError(f"--{option} applies to {wanted}")
    if c_name(name) != name:
        wanted = f"give small letters, digits and underscores, as {c_name(name)!r}"
        raise LgnError(f"--name {name!r} is no prefix of C names: {wanted}")
    try:
        ports = dict(map(_port, arguments.port))
        more: dict[str, Any] = {"word_bits": arguments.word_bits, "ports": ports, "luts": arguments.luts}
        more |= {"top": arguments.top, "beat": arguments.beat}
        return ExportOptions(formats, name, arguments.form, arguments.pipeline, **more)
    except CircuitError as error:
        raise LgnError(str(error)) from error


def _port(text: str) -> tuple[str, tuple[int, int]]:
    column, _, size = text.rpartition("=")
    width, _, fraction = size.partition(".")
    if not column or not width.isdecimal() or not (fraction or "0").isdecimal():
        raise LgnError(f"--port {text}: give a column, its bits and those of the fraction, as in temperature=16.4")
    return column, (int(width), int(fraction or 0))


def _report(circuit: Circuit, options: ExportOptions) -> None:
    cost = estimate(circuit, options.pipeline, options.table_inputs)
    print(cost.table())
    print(f"gates alone: {cost.gates_alone:,} LUT6" + (f"; latency {cost.latency} cycles" if options.pipeline else ""))
    if options.ports:
        print("the encoder is counted with all bits of its columns' types: ports of fixed point take less")
    if circuit.num_gates > _ABC_GATES:
        print(f"ABC: skipped, as it takes minutes for more than {_ABC_GATES:,} gates")
        return
    print(f"ABC maps the design, for at most {_ABC_SECONDS} s …", file=sys.stderr, flush=True)
    try:
        report = fpga_report(circuit, _ABC_SECONDS / 2)
    except ToolError as error:
        print(f"ABC: skipped: {error}")
        return
    print(f"ABC (if -K 6): {report.luts:,} LUT6, {report.depth} levels; gates alone {report.logic_luts:,}")

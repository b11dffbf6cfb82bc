"""``lgn export``: the circuit of a checkpoint or circuit file as files, checked against what it was made of."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lgn_lightning.base.errors import LgnError
from lgn_lightning.circuit.emit.c import WORD_BITS
from lgn_lightning.circuit.form import FORMS, STEM
from lgn_lightning.deploy.source import read_source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.description = "Export the circuit of a checkpoint, optimised and checked, with a manifest."
    parser.add_argument("source", type=Path, help="checkpoint, folder of a run, or circuit file")
    parser.add_argument("--out", type=Path, default=Path("export"), help="folder to write to (default: export)")
    parser.add_argument(
        "--format",
        default="c",
        help="comma-separated: c, library (insists on a C compiler), verilog, circuit, blif, aiger (default: c)",
    )
    parser.add_argument(
        "--form",
        default="auto",
        choices=FORMS,
        help="C with a statement or a table row a gate, or convolutions as loops over places, also in the circuit file "
        "(default: auto, by size)",
    )
    parser.add_argument(
        "--pipeline",
        type=int,
        default=0,
        metavar="LEVELS",
        help="gate levels between registers in Verilog (default: 0, combinational)",
    )
    parser.add_argument(
        "--name",
        default=STEM,
        help=f"of the files, before all C names and of the Verilog module, so that several nets fit into one program "
        f"(default: {STEM})",
    )
    parser.add_argument(
        "--word-bits",
        type=int,
        default=64,
        choices=WORD_BITS,
        help="samples in a word of the packed entry points of the C (default: 64)",
    )
    parser.add_argument("--raw", action="store_true", help="every gate as trained: no passes")
    parser.add_argument(
        "--report",
        action="store_true",
        help="map the circuit after the passes, without a pipeline, to six-input lookup tables with yosys, and count",
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    formats = tuple(part.strip() for part in arguments.format.split(","))
    if arguments.pipeline and "verilog" not in formats:
        raise LgnError("--pipeline is of Verilog: add --format verilog")
    options = {"pipeline": arguments.pipeline, "optimize": not arguments.raw, "form": arguments.form}
    options |= {"name": arguments.name, "word_bits": arguments.word_bits}
    for path in export_checkpoint(arguments.source, arguments.out, formats, **options):
        print(path)
    if arguments.report:
        from lgn_lightning.circuit.check.fpga_report import fpga_report
        from lgn_lightning.circuit.passes.flat import optimize_for_export

        circuit = optimize_for_export(read_source(arguments.source, form="code").flat)[0]
        report = fpga_report(circuit)
        print(
            f"yosys: {report.luts:,} lookup tables of up to six inputs, {report.depth} on the longest path; "
            f"{report.logic_luts:,} of them are gates, the others group sums and argmax"
        )
    return 0


def export_checkpoint(
    source: Path,
    folder: Path,
    formats: tuple[str, ...] = ("c",),
    pipeline: int = 0,
    optimize: bool = True,
    form: str = "auto",
    name: str = STEM,
    word_bits: int = 64,
) -> list[Path]:
    """Exports a circuit, as the callback ``ExportCircuit`` does at training time.

    Args:
        source: A checkpoint that ``lgn fit`` wrote, the folder of a run, or a circuit file.
        folder: Where to write: a new folder, or one that an earlier export left.
        formats: Formats to write; ``"c"`` comes with a shared library where there is a C compiler.
        pipeline: Gate levels between the registers of ``"verilog"``; 0 for a combinational circuit.
        optimize: Whether the passes run.
        form: ``"code"`` or ``"table"``, a flat circuit and how its C is written; ``"loops"``, convolutions as loops; or
            ``"auto"``: by size.
        name: Stem of the files, prefix of the C names and name of the Verilog module: small letters, digits and
            underscores.
        word_bits: Samples in a word of the packed entry points of the C: 8, 16, 32 or 64.

    Returns:
        The files written, the manifest last.

    Raises:
        LgnError: If the source cannot be used, or the folder holds other files or cannot be written.
        ValueError: If the net has layers that are no gates.
    """
    # torch takes a second to import: not for `lgn --help`.
    from lgn_lightning.circuit.emit.compiler import CompilerError, find_compiler
    from lgn_lightning.circuit.emit.export import FORMATS, c_name
    from lgn_lightning.deploy.folder import MANIFEST, check_replaceable, write_circuit_folder
    from lgn_lightning.deploy.trial import Trial

    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise LgnError(f"unknown format {', '.join(map(repr, unknown))}; there are {', '.join(FORMATS)}")
    if pipeline < 0:
        raise LgnError(f"--pipeline must be 0 or the gate levels between registers, got {pipeline}")
    if c_name(name) != name:
        raise LgnError(f"--name {name!r} cannot begin C names: small letters, digits, underscores, as {c_name(name)!r}")
    check_replaceable(folder)
    read = read_source(source, form, formats)
    circuit = read.circuit
    if "aiger" in formats and circuit.arity != 2:
        raise LgnError(f"{read.path} holds gates of three inputs, which AIGER cannot: export blif instead")
    compiler = None
    if "c" in formats or "library" in formats:
        try:
            compiler = find_compiler()
        except CompilerError:
            if "library" in formats:
                raise
    trial = Trial.of_circuit(circuit) if read.net is None else Trial.of_net(circuit, read.net)
    about = {"checkpoint": read.path.name}
    written = tuple(dict.fromkeys("c" if name == "library" else name for name in formats))
    options: dict[str, Any] = {"optimize": optimize and circuit.arity == 2, "pipeline": pipeline, "form": form}
    options |= {"name": name, "word_bits": word_bits}
    try:
        write_circuit_folder(circuit, trial, folder, about, written, compiler, **options)
    except OSError as error:
        raise LgnError(f"cannot write {folder} ({error.strerror or error}); give another folder with --out") from error
    return [*sorted(path for path in folder.iterdir() if path.name != MANIFEST), folder / MANIFEST]

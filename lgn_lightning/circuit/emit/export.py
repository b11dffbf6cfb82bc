"""Writes a circuit in the formats that others read."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from numpy.typing import ArrayLike

from lgn_lightning.base.files import atomic_write_bytes, atomic_write_text
from lgn_lightning.circuit.emit.c import WORD_BITS, c_form, emit_c, emit_header
from lgn_lightning.circuit.emit.compiler import compile_library
from lgn_lightning.circuit.emit.logic import emit_aiger, emit_blif
from lgn_lightning.circuit.emit.verilog import emit_test_bench, emit_verilog
from lgn_lightning.circuit.file import SUFFIX, save_circuit
from lgn_lightning.circuit.net.looped import LoopedNetlist
from lgn_lightning.circuit.net.netlist import CircuitError, Netlist

#: Stem of exported files and prefix of their C names unless another is given: a newer net takes an older one's place.
STEM: Final = "lgn_net"
#: What ``form`` may be: forms of C of a flat circuit, or loops; or by size.
FORMS: Final = ("auto", "code", "table", "loops")
#: Nets of more unrolled gates keep their loops: passes and engine of the flat circuit take minutes and gigabytes there.
LOOPS_ABOVE: Final = 10_000_000


@dataclass(frozen=True)
class ExportOptions:
    """What is exported, and how.

    Attributes:
        formats: Some of `FORMATS`.
        name: File name without suffix; the prefix of the C names and the name of the Verilog module are made from it.
        form: Form of C, ``"code"`` or ``"table"``, or ``"loops"``, which keeps the loops of a looped circuit;
            ``"auto"`` chooses by size.
        pipeline: Gate levels between the registers of ``"verilog"``; 0 for a combinational circuit.
        word_bits: Samples in a word of the packed entry points of C.
        samples: Test vectors of the Verilog test bench, as `Circuit.scores` takes them; without, none is written.
        compiler: C compiler of ``"library"``.
        opt_level: Its optimization level.

    Raises:
        CircuitError: If a value is not one of the choices.
    """

    formats: tuple[str, ...] = ("c",)
    name: str = STEM
    form: str = "auto"
    pipeline: int = 0
    word_bits: int = 64
    samples: ArrayLike | None = None
    compiler: str | None = None
    opt_level: int = 1

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown or not self.formats:
            raise CircuitError(f"unknown format {', '.join(unknown) or '(none)'}; there are: {', '.join(FORMATS)}")
        if self.form not in FORMS:
            raise CircuitError(f"form must be one of {', '.join(FORMS)}, got {self.form!r}")
        if self.pipeline < 0:
            raise CircuitError(f"pipeline must be 0 or the gate levels between registers, got {self.pipeline}")
        if self.word_bits not in WORD_BITS:
            raise CircuitError(f"word_bits must be one of {WORD_BITS}, got {self.word_bits}")

    @property
    def prefix(self) -> str:
        """The prefix of C names, and the name of the Verilog module."""
        return c_name(self.name)


@dataclass
class ExportedFiles:
    """What `export_circuit` wrote.

    Attributes:
        name: Prefix of all names in the C source and the library.
        files: Paths by kind: ``c``, ``header``, ``library``, ``circuit``, ``verilog``, ``test_bench``, ``blif``,
            ``aiger``.
    """

    name: str
    files: dict[str, Path] = field(default_factory=dict)

    def sha256(self) -> dict[str, str]:
        """SHA-256 of each file, by file name."""
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in self.files.values()}


def export_circuit(
    circuit: Netlist | LoopedNetlist,
    folder: str | os.PathLike[str],
    stem: str,
    formats: Sequence[str] = ("c",),
    *,
    word_bits: int = 64,
    form: str = "auto",
    compiler: str | None = None,
    opt_level: int = 1,
    pipeline: int = 0,
    samples: ArrayLike | None = None,
) -> ExportedFiles:
    """Writes a circuit into files ``folder/stem.*``, each beside its place and renamed.

    Args:
        circuit: The circuit; `optimize` it before. A looped one is written as C and circuit file only.
        folder: Made if it is missing.
        stem: File name without suffix; the prefix of the C names is made from it.
        formats: Some of ``"c"``, ``"library"``, ``"circuit"``, ``"verilog"``, ``"blif"`` and ``"aiger"``.
        word_bits: Samples in a word of the packed entry points of C: 8, 16, 32 or 64.
        form: Form of C, ``"code"`` or ``"table"``; ``"auto"`` chooses by size.
        compiler: C compiler of ``"library"``.
        opt_level: Its optimization level.
        pipeline: Gate levels between the registers of ``"verilog"``; 0 for a combinational circuit.
        samples: Test vectors of the Verilog test bench, as `Circuit.scores` takes them; without, none is written.

    Raises:
        CircuitError: If an option is not known, or a format has no loops and the circuit has.
        CompilerError: If ``"library"`` is asked for and there is no compiler.
        OSError: If the folder cannot be written.
    """
    options = ExportOptions(tuple(formats), stem, form, pipeline, word_bits, samples, compiler, opt_level)
    return export_files(circuit, Path(folder), options)


def export_files(circuit: Netlist | LoopedNetlist, folder: Path, options: ExportOptions) -> ExportedFiles:
    """Does what `export_circuit` does, with its options in one object."""
    without_loops = [name for name in options.formats if not FORMATS[name].loops]
    if isinstance(circuit, LoopedNetlist) and without_loops:
        raise CircuitError(f"{', '.join(without_loops)} cannot hold loops: export circuit.unroll()")
    exported = ExportedFiles(options.prefix)
    for name in options.formats:
        exported.files |= FORMATS[name].write(circuit, folder / options.name, options)
    return exported


def _beside(stem: Path, suffix: str) -> Path:
    return stem.with_name(stem.name + suffix)


def _write_c(circuit: Netlist | LoopedNetlist, stem: Path, options: ExportOptions) -> dict[str, Path]:
    header, source = _beside(stem, ".h"), _beside(stem, ".c")
    name, word_bits, form = options.prefix, options.word_bits, c_form(circuit, options.form)
    atomic_write_text(header, emit_header(circuit, name=name, word_bits=word_bits))
    atomic_write_text(source, emit_c(circuit, name=name, word_bits=word_bits, header=header.name, form=form))
    return {"c": source, "header": header}


def _write_library(circuit: Netlist | LoopedNetlist, stem: Path, options: ExportOptions) -> dict[str, Path]:
    files, library = _write_c(circuit, stem, options), _beside(stem, ".so")
    compile_library(files["c"], library, compiler=options.compiler, opt_level=options.opt_level)
    return files | {"library": library}


def _write_circuit(circuit: Netlist | LoopedNetlist, stem: Path, options: ExportOptions) -> dict[str, Path]:
    path = _beside(stem, SUFFIX)
    save_circuit(circuit, path)
    return {"circuit": path}


def _write_verilog(circuit: Netlist, stem: Path, options: ExportOptions) -> dict[str, Path]:
    verilog = emit_verilog(circuit, name=options.prefix, pipeline=options.pipeline)
    files = {"verilog": _beside(stem, ".v")}
    atomic_write_text(files["verilog"], verilog.text)
    if options.samples is not None:
        files["test_bench"] = _beside(stem, "_tb.v")
        bench = emit_test_bench(circuit, verilog, options.samples, name=options.prefix)
        atomic_write_text(files["test_bench"], bench)
    return files


def _write_blif(circuit: Netlist, stem: Path, options: ExportOptions) -> dict[str, Path]:
    path = _beside(stem, ".blif")
    atomic_write_text(path, emit_blif(circuit, options.prefix))
    return {"blif": path}


def _write_aiger(circuit: Netlist, stem: Path, options: ExportOptions) -> dict[str, Path]:
    path = _beside(stem, ".aig")
    atomic_write_bytes(path, emit_aiger(circuit))
    return {"aiger": path}


@dataclass(frozen=True)
class Format:
    """A format of `export_circuit`.

    Attributes:
        what: What is written.
        write: Writes a circuit into files; takes the circuit, the path without suffix and the options, and returns the
            paths by kind.
        loops: Whether it can hold a looped circuit.
    """

    what: str
    write: Callable[[Any, Path, ExportOptions], dict[str, Path]]
    loops: bool = False


#: A new export target is a file beside this one and a line here.
FORMATS: Final[dict[str, Format]] = {
    "c": Format("C99 source and header", _write_c, loops=True),
    "library": Format("C99 source, header and shared library", _write_library, loops=True),
    "circuit": Format("circuit file, for lgn predict", _write_circuit, loops=True),
    "verilog": Format("Verilog, and with samples a self-checking test bench", _write_verilog),
    "blif": Format("BLIF of the output bits", _write_blif),
    "aiger": Format("binary AIGER of the output bits", _write_aiger),
}


def keeps_loops(
    circuit: LoopedNetlist, form: str = "auto", formats: Sequence[str] = ("c",), above: int | None = None
) -> bool:
    """Whether a looped circuit is exported with its loops, or unrolled before.

    Args:
        circuit: The circuit.
        form: ``"loops"``; ``"code"`` or ``"table"``, both of a flat circuit; or ``"auto"``: loops where there are more
            gates than ``above`` and all formats can hold them.
        formats: Some of `FORMATS`.
        above: By default `LOOPS_ABOVE`.

    Raises:
        CircuitError: If the form is not known, or loops are asked for and a format has none.
    """
    if form not in FORMS:
        raise CircuitError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    flat = [name for name in formats if name in FORMATS and not FORMATS[name].loops]
    if form == "loops" and flat:
        raise CircuitError(f"{', '.join(flat)} cannot hold loops: leave the format out, or take another form")
    large = circuit.num_gates > (LOOPS_ABOVE if above is None else above)
    return form == "loops" or (form == "auto" and large and not flat and circuit.has_loops)


def c_name(stem: str) -> str:
    """Makes a prefix of C names from a file name."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", stem, flags=re.ASCII).strip("_").lower()
    return name if name and name[0].isalpha() else f"net_{name}".rstrip("_")

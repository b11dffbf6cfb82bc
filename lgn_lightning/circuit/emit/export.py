"""Writes a circuit in the formats that others read."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from numpy.typing import ArrayLike

from lgn_lightning.base.files import atomic_write_bytes, atomic_write_text
from lgn_lightning.circuit.emit.c import emit_c, emit_header
from lgn_lightning.circuit.emit.compiler import compile_library
from lgn_lightning.circuit.emit.logic import emit_aiger, emit_blif
from lgn_lightning.circuit.emit.verilog import emit_test_bench, emit_verilog
from lgn_lightning.circuit.file import SUFFIX, save_circuit
from lgn_lightning.circuit.form import FLAT_FORMATS, c_form
from lgn_lightning.circuit.net.looped import LoopedCircuit
from lgn_lightning.circuit.net.netlist import Circuit, CircuitError

#: Formats of `export_circuit`, with what each writes.
FORMATS = {
    "c": "C99 source and header",
    "library": "C99 source, header and shared library",
    "circuit": "circuit file, for lgn predict",
    "verilog": "Verilog, combinational or pipelined, and with samples a self-checking test bench",
    "blif": "BLIF of the output bits",
    "aiger": "binary AIGER of the output bits",
}


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
    circuit: Circuit | LoopedCircuit,
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
        formats: Some of `FORMATS`.
        word_bits: Samples in a word of the packed entry points.
        form: Form of C, ``"code"`` or ``"table"``; ``"auto"`` chooses by size.
        compiler: C compiler of ``"library"``.
        opt_level: Its optimization level.
        pipeline: Gate levels between the registers of ``"verilog"``; 0 for a combinational circuit.
        samples: Test vectors of the Verilog test bench, as `Circuit.scores` takes them; without, none is written.

    Raises:
        CircuitError: If a format is not known, or has no loops and the circuit has.
        CompilerError: If ``"library"`` is asked for and there is no compiler.
        OSError: If the folder cannot be written.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise CircuitError(f"unknown format {', '.join(unknown) or '(none)'}; there are: {', '.join(FORMATS)}")
    without_loops = [name for name in formats if name in FLAT_FORMATS]
    if isinstance(circuit, LoopedCircuit) and without_loops:
        raise CircuitError(f"{', '.join(without_loops)} cannot hold loops: export circuit.unroll()")
    target = Path(folder)
    exported = ExportedFiles(c_name(stem))
    if "c" in formats or "library" in formats:
        header, source = target / f"{stem}.h", target / f"{stem}.c"
        atomic_write_text(header, emit_header(circuit, name=exported.name, word_bits=word_bits))
        code = emit_c(circuit, name=exported.name, word_bits=word_bits, header=header.name, form=c_form(circuit, form))
        atomic_write_text(source, code)
        exported.files |= {"c": source, "header": header}
    if "library" in formats:
        library = target / f"{stem}.so"
        compile_library(exported.files["c"], library, compiler=compiler, opt_level=opt_level)
        exported.files["library"] = library
    if "circuit" in formats:
        exported.files["circuit"] = target / f"{stem}{SUFFIX}"
        save_circuit(circuit, exported.files["circuit"])
    if isinstance(circuit, Circuit):
        exported.files |= _write_logic(circuit, target / stem, exported.name, formats, pipeline, samples)
    return exported


def _write_logic(
    circuit: Circuit, path: Path, name: str, formats: Sequence[str], pipeline: int, samples: ArrayLike | None
) -> dict[str, Path]:
    """Writes Verilog, BLIF and AIGER, those of them that are asked for; ``path`` is without suffix."""
    files: dict[str, Path] = {}
    if "verilog" in formats:
        verilog = emit_verilog(circuit, name=name, pipeline=pipeline)
        files["verilog"] = path.with_name(f"{path.name}.v")
        atomic_write_text(files["verilog"], verilog.text)
        if samples is not None:
            files["test_bench"] = path.with_name(f"{path.name}_tb.v")
            atomic_write_text(files["test_bench"], emit_test_bench(circuit, verilog, samples, name=name))
    if "blif" in formats:
        files["blif"] = path.with_name(f"{path.name}.blif")
        atomic_write_text(files["blif"], emit_blif(circuit, name))
    if "aiger" in formats:
        files["aiger"] = path.with_name(f"{path.name}.aig")
        atomic_write_bytes(files["aiger"], emit_aiger(circuit))
    return files


def c_name(stem: str) -> str:
    """Makes a prefix of C names from a file name."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", stem, flags=re.ASCII).strip("_").lower()
    return name if name and name[0].isalpha() else f"net_{name}".rstrip("_")

"""Writes a circuit in the formats that others read."""

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from numpy.typing import ArrayLike

from lgn_lightning.base.files import atomic_write_bytes
from lgn_lightning.circuit.emit.axi_stream import AxiStream, check_beat
from lgn_lightning.circuit.emit.c import WORD_BITS, emit_c, emit_header
from lgn_lightning.circuit.emit.c_stream import emit_c_stream, emit_stream_header
from lgn_lightning.circuit.emit.compiler import compile_library
from lgn_lightning.circuit.emit.logic import emit_aiger, emit_blif
from lgn_lightning.circuit.emit.verilog import Verilog, emit_test_bench, emit_verilog
from lgn_lightning.circuit.emit.verilog_luts import LUT_CELLS
from lgn_lightning.circuit.emit.verilog_stream import emit_stream_bench, emit_verilog_stream
from lgn_lightning.circuit.file import SUFFIX, AnyNetlist, circuit_to_bytes
from lgn_lightning.circuit.net.looped import LoopedNetlist
from lgn_lightning.circuit.net.netlist import CircuitError, Netlist
from lgn_lightning.circuit.net.sequential import SequentialNetlist

#: Stem of exported files and prefix of their C names unless another is given: a newer net takes an older one's place.
STEM: Final = "lgn_net"
#: What ``form`` may be: forms of C of a flat circuit, or loops; or by size.
FORMS: Final = ("auto", "code", "table", "loops")
#: What the top level of Verilog may be.
TOPS: Final = ("plain", "axi-stream")
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
        ports: Columns of a table whose ports in ``"verilog"`` are of fixed point, see `emit_verilog`.
        luts: Lookup tables that ``"verilog"`` is mapped to, one of `LUT_CELLS`; None for expressions.
        word_bits: Samples in a word of the packed entry points of C.
        samples: Test vectors of the Verilog test bench, as `Circuit.scores` takes them; without, none is written.
        compiler: C compiler of ``"library"``.
        opt_level: Its optimization level.
        top: ``"axi-stream"`` for an AXI4-Stream top level beside the modules of ``"verilog"``, see `AxiStream`.
        beat: Bits of a beat of it.

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
    ports: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    top: str = "plain"
    beat: int = 32
    luts: str | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown or not self.formats:
            raise CircuitError(f"unknown format {', '.join(unknown) or '(none)'}; there are: {', '.join(FORMATS)}")
        if not self.name or self.name != Path(self.name).name or self.name == os.pardir:
            raise CircuitError(f"name={self.name!r} is no file name; give a folder as the folder, not in the name")
        _check_form(self.form)
        if self.pipeline < 0:
            raise CircuitError(f"pipeline must be 0 or the gate levels between registers, got {self.pipeline}")
        if self.top not in TOPS:
            raise CircuitError(f"top must be one of {', '.join(TOPS)}, got {self.top!r}")
        check_beat(self.beat)
        if self.word_bits not in WORD_BITS:
            raise CircuitError(f"word_bits must be one of {WORD_BITS}, got {self.word_bits}")

    @property
    def prefix(self) -> str:
        """The prefix of C names, and the name of the Verilog module."""
        return c_name(self.name)

    @property
    def table_inputs(self) -> int:
        """Most inputs of a lookup table of ``"verilog"``; 0 where it has expressions."""
        return 0 if self.luts is None else LUT_CELLS[self.luts].inputs


@dataclass
class ExportedFiles:
    """What `export_circuit` wrote.

    Attributes:
        name: Prefix of all names in the C source and the library.
        files: Paths by kind: ``c``, ``header``, ``library``, ``circuit``, ``verilog``, ``test_bench``, ``blif``,
            ``aiger``; and of an AXI4-Stream ``axi_stream``, ``vhdl``, ``readme``, ``vectors`` and ``cocotb``.
    """

    name: str
    files: dict[str, Path] = field(default_factory=dict)

    def sha256(self) -> dict[str, str]:
        """SHA-256 of each file, by file name."""
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in self.files.values()}


def export_circuit(
    circuit: AnyNetlist,
    folder: str | os.PathLike[str],
    stem: str,
    formats: Sequence[str] = ("c",),
    **options: Any,
) -> ExportedFiles:
    """Writes a circuit into files ``folder/stem.*``, each beside its place and renamed.

    Args:
        circuit: The circuit; `optimize` it before. A looped one is written as C and circuit file only, one with state
            as Verilog, too.
        folder: Made if it is missing.
        stem: Name of the files without suffix, `ExportOptions.name`.
        formats: Some of ``"c"``, ``"library"``, ``"circuit"``, ``"verilog"``, ``"blif"`` and ``"aiger"``.
        **options: The others of `ExportOptions`: ``word_bits``, ``form``, ``compiler``, ``pipeline``, …

    Raises:
        CircuitError: If an option is not known, or a format has no loops and the circuit has.
        CompilerError: If ``"library"`` is asked for and there is no compiler.
        OSError: If the folder cannot be written.
    """
    return export_files(circuit, Path(folder), ExportOptions(tuple(formats), stem, **options))


def export_files(circuit: AnyNetlist, folder: Path, options: ExportOptions) -> ExportedFiles:
    """Does what `export_circuit` does, with its options in one object."""
    if isinstance(circuit, SequentialNetlist):
        _refuse_state(options)
    if isinstance(circuit, LoopedNetlist):
        _refuse_loops(options.formats, "export circuit.unroll()")
    exported = ExportedFiles(options.prefix)
    for name in options.formats:
        for kind, (suffix, content) in FORMATS[name].contents(circuit, options).items():
            path = exported.files[kind] = folder / f"{options.name}{suffix}"
            atomic_write_bytes(path, content if isinstance(content, bytes) else content.encode())
    if "library" in options.formats:
        library = exported.files["library"] = exported.files["c"].with_suffix(".so")
        compile_library(exported.files["c"], library, compiler=options.compiler, opt_level=options.opt_level)
    return exported


#: Files of a format by kind: the end of the name, which begins with that of the export, and what is in it.
Contents = dict[str, tuple[str, str | bytes]]


def _c(circuit: AnyNetlist, options: ExportOptions) -> Contents:
    name, word_bits = options.prefix, options.word_bits
    if isinstance(circuit, SequentialNetlist):
        source = emit_c_stream(circuit, name=name, word_bits=word_bits, header=f"{options.name}.h")
        return {"c": (".c", source), "header": (".h", emit_stream_header(circuit, name=name, word_bits=word_bits))}
    form = "auto" if options.form == "loops" else options.form
    source = emit_c(circuit, name=name, word_bits=word_bits, header=f"{options.name}.h", form=form)
    return {"c": (".c", source), "header": (".h", emit_header(circuit, name=name, word_bits=word_bits))}


def _verilog(circuit: Netlist | SequentialNetlist, options: ExportOptions) -> Contents:
    if isinstance(circuit, SequentialNetlist):
        clocked = emit_verilog_stream(circuit, name=options.prefix)
        files: Contents = {"verilog": (".v", clocked.text)}
        if options.samples is not None:
            bench = emit_stream_bench(circuit, clocked, options.samples, name=options.prefix)
            files["test_bench"] = ("_tb.v", bench)
        return files | _axi_stream(circuit, clocked, options)
    more: dict[str, Any] = {"pipeline": options.pipeline, "ports": options.ports, "luts": options.luts}
    verilog = emit_verilog(circuit, name=options.prefix, **more)
    contents: Contents = {"verilog": (".v", verilog.text)}
    if options.samples is not None:
        bench = emit_test_bench(circuit, verilog, options.samples, name=options.prefix)
        contents["test_bench"] = ("_tb.v", bench)
    return contents | _axi_stream(circuit, verilog, options)


def _axi_stream(circuit: Netlist | SequentialNetlist, verilog: Verilog, options: ExportOptions) -> Contents:
    """The top level around the modules of a circuit, if there is to be one, with its README and test bench."""
    if options.top != "axi-stream":
        return {}
    axi, name = AxiStream(circuit, verilog, options.prefix, options.beat), options.name
    files: Contents = {
        "axi_stream": ("_axis.v", axi.text()),
        "vhdl": ("_axis.vhd", axi.vhdl()),
        "readme": ("_axis.md", axi.readme()),
    }
    if options.samples is not None:
        vectors, bench = f"{name}_axis_vectors.json", f"{name}_axis_cocotb.py"
        files["vectors"] = ("_axis_vectors.json", axi.vectors(options.samples, [f"{name}.v", f"{name}_axis.v"]))
        files["cocotb"] = ("_axis_cocotb.py", axi.bench(bench, vectors))
    return files


@dataclass(frozen=True)
class Format:
    """A format of `export_circuit`: in words, what makes its files, and whether it can hold loops, and state."""

    what: str
    contents: Callable[[Any, ExportOptions], Contents]
    loops: bool = False
    state: bool = True


#: A new export target is a file beside this one and a line here.
FORMATS: Final[dict[str, Format]] = {
    "c": Format("C99 source and header", _c, loops=True),
    "library": Format("C99 source, header and shared library", _c, loops=True),
    "circuit": Format(
        "circuit file, for lgn predict", lambda x, _: {"circuit": (SUFFIX, circuit_to_bytes(x))}, loops=True
    ),
    "verilog": Format("Verilog, and with samples a self-checking test bench", _verilog),
    "blif": Format(
        "BLIF of the output bits", lambda x, options: {"blif": (".blif", emit_blif(x, options.prefix))}, state=False
    ),
    "aiger": Format("binary AIGER of the output bits", lambda x, _: {"aiger": (".aig", emit_aiger(x))}, state=False),
}


def _check_form(form: str) -> None:
    if form not in FORMS:
        raise CircuitError(f"form must be one of {', '.join(FORMS)}, got {form!r}")


def _refuse_state(options: ExportOptions) -> None:
    if without := [name for name in options.formats if not FORMATS[name].state]:
        raise CircuitError(f"{', '.join(without)} cannot hold state: export c, verilog or circuit")
    given = {
        f"pipeline {options.pipeline}": options.pipeline,
        f"ports of fixed point ({', '.join(options.ports)})": options.ports,
        f"luts {options.luts}": options.luts,
        f"form {options.form}": options.form not in ("auto", "code"),
    }
    if without := [name for name, is_given in given.items() if is_given]:
        raise CircuitError(f"a circuit with state is exported without {', '.join(without)}: leave it out")


def _refuse_loops(formats: Sequence[str], mend: str) -> None:
    if flat := [name for name in formats if name in FORMATS and not FORMATS[name].loops]:
        raise CircuitError(f"{', '.join(flat)} cannot hold loops: {mend}")


def keeps_loops(
    circuit: LoopedNetlist, form: str = "auto", formats: Sequence[str] = ("c",), above: int | None = None
) -> bool:
    """Whether a looped circuit is exported with its loops, or unrolled before.

    The form ``"loops"`` keeps them, ``"code"`` and ``"table"`` do not; ``"auto"`` does where there are more gates than
    ``above``, by default `LOOPS_ABOVE`, and all formats can hold them. An unknown form is a CircuitError, and so are
    loops in a format without.
    """
    _check_form(form)
    if form == "loops":
        _refuse_loops(formats, "leave the format out, or take another form")
        return True
    large = circuit.has_loops and circuit.num_gates > (LOOPS_ABOVE if above is None else above)
    return form == "auto" and large and all(FORMATS[name].loops for name in formats if name in FORMATS)


def c_name(stem: str) -> str:
    """Makes a prefix of C names from a file name."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", stem, flags=re.ASCII).strip("_").lower()
    return name if name and name[0].isalpha() else f"net_{name}".rstrip("_")

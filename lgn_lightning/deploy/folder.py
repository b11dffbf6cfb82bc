"""The folder of an export: the files of a circuit, checked against its net, and a manifest of them."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import torch

from lgn_lightning.base.errors import ExportError, some
from lgn_lightning.base.files import atomic_folder, atomic_write_text
from lgn_lightning.base.machine import package_version, program_version
from lgn_lightning.base.plain_values import filled
from lgn_lightning.circuit import (
    Circuit,
    CompiledCircuit,
    Engine,
    LoopedCircuit,
    SequenceEngine,
    SequentialCircuit,
    estimate,
    native,
    optimize_for_export,
)
from lgn_lightning.circuit.api import AnyCircuit
from lgn_lightning.circuit.emit.compiled_stream import open_library
from lgn_lightning.circuit.emit.compiler import compile_library
from lgn_lightning.circuit.emit.export import ExportOptions, c_name, export_files
from lgn_lightning.circuit.emit.verilog import vector_order
from lgn_lightning.deploy.trial import Trial

MANIFEST: Final = "manifest.json"
#: Gates of a circuit whose cost on an FPGA is estimated at each export: it takes a second for 100,000.
_ESTIMATED_GATES: Final = 200_000
#: Samples of the trial that a Verilog test bench gets as vectors.
_BENCH_VECTORS: Final = 64
#: Likewise, where each is a sequence.
_BENCH_SEQUENCES: Final = 4


@dataclass(frozen=True)
class ExportedCircuit:
    """The exported circuit of a checkpoint, as found on disk: its folder, and the contents of ``manifest.json``."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> ExportedCircuit | None:
        """Reads a folder; None if it holds no manifest of an export, or one that names files elsewhere."""
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            about = manifest | {"after": manifest["gates"]["after"]}
            named = filled(_Named, {part.name: about[part.name] for part in fields(_Named)})
        except (OSError, ValueError, RecursionError, TypeError, LookupError):
            return None
        own = all(Path(name).name == name for name in named.files)
        return cls(folder, manifest) if own and c_name(named.prefix) == named.prefix else None

    @classmethod
    def of_checkpoint(cls, checkpoint: str | os.PathLike[str]) -> ExportedCircuit | None:
        """Finds the circuit that was exported with a checkpoint; None if there is none."""
        path = Path(checkpoint).absolute()
        # A slash in a metric's name makes folders below dirpath; the manifest tells which of the parents is dirpath.
        for root in list(path.parents)[:3]:
            exported = cls.read(circuit_folder(root, path))
            if exported is not None and exported.manifest["checkpoint"] == path.relative_to(root).as_posix():
                return exported
        return None

    @property
    def gates(self) -> int:
        """Gates that the exported circuit evaluates."""
        return int(self.manifest["gates"]["after"])

    @property
    def source(self) -> Path | None:
        return self._file(".c")

    @property
    def library(self) -> Path | None:
        """The shared library, if there was a C compiler."""
        return self._file(".so")

    def compiled(self) -> CompiledCircuit:
        """Loads the shared library; an ExportError if there is none, or not the one that was exported."""
        library = self.library
        if library is None:
            raise ExportError(f"{self.folder} holds no shared library: there was no C compiler when it was exported")
        if hashlib.sha256(library.read_bytes()).hexdigest() != self.manifest["files"][library.name]:
            raise ExportError(f"{library} is not the library that {self.folder / MANIFEST} describes; export it again")
        return open_library(library, name=self.manifest["prefix"])

    def _file(self, suffix: str) -> Path | None:
        paths = (self.folder / name for name in self.manifest["files"] if name.endswith(suffix))
        return next((path for path in paths if path.is_file() and not path.is_symlink()), None)


@dataclass(frozen=True)
class _Named:
    """What is used of a manifest; ``after`` is the number of gates."""

    checkpoint: str
    prefix: str
    files: dict[str, str]
    after: int


def circuit_folder(root: Path, checkpoint: Path) -> Path:
    """Where the circuit of a checkpoint lies: in ``circuits/``, beside the folder ``root`` of the checkpoints."""
    return root.parent / "circuits" / checkpoint.relative_to(root).with_suffix("")


def check_replaceable(folder: Path) -> None:
    """Refuses, by an ExportError, to replace a folder that is more than an earlier export, or the working directory."""
    if not folder.exists():
        return
    exported = ExportedCircuit.read(folder)
    ours = {MANIFEST, *exported.manifest["files"]} if exported is not None else set()
    others = sorted({path.name for path in folder.iterdir()} - ours) if folder.is_dir() else [folder.name]
    if others:
        raise ExportError(f"{folder} holds other files ({some(others, 3)}); give a new folder with --out")
    if folder.samefile(Path.cwd()):
        raise ExportError("the working directory cannot be replaced; name a folder in it with --out")


def write_circuit_folder(
    circuit: AnyCircuit,
    trial: Trial,
    folder: Path,
    about: dict[str, Any],
    options: ExportOptions,
    compiler: Sequence[str] | None,
    optimize: bool = True,
) -> AnyCircuit:
    """Exports a circuit, checks it and describes it; the folder appears complete or not at all.

    The passes run if there is a C++ compiler; without one only dead gates are removed. What is exported, and returned,
    must give the scores of ``trial``, simulated and, if there is one, in the engine.

    Args:
        circuit: The circuit, gate for gate as in its net.
        trial: What it has to compute.
        folder: The folder to make, or to replace.
        about: First entries of the manifest; ``checkpoint`` among them.
        options: What is written, and how; a library is built by ``compiler`` alone.
        compiler: C compiler, if the library is to be built at once.
        optimize: Whether the passes run, of which there are none for gates of three inputs; without, every gate is
            exported as it is.

    Raises:
        ExportError: If the exported circuit and the net disagree on a sample.
        OSError: If the folder cannot be written.
    """
    smaller, reports = optimize_for_export(circuit) if optimize and circuit.arity == 2 else (circuit, [])
    compared = [trial.compare(smaller.scores(trial.inputs), "simulated circuit")]
    engine = _engine_of(smaller)
    if engine is not None:
        scores, decided = engine.scores_and_classes(trial.inputs)
        compared.append(trial.compare(scores, f"{engine.name} engine", decided))
    with atomic_folder(folder) as temporary:
        most = _BENCH_SEQUENCES if isinstance(circuit, SequentialCircuit) else _BENCH_VECTORS
        vectors = trial.inputs[vector_order(trial.scores)[:most]]
        formats = tuple(dict.fromkeys("c" if name == "library" else name for name in options.formats))
        exported = export_files(smaller, temporary, replace(options, formats=formats, samples=vectors))
        samples = {"samples": len(trial.inputs), "samples_from": trial.origin}
        versions = {"lgn_lightning": package_version("lgn-lightning"), "torch": torch.__version__}
        versions |= {"python": platform.python_version()}
        manifest = about | {
            "inputs": circuit.num_inputs,
            "classes": circuit.num_classes,
            "image_shape": circuit.image_shape,
            "preparation": circuit.preparation,
            "decoding": circuit.decoding.to_dict(),
            "class_names": circuit.class_names,
            "columns": None if circuit.columns is None else [asdict(column) for column in circuit.columns],
            "gates": {
                "before": circuit.num_gates,
                "after": smaller.num_gates,
                "stored": smaller.num_stored_gates if isinstance(smaller, LoopedCircuit) else smaller.num_gates,
                "passes": [{"name": report.name, "gates": report.after} for report in reports],
            },
            **({"state": smaller.num_state} if isinstance(smaller, SequentialCircuit) else {}),
            "fpga": _fpga(smaller, options),
            "engine": None if engine is None else {"name": engine.name, **engine.info},
            "check": {"result": "equal", "reference": trial.reference, "compared": compared, **samples},
            "prefix": exported.name,
            "compiler": None,
            "versions": versions,
            "files": exported.sha256(),
        }
        _write_manifest(temporary, manifest)
        if compiler is not None:
            add_library(ExportedCircuit(temporary, manifest), trial, compiler)
    return smaller


def add_library(exported: ExportedCircuit, trial: Trial, compiler: Sequence[str]) -> None:
    """Builds the shared library of a folder, puts it to the trial, and notes both in the manifest.

    Raises:
        CompilerError: If the compiler fails; the folder stays as it was.
        ExportError: If the library and the net disagree; the folder is deleted, as its source is wrong, too.
    """
    source = exported.source
    assert source is not None
    library = source.with_suffix(".so")
    compile_library(source, library, compiler=shlex.join(compiler))
    try:
        compiled = open_library(library, name=exported.manifest["prefix"])
        result = trial.compare(compiled.scores(trial.inputs), "compiled C", compiled.predict(trial.inputs))
    except ExportError:
        shutil.rmtree(exported.folder, ignore_errors=True)
        raise
    digest = hashlib.sha256(library.read_bytes()).hexdigest()
    files = exported.manifest["files"] | {library.name: digest}
    checked = exported.manifest["check"]
    checked = checked | {"compared": [*checked["compared"], result]}
    changes = {"check": checked, "compiler": program_version(compiler), "files": files}
    _write_manifest(exported.folder, exported.manifest | changes)


def copy_circuit_folder(source: ExportedCircuit, folder: Path, about: dict[str, Any]) -> None:
    """Writes the folder of another checkpoint with the same circuit, without compiling and checking it again."""
    with atomic_folder(folder) as temporary:
        shutil.copytree(source.folder, temporary, dirs_exist_ok=True)
        _write_manifest(temporary, source.manifest | about)


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    atomic_write_text(folder / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def _fpga(circuit: object, options: ExportOptions) -> dict[str, Any] | None:
    """What a flat circuit costs on an FPGA; None with loops, of very many gates, or without a C++ compiler."""
    if not isinstance(circuit, Circuit) or circuit.num_gates > _ESTIMATED_GATES:
        return None
    try:
        return estimate(circuit, options.pipeline, options.table_inputs).as_dict()
    except native.BuildError:
        return None


def _engine_of(circuit: AnyCircuit) -> Engine | SequenceEngine | None:
    if circuit.arity != 2:
        return None
    try:
        native.library()
    except native.BuildError:
        return None
    if isinstance(circuit, SequentialCircuit):
        return SequenceEngine(circuit, optimized=True)
    return Engine(circuit, optimized=True)

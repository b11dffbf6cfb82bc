"""The folder that `ExportCircuit` leaves: the files of a circuit, checked against the net, and a manifest of them."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lgn_lightning.base.errors import LgnError
from lgn_lightning.base.files import atomic_write_text
from lgn_lightning.circuit import Circuit, CompiledCircuit, LoopedCircuit, export_circuit, native
from lgn_lightning.circuit.emit.compiler import compile_library, find_compiler
from lgn_lightning.circuit.emit.verilog import vector_order
from lgn_lightning.circuit.form import STEM
from lgn_lightning.circuit.passes.flat import PassReport, optimize_for_export
from lgn_lightning.circuit.passes.looped import optimize_looped_for_export
from lgn_lightning.circuit.run.engine import Engine

MANIFEST: Final = "manifest.json"
_CHECK_BLOCK: Final = 256
#: Check samples that a Verilog test bench gets as vectors.
_BENCH_VECTORS: Final = 64


class ExportError(LgnError):
    """A circuit cannot be exported, or does not compute what the net computes."""


@dataclass(frozen=True)
class ExportedCircuit:
    """The exported circuit of a checkpoint, as found on disk.

    Attributes:
        folder: Where its files are.
        manifest: The contents of ``manifest.json``.
    """

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> ExportedCircuit | None:
        """Reads a folder; None if it holds no manifest."""
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return cls(folder, manifest) if isinstance(manifest, dict) and "checkpoint" in manifest else None

    @property
    def gates(self) -> int:
        """Gates that the exported circuit evaluates."""
        return int(self.manifest["gates"]["after"])

    @property
    def source(self) -> Path | None:
        """The C source, if it was asked for."""
        return self._file(".c")

    @property
    def library(self) -> Path | None:
        """The shared library, if there was a C compiler."""
        return self._file(".so")

    def compiled(self) -> CompiledCircuit:
        """Loads the shared library.

        Raises:
            ExportError: If there is none.
        """
        if self.library is None:
            raise ExportError(f"{self.folder} holds no shared library: there was no C compiler when it was exported")
        return CompiledCircuit(self.library, name=self.manifest["prefix"])

    def _file(self, suffix: str) -> Path | None:
        name = next((name for name in self.manifest["files"] if name.endswith(suffix)), None)
        return None if name is None else self.folder / name


@dataclass(frozen=True)
class Check:
    """What an exported circuit has to compute.

    Attributes:
        inputs: Flattened inputs, uint8 pixels or bool bits ``[N, …]``.
        scores: Scores of the hard net times tau: ones in each class, int64 ``[N, classes]``.
        origin: ``"validation"`` or ``"random"`` samples.
        reference: What gave the scores.
    """

    inputs: NDArray[Any]
    scores: NDArray[np.int64]
    origin: str
    reference: str = "hard net"

    @classmethod
    def of(cls, circuit: Circuit | LoopedCircuit, net: nn.Module, samples: Tensor | None) -> Check:
        """Evaluates the hard net on samples ``[N, …]``, or on random ones if there are None."""
        inputs = _random_inputs(circuit) if samples is None else _as_circuit_inputs(circuit, samples)
        scores = _hard_scores(circuit, net, inputs, samples)
        return cls(inputs.flatten(1).numpy(), scores, "random" if samples is None else "validation")

    @classmethod
    def of_circuit(cls, circuit: Circuit | LoopedCircuit) -> Check:
        """Simulates a circuit as it was given on random samples, for where there is no net."""
        inputs = _random_inputs(circuit).flatten(1).numpy()
        return cls(inputs, circuit.scores(inputs).astype(np.int64), "random", "simulated circuit as it was given")

    def compare(self, actual: NDArray[np.int32], what: str) -> str:
        """Compares scores; returns ``what``, for the manifest.

        Raises:
            ExportError: If they differ on a sample; the message names the first.
        """
        different = np.flatnonzero((actual != self.scores).any(axis=1))
        if different.size:
            first = int(different[0])
            raise ExportError(
                f"the {what} disagrees with the {self.reference} on {different.size} of {len(actual)} {self.origin} "
                f"samples, first on sample {first}: it gives the scores {actual[first].tolist()} and not "
                f"{self.scores[first].tolist()}; its circuit was not kept. Please report this with the checkpoint"
            )
        return what


def check_replaceable(folder: Path) -> None:
    """Makes sure that replacing a folder takes nothing away but an earlier export.

    Raises:
        ExportError: If there is a file of this name, or the folder holds other files or is the working directory.
    """
    if not folder.exists():
        return
    exported = ExportedCircuit.read(folder)
    ours = {MANIFEST, *exported.manifest["files"]} if exported is not None else set()
    others = sorted({path.name for path in folder.iterdir()} - ours) if folder.is_dir() else [folder.name]
    if others:
        names = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
        raise ExportError(f"{folder} holds other files ({names}); give a new folder with --out")
    if folder.samefile(Path.cwd()):
        raise ExportError("the working directory cannot be replaced; name a folder in it with --out")


def write_circuit_folder(
    circuit: Circuit | LoopedCircuit,
    check: Check,
    folder: Path,
    about: dict[str, Any],
    formats: Sequence[str],
    compiler: Sequence[str] | None,
    *,
    optimize: bool = True,
    pipeline: int = 0,
    form: str = "auto",
    name: str = STEM,
    word_bits: int = 64,
) -> None:
    """Exports a circuit, checks it and describes it; the folder appears complete or not at all.

    The passes run where there is a C++ compiler, without one only dead gates are removed. What is exported must give
    the scores of ``check``, simulated and in the engine, where there is one.

    Args:
        circuit: The circuit, gate for gate as in its net.
        check: What it has to compute.
        folder: The folder to make, or to replace.
        about: First entries of the manifest; ``checkpoint`` among them.
        formats: Formats of :func:`~lgn_lightning.circuit.export_circuit`, without ``"library"``.
        compiler: C compiler, if the library is to be built at once.
        optimize: Whether the passes run; without, every gate is exported as it is.
        pipeline: Gate levels between the registers of ``"verilog"``; 0 for a combinational circuit.
        form: Form of C, see :func:`~lgn_lightning.circuit.export_circuit`.
        name: Stem of the files, prefix of the C names and name of the Verilog module.
        word_bits: Samples in a word of the packed entry points of the C.

    Raises:
        ExportError: If the exported circuit and the net disagree on a sample.
        OSError: If the folder cannot be written.
    """
    smaller, reports = _optimized(circuit) if optimize else (circuit, [])
    compared = [check.compare(smaller.scores(check.inputs), "simulated circuit")]
    engine = _engine_of(smaller)
    if engine is not None:
        compared.append(check.compare(engine(check.inputs), f"{engine.name} engine"))
    with _replacing(folder) as temporary:
        vectors = check.inputs[vector_order(check.scores)[:_BENCH_VECTORS]]
        options: dict[str, Any] = {"form": form, "pipeline": pipeline, "word_bits": word_bits, "samples": vectors}
        exported = export_circuit(smaller, temporary, name, formats, **options)
        manifest = about | {
            "inputs": circuit.num_inputs,
            "classes": circuit.num_classes,
            "image_shape": circuit.image_shape,
            "preparation": circuit.preparation,
            "gates": {
                "before": circuit.num_gates,
                "after": smaller.num_gates,
                "stored": smaller.num_stored_gates if isinstance(smaller, LoopedCircuit) else smaller.num_gates,
                "passes": [{"name": report.name, "gates": report.after} for report in reports],
            },
            "engine": None if engine is None else {"name": engine.name, **engine.info},
            "check": {
                "result": "equal",
                "reference": check.reference,
                "compared": compared,
                "samples": len(check.inputs),
                "samples_from": check.origin,
            },
            "prefix": exported.name,
            "compiler": None,
            "versions": {
                "lgn_lightning": version("lgn-lightning"),
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            "files": exported.sha256(),
        }
        _write_manifest(temporary, manifest)
        if compiler is not None:
            add_library(ExportedCircuit(temporary, manifest), check, compiler)


def _optimized(circuit: Circuit | LoopedCircuit) -> tuple[Circuit | LoopedCircuit, list[PassReport]]:
    if isinstance(circuit, LoopedCircuit):
        return optimize_looped_for_export(circuit)
    return optimize_for_export(circuit)


def add_library(exported: ExportedCircuit, check: Check, compiler: Sequence[str]) -> None:
    """Builds the shared library of a folder, runs the check on it, and notes both in the manifest.

    Raises:
        CompilerError: If the compiler fails; the folder stays as it was.
        ExportError: If the library and the net disagree; the folder is deleted, as its source is wrong, too.
    """
    source = exported.source
    assert source is not None
    library = source.with_suffix(".so")
    compile_library(source, library, compiler=shlex.join(compiler))
    try:
        scores = CompiledCircuit(library, name=exported.manifest["prefix"]).scores(check.inputs)
        result = check.compare(scores, "compiled C")
    except ExportError:
        shutil.rmtree(exported.folder, ignore_errors=True)
        raise
    digest = hashlib.sha256(library.read_bytes()).hexdigest()
    files = exported.manifest["files"] | {library.name: digest}
    checked = exported.manifest["check"]
    checked = checked | {"compared": [*checked["compared"], result]}
    changes = {"check": checked, "compiler": compiler_version(compiler), "files": files}
    _write_manifest(exported.folder, exported.manifest | changes)


def copy_circuit_folder(source: ExportedCircuit, folder: Path, about: dict[str, Any]) -> None:
    """Makes the folder of another checkpoint of the very same circuit, without compiling and checking it again."""
    with _replacing(folder) as temporary:
        shutil.copytree(source.folder, temporary, dirs_exist_ok=True)
        _write_manifest(temporary, source.manifest | about)


def default_compiler() -> list[str]:
    """The C compiler that exports use; raises CompilerError if there is none."""
    return find_compiler()


def compiler_version(command: Sequence[str]) -> str:
    """First line of what a compiler says about itself; its path if it says nothing."""
    result = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    return next(iter(result.stdout.splitlines()), command[0])


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    atomic_write_text(folder / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")


def _engine_of(circuit: Circuit | LoopedCircuit) -> Engine | None:
    if circuit.arity != 2:
        return None
    try:
        native.library()
    except native.BuildError:
        return None
    return Engine(circuit, optimized=True)


def hard_scores(circuit: Circuit | LoopedCircuit, net: nn.Module, x: NDArray[Any]) -> NDArray[np.int32]:
    """Ones in each class by the hard net of a circuit, int32 ``[N, classes]``; ``x`` as `Circuit.scores` takes it."""
    return _hard_scores(circuit, net, torch.from_numpy(x), None).astype(np.int32)


def _as_circuit_inputs(circuit: Circuit | LoopedCircuit, samples: Tensor) -> Tensor:
    """What both sides of the check get: uint8 pixels where thresholds are built in, bool bits otherwise."""
    if circuit.levels is None:
        return samples > 0.5 if samples.is_floating_point() else samples.bool()
    return (samples.float() * 255).round().to(torch.uint8) if samples.is_floating_point() else samples.to(torch.uint8)


def _random_inputs(circuit: Circuit | LoopedCircuit, count: int = 256) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    if circuit.image_shape is not None:
        return torch.randint(0, 256, (count, *circuit.image_shape), dtype=torch.uint8, generator=generator)
    return torch.rand(count, circuit.num_inputs, generator=generator) > 0.5


@torch.no_grad()
def _hard_scores(
    circuit: Circuit | LoopedCircuit, net: nn.Module, inputs: Tensor, samples: Tensor | None
) -> NDArray[np.int64]:
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    dtype = samples.dtype if circuit.levels is None and samples is not None else inputs.dtype
    blocks = [net(block.to(device, dtype)).double().cpu() for block in torch.split(inputs, _CHECK_BLOCK)]
    # The net divides the counts by tau: undone, they are whole up to rounding.
    return (torch.cat(blocks) * circuit.tau).round().long().numpy()


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Yields an empty folder beside ``folder`` that takes its place if the block ends without an exception."""
    folder = folder.resolve()  # a link to a folder stays one
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        umask = os.umask(0)
        os.umask(umask)
        new, old = temporary / "new", temporary / "old"
        new.mkdir()
        new.chmod(0o777 & ~umask)
        yield new
        with suppress(FileNotFoundError):
            folder.rename(old)
        new.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)

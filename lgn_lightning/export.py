"""``lgn export``: the circuit of a checkpoint as files, checked against the net."""

from __future__ import annotations

from pathlib import Path

from lgn_lightning.callbacks.circuit_folder import MANIFEST, default_compiler, write_circuit_folder
from lgn_lightning.checkpoint import load_net
from lgn_lightning.circuit import Circuit
from lgn_lightning.circuit.compiler import CompilerError
from lgn_lightning.circuit.export import FORMATS
from lgn_lightning.errors import LgnError


def export_checkpoint(checkpoint: Path, folder: Path, formats: tuple[str, ...] = ("c",)) -> list[Path]:
    """Exports the net of a checkpoint, as the callback ``ExportCircuit`` does at training time.

    Args:
        checkpoint: A ``.ckpt`` file that ``lgn fit`` wrote.
        folder: Where to write: a new folder, or one that an earlier export left.
        formats: Formats to write; ``"c"`` comes with a shared library where there is a C compiler.

    Returns:
        The files written, the manifest last.

    Raises:
        LgnError: If the checkpoint cannot be used, or the folder holds other files.
        ValueError: If a format is unknown or the net has layers that are no gates.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise LgnError(f"unknown format {', '.join(map(repr, unknown))}; there are {', '.join(FORMATS)}")
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise LgnError(f"{folder} holds other files; give a new folder with --out")
    net, _ = load_net(checkpoint)
    circuit = Circuit.from_module(net)
    try:
        compiler = default_compiler()
    except CompilerError:
        if "library" in formats:
            raise
        compiler = None
    about = {"checkpoint": checkpoint.name}
    write_circuit_folder(circuit, net, None, folder, about, formats, compiler if "c" in formats else None)
    return [*sorted(path for path in folder.iterdir() if path.name != MANIFEST), folder / MANIFEST]

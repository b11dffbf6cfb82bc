"""Every checkpoint with its circuit: C source, header, library and manifest."""

import copy
import math
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray
from torch import Tensor, nn

from lgn_lightning.base.errors import ExportError
from lgn_lightning.base.lightning_private import is_rehearsal
from lgn_lightning.circuit import CircuitError, circuit_of_net
from lgn_lightning.circuit.api import AnyCircuit
from lgn_lightning.circuit.build.inputs import join_inputs
from lgn_lightning.circuit.emit.compiler import CompilerError, find_compiler
from lgn_lightning.circuit.emit.export import FORMATS, STEM, ExportOptions
from lgn_lightning.deploy.folder import (
    MANIFEST,
    ExportedCircuit,
    add_library,
    circuit_folder,
    copy_circuit_folder,
    write_circuit_folder,
)
from lgn_lightning.deploy.source import circuit_of_checkpoint
from lgn_lightning.deploy.trial import Trial
from lgn_lightning.runs.checkpoints import read_checkpoint

#: Entries of the manifest that differ between checkpoints of one circuit.
_ABOUT = ("checkpoint", "epoch", "global_step", "accuracy", "metrics")


class ExportCircuit(pl.Callback):
    """Exports the circuit of every checkpoint that ModelCheckpoint writes.

    For ``checkpoints/epoch=3-step=80.ckpt`` the folder ``circuits/epoch=3-step=80/`` appears beside ``checkpoints/``:

    - ``lgn_net.c`` and ``lgn_net.h``: C99 without dependencies, of the circuit that the passes leave (without a C++
      compiler only dead gates are removed);
    - ``lgn_net.so``: the shared library, if there is a C compiler (otherwise a warning, and the manifest says so); by
      default it is built when training ends, for the checkpoints that are left then;
    - ``manifest.json``: checkpoint, validation metrics as last logged, gate counts before and after each pass, the
      engine that ran the circuit, what was compared and the result, versions, and the SHA-256 of each file.

    The weights are those in the checkpoint, not those of the net in memory. The circuit, simulated and in the
    engine, and the library when it is built, must give the scores of the hard net on all check samples. Checkpoints
    that ModelCheckpoint deletes lose their circuit, too; checkpoints that others write (at Ctrl-C, say) get none. A
    wandb logger gets each folder as an artifact of type ``circuit``, and again with the library. A net that cannot
    become gates is trained without export, after a warning. Only rank zero exports; the other ranks wait for it as
    they wait for the checkpoint.

    Args:
        formats: Formats of :func:`~lgn_lightning.circuit.export_circuit`; ``"c"`` includes the library where it can be
            built, ``"library"`` insists on it.
        compile_at: ``"end"`` compiles once training has ended, as compiling a big net takes longer than an epoch and
            most checkpoints are soon deleted; ``"checkpoint"`` compiles right away, while training waits.
        check_samples: Validation samples to check on; before the first validation, random samples stand in.
    """

    def __init__(self, formats: Sequence[str] = ("c",), compile_at: str = "end", check_samples: int = 1024) -> None:
        unknown = [name for name in formats if name not in FORMATS]
        if isinstance(formats, str) or unknown or not formats:
            raise ValueError(f"ExportCircuit(formats={formats!r}): give a list of some of {', '.join(FORMATS)}")
        if check_samples < 1:
            raise ValueError(f"ExportCircuit(check_samples={check_samples}): must be at least 1")
        if compile_at not in ("end", "checkpoint"):
            raise ValueError(f"ExportCircuit(compile_at={compile_at!r}): give 'end' or 'checkpoint'")
        self.formats = tuple(formats)
        self.compile_at = compile_at
        self.check_samples = check_samples
        self._samples: list[NDArray[Any]] = []
        self._compiler: list[str] | None = None
        self._last: tuple[AnyCircuit, Path, Trial] | None = None
        self._pending: dict[Path, Trial] = {}
        self._active = False

    @staticmethod
    def exported_for(checkpoint: str | os.PathLike[str]) -> ExportedCircuit | None:
        """Finds the circuit of a checkpoint; None if it has none."""
        return ExportedCircuit.of_checkpoint(checkpoint)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Says before training what cannot be exported, and starts to follow the checkpoints."""
        self._release(trainer)
        self._samples, self._last, self._pending = [], None, {}
        rehearsal = is_rehearsal(trainer)  # ModelCheckpoint is off then
        self._active = trainer.is_global_zero and not rehearsal and self._can_export(trainer, pl_module)
        if self._active:
            self._compiler = self._find_compiler()
            # ModelCheckpoint announces neither what it saves nor what it deletes; both pass through the checkpoint IO,
            # with the path and the very weights.
            trainer.strategy.checkpoint_io = _Follower(trainer.strategy.checkpoint_io, self, trainer, pl_module)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *numbers: Any
    ) -> None:
        missing = self.check_samples - sum(map(len, self._samples))
        if self._active and missing > 0 and numbers[1:] in ((), (0,)):  # of the first loader
            x = join_inputs(batch if isinstance(batch, Tensor) else batch[0])[:missing].detach()
            self._samples.append((x.float() if x.is_floating_point() else x).cpu().numpy().copy())

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Builds the libraries of the checkpoints that are left; warns, unless ``formats`` insist on a library."""
        if not self._active or self._compiler is None:
            return
        self._find_pending(trainer, pl_module)
        built: dict[str, ExportedCircuit] = {}
        pending, self._pending = self._pending, {}
        for folder, trial in pending.items():
            exported = ExportedCircuit.read(folder)
            if exported is None or exported.library is not None:
                continue
            source = exported.manifest["files"][f"{STEM}.c"]
            try:
                if source in built:
                    copy_circuit_folder(built[source], folder, {name: exported.manifest[name] for name in _ABOUT})
                else:
                    add_library(exported, trial, self._compiler)
            except OSError as error:
                raise _unwritable(folder, error) from error
            except CompilerError as error:
                self._without_library(folder, error)
                return
            built[source] = ExportedCircuit.read(folder) or exported
            _log_artifacts(trainer, folder)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._release(trainer)

    def saved(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, content: dict[str, Any], checkpoint: Path
    ) -> None:
        """Exports the circuit of a checkpoint that was just written; an ExportError if it fails or the net differs."""
        root = _root_of(trainer, checkpoint)
        if root is None:
            return
        folder = circuit_folder(root, checkpoint)
        net = _net_with(content["state_dict"], pl_module)
        circuit = circuit_of_checkpoint(net, content, formats=self.formats)
        about = {
            "checkpoint": checkpoint.relative_to(root).as_posix(),
            "epoch": content.get("epoch"),
            "global_step": content.get("global_step"),
            "accuracy": _metrics(trainer).get("val/acc_hard"),
            "metrics": _metrics(trainer),
        }
        try:
            # last.ckpt follows the best one with the same weights, whose circuit is checked and perhaps compiled.
            twin = ExportedCircuit.read(self._last[1]) if self._last is not None and self._last[0] == circuit else None
            if self._last is not None and twin is not None and twin.folder != folder:
                trial = self._last[2]
                copy_circuit_folder(twin, folder, about)
            else:
                trial = self._trial(circuit, net)
                options = ExportOptions(self.formats)
                compiler = self._compiler if self.compile_at == "checkpoint" else None
                try:
                    write_circuit_folder(circuit, trial, folder, about, options, compiler)
                except CompilerError as error:
                    self._without_library(folder, error)
                    write_circuit_folder(circuit, trial, folder, about, options, None)
        except OSError as error:
            raise _unwritable(folder, error) from error
        self._last = circuit, folder, trial
        self._pending[folder] = trial
        _log_artifacts(trainer, folder)

    def _without_library(self, folder: Path, error: CompilerError) -> None:
        """Warns of a compiler that failed, once; raises the error if ``formats`` insist on a library."""
        if "library" in self.formats:
            raise error
        rank_zero_warn(f"ExportCircuit: {folder} has no library: {error}")
        self._compiler = None

    def removed(self, trainer: pl.Trainer, checkpoint: Path) -> None:
        """Deletes the circuit of a checkpoint that was just deleted; only folders of ours are touched."""
        exported = self.exported_for(checkpoint)
        if exported is None:
            return
        shutil.rmtree(exported.folder, ignore_errors=True)
        self._pending.pop(exported.folder, None)
        depth = len(Path(exported.manifest["checkpoint"]).parts)
        with suppress(OSError):  # not empty: others use it
            for parent in list(exported.folder.parents)[: depth - 1]:
                parent.rmdir()

    def _find_pending(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # A run that was killed leaves circuits without libraries; the resumed run may keep their checkpoints.
        for callback in _checkpointers(trainer):
            for path in sorted({*callback.best_k_models, callback.last_model_path} - {""}):
                exported = self.exported_for(path)
                if exported is None or exported.library is not None or exported.folder in self._pending:
                    continue
                content = read_checkpoint(path)
                net = _net_with(content["state_dict"], pl_module)
                self._pending[exported.folder] = self._trial(circuit_of_checkpoint(net, content), net)

    def _trial(self, circuit: AnyCircuit, net: nn.Module) -> Trial:
        return Trial.of_net(circuit, net, np.concatenate(self._samples) if self._samples else None)

    def _can_export(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
        folders = {Path(c.dirpath).parent / "circuits" for c in _checkpointers(trainer) if c.dirpath is not None}
        if not folders:
            rank_zero_warn("ExportCircuit: there is no ModelCheckpoint in this run, so no circuit will be exported")
            return False
        if any("://" in str(c.dirpath) for c in _checkpointers(trainer)):
            rank_zero_warn("ExportCircuit writes to local folders only; this run's checkpoints are remote: no export")
            return False
        net = getattr(pl_module, "net", None)
        if not isinstance(net, nn.Module):
            rank_zero_warn(f"ExportCircuit: {type(pl_module).__name__} has no attribute `net`: nothing to export")
            return False
        try:
            circuit_of_net(net, form="loops")
        except CircuitError as error:
            rank_zero_warn(f"ExportCircuit: this net cannot become a circuit, so there is nothing to export ({error})")
            return False
        for folder in folders:
            _check_writable(folder)
        return True

    def _find_compiler(self) -> list[str] | None:
        if "c" not in self.formats and "library" not in self.formats:
            return None
        try:
            return find_compiler()
        except CompilerError as error:
            if "library" in self.formats:
                raise ExportError(f"ExportCircuit(formats={self.formats}): {error}") from error
            rank_zero_warn(f"ExportCircuit writes C source but no library, and checks it by simulation: {error}")
            return None

    def _release(self, trainer: pl.Trainer) -> None:
        io = trainer.strategy.checkpoint_io
        if isinstance(io, _Follower) and io.callback is self:
            trainer.strategy.checkpoint_io = io.inner


class _Follower(CheckpointIO):
    """A checkpoint IO that tells `ExportCircuit` what another one has written and deleted."""

    def __init__(
        self, inner: CheckpointIO, callback: ExportCircuit, trainer: pl.Trainer, module: pl.LightningModule
    ) -> None:
        self.inner = inner
        self.callback = callback
        self._trainer = trainer
        self._module = module

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        self.inner.save_checkpoint(checkpoint, path, storage_options=storage_options)
        self.callback.saved(self._trainer, self._module, checkpoint, Path(path).absolute())

    def load_checkpoint(self, *args: Any, **options: Any) -> dict[str, Any]:
        return self.inner.load_checkpoint(*args, **options)

    def remove_checkpoint(self, path: Any) -> None:
        self.inner.remove_checkpoint(path)
        self.callback.removed(self._trainer, Path(path).absolute())

    def teardown(self) -> None:
        self.inner.teardown()


def _checkpointers(trainer: pl.Trainer) -> list[ModelCheckpoint]:
    return [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]


def _root_of(trainer: pl.Trainer, checkpoint: Path) -> Path | None:
    """The dirpath of the ModelCheckpoint that is writing ``checkpoint``; None if somebody else does."""
    for callback in _checkpointers(trainer):
        mine = {callback.best_model_path, callback.last_model_path, *callback.best_k_models} - {""}
        if callback.dirpath is not None and checkpoint in {Path(path).absolute() for path in mine}:
            return Path(callback.dirpath).absolute()
    return None


def _net_with(state: dict[str, Any], pl_module: pl.LightningModule) -> nn.Module:
    """A copy of the net with the checkpoint's weights, which may be other ones: averaging callbacks replace them."""
    net = copy.deepcopy(pl_module.net)
    assert isinstance(net, nn.Module)
    net.load_state_dict({name[len("net.") :]: value for name, value in state.items() if name.startswith("net.")})
    return net.float().eval()


def _metrics(trainer: pl.Trainer) -> dict[str, float | None]:
    values = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}  # JSON knows no NaN


def _check_writable(folder: Path) -> None:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise _unwritable(folder, NotADirectoryError(f"{existing} is not a folder"))
    if not os.access(existing, os.W_OK | os.X_OK):
        raise _unwritable(folder, PermissionError(f"{existing} is read-only"))


def _unwritable(folder: Path, error: OSError) -> ExportError:
    return ExportError(
        f"cannot write circuits to {folder} ({error.strerror or error}); choose a writable place with "
        "ModelCheckpoint(dirpath=...) or the logger's save_dir"
    )


def _log_artifacts(trainer: pl.Trainer, folder: Path) -> None:
    loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
    exported = ExportedCircuit.read(folder)
    if not loggers or exported is None:
        return
    import wandb  # takes seconds, for those alone who log to it

    # wandb refuses slashes and colons in aliases.
    alias = re.sub(r"[^A-Za-z0-9_.=-]", "-", Path(exported.manifest["checkpoint"]).with_suffix("").as_posix())
    for logger in loggers:
        artifact = wandb.Artifact(f"circuit-{logger.experiment.id}", type="circuit", metadata=exported.manifest)
        for name in (*exported.manifest["files"], MANIFEST):  # add_dir prints a line at every checkpoint
            artifact.add_file(str(folder / name))
        logger.experiment.log_artifact(artifact, aliases=["latest", alias])

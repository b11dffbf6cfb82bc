"""Writes checkpoints so that neither a kill nor a full disk can damage the one that is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from lgn_lightning.base.errors import CheckpointError
from lgn_lightning.base.files import atomic_path


class AtomicCheckpointIO(TorchCheckpointIO):
    """A checkpoint is written beside its place, brought to the disk, and only then renamed into it.

    Lightning's own IO moves a file from the system's temporary folder, which is a copy where that is another file
    system, and keeps a second copy of all tensors in memory while it does. Remote paths (``s3://…``) are left to it.

    Raises:
        CheckpointError: If a checkpoint cannot be written; the file that was there is as it was.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Writes a checkpoint to a local ``path``, atomically."""
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        try:
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())  # without it a power cut may leave the new name with nothing behind it
        except (OSError, RuntimeError) as error:
            reason = _os_error(error)
            if reason is None:
                raise
            raise CheckpointError(_message(Path(path), reason)) from error


def _os_error(error: BaseException | None) -> OSError | None:
    """The OSError behind an exception: torch's writer reports a failed write as its own failure to finish the file."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def _message(path: Path, error: OSError) -> str:
    kept = f"; {path} is still the one written before" if path.exists() else ""
    return (
        f"cannot write checkpoint {path}: {error.strerror or error}{kept}. Free space or choose another place, then go "
        "on with `lgn fit <recipe> --resume`"
    )

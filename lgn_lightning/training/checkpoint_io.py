"""Writes checkpoints so that neither a kill nor a full disk damages the previous one."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from lgn_lightning.base.errors import CheckpointError
from lgn_lightning.base.files import atomic_path


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, flushes it to the disk, and only then renames it.

    Lightning's own IO moves a file from the system's temporary folder, which copies it if that is another file system,
    and holds a second copy of all tensors in memory. Remote paths (``s3://…``) are left to it.

    Raises:
        CheckpointError: If a checkpoint cannot be written; the previous file stays as it is.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Writes a checkpoint to a local ``path``, atomically."""
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        try:
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                torch.save(checkpoint, file)
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
        f"cannot write checkpoint {path}: {error.strerror or error}{kept}. Free space or choose another place, then "
        "resume with `lgn fit <recipe> --resume`"
    )

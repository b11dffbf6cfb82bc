"""Checkpoint files: read as data alone, and which of them a run stands for."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from lgn_lightning.base.errors import CheckpointError
from lgn_lightning.runs.folder import RESUME_POINT, RUNS


@dataclass(frozen=True)
class ChosenCheckpoint:
    """The checkpoint that a run stands for.

    Attributes:
        path: Its file.
        why: Why this one, for a message; empty if it was named itself.
    """

    path: Path
    why: str = ""

    def __str__(self) -> str:
        return f"{self.path} ({self.why})" if self.why else str(self.path)


def chosen_checkpoint(target: str | os.PathLike[str]) -> ChosenCheckpoint:
    """Chooses the checkpoint that a path stands for.

    Of a run it is the one that validation chose, which every checkpoint of a Lightning ``ModelCheckpoint`` knows by its
    path; else ``last.ckpt``; else the one of the most steps. The point to resume from counts if there is nothing else.

    Args:
        target: A checkpoint, the folder of a run, or ``runs/<recipe>``, of which the newest run is taken.

    Returns:
        The checkpoint, and why.

    Raises:
        CheckpointError: If there is none.
    """
    path = Path(target)
    if path.is_file():
        return ChosenCheckpoint(path)
    if not path.is_dir():
        raise CheckpointError(f"there is no run or checkpoint {path}; runs are in {RUNS}/<recipe>/")
    for folder in (path, path / "checkpoints", *sorted(path.glob("version_*/checkpoints"), key=_version, reverse=True)):
        if files := list(folder.glob("*.ckpt")):
            return _choose(files)
    raise CheckpointError(
        f"{path} holds no checkpoint: looked for *.ckpt in it, in checkpoints/ and in version_*/checkpoints/"
    )


def run_folder(checkpoint: Path) -> Path:
    """The folder of the run that a checkpoint belongs to; its own folder, if it lies elsewhere."""
    folder = checkpoint.parent
    return folder.parent if folder.name == "checkpoints" else folder


def _version(checkpoints: Path) -> int:
    number = checkpoints.parent.name.removeprefix("version_")
    return int(number) if number.isdigit() else -1


def _choose(files: list[Path]) -> ChosenCheckpoint:
    kept = {file.name: file for file in files if file.name != RESUME_POINT}
    if not kept:
        return ChosenCheckpoint(files[0], "the point to resume from: there is no other checkpoint")
    known = [(*_steps_and_states(file), file.stat().st_mtime, file) for file in files]
    known.sort(key=lambda one: (one[0], one[2]), reverse=True)
    for _, states, *_ in known:  # the latest knows best
        for state in states:
            # By its name, as the run may have been moved since.
            best = Path(state.get("best_model_path") or "").name
            if state.get("monitor") is not None and best in kept:
                return ChosenCheckpoint(kept[best], f"chosen by validation, {state['monitor']}")
    if "last.ckpt" in kept:
        return ChosenCheckpoint(kept["last.ckpt"], "the last one: validation chose none")
    newest = next(file for *_, file in known if file.name in kept)
    return ChosenCheckpoint(newest, "the newest one: validation chose none")


def _steps_and_states(file: Path) -> tuple[int, list[dict[str, Any]]]:
    """Steps of a checkpoint and the states of its callbacks; nothing of one that cannot be read."""
    try:
        content = read_checkpoint(file, mmap=True)
    except CheckpointError:
        return -1, []
    states = (content.get("callbacks") or {}).values()
    return int(content.get("global_step", 0)), [state for state in states if isinstance(state, dict)]


def read_checkpoint(path: str | os.PathLike[str], mmap: bool = False) -> dict[str, Any]:
    """Reads a Lightning checkpoint, tensors and plain values only (``weights_only=True``).

    Args:
        path: The ``.ckpt`` file.
        mmap: Whether tensors stay in the file until they are used.

    Returns:
        Its content, on the CPU.

    Raises:
        CheckpointError: If it is not there, damaged, or holds anything but data.
    """
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(f"there is no checkpoint {file}")
    import torch  # takes seconds, which a command that is given a circuit file does not need

    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch raises what zipfile, pickle or its own reader raise
        raise CheckpointError(
            f"checkpoint {file} cannot be read: it is truncated, damaged or no checkpoint ({_reason(error)}); "
            "take another one from its folder"
        ) from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise CheckpointError(f"{file} is no checkpoint of a training run: it has no state_dict")
    return content


def _reason(error: Exception) -> str:
    if isinstance(error, UnpicklingError):  # torch's words are advice to execute what the file holds
        found = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
        return f"it holds the code object {found[1]}, and is read as data alone" if found else "it holds no tensors"
    return str(error).strip().split("\n")[0]

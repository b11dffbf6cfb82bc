"""Checkpoint files: read as data alone, and which of them a run stands for."""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

from lgn_lightning.base.errors import CheckpointError, note
from lgn_lightning.runs.folder import RESUME_POINT, RUNS, version_number

#: The key of a checkpoint under which its `digest` stands.
DIGEST: Final = "lgn_sha256"


@dataclass(frozen=True)
class ChosenCheckpoint:
    """The checkpoint file that a run stands for, and why this one, for a message; empty if it was named itself."""

    path: Path
    why: str = ""

    def __str__(self) -> str:
        return f"{self.path} ({self.why})" if self.why else str(self.path)


def chosen_checkpoint(target: str | os.PathLike[str]) -> ChosenCheckpoint:
    """Chooses the checkpoint that a path stands for: itself, a run's, or that of the newest run in ``runs/<recipe>``.

    Of a run it is the one that validation chose, which every checkpoint of a Lightning ``ModelCheckpoint`` knows by its
    path; else ``last.ckpt``; else the one of the most steps. The point to resume from counts if there is nothing else.
    Without any it is a CheckpointError.
    """
    path = Path(target)
    if path.is_file():
        return ChosenCheckpoint(path)
    if not path.is_dir():
        raise CheckpointError(f"there is no run or checkpoint {path}; runs are in {RUNS}/<recipe>/")
    runs = sorted(path.glob("version_*"), key=version_number, reverse=True)
    for folder in (path, path / "checkpoints", *(run / "checkpoints" for run in runs)):
        if files := list(folder.glob("*.ckpt")):
            return _choose(files)
    raise CheckpointError(f"{path} holds no checkpoint, nor do its checkpoints/ and version_*/checkpoints/")


def run_folder(checkpoint: Path) -> Path:
    """The folder of the run that a checkpoint belongs to; its own folder, if it lies elsewhere."""
    folder = checkpoint.parent
    return folder.parent if folder.name == "checkpoints" else folder


def _choose(files: list[Path]) -> ChosenCheckpoint:
    kept = {file.name: file for file in files if file.name != RESUME_POINT}
    if not kept:
        return ChosenCheckpoint(files[0], "the point to resume from: there is no other checkpoint")
    known = [(*_steps_and_states(file), file.stat().st_mtime, file) for file in files]
    known.sort(key=lambda one: (one[0], one[2]), reverse=True)
    for _, states, *_ in known:  # the latest knows best
        for state in states:
            # By its name, as the run may have been moved since.
            best = Path(str(state.get("best_model_path") or "")).name
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
    states = content.get("callbacks")
    found = states.values() if isinstance(states, dict) else ()
    return content.get("global_step", 0), [state for state in found if isinstance(state, dict)]


def read_checkpoint(path: str | os.PathLike[str], mmap: bool = False) -> dict[str, Any]:
    """Reads a Lightning checkpoint on the CPU, tensors and plain values only (``weights_only=True``).

    With ``mmap`` tensors stay in the file until they are used; the digest is then not checked. A CheckpointError if the
    file is not there, damaged, or holds anything but data.
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
    if wrong := _wrong_value(content):
        raise CheckpointError(f"checkpoint {file} cannot be used: {wrong}; take another one from its folder")
    if mmap:
        return content
    noted, found = content.get(DIGEST), digest(content)
    if noted is None:
        note(f"checkpoint {file} has no digest, as those of releases before 0.2: a damaged weight would not be noticed")
    elif damaged := [str(key) for key in content if found.get(key) != noted.get(key) and key in noted]:
        raise CheckpointError(
            f"checkpoint {file} is damaged: its {', '.join(damaged)} does not agree with the SHA-256 in it; take "
            "another one from its folder"
        )
    return content


def _wrong_value(content: dict[str, Any]) -> str | None:
    """What stands in a checkpoint where a value of another type belongs."""
    import torch  # as above

    weights, names = content["state_dict"], content.get("lgn_class_names")
    if not isinstance(weights, dict):
        return "its state_dict holds no weights by name"
    for name, value in weights.items():
        if not isinstance(name, str):
            return f"a weight has the name {name!r}"
        if not isinstance(value, torch.Tensor) and not name.endswith("_extra_state"):
            return f"{name} is no tensor but {type(value).__name__}"
        if isinstance(value, torch.Tensor) and (value.layout != torch.strided or value.is_meta):
            return f"{name} is no plain tensor"
    kinds = {"global_step": int, "lgn_recipe": str, "lgn_preparation": str, "lgn_decoding": dict, DIGEST: dict}
    for key, kind in kinds.items():
        if not isinstance(content.get(key), (kind, type(None))):
            return f"its {key} is {type(content[key]).__name__}"
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        return "its lgn_class_names are no list of names"
    return None


def digest(content: dict[str, Any]) -> dict[str, str]:
    """SHA-256 of the tensors of a checkpoint, by the key of the content that they are in.

    By key, so that a file without the states of its optimizer, or with what a subclass added, is no damaged one.
    """
    import torch  # as above

    found = {}
    for key, part in content.items():
        if tensors := list(_tensors(part, str(key))):
            sha = hashlib.sha256()
            for name, tensor in tensors:
                sha.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode(errors="backslashreplace"))
                # Bytes, whatever numpy knows of the dtype.
                sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
            found[str(key)] = sha.hexdigest()
    return found


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The plain tensors in nested dicts and lists, with where they are."""
    import torch  # as above

    if isinstance(value, torch.Tensor):
        if value.layout == torch.strided and not value.is_meta and not value.is_quantized:
            yield name, value
    elif isinstance(value, (dict, list, tuple)):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _tensors(part, f"{name}.{key}")


def _reason(error: Exception) -> str:
    if isinstance(error, UnpicklingError):  # torch's words are advice to execute what the file holds
        found = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
        return f"it holds the code object {found[1]}, and is read as data alone" if found else "it holds no tensors"
    return str(error).strip().split("\n")[0]

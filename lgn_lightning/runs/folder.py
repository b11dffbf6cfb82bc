"""The folder of a run, ``runs/<recipe>/version_N``: what lies in it, who may write there, which one to resume."""

import json
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from lgn_lightning.base.errors import RunError
from lgn_lightning.base.files import atomic_write_text
from lgn_lightning.base.plain_values import read_json

RUNS: Final = Path("runs")
#: The checkpoint that ``--resume`` starts from.
RESUME_POINT: Final = "resume.ckpt"
#: Names of what an interrupted write leaves, see ``atomic_path`` and ``atomic_folder``.
_LEFTOVER = re.compile(r"\.(.+)\.[0-9a-f]{8}(\.\w+)?")
#: Files of a run before its first step.
_BEFORE_TRAINING: Final = {".lock", "config.yaml"}


@dataclass(frozen=True)
class RunFolder:
    """Where a run leaves its settings, metrics, checkpoints, circuits and result."""

    path: Path

    @property
    def config(self) -> Path:
        """The settings of ``lgn fit``, with all that was overridden: written first."""
        return self.path / "config.yaml"

    @property
    def resume_point(self) -> Path:
        """The checkpoint that ``--resume`` starts from."""
        return self.path / "checkpoints" / RESUME_POINT

    @property
    def result_file(self) -> Path:
        """The result on the test split: written last."""
        return self.path / "result.json"

    @property
    def result(self) -> dict[str, Any] | None:
        """The result; None if the run has not finished.

        Raises:
            RunError: If its file is none of ``lgn fit``.
        """
        if not self.result_file.is_file():
            return None
        mend = "remove it, and resume or train the run again"
        result = read_json(self.result_file, RunError, mend)
        if not isinstance(result, dict):
            raise RunError(f"{self.result_file} is no result of `lgn fit`; {mend}")
        return result

    def check_new(self) -> None:
        """Refuses, by a RunError, to start a run where there is one."""
        if not self.config.is_file():
            return
        kind, resume = "an unfinished run", f"resume it by `lgn fit --resume {self.path}`, or "
        if self.result_file.is_file():
            kind, resume = "a finished run", ""
        raise RunError(
            f"{self.path} holds {kind}, which would be overwritten: {resume}give another name or folder (--run_name, "
            "--trainer.default_root_dir), or remove this one to start anew"
        )

    def finish(self, result: dict[str, Any]) -> None:
        """Writes the result, and removes the resume point of the finished run."""
        atomic_write_text(self.result_file, json.dumps(result, indent=2) + "\n")
        self.resume_point.unlink(missing_ok=True)

    def lock(self) -> FileLock:
        """Locks the folder for this process, until it ends in whatever way; a RunError if another process holds it."""
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RunError(f"run {self.path} is running in another process: wait for it, or stop it first") from None
        return lock

    def discard(self) -> None:
        """Removes the folder of a run that failed before its first step, unless it holds more than settings.

        The folders of the recipe and of all runs go with it, where they are empty.
        """
        if not self.path.is_dir():
            return
        try:
            lock = self.lock()
        except RunError:  # another process trains there
            return
        try:
            if {path.name for path in self.path.iterdir()} <= _BEFORE_TRAINING:
                shutil.rmtree(self.path)
        finally:
            lock.release()
        with suppress(OSError):  # not empty
            for parent in list(self.path.parents)[:2]:
                parent.rmdir()

    def remove_leftovers(self) -> None:
        """Removes what a killed process left half written. Only call it with the lock held."""
        for folder in (self.path, self.path / "checkpoints", self.path / "circuits"):
            for path in folder.iterdir() if folder.is_dir() else ():
                if _LEFTOVER.fullmatch(path.name):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def find_run(recipe: str, given: Path | None = None, name: str | None = None) -> RunFolder | None:
    """Finds the run that ``lgn fit <recipe> --resume [given]`` resumes; None if there is no run, or none of the name.

    Without its folder or a name (``--run_name``) it is the newest run of the recipe that has a resume point; where none
    has, the newest. A RunError if the folder is not that of a run, or the run is finished.
    """
    if given is None and name is not None:
        given = RUNS / recipe / name
        if not RunFolder(given).config.is_file():
            return None
    run = _run_to_resume(recipe) if given is None else RunFolder(given)
    if run is None:
        return None
    if not run.config.is_file():
        raise RunError(f"{run.path} is not the folder of a run: it has no config.yaml; runs are in {RUNS}/<recipe>/")
    if run.result_file.is_file():
        with suppress(RunError):  # its process may have been killed when it wrote its result for the second time
            lock = run.lock()
            run.remove_leftovers()
            lock.release()
        raise RunError(
            f"run {run.path} is finished: {run.result_file} holds its result. `lgn fit {recipe}` starts a new run; to "
            f"train this one on, give --ckpt_path {run.path / 'checkpoints' / 'last.ckpt'} and --trainer.max_steps"
        )
    return run


def _run_to_resume(recipe: str) -> RunFolder | None:
    runs = [RunFolder(config.parent) for config in (RUNS / recipe).glob("*/config.yaml")]
    stopped = [run for run in runs if run.resume_point.is_file() and not run.result_file.is_file()]
    return _newest(stopped or runs)


def _newest(runs: list[RunFolder]) -> RunFolder | None:
    # By number and not by time: a copy has the time at which it was copied.
    newest = max(runs, key=lambda run: version_number(run.path), default=None)
    if newest is not None and version_number(newest.path) >= 0:
        return newest
    return max(runs, key=lambda run: run.config.stat().st_mtime, default=None)


def version_number(run: Path) -> int:
    """N of a run's folder ``version_N``; -1 of one with another name."""
    found = re.fullmatch(r"version_(\d+)", run.name)
    return int(found[1]) if found else -1

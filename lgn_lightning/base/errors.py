"""Errors that a user can mend; the command line prints their message alone and exits with 1."""

import sys
import traceback
from collections.abc import Iterable


class LgnError(RuntimeError):
    """What went wrong, where, and how to mend it, in one message."""


class UsageError(LgnError):
    """A command line, or a key or value of a recipe, that cannot be read; the exit code is 2."""


class RecipeError(LgnError):
    """A recipe is not there or cannot be used."""


class CheckpointError(LgnError):
    """A checkpoint is not there, is damaged, or does not fit."""


class DataError(LgnError):
    """A data set or image is missing, corrupt or does not fit the settings; the message names path and fix."""


class ExportError(LgnError):
    """A circuit cannot be exported, or does not compute what its net computes."""


class TrainingError(LgnError, ValueError):
    """Weights or loss of a training hold NaN or infinity."""


class RunError(LgnError):
    """A run cannot be started or resumed."""


class ResultError(LgnError):
    """Reproduced results are not there or cannot be read."""


def unwrapped(error: BaseException) -> BaseException:
    """The exception that a class raised, without those that jsonargparse wrapped around it."""
    while error.__cause__ is not None and raised_by(error) == "jsonargparse":
        error = error.__cause__
    return error


def raised_by(error: BaseException) -> str:
    """The package whose code raised an error."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__", "")).partition(".")[0] if frames else ""


def some(names: Iterable[object], most: int = 6) -> str:
    """The first of some names, for a message."""
    names = list(names)
    return ", ".join(map(str, names[:most])) + (f", … ({len(names)})" if len(names) > most else "")


def note(text: str) -> None:
    """Tells the user what is no error, on standard error."""
    print(f"note: {text}", file=sys.stderr)

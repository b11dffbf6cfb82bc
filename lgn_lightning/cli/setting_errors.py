"""One error for a setting that cannot be used: its key and the innermost cause."""

from __future__ import annotations

import re
import textwrap
import traceback
from argparse import ArgumentError
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser

from lgn_lightning.base.errors import LgnError, RecipeError, UsageError, raised_by, unwrapped
from lgn_lightning.base.machine import in_gigabytes

#: What the constructor of a class raises if it is given what it cannot use; anything else is a bug of the class.
_BAD_INPUT: Final = (ValueError, OSError, ImportError, MemoryError, MisconfigurationException)
#: What to do about errors whose own message does not say it, by a part of the message.
_MENDS: Final = {
    "No supported gpu backend found": "torch sees no GPU here, see `lgn doctor`; without trainer.accelerator a recipe "
    "trains on what there is",
    "configured with `enable_checkpointing=False`": "leave that key out, or take the callback out of a copy of the "
    "recipe, which `lgn cp` makes",
    "No module named": "install it, or name the folder that it is in by PYTHONPATH",
}


class SettingsParser(LightningArgumentParser):
    """Takes keys by their full names only, and says in one error what is wrong with a setting, without the usage."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises the error.

        Raises:
            UsageError: With the key and the innermost cause.
            ArgumentError: In the parser of a nested class, for the parser around it.
        """
        if not self.exit_on_error:
            raise ArgumentError(None, message) from ex
        raise UsageError(_describe(message)) from ex


@contextmanager
def named_errors(settings: Namespace) -> Iterator[None]:
    """Turns what the constructor of a class refuses into one error with the key of the class.

    Args:
        settings: The settings, parsed.

    Raises:
        RecipeError: If a constructor refuses its input. Other exceptions are bugs, and pass as they are.
    """
    try:
        yield
    except Exception as error:
        cause = _cause(error)
        key = _key_of(cause, settings)
        refused = isinstance(cause, _BAD_INPUT) or (key == "trainer" and isinstance(cause, TypeError))
        if isinstance(cause, LgnError) or not refused:
            if cause is error:
                raise
            raise cause from None
        if key is None and cause is error and not isinstance(cause, MisconfigurationException):
            raise
        message = _describe(str(error)) if raised_by(cause) == "jsonargparse" else _mended(str(cause))
        raise RecipeError(f"{key}: {message}" if key else message) from error


def _cause(error: BaseException) -> BaseException:
    """The exception that a class raised, without those that jsonargparse wrapped around it."""
    error = unwrapped(error)
    # torch's allocator of the CPU raises no class of its own.
    if type(error) is RuntimeError and (found := re.search(r"you tried to allocate (\d+) bytes", str(error))):
        return MemoryError(f"it takes {in_gigabytes(int(found[1]))} of memory").with_traceback(error.__traceback__)
    return error


def _key_of(cause: BaseException, settings: Namespace) -> str | None:
    """The key of the class whose constructor raised an error; None if the settings name no such class."""
    made, between = None, False
    for frame, _ in traceback.walk_tb(cause.__traceback__):
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] == "jsonargparse" or module == "lightning.pytorch.cli":
            between = True
        elif between:
            made, between = type(frame.f_locals.get("self")).__name__, False
    if made == "Trainer":
        return "trainer"
    return next((key for key, name in _classes(settings) if name == made), None)


def _classes(settings: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Keys and names of the classes of nested settings."""
    if isinstance(settings, list):
        for value in settings:
            yield from _classes(value, key)
    elif isinstance(settings, (Namespace, dict)):
        if isinstance(settings.get("class_path"), str):
            yield key, settings["class_path"].rpartition(".")[2]
        for name, value in vars(settings).items() if isinstance(settings, Namespace) else settings.items():
            yield from _classes(value, key if name == "init_args" else f"{key}.{name}".lstrip("."))


def _describe(message: str) -> str:
    """The key and the innermost cause of a message of jsonargparse, which nests all that it tried."""
    keys, classes, cause = _innermost(message)
    where = ".".join(keys) + (f" ({classes[-1]})" if classes else "")
    return f"{where}: {_mended(cause)}" if where else _mended(cause)


def _innermost(message: str) -> tuple[list[str], list[str], str]:
    """Keys, class paths, and cause."""
    head, _, rest = textwrap.dedent(message).strip().partition("\n")
    if match := re.fullmatch(r'Parser key "(.+)"( element \d+)?:', head):
        keys, classes, cause = _innermost(rest)
        return [match[1].removeprefix("init_args."), *keys], classes, cause
    if match := re.fullmatch(r"Problem with given class_path '(.+)':", head):
        keys, classes, cause = _innermost(rest)
        return keys, [match[1], *classes], cause
    if head.startswith("- ") or head.startswith("Does not validate against any of the Union"):
        return _most_telling(message)
    if match := re.search(r"dot import path string: ([\w.]+)", head):
        return [], [], f"there is no class {match[1]}: give its name or its import path, such as package.module.Name"
    cause = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", f"{head}\n{rest}".strip())
    cause = re.sub(
        r"^Type typing\.Callable\[.*?\] expects a function or a callable class: (.*?)(\. Got value: .*)?$", r"\1", cause
    )
    cause = cause.replace("typing.", "").replace("NoneType", "null")
    cause = cause.replace("Expected a ", "expected ").replace(". Got value: ", ", got ")
    return [], [], cause


def _most_telling(message: str) -> tuple[list[str], list[str], str]:
    """The first alternative of a union that failed for more than its type."""
    text = textwrap.dedent(message).strip()
    tried, value = text, ""
    if text.startswith("Does not validate"):
        tried, _, given = text.partition("Errors:")[2].partition("Given value type:")
        value = given.partition("Given value: ")[2].strip()
    bullets = [_innermost(bullet) for bullet in re.split(r"^- ", textwrap.dedent(tried.strip("\n")), flags=re.M)[1:]]
    telling = [b for b in bullets if b[0] or b[1] or not b[2].startswith("expected ")]
    telling = [b for b in telling if not b[2].startswith("Expected a path")] or telling
    if not telling:
        types = " or ".join(b[2].removeprefix("expected ") for b in bullets)
        return [], [], f"expected {types}, got {value}"
    keys, classes, cause = telling[0]
    if match := re.match(r"Import path (?:\S+ )?does not correspond to a subclass of (\w+)", cause):
        cause = f"{value or 'the class'} is no subclass of {match[1]}"
        if match[1] == "SampleDataModule":
            cause += ", as lgn_lightning.data.ImageDataModule is, which holds samples; a Trainer in Python takes any"
    return keys, classes, cause


def _mended(message: str) -> str:
    """A message, and what to do about it, if that is known."""
    mend = next((mend for text, mend in _MENDS.items() if text in message), None)
    return f"{message.rstrip('.!')}; {mend}" if mend else message

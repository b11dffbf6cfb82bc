"""What a file may name: a trained net is data, and what it names is imported only from packages that are trusted.

A recipe that a user passes to ``lgn fit`` is code. The settings inside a checkpoint are not: whoever made the file
chose them. `trusted_settings` reads them before anything is imported or built.
"""

import os
import re
import shlex
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from importlib.util import find_spec
from inspect import Parameter, signature
from typing import Any, Final

import yaml

from lgn_lightning.base.errors import CheckpointError, note
from lgn_lightning.base.settings_text import parse_yaml

#: Packages whose classes are always built.
PACKAGES: Final = ("lgn_lightning", "torch.nn", "torchvision")
VARIABLE: Final = "LGN_TRUST_MODULES"
#: Characters of a text; no argument here is nearly as long.
_LONGEST: Final = 10_000
#: Keys of the settings of an object.
SPEC: Final = frozenset(("class_path", "init_args", "dict_kwargs"))
DOTTED: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")

_named: ContextVar[tuple[str, ...]] = ContextVar("_named", default=())
_command: ContextVar[str | None] = ContextVar("_command", default=None)


@contextmanager
def trusting(modules: Collection[str] = (), command: str | None = None) -> Iterator[None]:
    """Trusts packages, and all below them, within the block; ``command`` is the command line, for messages."""
    tokens = _named.set((*_named.get(), *modules)), _command.set(command or _command.get())
    try:
        yield
    finally:
        _named.reset(tokens[0])
        _command.reset(tokens[1])


def trusted_modules() -> tuple[str, ...]:
    """The packages that the user trusts, besides `PACKAGES`."""
    found = (*_named.get(), *os.environ.get(VARIABLE, "").split(","))
    return tuple(dict.fromkeys(name.strip() for name in found if name.strip()))


def trusted_settings(
    settings: Any, source: object, kinds: tuple[type, ...], more: Collection[str] = (), given: Collection[str] = ()
) -> Any:
    """Checks settings that were found in a file, and takes out the places that they name.

    Args:
        settings: Settings of one object or of several, as plain values: ``class_path``, ``init_args``.
        source: The file, for messages.
        kinds: Classes of `PACKAGES` must be of one of these. Those that the user trusts may be any.
        more: Packages that count among `PACKAGES` here.
        given: Arguments that the user gave, and the file need not.

    Returns:
        A copy, in which the arguments that a class lists in ``not_from_files`` are what it says there.

    Raises:
        CheckpointError: If they name anything but a class that may be built.
    """
    return _Check(source, kinds, (*PACKAGES, *more), trusted_modules(), given).walk(settings)


class _Check:
    def __init__(
        self,
        source: object,
        kinds: tuple[type, ...],
        packages: tuple[str, ...],
        trusted: tuple[str, ...],
        given: Collection[str],
    ) -> None:
        self.source, self.kinds, self.packages, self.trusted, self.given = source, kinds, packages, trusted, given

    def walk(self, value: Any) -> Any:
        if isinstance(value, dict):
            if "class_path" in value:
                value = self.placeless(self.class_of(value["class_path"]), value)
            return {self.key(name): part if name == "class_path" else self.walk(part) for name, part in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.walk(part) for part in value]
        return self.text(value) if isinstance(value, str) else value

    def key(self, name: Any) -> str:
        # jsonargparse takes a dotted key apart, and its value may then be a class path.
        if not isinstance(name, str) or ("." in name and not SPEC.isdisjoint(name.split("."))):
            raise self.refused(f"the key {name!r}")
        return name

    def placeless(self, cls: type, about: dict[str, Any]) -> dict[str, Any]:
        """Takes the places out of the arguments of a class."""
        places: Mapping[str, Any] = getattr(cls, "not_from_files", {})
        taken = signature(cls).parameters
        passed_on = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in taken.values())
        instead = {name: value for name, value in places.items() if passed_on or name in taken}
        arguments = {"init_args": {}, **about}
        for group in ("init_args", "dict_kwargs"):
            kept = arguments.get(group)
            if not isinstance(kept, dict):
                continue
            for name in places.keys() & kept.keys() - set(self.given):
                if isinstance(kept[name], str) and "root" not in self.given:
                    note(f"{self.source} names {name} {kept[name]!r}, which is not followed{_again(name, kept[name])}")
            kept = {name: value for name, value in kept.items() if name not in places}
            arguments[group] = kept | (instead if group == "init_args" else {})
        return arguments

    def text(self, value: str) -> str:
        """Refuses a text that jsonargparse would import, or read as settings, where an object is expected."""
        word = value.strip()
        if len(word) > _LONGEST:
            raise self.refused(f"a text of {len(word):,} characters")
        if DOTTED.fullmatch(word) and _is_importable(word.partition(".")[0]):
            self.class_of(word)
        elif os.path.isfile(word):  # noqa: PTH113 - False of any text, where Path raises errors
            raise self.refused(f"the file {word!r}")
        try:
            inside = parse_yaml(word)
        except (yaml.YAMLError, ValueError, RecursionError, OverflowError):
            inside = None
        if isinstance(inside, (dict, list)):
            self.walk(inside)
        return value

    def class_of(self, path: Any) -> type:
        if not isinstance(path, str) or not DOTTED.fullmatch(path) or ".__" in path:
            raise self.refused(f"the class {path!r}")
        ours = _within(path, self.packages)
        if not ours and not _within(path, self.trusted):
            raise self.foreign(path)
        module, _, name = path.rpartition(".")
        try:
            found = getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise CheckpointError(f"{self.source} names {path}, which is not there: {error}") from error
        if not isinstance(found, type):
            raise self.refused(f"{path}, which is no class")
        if not _within(found.__module__, (*self.packages, *self.trusted)):
            raise self.foreign(f"{found.__module__}.{found.__qualname__}")
        if not issubclass(found, self.kinds) and not _within(path, self.trusted):
            wanted = ", ".join(kind.__name__ for kind in self.kinds)
            raise self.refused(f"{path}, which is none of {wanted}")
        return found

    def refused(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.source} names {what}: of a trained net, only classes of net and data are built")

    def foreign(self, path: str) -> CheckpointError:
        package = path.partition(".")[0]
        command = _command.get()
        in_python = f"load_net(…, trust_modules=({package!r},))"
        how = f"{command} --trust-modules {package}" if command else in_python
        return CheckpointError(
            f"{self.source} names the class {path}, which is none of {', '.join(PACKAGES)}: building it runs the code "
            f"of {package}. If you trust file and code: {how}"
        )


def _again(name: str, value: str) -> str:
    command = _command.get()
    return f": {command} --data.root {shlex.quote(value)} takes it" if command and name in ("root", "path") else ""


def _within(path: str, packages: Collection[str]) -> bool:
    return any(path == package or path.startswith(f"{package}.") for package in packages)


def _is_importable(name: str) -> bool:
    try:
        return name in sys.modules or find_spec(name) is not None
    except (ImportError, ValueError):
        return False

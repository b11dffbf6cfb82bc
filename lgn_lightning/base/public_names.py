"""The public import paths of the library's classes: what checkpoints and settings name, wherever a class is defined."""

import re
from importlib import import_module
from typing import Final

#: Packages whose ``__all__`` is public. Imported by name, when a path below them is looked for; those that import
#: Lightning stand last.
_ROOMS: Final = (".models", ".nn", ".circuit", ".data", "", ".losses", ".callbacks")
_PUBLIC: Final = tuple(f"lgn_lightning{room}" for room in _ROOMS)
_PATH: Final = re.compile(r"\blgn_lightning(?:\.\w+)+")


def public_names(text: str) -> str:
    """Gives the paths of the library's public names in a text, such as settings in YAML, their public form.

    A public name has one meaning, so a path that ends in it stands for it, whatever module it leads through: that of
    today, which may move, or that of an earlier release, which is gone. ``lgn_lightning.tree_net.LogicTreeNet``, which
    plain Trainers of release 0.1 wrote, is ``lgn_lightning.models.LogicTreeNet``. All other paths stay as they are.
    """
    return _PATH.sub(lambda match: _public(match[0]), text)


def _public(path: str) -> str:
    package, _, name = path.rpartition(".")
    if package in _PUBLIC and name in import_module(package).__all__:
        return path
    return next((f"{home}.{name}" for home in _PUBLIC if name in import_module(home).__all__), path)

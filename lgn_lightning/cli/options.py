"""What command lines have in common: options of several commands, and the keys of a recipe."""

import argparse
import re
from pathlib import Path
from typing import Final

#: What else a command takes where it takes a circuit: the order of precedence is part of the promise.
SHIPPED: Final = (
    "a path goes first, then a circuit that ships (lgn ls); what is only a recipe is trained first (lgn fit)"
)


def add_form(parser: argparse.ArgumentParser) -> None:
    """Adds ``--form``, and what ``lgn bench`` and ``verify`` called it in 0.1."""
    text = "keep convolutions as loops, or unroll them into code (default: auto, by size)"
    parser.add_argument("--form", default="auto", choices=("auto", "code", "loops"), help=text)
    for old, form in (("--loops", "loops"), ("--no-loops", "code")):
        parser.add_argument(old, dest="form", action="store_const", const=form, help=argparse.SUPPRESS)


def add_data_root(parser: argparse.ArgumentParser) -> None:
    """Adds ``--data.root``, as in recipes, and what ``lgn report`` called it in 0.1."""
    text = "data folder that replaces the recipe's"
    parser.add_argument("--data.root", dest="data_root", metavar="FOLDER", type=Path, help=text)
    parser.add_argument("--data-root", dest="data_root", type=Path, help=argparse.SUPPRESS)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Adds ``--trust-modules``, of commands that build what a file names."""
    text = "packages of your own that the net is built of: their code runs (or LGN_TRUST_MODULES, with commas)"
    parser.add_argument(
        "--trust-modules",
        metavar="PACKAGE",
        type=lambda names: names.split(","),
        action="extend",
        default=[],
        help=text,
    )


def key_value(keys: list[str], name: str) -> str | None:
    """The value of ``--key value`` or ``--key=value`` in a command line, the last one if there are several."""
    found = re.findall(rf"\0{name}[=\0]([^\0]+)", "\0".join(["", *keys]))
    return found[-1] if found else None

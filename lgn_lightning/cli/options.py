"""Options that several commands have, under one name."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_form(parser: argparse.ArgumentParser) -> None:
    """Adds ``--form``, and what ``lgn bench`` and ``verify`` called it in 0.1."""
    parser.add_argument(
        "--form",
        default="auto",
        choices=("auto", "code", "loops"),
        help="keep convolutions as loops, or unroll them into code (default: auto, by size)",
    )
    for old, form in (("--loops", "loops"), ("--no-loops", "code")):
        parser.add_argument(old, dest="form", action="store_const", const=form, help=argparse.SUPPRESS)


def add_data_root(parser: argparse.ArgumentParser) -> None:
    """Adds ``--data.root``, as in recipes, and what ``lgn report`` called it in 0.1."""
    parser.add_argument(
        "--data.root", dest="data_root", metavar="FOLDER", type=Path, help="data folder that replaces the recipe's"
    )
    parser.add_argument("--data-root", dest="data_root", type=Path, help=argparse.SUPPRESS)

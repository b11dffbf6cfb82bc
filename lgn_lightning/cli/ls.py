"""``lgn ls``: the recipes that ship with the package, beside the figures of their papers."""

import argparse
import dataclasses
import json
from typing import Final

from lgn_lightning.runs.recipes import list_recipes

#: Columns of a terminal that the table needs for borders and what a recipe is about.
_LEAST_TITLE: Final = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    recipes = list_recipes()
    if arguments.json:
        print(json.dumps([{"name": r.name, **dataclasses.asdict(r.paper)} for r in recipes], indent=2))
        return 0
    # rich takes longer to import than JSON takes to print
    from rich.console import Console
    from rich.table import Table

    rows = [("recipe", "gates", "paper, %", "what")]
    for recipe in recipes:
        paper = recipe.paper
        gates = f"{paper.gates:,}" if paper.gates else "–"
        rows.append((recipe.name, gates, f"{paper.accuracy:.2f}" if paper.accuracy else "–", paper.title))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    console = Console()
    # A name is there to be copied: it is never cut, also where the table does not fit.
    if not console.is_terminal or console.width < sum(widths[:-1]) + _LEAST_TITLE:
        for name, gates, accuracy, title in rows:
            print(f"{name:<{widths[0]}}  {gates:>{widths[1]}}  {accuracy:>{widths[2]}}  {title}")
        return 0
    table = Table()
    for title, justify in zip(rows[0], ("left", "right", "right", "left"), strict=True):
        table.add_column(title, justify=justify, no_wrap=title != "what")  # type: ignore[arg-type]
    for row in rows[1:]:
        table.add_row(*row)
    console.print(table)
    return 0

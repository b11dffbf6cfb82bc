"""``lgn ls``: the recipes that ship with the package, beside the figures of their papers, and the circuits."""

import argparse
import dataclasses
import json
from typing import Final

from lgn_lightning import hub
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
    rows = [("recipe", "gates", "paper, %", "what")]
    for recipe in recipes:
        paper = recipe.paper
        gates = f"{paper.gates:,}" if paper.gates else "–"
        rows.append((recipe.name, gates, f"{paper.accuracy:.2f}" if paper.accuracy else "–", paper.title))
    _show(rows)
    rows = [("circuit", "gates", "test, %", "what")]
    for circuit in map(hub.find, hub.names()):
        about = circuit.manifest
        rows.append((circuit.name, f"{about.gates_shipped:,}", f"{100 * about.accuracy_hard:.2f}", about.title))
    print()
    _show(rows)
    return 0


def _show(rows: list[tuple[str, str, str, str]]) -> None:
    # rich takes longer to import than JSON takes to print
    from rich.console import Console
    from rich.table import Table

    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    console = Console()
    # A name is there to be copied: it is never cut, also where the table does not fit.
    if not console.is_terminal or console.width < sum(widths[:-1]) + _LEAST_TITLE:
        for name, gates, accuracy, title in rows:
            print(f"{name:<{widths[0]}}  {gates:>{widths[1]}}  {accuracy:>{widths[2]}}  {title}")
        return
    table = Table()
    for title, justify in zip(rows[0], ("left", "right", "right", "left"), strict=True):
        table.add_column(title, justify=justify, no_wrap=title != "what")  # type: ignore[arg-type]
    for row in rows[1:]:
        table.add_row(*row)
    console.print(table)

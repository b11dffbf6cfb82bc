"""The command ``lgn``: trains recipes and turns what they leave into circuits."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import select
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lgn_lightning.base.errors import LgnError, UsageError
from lgn_lightning.cli import bench, export, results
from lgn_lightning.cli import predict as circuit_prediction
from lgn_lightning.cli import verify as verification

if TYPE_CHECKING:
    from lgn_lightning.runs.folder import RunFolder

TRAINING_COMMANDS = {
    "fit": "train a recipe, test its best checkpoint, export the circuit",
    "validate": "measure a checkpoint on the validation split",
    "test": "measure a checkpoint on the test split",
    "predict": "write the classes that a checkpoint predicts for the test split",
}
#: What comes first on their command lines.
_TARGETS = dict.fromkeys(TRAINING_COMMANDS, "<run folder or checkpoint>") | {"fit": "<recipe or path.yaml>"}

#: Columns of a terminal that `lgn ls` needs for borders and what a recipe is about.
_LEAST_TITLE = 30


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        args: Command line without the program's name; ``sys.argv`` if not given.

    Returns:
        The exit code: 0, 1 after an error that the user can mend, 2 after wrong usage, and as a shell tells the signals
        SIGINT and SIGPIPE, 130 after Ctrl-C, 141 if nobody reads the output any more (``| head``).
    """
    try:
        try:
            return _run(list(sys.argv[1:] if args is None else args))
        finally:
            sys.stdout.flush()  # here, and not at the interpreter's end, where a closed pipe is a traceback
    except KeyboardInterrupt:
        return 130
    except (LgnError, ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _stdout_is_closed():
            return 141
        if os.environ.get("LGN_DEBUG"):
            raise
        print(f"lgn: error: {error}", file=sys.stderr)
        if not isinstance(error, LgnError):
            print("(LGN_DEBUG=1 shows where it comes from)", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def _run(argv: list[str]) -> int:
    if argv and argv[0] in TRAINING_COMMANDS and not _predicts_by_circuit(argv):
        return _train(argv[0], argv[1:])
    if argv and argv[0] == "reproduce":
        from lgn_lightning.cli import reproduce

        return reproduce.main(argv[1:])
    namespace = _parser().parse_args(argv)
    return int(namespace.run(namespace))


def _stdout_is_closed() -> bool:
    """Whether the reader of standard output is gone; what is left of the output then goes nowhere."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except OSError:  # no file: what the error is about is something else
        return False
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _predicts_by_circuit(argv: list[str]) -> bool:
    return argv[0] == "predict" and len(argv) > 1 and circuit_prediction.is_circuit_file(argv[1])


def _train(command: str, arguments: list[str]) -> int:
    resuming = command == "fit" and any(text == "--resume" or text.startswith("--resume=") for text in arguments)
    if not resuming and (not arguments or arguments[0].startswith("-")):
        if arguments in (["-h"], ["--help"]):
            print(
                f"usage: lgn {command} {_TARGETS[command]} [--key value …]\n\n{TRAINING_COMMANDS[command]}\n\n"
                f"`lgn ls` lists the recipes; `lgn {command} <recipe> --help` lists every key."
                + ("\n`lgn fit <recipe> --resume [run folder]` goes on with a run." if command == "fit" else "")
            )
            return 0
        needed = "a recipe" if command == "fit" else "a trained net"
        raise LgnError(f"`lgn {command}` needs {needed} first: lgn {command} {_TARGETS[command]} [--key value …]")
    if command != "fit":
        return _measure(command, arguments[0], arguments[1:])
    from lgn_lightning.runs.recipes import find_recipe

    if resuming:
        recipe, run, overrides = _run_to_resume(arguments)
    else:
        recipe, run, overrides = find_recipe(arguments[0]), None, arguments[1:]
    # Lightning takes seconds to import: not before the recipe is known
    from lgn_lightning.cli import fit as training_cli

    training_cli.run(command, recipe, overrides, run)
    return 0


def _measure(command: str, first: str, overrides: list[str]) -> int:
    """Runs ``validate``, ``test`` or ``predict`` of a run, of a checkpoint, or of a recipe and ``--ckpt_path``."""
    from lgn_lightning.runs.recipes import find_recipe, recipe_files

    path, checkpoint = Path(first), _option(overrides, "--ckpt_path")
    is_recipe = path.suffix in (".yaml", ".yml") or first in {file.stem for file in recipe_files()}
    is_trained = not is_recipe and (path.suffix == ".ckpt" or path.is_dir() or len(path.parts) > 1)
    recipe = None if is_trained else find_recipe(first)
    target = Path(checkpoint) if checkpoint else path if is_trained else None
    from lgn_lightning.cli import fit as training_cli
    from lgn_lightning.cli.trained import open_trained

    trained = None if target is None else open_trained(target, recipe is not None)
    if trained is not None and trained.settings is not None and recipe is not None:
        print(f"the settings are those of {trained.checkpoint}, in the place of {recipe.name}")
    training_cli.run(command, recipe or path, overrides, trained=trained)
    return 0


def _option(arguments: list[str], name: str) -> str | None:
    """The value of ``--name value`` or ``--name=value``, of which the last one counts; None if there is none."""
    found = re.findall(rf"\0{name}[=\0]([^\0]+)", "\0".join(["", *arguments]))
    return found[-1] if found else None


def _run_to_resume(arguments: list[str]) -> tuple[Path, RunFolder | None, list[str]]:
    """Reads ``[recipe] --resume [run folder] [--key value …]``: the recipe, its run, and the other arguments."""
    from lgn_lightning.runs.folder import find_run
    from lgn_lightning.runs.recipes import find_recipe

    index = next(i for i, text in enumerate(arguments) if text == "--resume" or text.startswith("--resume="))
    _, equals, folder = arguments[index].partition("=")
    rest = arguments[:index] + arguments[index + 1 :]
    if not equals and index < len(rest) and not rest[index].startswith("-"):
        folder = rest.pop(index)
    named = bool(rest) and not rest[0].startswith("-")
    if not named and not folder:
        raise LgnError(
            "`lgn fit --resume` needs a recipe or a run: lgn fit <recipe> --resume, lgn fit --resume <folder>"
        )
    recipe = find_recipe(rest.pop(0)) if named else Path(folder).absolute().parent.with_suffix(".yaml")
    name = _option(rest, "--run_name")
    run = find_run(recipe.stem, Path(folder) if folder else None, name)
    if run is None:
        print(f"{recipe.stem} has no run {name + ' yet' if name else 'to go on with'}: a new one starts")
    else:
        print(f"going on with {run.path}" + ("" if run.resume_point.is_file() else " from its first step"))
    return recipe, run, rest


class _ArgumentParser(argparse.ArgumentParser):
    """Takes options by their full names only: a typo is no abbreviation."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)


def _parser() -> argparse.ArgumentParser:
    parser = _ArgumentParser(
        prog="lgn",
        description="Train differentiable logic gate networks and ship them as verified circuits.",
        epilog="`lgn <command> --help` says more of one.",
    )
    commands: Any = parser.add_subparsers(title="commands", metavar="<command>", required=True)
    # Listed here, run by `_run`: their options are those of the recipe.
    for name, text in TRAINING_COMMANDS.items():
        if name == "predict":
            circuit_prediction.add_parser(commands)
        else:
            commands.add_parser(name, help=text)
    commands.add_parser("reproduce", help="train recipes with several seeds, beside their papers' figures")

    ls = commands.add_parser("ls", help="list the recipes")
    ls.add_argument("--json", action="store_true", help="print JSON")
    ls.set_defaults(run=_ls)

    cp = commands.add_parser("cp", help="copy a recipe or a sweep for editing")
    cp.add_argument("recipe")
    cp.add_argument("destination", nargs="?", type=Path, help="file or folder; <recipe>.yaml here by default")
    cp.set_defaults(run=_cp)

    export.add_parser(commands)
    verification.add_parser(commands)
    bench.add_parser(commands)
    results.add_parser(commands)

    report = commands.add_parser("report", help="show a run and its net in one HTML file")
    report.add_argument(
        "target", metavar="run", type=Path, help="a run folder that `lgn fit` left, or one of its checkpoints"
    )
    report.add_argument("--out", type=Path, help="file to write (default: report.html in the run folder)")
    report.add_argument("--data-root", type=Path, help="data folder that replaces the recipe's")
    report.set_defaults(run=_report)

    build = commands.add_parser("build", help="build the native extension now instead of on first use")
    build.add_argument("--cuda", action="store_true", help="build the CUDA kernels as well")
    build.add_argument("--verbose", action="store_true", help="show the compiler's output")
    build.set_defaults(run=_build)

    doctor = commands.add_parser("doctor", help="show versions, compilers, GPU, backend in use and cache folder")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(run=_doctor)
    return parser


def _ls(arguments: argparse.Namespace) -> int:
    from lgn_lightning.runs.recipes import list_recipes

    recipes = list_recipes()
    if arguments.json:
        print(json.dumps([{"name": r.name, **dataclasses.asdict(r.paper)} for r in recipes], indent=2))
        return 0
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


def _cp(arguments: argparse.Namespace) -> int:
    from lgn_lightning.runs.recipes import copy_recipe

    target = copy_recipe(arguments.recipe, arguments.destination)
    command = "wandb sweep" if arguments.recipe.startswith("sweep-") else "lgn fit"
    print(f"{target} written; run it with:  {command} {target}")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from lgn_lightning.report import write_report

    print(write_report(arguments.target, arguments.out, arguments.data_root))
    return 0


def _build(arguments: argparse.Namespace) -> int:
    from lgn_lightning.ops import loader

    print(loader.build(cuda=arguments.cuda, verbose=arguments.verbose))
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from lgn_lightning.cli.doctor import report

    facts = report()
    if arguments.json:
        print(json.dumps(facts, indent=2))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    for key, value in facts.items():
        table.add_row(key, "–" if value is None else str(value))
    Console().print(table)
    return 0

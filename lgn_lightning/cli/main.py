"""The command ``lgn``: the table of its commands, each of which is a module that is imported when it runs."""

from __future__ import annotations

import argparse
import difflib
import os
import select
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from lgn_lightning import __version__
from lgn_lightning.base.errors import LgnError, UsageError
from lgn_lightning.base.programs import raised_stop_signals
from lgn_lightning.base.trust import trusting


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        group: The heading that it stands under in the help.
        help: What it does, in one line.
        target: What stands first on the command line of a command that passes on the keys of a recipe. Its module's
            ``run`` then gets the words before the first option as ``arguments.words``, what its own options leave as
            ``arguments.keys``, and the help of these options as ``arguments.options_help``.
        keys: Whether it passes on keys without a target: its module's ``run`` gets ``arguments.keys`` alone.
        module: The module below `lgn_lightning.cli`, if its name is not that of the command. It has two functions:
            ``add_arguments(parser)``, and ``run(arguments)``, which returns the exit code.
    """

    group: str
    help: str
    target: str | None = None
    keys: bool = False
    module: str | None = None


#: What a trained net is named by.
_RUN: Final = "<run folder | checkpoint>"
COMMANDS: Final = {
    "recommend": Command("train", "look at data and write a recipe for them", keys=True),
    "fit": Command("train", "train a recipe, test its best checkpoint, export the circuit", "<recipe | file.yaml>"),
    "validate": Command("train", "measure a checkpoint on the validation split", _RUN, module="measure"),
    "test": Command("train", "measure a checkpoint on the test split", _RUN, module="measure"),
    "predict": Command("train", "write the classes of images"),
    "reproduce": Command("train", "train recipes with several seeds, beside their papers' figures", "<recipe…>"),
    "import": Command("train", "turn a net that another library trained into a checkpoint", module="import_net"),
    "export": Command("deploy", "write the circuit of a checkpoint as C, Verilog and more"),
    "verify": Command("deploy", "check or prove that nets, circuits and exported files are equal"),
    "bench": Command("deploy", "measure how fast a circuit runs here"),
    "fpga": Command("deploy", "measure what a circuit takes on an FPGA, after place and route"),
    "report": Command("look", "show a run and its net in one HTML file"),
    "results": Command("look", "show what `lgn reproduce` measured, or write it into a Markdown file"),
    "ls": Command("look", "list the recipes, and the circuits that ship with the package"),
    "cp": Command("look", "copy a recipe or a sweep for editing"),
    "build": Command("set up", "build the native kernels now instead of on first use"),
    "doctor": Command("set up", "show versions, compilers, GPU, backend in use and cache folder"),
}


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        args: Command line without the program's name; ``sys.argv`` if not given.

    Returns:
        The exit code: 0, 1 after an error that the user can mend, 2 after wrong usage, and as a shell tells the signals
        SIGINT and SIGPIPE, 130 after Ctrl-C, 141 if nobody reads the output any more (``| head``). After SIGTERM the
        process exits with 143.
    """
    if "_ARGCOMPLETE" in os.environ:  # a shell that completes, see docs/quickstart.md
        from lgn_lightning.cli.completion import complete  # most processes do without

        complete(COMMANDS)
    try:
        try:
            with raised_stop_signals():
                return _run(list(sys.argv[1:] if args is None else args))
        finally:
            sys.stdout.flush()  # here, and not at the interpreter's end, where a closed pipe is a traceback
    except KeyboardInterrupt:
        return 130
    except (LgnError, ValueError, OSError, MemoryError) as error:
        if isinstance(error, BrokenPipeError) and _stdout_is_closed():
            return 141
        if os.environ.get("LGN_DEBUG"):
            raise
        print(f"lgn: error: {error or 'there is not enough memory'}", file=sys.stderr)
        if not isinstance(error, LgnError):
            print("(LGN_DEBUG=1 shows where it comes from)", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def _run(argv: list[str]) -> int:
    name, *rest = argv or ["--help"]
    if name in ("-h", "--help"):
        print(_help())
        return 0
    if name == "--version":
        print(f"lgn-lightning {__version__}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
        raise UsageError(f"there is no command {name!r}; {hint}")
    module = import_module(f"lgn_lightning.cli.{COMMANDS[name].module or name}")
    arguments = _parse(name, rest, module)
    with trusting(getattr(arguments, "trust_modules", ()), shlex.join(["lgn", *argv])):
        return int(module.run(arguments))


def _parse(name: str, rest: list[str], module: Any) -> argparse.Namespace:
    command = COMMANDS[name]
    description = f"{command.help[0].upper()}{command.help[1:]}."
    if command.target is None:
        parser = _ArgumentParser(prog=f"lgn {name}", description=description)
        module.add_arguments(parser)
        arguments, keys = parser.parse_known_args(rest)
        arguments.keys = keys
        if keys and not command.keys:
            parser.error(f"unrecognized arguments: {' '.join(keys)}")
    else:
        count = next((index for index, text in enumerate(rest) if text.startswith("-")), len(rest))
        parser = _ArgumentParser(
            prog=f"lgn {name}",
            usage=f"lgn {name} {command.target} [options] [--key value …]",
            description=description,
            epilog="Any key of a recipe may follow: `lgn fit <recipe> --help` lists them, `lgn ls` the recipes.",
            add_help=not count,  # after a recipe `--help` lists its keys
        )
        module.add_arguments(parser)
        arguments, keys = parser.parse_known_args(rest[count:])
        arguments.words, arguments.keys = rest[:count], keys
        arguments.options_help = parser.format_help().partition("options:\n")[2].partition("\n\n")[0]
    arguments.command = name
    return arguments


class _ArgumentParser(argparse.ArgumentParser):
    """Takes options by their full names only: a typo is no abbreviation."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)


def _help() -> str:
    lines = [
        "usage: lgn <command> …",
        "",
        "Train differentiable logic gate networks and ship them as verified circuits.",
    ]
    for group in dict.fromkeys(command.group for command in COMMANDS.values()):
        lines += ["", f"{group}:"]
        lines += [f"  {name:<10} {command.help}" for name, command in COMMANDS.items() if command.group == group]
    return "\n".join([*lines, "", "`lgn <command> --help` says more of one; `lgn --version` prints the version."])


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

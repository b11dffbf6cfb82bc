"""``lgn report``: one HTML file that shows what a run did and what its net became."""

import argparse
import sys
from pathlib import Path

from lgn_lightning.cli.options import add_data_root, add_trust
from lgn_lightning.report import write_report
from lgn_lightning.runs.checkpoints import chosen_checkpoint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    text = "a run folder that `lgn fit` left, or one of its checkpoints"
    parser.add_argument("target", metavar="run", type=Path, help=text)
    parser.add_argument("--out", type=Path, help="file to write (default: report.html in the run folder)")
    add_data_root(parser)
    add_trust(parser)


def run(arguments: argparse.Namespace) -> int:
    chosen = chosen_checkpoint(arguments.target)
    if chosen.why:
        print(chosen, file=sys.stderr)
    print(write_report(arguments.target, arguments.out, arguments.data_root))
    return 0

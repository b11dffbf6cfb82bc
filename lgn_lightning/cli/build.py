"""``lgn build``: compiles the native kernels, which otherwise happens on first use."""

from __future__ import annotations

import argparse

from lgn_lightning.ops import loader


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--cuda", action="store_true", help="build the CUDA kernels as well")
    parser.add_argument(
        "--all-isa", action="store_true", help="CPU kernels for all instruction sets, for caches that machines share"
    )
    parser.add_argument("--verbose", action="store_true", help="show the compiler's output")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    print(loader.build(cuda=arguments.cuda, every_set=arguments.all_isa, verbose=arguments.verbose))
    return 0

"""``lgn build``: compiles the native libraries, which otherwise happens on first use."""

from __future__ import annotations

import argparse
from pathlib import Path

from lgn_lightning.base.native_build import copy_library
from lgn_lightning.circuit import native
from lgn_lightning.ops import cpu_build, loader


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--cuda", action="store_true", help="build the CUDA kernels as well")
    parser.add_argument(
        "--all-isa", action="store_true", help="CPU kernels for all instruction sets, for caches that machines share"
    )
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="copy the CPU libraries there, for make wheel")
    parser.add_argument("--verbose", action="store_true", help="show the compiler's output")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    libraries = [loader.build(every_set=arguments.all_isa, verbose=arguments.verbose), native.build(arguments.verbose)]
    plans = cpu_build.every_set_plan(), native.plan()
    for library, plan in zip(libraries, plans, strict=True):
        print(library)
        if arguments.into is not None:
            copy_library(library, plan, arguments.into)
    if arguments.cuda:
        print(loader.build(cuda=True, verbose=arguments.verbose))
    return 0

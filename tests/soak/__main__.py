"""``python -m tests.soak <module> [count] [--first SEED | --seed SEED]``."""

import argparse
import importlib

from tests.soak.cases import MODULES


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("module", choices=MODULES)
    parser.add_argument("count", type=int, nargs="?", default=200)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="one case, in this process, so that a debugger sees it")
    arguments = parser.parse_args()
    module = importlib.import_module(f"tests.soak.{arguments.module}")
    if arguments.seed is not None:
        print(module.check(arguments.seed))
        return
    tallies = module.run(arguments.count, arguments.first)
    print(*(tally.text() for tally in (tallies if isinstance(tallies, list) else [tallies])), sep="\n")


if __name__ == "__main__":
    main()

"""A shell that completes a command line gets commands, recipes, options and the keys of a recipe."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("argcomplete", reason="argcomplete is not installed: the extra completion")


def completed(line: str) -> set[str]:
    """What a shell is offered behind a line: as argcomplete's own function for bash asks, on descriptor 8."""
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}
    asked |= {"_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SUPPRESS_SPACE": "1"}
    shell = ["bash", "-c", '"$0" -m lgn_lightning 8>&1 9>&2 >/dev/null', sys.executable]
    done = subprocess.run(shell, env=os.environ | asked, capture_output=True, text=True, check=False)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("lgn re", {"recommend", "report", "reproduce", "results"}),
        ("lgn fit dig", {"digits", "digits-concat", "digits-residual"}),
        ("lgn fit digits --model.net.w", {"--model.net.width"}),
        ("lgn fit digits --data.augment.ro", {"--data.augment.rotation"}),
        ("lgn fit mnist-tree-s --model.net.pa", {"--model.net.padding", "--model.net.parametrization"}),
        ("lgn fit digits --res", {"--resume"}),
        ("lgn export --pipe", {"--pipeline"}),
        ("lgn fit nowhere --model.net.w", set()),
    ],
)
def test_what_may_follow(line: str, offered: set[str]) -> None:
    assert completed(line) == offered

"""Does what a page of the documentation tells its reader to do.

A block with a title is a file of that name. ``python`` and ``shell`` blocks are run in their order, all in one folder,
the former as one program; blocks of other languages are only shown. The page's `lgn` commands run in this process,
which saves the seconds that importing torch takes each time, and trainings are shortened.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from lgn_lightning.cli.main import main

DOCS = Path(__file__).parents[2] / "docs"
#: What is added to `lgn fit`, and a narrow net where the page says nothing of its width.
SHORT = ["--trainer.max_steps=60", "--trainer.val_check_interval=30", "--trainer.enable_progress_bar=false"]
NARROW = "--model.net.width=300"
#: What would install something, or is there already.
_NOT_RUN = (
    "pip ",
    "apt-get ",
    "git ",
    "make ",
    "lgn fpga runs/digits/version_0 --device ecp5-25k",
)  # the last: minutes


class Block(NamedTuple):
    """A fenced block."""

    language: str
    title: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    found = re.findall(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', page.read_text(), re.M | re.S)
    return [Block(*block) for block in found]


def follow(page: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str], shorten: bool = True) -> str:
    """Does what a page says, starting in the working directory, and returns what was printed."""
    said = []
    page_variables = {"__name__": "__main__"}
    for language, title, text in blocks(page):
        if title:
            Path(title).write_text(text)
        elif language == "python":
            exec(compile(text, f"{page.name}: {text.splitlines()[0]}", "exec"), page_variables)
        elif language == "shell":
            said += [_run(line, patch, capture, shorten) for line in text.replace("\\\n", " ").splitlines()]
    return "".join(said) + capture.readouterr().out


def _run(line: str, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str], shorten: bool) -> str:
    words = shlex.split(line, comments=True)
    if not words or line.startswith(_NOT_RUN):
        return ""
    if words[0] == "cd":
        patch.chdir(words[1])
        return ""
    if words[0] == "export":
        name, _, value = words[1].partition("=")
        patch.setenv(name, value)
        if name == "PYTHONPATH":
            patch.syspath_prepend(value)
        return ""
    if words[0] == "lgn":
        short = SHORT if words[1] == "fit" and shorten else []
        narrow = [NARROW] if short and not any("width" in word for word in words) else []
        code = main([*words[1:], *short, *narrow])
        said = capture.readouterr()
        assert code == 0, f"{line}\n{said.out[-2000:]}\n{said.err[-2000:]}"
        return said.out
    if words[0] == "python":
        line = line.replace("python", sys.executable, 1)
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", line], capture_output=True, text=True)
    assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout

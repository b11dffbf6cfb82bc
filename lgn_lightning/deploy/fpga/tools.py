"""Yosys and nextpnr, installed on this machine or by pip: where they are, and runs of them with progress and limit."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lgn_lightning.base.programs import running
from lgn_lightning.circuit.check.tools import ToolError

#: Seconds between two lines of progress where they cannot be written over each other.
_EVERY: Final = 30
#: What the ends of logs hold that is an error.
_ERROR: Final = re.compile(r"^.*ERROR:? ?(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Tool:
    """A program: its name, how it is called, and what it says its version is."""

    name: str
    command: tuple[str, ...]
    version: str


def find_tools(family: str, kind: str = "auto") -> tuple[Tool, Tool]:
    """Yosys and the nextpnr of a family.

    Args:
        family: ``"ice40"`` or ``"ecp5"``.
        kind: ``"native"`` for programs on PATH, ``"pip"`` for YoWASP's, WebAssembly that pip installs; ``"auto"`` for
            native ones if both are there, else for both of pip if they are, else for what there is.

    Raises:
        ToolError: If there are none; the message says how to install them.
    """
    names = ("yosys", f"nextpnr-{family}")
    native = [shutil.which(name) for name in names]
    packages = [f"yowasp_{name.replace('-', '_')}" for name in names]
    pip = [package if importlib.util.find_spec(package) else None for package in packages]
    ways: dict[str, list[tuple[str, ...] | None]] = {
        "native": [(path,) if path else None for path in native],
        "pip": [_pip_command(package, name) if package else None for package, name in zip(pip, names, strict=True)],
    }
    mixed = [own or other for own, other in zip(ways["native"], ways["pip"], strict=True)]
    chosen = next((way for way in ways.values() if None not in way), mixed) if kind == "auto" else ways[kind]
    for name, command in zip(names, chosen, strict=True):
        if command is None:
            where = {"native": "on PATH", "pip": "installed by pip"}.get(kind, "installed")
            raise ToolError(
                f"{name} is not {where}: pip install 'lgn-lightning[fpga]' (half a gigabyte), or install {name} itself"
            )
    yosys, nextpnr = (
        Tool(name, command, _version(command)) for name, command in zip(names, chosen, strict=True) if command
    )
    return yosys, nextpnr


def _pip_command(package: str, name: str) -> tuple[str, ...]:
    # Without -P and friends a file of the working folder could be the package; YoWASP's own scripts may not be on PATH.
    code = f"import sys, {package} as tool; sys.exit(tool.run_{name.replace('-', '_')}(sys.argv[1:]))"
    return (sys.executable, "-I", "-c", code)


def _version(command: tuple[str, ...]) -> str:
    run = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    lines = [line for line in (run.stdout + run.stderr).splitlines() if "Preparing to run" not in line]
    found = re.search(r"(?:Yosys |Version )[^ ]*?(\d[\w.+-]*)", "\n".join(lines))
    kind = " (YoWASP)" if command[0] == sys.executable else ""
    return (found[1].rstrip(")") if found else "unknown") + kind


class Progress:
    """A line on standard error that says what runs, for how long, and until when at most."""

    def __init__(self) -> None:
        self._live, self._last = sys.stderr.isatty(), 0.0

    def begin(self, what: str, limit: float) -> None:
        self._what, self._start, self._limit, self._last = what, time.monotonic(), limit, 0.0
        self.step("")

    def step(self, detail: str) -> None:
        now = time.monotonic()
        if now - self._last < (0.2 if self._live else _EVERY) and self._last:
            return
        self._last = now
        seconds = f"{now - self._start:.0f} s of at most {self._limit:.0f}"
        text = f"{self._what}: {seconds}{f' ({detail})' if detail else ''}"
        print(
            f"\r\x1b[K{text[:120]}" if self._live else text, end="" if self._live else "\n", file=sys.stderr, flush=True
        )

    def end(self, result: str) -> None:
        start = "\r\x1b[K" if self._live else ""
        seconds = time.monotonic() - self._start
        print(f"{start}{self._what}: {result}, {seconds:.0f} s", file=sys.stderr, flush=True)


def run_tool(
    tool: Tool,
    arguments: list[str],
    folder: Path,
    log: str,
    limit: float,
    progress: Progress,
    step: Callable[[str], str | None] = lambda line: None,
) -> str:
    """Runs a tool in a folder until it ends and returns what it printed, which also lies in the file ``log`` there.

    Args:
        tool: What runs.
        arguments: Its arguments; paths relative to the folder.
        folder: Where it runs.
        log: Name of the file that takes its output.
        limit: Seconds that it may take.
        progress: Told of what is done.
        step: What a line of output says that it does; None for most.

    Raises:
        ToolError: If it fails or takes longer; the message has its own error.
    """
    path, start, detail = folder / log, time.monotonic(), ""
    with (
        path.open("wb") as output,
        running(
            [*tool.command, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
        path.open("rb") as printed,
    ):
        while True:
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(0.2)
                break
            for line in printed.read().decode(errors="replace").splitlines():
                detail = step(line) or detail
            progress.step(detail)
            if time.monotonic() - start > limit:
                raise ToolError(f"{tool.name} did not end within {limit:.0f} s (--timeout); it was at: {detail}")
    text = path.read_text(encoding="utf-8", errors="replace")
    if code:
        found = _ERROR.findall(text)
        raise ToolError(f"{tool.name} failed: {found[0] if found else text.strip()[-500:]}")
    return text

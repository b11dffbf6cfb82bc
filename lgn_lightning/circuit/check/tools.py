"""The programs that circuits are checked with: yosys and Berkeley ABC (Icarus Verilog: `simulate_verilog`)."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.base.errors import LgnError
from lgn_lightning.base.programs import run

#: Names under which ABC is installed: Debian's and its own.
ABC_NAMES: Final = ("berkeley-abc", "abc", "yosys-abc")
#: Seconds that a proof or a simulation may take where none are given.
TOOL_SECONDS: Final = 600


class ToolError(LgnError):
    """A program is missing, fails, takes too long or gives no answer."""


def find_abc() -> str:
    """Finds ABC; a ToolError if it is not installed."""
    for name in ABC_NAMES:
        if path := shutil.which(name):
            return path
    names = ", ".join(ABC_NAMES)
    raise ToolError(f"Berkeley ABC is not installed ({names}): apt-get install berkeley-abc (Debian)")


def run_abc(script: str, folder: Path, timeout: float) -> str:
    """Runs an ABC script in a folder and returns what it printed; a ToolError after ``timeout`` seconds."""
    run = run_program([find_abc(), "-c", script], folder, timeout, "ABC")
    return run.stdout + run.stderr


def find_example(read: str, folder: Path, num_inputs: int, timeout: float) -> tuple[NDArray[np.bool_] | None, str]:
    """Asks ABC for bits ``x[0] …`` that make an output of what ``read`` reads one; None if it has none; and its log."""
    log = run_abc(f"{read}; strash; iprove; write_cex -n example.txt", folder, timeout)
    example = folder / "example.txt"
    if not example.is_file():
        return None, log
    bits = np.zeros(num_inputs, np.bool_)
    for index, value in re.findall(r"x\[(\d+)\]@0=([01])", example.read_text()):
        bits[int(index)] = value == "1"
    return bits, log


def run_yosys(script: str, folder: Path, timeout: float, failure: str = "yosys failed") -> str:
    """Runs a yosys script and returns what it printed; a ToolError, from ``failure`` on, if that does not work."""
    tool = shutil.which("yosys")
    if tool is None:
        raise ToolError("yosys is not on PATH; install it (Debian: apt-get install yosys)")
    run = run_program([tool, "-p", script], folder, timeout, "yosys")
    if run.returncode:
        raise ToolError(f"{failure}:\n{(run.stderr or run.stdout).strip()[-2000:]}")
    return run.stdout


def run_program(
    command: list[str], folder: Path, timeout: float, name: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a program in a folder; a ToolError that calls it ``name`` after ``timeout`` seconds."""
    try:
        return run(command, timeout, cwd=folder, env=environment)
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{name} did not end within {timeout:.0f} s; allow more time") from error

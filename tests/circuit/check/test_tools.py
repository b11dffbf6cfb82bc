"""The programs that circuits are checked with end in time, with all that they have started."""

import sys
import time
from pathlib import Path

import pytest

from lgn_lightning.circuit.check.tools import ToolError, run_program

#: Starts a program that goes on writing, as yosys starts ABC, and waits for it.
STARTS = r"""
import subprocess, sys
child = "import time\nwhile True:\n    open('alive', 'a').write('.')\n    time.sleep(0.02)"
subprocess.run([sys.executable, "-c", child])
"""


def test_what_a_program_prints_and_its_code(tmp_path: Path) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    run = run_program([sys.executable, "-c", code], tmp_path, 60, "it")
    assert (run.stdout, run.stderr, run.returncode) == ("out\n", "err\n", 3)


def test_a_program_ends_in_time_with_those_that_it_started(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="the tool did not end within 6 s"):
        run_program([sys.executable, "-c", STARTS], tmp_path, 6, "the tool")
    written = (tmp_path / "alive").stat().st_size
    assert written
    time.sleep(0.2)
    assert (tmp_path / "alive").stat().st_size == written

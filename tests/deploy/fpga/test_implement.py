"""What is read out of the reports of yosys and nextpnr, and when a design does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lgn_lightning.circuit.check.tools import ToolError
from lgn_lightning.deploy.fpga.devices import DEVICES
from lgn_lightning.deploy.fpga.implement import (
    Cells,
    DoesNotFitError,
    Implementation,
    check_fit,
    place_and_route,
    read_cells,
    read_clock,
)
from lgn_lightning.deploy.fpga.tools import Progress, Tool

ECP5, ICE40 = DEVICES["ecp5-25k"], DEVICES["ice40-hx1k"]
#: As yosys 0.23 and 0.70 write them, without what is not read.
ICE40_CELLS = """
2. Printing statistics.
{"creator": "Yosys 0.23", "modules": {
   "\\\\harness": {"num_cells": 142, "num_cells_by_type": {"SB_DFF": 140, "SB_LUT4": 1, "measured": 1}},
   "\\\\measured": {"num_cells_by_type": {"SB_CARRY": 149, "SB_DFF": 90, "SB_DFFESR": 6, "SB_LUT4": 200}}},
 "design": {"num_cells": 585}}
"""
ECP5_CELLS = """{"creator": "Yosys 0.70", "modules": {
   "\\\\harness": {"num_cells_by_type": {"LUT4": 1, "TRELLIS_FF": 140, "measured": 1}},
   "\\\\measured": {"num_cells_by_type": {"$scopeinfo": 4, "L6MUX21": 75, "LUT4": 294, "TRELLIS_FF": 141}}}}
"""
TIMING = {
    "fmax": {
        "$glbnet$clk": {"achieved": 307.25, "constraint": 1000},
        "other": {"achieved": 290.5, "constraint": 1000},
    }
}
UTILISATION = """
Info: Device utilisation:
Info: \t         ICESTORM_LC:  1468/ 1280   114%
Info: \t        ICESTORM_RAM:     0/   16     0%
ERROR: Unable to place cell 'x_SB_LUT4_O_LC', no Bels remaining of type 'ICESTORM_LC'
"""


def test_cells_of_net_and_harness_are_told_apart() -> None:
    assert read_cells(ICE40_CELLS, ICE40.family) == (Cells(200, 96, 149), Cells(1, 140, 0))
    assert read_cells(ECP5_CELLS, ECP5.family) == (Cells(294, 141, 0), Cells(1, 140, 0))


def test_the_slowest_clock_counts() -> None:
    assert read_clock(json.dumps(TIMING)) == 290.5
    with pytest.raises(ToolError, match="no clock"):
        read_clock("{}")


def test_what_does_not_fit_is_said_with_its_counts() -> None:
    check_fit(Cells(1000, 1000, 0), Cells(280, 280, 0), ICE40)
    with pytest.raises(DoesNotFitError, match="1,000 lookup tables and 281 of the shift registers around it, of 1,280"):
        check_fit(Cells(1000, 0, 0), Cells(281, 0, 0), ICE40)
    with pytest.raises(DoesNotFitError, match="larger --pipeline"):
        check_fit(Cells(0, 1200, 0), Cells(0, 100, 0), ICE40)


def _fake(folder: Path, code: str) -> Tool:
    """A nextpnr of one's own: Python code, which sees its arguments."""
    script = folder / "tool.py"
    script.write_text(code)
    import sys

    return Tool("nextpnr-ice40", (sys.executable, str(script)), "0")


def test_each_seed_is_placed_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool = _fake(
        tmp_path,
        "import json, sys\nargs = dict(zip(sys.argv[1:], sys.argv[2:]))\n"
        "assert '--hx1k' in sys.argv and args['--json'] == 'net.json' and args['--freq'] == '50'\n"
        "json.dump({'fmax': {'clk': {'achieved': 100 + int(args['--seed'])}}}, open(args['--report'], 'w'))\n",
    )
    assert place_and_route(ICE40, tool, tmp_path, (3, 5), 50, 20, Progress()) == {3: 103, 5: 105}
    assert "seed 5: 105.0 MHz" in capsys.readouterr().err


def test_too_much_for_the_packer_is_no_failure_of_the_tool(tmp_path: Path) -> None:
    tool = _fake(tmp_path, f"import sys\nprint({UTILISATION!r})\nsys.exit(1)")
    with pytest.raises(DoesNotFitError, match="1,468 ICESTORM_LC of 1,280 that ice40-hx1k has"):
        place_and_route(ICE40, tool, tmp_path, (1,), 50, 20, Progress())


def test_a_failure_is_told_in_the_tools_words_and_a_long_run_is_ended(tmp_path: Path) -> None:
    tool = _fake(tmp_path, "import sys\nprint('Info: x')\nprint('ERROR: Failed to open chipdb')\nsys.exit(1)")
    with pytest.raises(ToolError, match="nextpnr-ice40 failed: Failed to open chipdb"):
        place_and_route(ICE40, tool, tmp_path, (1,), 50, 20, Progress())
    tool = _fake(tmp_path, "import time\nprint('Info: Routing..', flush=True)\ntime.sleep(60)")
    with pytest.raises(ToolError, match=r"did not end within 1 s \(--timeout\); it was at: routing"):
        place_and_route(ICE40, tool, tmp_path, (1,), 50, 1, Progress())


def test_times_are_those_of_the_fastest_seed() -> None:
    own = Implementation(4, 11, Cells(1, 1, 0), Cells(1, 1, 0), {1: 200.0, 2: 250.0, 3: 240.0}, 4.1, 4)
    assert (
        own.as_dict()
        | {
            "mhz_fastest": 250.0,
            "mhz_median": 240.0,
            "ns_per_image": 4.0,
            "latency_ns": 44.0,
            "initiation_interval": 1,
        }
        == own.as_dict()
    )

"""Projects for Vivado and Quartus: well-formed, and their reports are read. No tool of the vendors ran here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from lgn_lightning.base.errors import LgnError
from lgn_lightning.deploy.fpga.projects import write_project
from tests.circuit.emit.test_axi_stream import pixel_circuit

pytestmark = pytest.mark.skipif(find_spec("edalize") is None, reason="edalize is not installed")
PARTS = {"vivado": "xc7a35tcsg324-1", "quartus": "Cyclone V:5CSEBA6U23I7"}
#: Rows as the tools print them.
UTILIZATION = """
+----------------------------+------+-------+------------+-----------+-------+
|          Site Type         | Used | Fixed | Prohibited | Available | Util% |
+----------------------------+------+-------+------------+-----------+-------+
| Slice LUTs                 | 4321 |     0 |          0 |     20800 | 20.77 |
|   LUT as Logic             | 4321 |     0 |          0 |     20800 | 20.77 |
| Slice Registers            | 1234 |     0 |          0 |     41600 |  2.97 |
"""
TIMING = """
| Design Timing Summary
| ---------------------

    WNS(ns)      TNS(ns)  TNS Failing Endpoints  TNS Total Endpoints      WHS(ns)
    -------      -------  ---------------------  -------------------      -------
     -0.250       -3.100                     12                 3210        0.051
"""
SUMMARY = """Fitter Status : Successful - Sun Nov 29 08:00:00 2026
Logic utilization (in ALMs) : 2,210 / 41,910 ( 5 % )
Total registers : 1234
"""
FMAX = """
; Fmax       ; Restricted Fmax ; Clock Name ; Note ;
; 262.4 MHz  ; 262.4 MHz       ; clk        ;      ;
"""


@pytest.mark.parametrize("vendor", PARTS)
def test_projects_are_well_formed(vendor: str, tmp_path: Path) -> None:
    run = write_project(pixel_circuit(), vendor, PARTS[vendor], tmp_path, 3, 250)
    project = (tmp_path / "measure.tcl").read_text()
    assert "net_pixels" in project
    assert PARTS[vendor].rpartition(":")[2] in project
    for file in re.findall(r"\b[\w.]+\.(?:v|xdc|sdc|tcl)\b", project + run):
        assert (tmp_path / file).is_file(), file
    constraints = (tmp_path / ("net.xdc" if vendor == "vivado" else "net.sdc")).read_text()
    assert constraints == "create_clock -name clk -period 4.000 [get_ports clk]\n"
    for script in tmp_path.glob("*.tcl"):
        text = re.sub(r"^#.*", "", script.read_text(), flags=re.MULTILINE)
        assert text.count("{") == text.count("}"), script
        assert text.count("[") == text.count("]"), script
    assert "out_of_context" in project + (tmp_path / f"{vendor}_context.tcl").read_text() or vendor == "quartus"
    if shutil.which("make"):
        target = re.search(r"make (\S+)", run)
        assert target is not None
        done = subprocess.run(["make", "-n", target[1]], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert "measure.tcl" in done.stdout
        assert "Circular" not in done.stderr


@pytest.mark.parametrize("vendor", PARTS)
def test_reports_are_read_back(vendor: str, tmp_path: Path) -> None:
    write_project(pixel_circuit(), vendor, PARTS[vendor], tmp_path, 3, 250)
    command = [sys.executable, "read_report.py"]
    none = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert none.returncode == 1
    assert "run the project first" in none.stderr
    texts = (UTILIZATION, TIMING) if vendor == "vivado" else (SUMMARY, FMAX)
    (tmp_path / ("utilization.rpt" if vendor == "vivado" else "measure.fit.summary")).write_text(texts[0])
    (tmp_path / "timing.rpt").write_text(texts[1])
    read = json.loads(subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout)
    assert read["registers"] == 1234
    assert read["luts"] == (4321 if vendor == "vivado" else 2210)
    assert read["mhz"] == pytest.approx(1000 / 4.25 if vendor == "vivado" else 262.4)
    assert read["latency"] == int(re.findall(r"Latency: (\d+)", (tmp_path / "net.v").read_text())[0])
    (tmp_path / "timing.rpt").write_text("nothing")
    wrong = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert "not as this script knows them" in wrong.stderr


def test_what_a_project_lacks_is_said(tmp_path: Path) -> None:
    with pytest.raises(LgnError, match="family and part"):
        write_project(pixel_circuit(), "quartus", "5CSEBA6U23I7", tmp_path, 3)
    with pytest.raises(LgnError, match="ice40-hx8k: give a part for Vivado"):
        write_project(pixel_circuit(), "vivado", "ice40-hx8k", tmp_path, 3)
    with pytest.raises(LgnError, match="between registers"):
        write_project(pixel_circuit(), "vivado", "xc7a35tcsg324-1", tmp_path, 0)
    assert not list(tmp_path.iterdir())

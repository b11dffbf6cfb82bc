"""Projects for the tools of the vendors, written by edalize: the net alone, out of context, with a clock to reach."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from lgn_lightning.base.errors import LgnError
from lgn_lightning.circuit.emit.verilog import emit_verilog, sample_ports
from lgn_lightning.circuit.net.netlist import Netlist
from lgn_lightning.deploy.fpga.devices import DEVICES

#: Name of the project; that of net.v would be taken by edalize for a result.
_PROJECT: Final = "measure"
#: MHz if none are given.
_CLOCK: Final = 200.0


@dataclass(frozen=True)
class Vendor:
    """What a tool's project is made of.

    Attributes:
        tool: Its name in edalize.
        constraints: Name and edalize's type of the file of constraints.
        options: What edalize is told of a device.
        scripts: Templates of this package, and whether edalize puts them into the project.
        run: How the project is run, in the folder.
    """

    tool: str
    constraints: tuple[str, str]
    scripts: tuple[tuple[str, bool], ...]
    run: str

    def options(self, device: str) -> Mapping[str, str]:
        """What edalize is told of a device; an LgnError if its name lacks something."""
        if self.tool == "vivado":
            if device in DEVICES or not re.fullmatch(r"[\w-]+", device):
                raise LgnError(f"--device {device}: give a part for Vivado, as in xc7a35tcpg236-1")
            return {"part": device}
        family, _, part = device.rpartition(":")
        if not family or not part:
            raise LgnError(f"--device {device}: give family and part for Quartus, as in 'Cyclone V:5CSEBA6U23I7'")
        return {"family": family, "device": part}


VENDORS: Final = {
    "vivado": Vendor(
        "vivado",
        ("net.xdc", "xdc"),
        (("vivado_context.tcl", True), ("vivado_measure.tcl", False)),
        "make measure.xpr && vivado -mode batch -source vivado_measure.tcl",
    ),
    "quartus": Vendor(
        "quartus",
        ("net.sdc", "SDC"),
        (("quartus_context.tcl", True), ("quartus_measure.tcl", False)),
        "make fit && quartus_sta -t quartus_measure.tcl",
    ),
}


def write_project(
    circuit: Netlist, vendor: str, device: str, folder: Path, pipeline: int, clock: float | None = None
) -> str:
    """Writes a project into a folder that is there.

    Args:
        circuit: The circuit; optimise it before.
        vendor: One of `VENDORS`.
        device: The part; for Quartus family and part, with a colon between them.
        folder: Where it is written.
        pipeline: Gate levels between registers, at least 1.
        clock: MHz to reach; 200 if not given.

    Returns:
        The command that runs it, in the folder.

    Raises:
        LgnError: Without edalize, or if the device is incomplete, or there is no pipeline.
    """
    try:
        from edalize.edatool import get_edatool  # an extra
    except ImportError as error:
        raise LgnError("edalize is not installed: pip install 'lgn-lightning[fpga]'") from error
    if pipeline < 1:
        raise LgnError("a project is timed between registers: --pipeline must be at least 1")
    kind = VENDORS[vendor]
    options = dict(kind.options(device))
    period = 1000 / (clock or _CLOCK)
    verilog = emit_verilog(circuit, name="net", pipeline=pipeline)
    (folder / "net.v").write_text(verilog.text, encoding="utf-8")
    constraints = f"create_clock -name clk -period {period:.3f} [get_ports clk]\n"
    (folder / kind.constraints[0]).write_text(constraints, encoding="utf-8")
    names = [("net.v", "verilogSource-2005"), kind.constraints]
    for script, in_project in kind.scripts:
        (folder / script).write_text(_template(script), encoding="utf-8")
        names += [(script, "tclSource")] * in_project
    reader = _template("read_report.py.in").replace("LATENCY = 0", f"LATENCY = {verilog.latency}")
    (folder / "read_report.py").write_text(reader.replace("PERIOD = 0", f"PERIOD = {period:.3f}"), encoding="utf-8")
    edam: dict[str, Any] = {
        "name": _PROJECT,
        "toplevel": "net" + sample_ports(circuit)[0],
        "files": [{"name": name, "file_type": file_type} for name, file_type in names],
        "tool_options": {kind.tool: options},
    }
    logging.getLogger("edalize").setLevel(logging.ERROR)  # it warns that Quartus is not installed here
    get_edatool(kind.tool)(edam=edam, work_root=str(folder)).configure()
    return f"{kind.run} && python3 read_report.py"


def _template(name: str) -> str:
    return (files("lgn_lightning.deploy.fpga") / "templates" / name).read_text(encoding="utf-8")

"""What Berkeley ABC makes of a design: six-input lookup tables and their depth, an opinion beside our own estimate."""

import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lgn_lightning.circuit.check.tools import ToolError, run_abc
from lgn_lightning.circuit.emit.logic import emit_blif
from lgn_lightning.circuit.hardware.design import design_of, with_encoder
from lgn_lightning.circuit.net.decoding import ARGMAX
from lgn_lightning.circuit.net.netlist import Netlist


@dataclass(frozen=True)
class FpgaReport:
    """Lookup tables of up to six inputs: of the whole design, on its longest path, and of its gates alone."""

    luts: int
    depth: int
    logic_luts: int


def fpga_report(circuit: Netlist, timeout: float = 60) -> FpgaReport:
    """Maps a circuit, with encoder, sums and decision, by ABC's ``if -K 6``.

    Raises:
        ToolError: If ABC is missing, fails, or takes more than ``timeout`` seconds for the whole design or the gates.
    """
    whole, depth = _map(with_encoder(design_of(circuit), circuit).netlist, timeout)
    return FpgaReport(whole, depth, _map(circuit, timeout)[0])


def _map(net: Netlist, timeout: float) -> tuple[int, int]:
    # ABC counts constant outputs as tables.
    known = np.zeros(net.num_nodes, np.bool_)
    known[net.num_inputs :] = np.isin(net.gates, (0, (1 << (1 << net.arity)) - 1))
    if known[net.outputs].all():
        return 0, 0
    net = replace(net, outputs=net.outputs[~known[net.outputs]], num_classes=1, decoding=ARGMAX, class_names=None)
    with tempfile.TemporaryDirectory(prefix="lgn-") as folder:
        (Path(folder) / "net.blif").write_text(emit_blif(net))
        log = run_abc("read_blif net.blif; strash; if -K 6; print_stats", Path(folder), timeout)
    found = re.findall(r"nd =\s*(\d+).*lev =\s*(\d+)", log)
    if not found:
        raise ToolError(f"ABC counted nothing:\n{log.strip()[-2000:]}")
    return int(found[-1][0]), int(found[-1][1])

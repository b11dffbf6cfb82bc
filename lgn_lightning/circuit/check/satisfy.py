"""Inputs that make the one output of a netlist true, or the proof that there are none."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.circuit.check.tools import ToolError, find_abc, run_abc
from lgn_lightning.circuit.emit.logic import emit_blif
from lgn_lightning.circuit.net.netlist import Netlist


class UndecidedError(Exception):
    """Time was up, or the solver gave up."""


def satisfy(net: Netlist, seconds: float) -> NDArray[np.bool_] | None:
    """Asks Berkeley ABC for inputs that make the output of a netlist one.

    Returns:
        Input bits bool ``[inputs]``, or None if there are none, which is then proven.

    Raises:
        UndecidedError: If there is no answer within that time.
        ToolError: If ABC is not installed.
    """
    find_abc()
    if seconds <= 0:
        raise UndecidedError("time was up")
    with tempfile.TemporaryDirectory(prefix="lgn-") as name:
        folder = Path(name)
        (folder / "net.blif").write_text(emit_blif(net))
        try:
            log = run_abc("read_blif net.blif; strash; iprove; write_cex -n example.txt", folder, seconds)
        except ToolError as error:
            raise UndecidedError(f"time was up: {error}") from error
        if "UNSATISFIABLE" in log:
            return None
        example = folder / "example.txt"
        if not example.is_file():
            raise UndecidedError("ABC gave up")
        bits = np.zeros(net.num_inputs, np.bool_)
        for index, value in re.findall(r"x\[(\d+)\]@0=([01])", example.read_text()):
            bits[int(index)] = value == "1"
        return bits

"""Inputs that make the one output of a netlist true, or the proof that there are none."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.circuit.check.tools import ToolError, find_abc, find_example
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
            found, log = find_example("read_blif net.blif", folder, net.num_inputs, seconds)
        except ToolError as error:
            raise UndecidedError(f"time was up: {error}") from error
        if "UNSATISFIABLE" in log:
            return None
        if found is None:
            raise UndecidedError("ABC gave up")
        return found

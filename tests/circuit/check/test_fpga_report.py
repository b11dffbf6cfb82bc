from __future__ import annotations

import shutil

import numpy as np
import pytest

from lgn_lightning.circuit import Circuit
from lgn_lightning.circuit.check.fpga_report import FpgaReport, fpga_report
from lgn_lightning.circuit.check.tools import ABC_NAMES, ToolError
from tests.circuit.tools import needs


@needs(ABC_NAMES[0])
def test_report_counts_lookup_tables(monkeypatch) -> None:
    # The AND of eight inputs takes two tables, one behind the other; a sum of one output takes none.
    node = np.arange(8, 15, dtype=np.int32)
    circuit = Circuit(
        num_inputs=8,
        gates=np.ones(7, np.uint8),
        a=np.concatenate([[0], node[:-1]]).astype(np.int32),
        b=np.arange(1, 8, dtype=np.int32),
        outputs=node[-1:].copy(),
        num_classes=1,
    )
    assert fpga_report(circuit) == FpgaReport(luts=2, depth=2, logic_luts=2)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ToolError, match="ABC is not installed"):
        fpga_report(circuit)

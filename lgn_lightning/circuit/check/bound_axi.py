"""A bounded model check of an AXI4-Stream top level: all inputs and pauses, for as many cycles as time allows."""

import re
import tempfile
from pathlib import Path

from lgn_lightning.circuit.check.prove import Proof
from lgn_lightning.circuit.check.tools import ToolError, find_abc, run_abc, run_yosys
from lgn_lightning.circuit.emit.axi_stream import AxiStream
from lgn_lightning.circuit.emit.text import template


def bound_axi(axi: AxiStream, text: str | None = None, seconds: float = 20) -> Proof:
    """Looks for cycles in which a top level loses, repeats, swaps or changes a result; the log says up to which.

    In place of the net stands a delay of as many cycles that passes on the first bit of a sample, and of a net with
    state whether the step is odd: what the top level does, does not depend on what the net computes.

    Args:
        axi: The top level.
        text: Its Verilog; what `AxiStream.text` gives if there is none.
        seconds: How long ABC searches, from the shortest sequences on.

    Raises:
        ToolError: If yosys or ABC is missing or fails.
    """
    find_abc()
    name = re.escape(axi.module)
    around = axi.text() if text is None else text
    model, count = re.subn(rf"^    {name} net \($.*?^    \);$", axi.model(), around, flags=re.MULTILINE | re.DOTALL)
    if count != 1:
        raise ToolError(f"there is no instance of {axi.module} in the top level")
    checker = template("axi_check.v.in").format(
        name=axi.name,
        width_top=axi.width - 1,
        data_top=8 * axi.result_bytes - 1,
        user_top=axi.verilog.score_bits * axi.circuit.num_classes - 1,
        beats_top=axi.beats - 1,
        stateful=int(axi.stateful),
        depth=axi.depth,
    )
    with tempfile.TemporaryDirectory(prefix="lgn-") as temporary:
        folder = Path(temporary)
        (folder / "check.v").write_text(f"{model}\n{checker}", encoding="utf-8")
        steps = ["read_verilog check.v", "hierarchy -top check", "proc", "flatten", "opt_clean", "memory_map"]
        steps += [
            "opt -nodffe -nosdff",
            "techmap",
            "opt -nodffe -nosdff",
            "setundef -zero",
            "aigmap",
            "write_aiger -zinit check.aig",
        ]
        run_yosys("; ".join(steps), folder, 60 + seconds)
        log = run_abc(f"read_aiger check.aig; scorr; bmc3 -T {seconds:.0f}", folder, 60 + seconds)
    if found := re.search(r"was asserted in frame (\d+)", log):
        return Proof(False, find_abc(), f"a result is wrong in cycle {found[1]}")
    bound = re.search(r"(?:in|for) (\d+) frames", log)
    if bound is None:
        raise ToolError(f"ABC gave no bound:\n{log.strip()[-1000:]}")
    return Proof(True, find_abc(), bound[1])

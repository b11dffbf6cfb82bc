"""A proof that an AXI4-Stream top level loses no result, for all inputs and pauses; or a bounded search."""

import re
import tempfile
from pathlib import Path
from typing import Final

from lgn_lightning.circuit.check.prove import Proof
from lgn_lightning.circuit.check.tools import ToolError, find_abc, run_abc, run_yosys
from lgn_lightning.circuit.check.watched_axi import PROBE, WatchedAxi
from lgn_lightning.circuit.emit.axi_stream import AxiStream
from lgn_lightning.circuit.emit.text import template

#: The log of a proof that holds in all cycles.
ALWAYS: Final = "always"
#: How yosys reads the design.
_READ: Final = (
    "read_verilog check.v",
    "hierarchy -top check",
    "proc",
    "flatten",
    "opt_clean",
    "memory_map",
    "opt_clean",
)


def prove_axi(axi: AxiStream, text: str | None = None, timeout: float = 60, search: float = 20) -> Proof:
    """Proves that a top level never loses, repeats, swaps or changes a result; else looks for cycles in which it does.

    In place of the net stands a delay of as many cycles that passes on the first bit of a sample, and of a net with
    state whether the step is odd: what the top level does, does not depend on what the net computes. The proof is by
    induction, over what is on its way in the top level that `AxiStream.text` gives. For another one it fails, and all
    first cycles are searched, for as long as time allows.

    Args:
        axi: The top level.
        text: Its Verilog; what `AxiStream.text` gives if there is none.
        timeout: Seconds that the proof may take.
        search: Seconds of the search.

    Returns:
        The log is `ALWAYS`, or how many cycles were searched, or what is wrong in which.

    Raises:
        ToolError: If yosys or ABC is missing or fails.
    """
    find_abc()
    around = axi.text() if text is None else text
    watched = WatchedAxi(axi.circuit, axi.verilog, axi.name, axi.width)
    with tempfile.TemporaryDirectory(prefix="lgn-") as temporary:
        folder = Path(temporary)
        if around == axi.text() and _by_induction(watched, folder, timeout):
            return Proof(True, find_abc(), ALWAYS)
        _write(watched, around, folder, probe="", sound=" = 1'b1")
        optimise = "opt -nodffe -nosdff"
        instance = f"select -assert-any t:{axi.module}"  # before the instance of the net is flattened
        steps = [*_READ[:2], instance, *_READ[2:], optimise, "techmap", optimise]
        steps += ["setundef -zero", "aigmap", "write_aiger -zinit check.aig"]
        run_yosys(
            "; ".join(steps),
            folder,
            60 + search,
            failure=f"there is no instance of {axi.module} in the top level, or yosys cannot read it",
        )
        log = run_abc(f"read_aiger check.aig; scorr; bmc3 -T {search:.0f}", folder, 60 + search)
    if found := re.search(r"was asserted in frame (\d+)", log):
        return Proof(False, find_abc(), f"a result is wrong in cycle {found[1]}")
    bound = re.search(r"(?:in|for) (\d+) frames", log)
    if bound is None:
        raise ToolError(f"ABC gave no bound:\n{log.strip()[-1000:]}")
    return Proof(True, find_abc(), bound[1])


def _by_induction(axi: WatchedAxi, folder: Path, timeout: float) -> bool:
    """Whether yosys proves it of the top level that `AxiStream.text` gives, by what is on its way inside."""
    probe = "".join(f", .{own}({'odd' if own == 'parity' else own})" for own in (*PROBE, "sound"))
    _write(axi, axi.text(), folder, probe, sound="")
    prove = f"sat -tempinduct -prove wrong 0 -maxsteps 1 -timeout {timeout:.0f}"
    log = run_yosys("; ".join([*_READ, prove]), folder, 60 + timeout)
    return "Induction step proven: SUCCESS!" in log


def _write(axi: WatchedAxi, top: str, folder: Path, probe: str, sound: str) -> None:
    """Writes ``check.v``: the top level, what stands in place of the net, and what watches it."""
    checker = template("axi_check.v.in").format(
        name=axi.name,
        width_top=axi.width - 1,
        data_top=8 * axi.result_bytes - 1,
        user_top=axi.verilog.score_bits * axi.circuit.num_classes - 1,
        beats_top=axi.beats - 1,
        stateful=int(axi.stateful),
        depth=axi.depth,
        probe=probe,
        sound=sound,
    )
    (folder / "check.v").write_text(f"{axi.stand_in()}\n{top}\n{checker}", encoding="utf-8")

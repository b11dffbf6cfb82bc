"""Our estimate of FPGA cost beside Berkeley ABC and yosys, over circuit files, checkpoints or runs.

    python benchmarks/fpga.py runs/digits runs/mnist-8k-learned-aug --yosys

Columns: LUT6 and levels of the whole design (encoder, gates, sums, decision), and LUT6 of the gates alone. ABC maps the
same netlists by ``if -K 6`` and by its best script, ``dch; if -K 6 -a; mfs2``, with the seconds that it takes; yosys
synthesises the emitted Verilog by ``synth_xilinx -nocarry -nowidelut`` and as it does by itself (with carry chains), in
minutes, and that of lookup tables (``--luts xilinx``), which it keeps, in seconds.
"""

import argparse
import json
import re
import tempfile
import time
from pathlib import Path

from lgn_lightning.circuit import emit_verilog, estimate, native, optimize_for_export
from lgn_lightning.circuit.check.tools import ToolError, run_abc, run_yosys
from lgn_lightning.circuit.emit.logic import emit_blif
from lgn_lightning.circuit.hardware.design import design_of, with_encoder
from lgn_lightning.circuit.net.netlist import Netlist
from lgn_lightning.deploy.source import read_source

#: What ABC runs after `strash`.
FAST, BEST = "if -K 6", "dch; if -K 6 -a; mfs2"


def abc_counts(net: Netlist, script: str, timeout: float) -> str:
    """LUT6, levels and seconds of ABC."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "net.blif").write_text(emit_blif(net))
        log = run_abc(f"read_blif net.blif; strash; {script}; print_stats", Path(folder), timeout)
    luts, levels = re.findall(r"nd =\s*(\d+).*lev =\s*(\d+)", log)[-1]
    return f"{luts}, {levels} levels, {time.perf_counter() - start:.1f} s"


def yosys_luts(circuit: Netlist, options: str, timeout: float, luts: str | None = None) -> int:
    """LUT1 to LUT6 that ``synth_xilinx`` leaves."""
    suffix = "_pixels" if circuit.levels is not None else "_rows" if circuit.comparisons is not None else ""
    script = f"synth_xilinx -flatten -noiopad -noclkbuf {options} -top net{suffix}; stat"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "net.v").write_text(emit_verilog(circuit, name="net", luts=luts).text)
        log = run_yosys(f"read_verilog net.v; {script}", Path(folder), timeout)
    found = log[log.rindex("Number of cells") :]
    return sum(int(count) for count in re.findall(r"^\s+LUT[1-6]\s+(\d+)$", found, re.MULTILINE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", type=Path, nargs="+")
    parser.add_argument("--yosys", action="store_true", help="synthesise as well, which takes minutes a net")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds that one run of a tool may take")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for path in arguments.nets:
        circuit = optimize_for_export(read_source(path).flat)[0]
        native.library()  # built before the clock runs
        start = time.perf_counter()
        cost = estimate(circuit)
        row: dict[str, object] = {"net": str(path), "gates": circuit.num_gates}
        row |= {"seconds": round(time.perf_counter() - start, 2), "LUT6": cost.total("lut6")}
        row |= {f"LUT6 of the {name}": part.lut6 for name, part in cost.parts.items()}
        row["levels"] = cost.total("levels")
        row["gates alone"] = cost.gates_alone
        design = with_encoder(design_of(circuit), circuit).netlist
        trials = {
            f"{what}, {script}": lambda net=net, script=script: abc_counts(net, script, arguments.timeout)
            for what, net in (("ABC", design), ("ABC, gates alone", circuit))
            for script in (FAST, BEST)
        }
        trials["yosys, tables"] = lambda net=circuit: yosys_luts(net, "", arguments.timeout, "xilinx")
        if arguments.yosys:
            trials["yosys"] = lambda net=circuit: yosys_luts(net, "-nocarry -nowidelut", arguments.timeout)
            trials["yosys, plain"] = lambda net=circuit: yosys_luts(net, "", arguments.timeout)
        for name, trial in trials.items():
            try:
                row[name] = trial()
            except ToolError as error:
                row[name] = str(error).splitlines()[0]
        text = "  ".join(f"{name}: {value}" for name, value in row.items())
        print(json.dumps(row) if arguments.json else text, flush=True)


if __name__ == "__main__":
    main()

"""Our passes against Berkeley ABC's area scripts on the same netlist, in one run.

    python benchmarks/passes.py net.lgn

Prints gates and seconds after each of our passes, and what ``dc2; dc2; dch; if -K 3 -a`` leaves of the same circuit in
three-input nodes. Where ABC is installed it also proves our result equal to the net as trained.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from pathlib import Path

from lgn_lightning.circuit import Circuit, emit_aiger, native, optimize_with_report
from lgn_lightning.circuit.check.prove import prove
from lgn_lightning.circuit.check.tools import ToolError, run_abc

AREA_SCRIPT = "dc2; dc2; dch; if -K 3 -a"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("circuit", type=Path, help="circuit file of a net as trained")
    parser.add_argument("--no-proof", action="store_true")
    options = parser.parse_args()
    circuit = Circuit.load(options.circuit)
    native.library()
    print(f"{circuit}\n\n| | gates | seconds |\n|---|---|---|\n| as trained | {circuit.num_gates} | |")
    started = time.perf_counter()
    small, reports = optimize_with_report(circuit, level=3)
    total = time.perf_counter() - started
    for report in reports:
        print(f"| {report.name} | {report.after} | {report.seconds:.4f} |")
    print(f"| all our passes, gates of up to three inputs | {small.num_gates} | {total:.3f} |")
    try:
        with tempfile.TemporaryDirectory() as name:
            (Path(name) / "net.aig").write_bytes(emit_aiger(circuit))
            started = time.perf_counter()
            log = run_abc(f"read net.aig; {AREA_SCRIPT}; print_stats", Path(name), timeout=3600)
            seconds = time.perf_counter() - started
        nodes = re.findall(r"nd\s*=\s*(\d+)", re.sub(r"\x1b\[[0-9;]*m", "", log))
        print(f"| ABC: {AREA_SCRIPT} | {nodes[-1]} | {seconds:.2f} |")
        if not options.no_proof:
            started = time.perf_counter()
            verdict = "equal" if prove(circuit, small) else "NOT EQUAL"
            print(f"\nABC proves our result and the net as trained {verdict} in {time.perf_counter() - started:.1f} s")
    except ToolError as error:
        print(f"\nABC: skipped: {error}")


if __name__ == "__main__":
    main()

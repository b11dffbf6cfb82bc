"""Puts the circuit of a finished run among those that ship with the package (lgn_lightning/hub).

    python benchmarks/ship.py runs/mnist-8k-learned-aug/version_0 --name mnist-8k --title "…" --data "MNIST …"
    python benchmarks/ship.py runs/game-of-life/version_0 --name game-of-life --rule game-of-life --title "…" --data "…"

The run's checkpoint is verified first, by `lgn verify`: what cannot be proven or compared equal does not ship.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import json
from dataclasses import asdict
from pathlib import Path

from lgn_lightning.base.files import atomic_write_text
from lgn_lightning.circuit import optimize_for_export
from lgn_lightning.circuit.file import SUFFIX
from lgn_lightning.cli.main import main as lgn
from lgn_lightning.deploy.source import read_source
from lgn_lightning.hub import FOLDER, Manifest

#: Samples of the comparisons that no proof covers.
SAMPLES = 10_000


def verified(run: Path, rule: str | None, timeout: float) -> list[str]:
    """The lines of `lgn verify` that say what is equal; ends the program if anything differs or nothing is proven."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        ruled = [] if rule is None else ["--rule", rule]
        code = lgn(["verify", str(run), "--samples", str(SAMPLES), "--timeout", str(timeout), *ruled])
    print(said.getvalue(), end="")
    lines = [" ".join(line.split()) for line in said.getvalue().splitlines()]
    proofs = [line for line in lines if line.startswith("equal ")]
    if code or not any("proof" in line or "all inputs" in line for line in proofs):
        raise SystemExit(f"{run} does not ship: something differs, or nothing was proven")
    return proofs


def ship(
    run: Path, name: str, title: str, data: str, command: str, rule: str | None = None, timeout: float = 600
) -> Manifest:
    """Verifies the run's circuit and writes circuit file and manifest into the hub."""
    result = json.loads((run / "result.json").read_text())
    proofs = verified(run, rule, timeout)
    circuit, _ = optimize_for_export(read_source(run).circuit)
    path = FOLDER / f"{name}{SUFFIX}"
    taken = ("recipe", "seed", "commit", "accuracy_hard", "gates", "train_seconds", "hardware")
    manifest = Manifest(
        title=title,
        data=data,
        command=command or f"lgn fit {result['recipe']} --seed_everything {result['seed']}",
        date=datetime.date.today().isoformat(),
        test_samples=result["tested"],
        gates_shipped=circuit.num_gates,
        proofs=proofs,
        **{name: result[name] for name in taken},
    )
    circuit.save(path)
    atomic_write_text(path.with_suffix(".json"), json.dumps(asdict(manifest), indent=2, ensure_ascii=False) + "\n")
    return manifest


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--name", required=True, help="name of the circuit")
    parser.add_argument("--title", required=True, help="one line on it")
    parser.add_argument("--data", required=True, help="source and licence of the data")
    parser.add_argument("--command", default="", help="the command that trained it, if it was more than the recipe")
    parser.add_argument("--rule", help="recipe whose data's rule the circuit must follow on all inputs")
    parser.add_argument("--timeout", type=float, default=600, help="seconds that one proof may take (default: 600)")
    arguments = parser.parse_args()
    print(ship(**vars(arguments)))


if __name__ == "__main__":
    main()

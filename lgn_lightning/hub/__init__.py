"""Trained circuits that ship with the package, each with what was measured and proven of it.

``hub.load("digits")`` is a circuit, ``hub.find("digits").manifest`` what is known of it.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lgn_lightning.base.errors import LgnError
from lgn_lightning.base.plain_values import filled, read_json

if TYPE_CHECKING:
    from lgn_lightning.circuit.api import AnyCircuit

FOLDER: Final = Path(str(files(__name__)))


@dataclass
class Manifest:
    """What is known of a shipped circuit.

    Attributes:
        title: One line on it.
        data: What it was trained on: source and licence.
        recipe: The recipe that trained it, whose data set it is for.
        command: The command that trained it.
        seed: Seed of the run.
        commit: Commit of this project that trained it.
        date: Day that it was shipped, ``YYYY-MM-DD``.
        accuracy_hard: Share of the test split that it classifies rightly, 0 to 1.
        test_samples: Samples of the test split.
        gates: Gates of the net, before the passes.
        gates_shipped: Gates of the file.
        train_seconds: Seconds that the training took.
        hardware: What it was trained on.
        proofs: What ``lgn verify`` said of the run, a line a comparison.
    """

    title: str
    data: str
    recipe: str
    command: str
    seed: int
    commit: str
    date: str
    accuracy_hard: float
    test_samples: int
    gates: int
    gates_shipped: int
    train_seconds: float
    hardware: str
    proofs: list[str]


@dataclass(frozen=True)
class ShippedCircuit:
    """A circuit that ships with the package: its name, circuit file and manifest."""

    name: str
    path: Path
    manifest: Manifest

    def load(self) -> AnyCircuit:
        """Reads the circuit; a CircuitError if it is damaged."""
        from lgn_lightning.circuit import load_circuit  # and numpy, which a list of names does not need

        return load_circuit(self.path)


def names() -> list[str]:
    """Names of the shipped circuits."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def find(name: str) -> ShippedCircuit:
    """Finds a shipped circuit by its name; an LgnError names a near one if there is none."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}? " if near else ""
        raise LgnError(f"there is no shipped circuit {name!r}; {hint}there are {', '.join(names())}")
    about = FOLDER / f"{name}.json"
    manifest = filled(Manifest, read_json(about, LgnError, "install the package again"))
    return ShippedCircuit(name, about.with_suffix(".lgn"), manifest)


def load(name: str) -> AnyCircuit:
    """Reads a shipped circuit, such as ``digits``; see `find` and `ShippedCircuit.load` for the errors."""
    return find(name).load()

"""Where a circuit comes from: a circuit file, a checkpoint, the folder of a run, or what ships with the package."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lgn_lightning import hub
from lgn_lightning.base.errors import LgnError
from lgn_lightning.circuit import Circuit, LoopedCircuit, SequentialCircuit, circuit_of_net, load_circuit
from lgn_lightning.circuit.api import AnyCircuit
from lgn_lightning.circuit.emit.export import keeps_loops
from lgn_lightning.circuit.file import SUFFIX
from lgn_lightning.runs.checkpoints import ChosenCheckpoint
from lgn_lightning.runs.recipes import recipe_files

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class CircuitSource:
    """A circuit file or checkpoint (and why this one of the run), its circuit; of a checkpoint its net and settings."""

    path: Path
    circuit: AnyCircuit
    net: nn.Module | None = None
    why: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The path, and why this one."""
        return str(ChosenCheckpoint(self.path, self.why))

    @property
    def flat(self) -> Circuit:
        """The circuit without loops: unrolled, if it has some."""
        if isinstance(self.circuit, SequentialCircuit):
            raise LgnError(f"{self.path} holds a circuit with state, which has no form without")
        return self.circuit.unroll() if isinstance(self.circuit, LoopedCircuit) else self.circuit


def find_source(path: Path) -> Path:
    """The path, if there is something; else the file of the shipped circuit of this name.

    Raises:
        LgnError: If there is neither.
    """
    if path.exists():
        return path
    wanted = "a circuit file, a checkpoint, the folder of a run or the name of a shipped circuit (`lgn ls`)"
    if path.name == str(path) and not path.suffix:
        shipped = hub.names()
        if path.name in shipped:
            return hub.find(path.name).path
        if path.name in {recipe.stem for recipe in recipe_files()}:
            raise LgnError(f"{path} is a recipe, which `lgn fit {path}` trains; give {wanted}")
        if near := difflib.get_close_matches(path.name, shipped, n=1):
            raise LgnError(f"there is no file, folder or shipped circuit {path}; did you mean {near[0]}?")
    raise LgnError(f"there is no file or folder {path}; give {wanted}")


def read_source(path: Path, form: str = "auto", formats: Sequence[str] = ()) -> CircuitSource:
    """Reads the circuit of a file or folder.

    Args:
        path: A circuit file (``.lgn``), a checkpoint (``.ckpt``), the folder of a run, or ``runs/<recipe>``, of which
            the newest run is taken, or else the name of a shipped circuit. A run stands for the checkpoint that
            `chosen_checkpoint` gives.
        form: Whether the circuit of a net keeps its loops, see `circuit_of_net`. A circuit file holds what it holds;
            its loops are unrolled where another form is asked for.
        formats: What it will be exported as; likewise.

    Raises:
        LgnError: If there is nothing, or nothing that holds a net; the message says what was looked for.
        CircuitError: If a circuit file is damaged, or the net has layers that are no gates, or the form does not fit.
    """
    path = find_source(path)
    if path.suffix == SUFFIX:
        circuit = load_circuit(path)
        if isinstance(circuit, LoopedCircuit):
            # Such a file was written because the net is large, or on demand.
            return CircuitSource(path, circuit if keeps_loops(circuit, form, formats, 0) else circuit.unroll())
        if isinstance(circuit, SequentialCircuit):
            return CircuitSource(path, circuit)
        if form == "loops":
            raise LgnError(f"{path} holds a circuit without loops; give the checkpoint that it was made of")
        return CircuitSource(path, circuit)
    from lgn_lightning.training.checkpoint import open_net  # torch takes seconds, which a circuit file does not need

    loaded = open_net(path)
    circuit = circuit_of_checkpoint(loaded.net, loaded.content, form, formats)
    return CircuitSource(loaded.checkpoint, circuit, loaded.net, loaded.why, loaded.recipe)


def circuit_of_checkpoint(
    net: nn.Module, content: dict[str, Any], form: str = "auto", formats: Sequence[str] = ()
) -> AnyCircuit:
    """Turns the net of a checkpoint's content into a circuit, as `circuit_of_net`, that knows what the content does."""
    from lgn_lightning.training.checkpoint import class_names, decoding, preparation  # torch, as above

    circuit = circuit_of_net(net, None, form, formats).with_preparation(preparation(content))
    return circuit.with_decoding(decoding(content)).with_class_names(class_names(content))

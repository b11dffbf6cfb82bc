"""Which passes run, and what each of them saved: one way for flat and for looped circuits."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from lgn_lightning.circuit import native
from lgn_lightning.circuit.net.looped import AnyNet, LoopedNetlist
from lgn_lightning.circuit.net.netlist import AnyInputs, CircuitError, Netlist
from lgn_lightning.circuit.net.sequential import AnySequential, SequentialNetlist
from lgn_lightning.circuit.passes import flat, looped
from lgn_lightning.circuit.passes.state import reduce_state
from lgn_lightning.circuit.passes.tabulate import tabulate

_Passes = tuple[Callable[[Any], Any], ...]

#: Passes of flat circuits by level; each level includes the ones below, and level 1 needs no compiler.
LEVELS: Final[dict[int, _Passes]] = {
    0: (),
    1: (flat.remove_dead_gates,),
    2: (*flat.TWO_INPUT_PASSES, tabulate),
    3: (*flat.TWO_INPUT_PASSES, tabulate, flat.map_to_luts),
}
#: Likewise of looped circuits.
LOOPED_LEVELS: Final[dict[int, _Passes]] = {
    0: (),
    1: (looped.remove_dead_gates, looped.fuse_windows),
    2: (looped.fuse_windows, looped.fold_kernels, looped.remove_dead_channels),
}


@dataclass(frozen=True)
class PassReport:
    """What a pass did.

    Attributes:
        name: The pass.
        before: Gates before it; in a looped circuit those that a sample takes.
        after: Gates after it.
        seconds: Wall time.
    """

    name: str
    before: int
    after: int
    seconds: float

    @property
    def saved(self) -> int:
        """Gates that the pass saved."""
        return self.before - self.after


def optimize(circuit: AnyNet, level: int = 2) -> AnyNet:
    """Runs the passes of a level.

    Args:
        circuit: Circuit of two-input gates, flat or looped.
        level: 0 nothing; 1 dead gates, and in a looped circuit OR windows into the loop before them (needs no
            compiler, others raise a BuildError without); 2 all on two-input gates; 3, in a flat circuit, three-input
            gates as well.

    Raises:
        CircuitError: If the level is not known or the circuit was mapped before.
    """
    return optimize_with_report(circuit, level)[0]


def optimize_with_report(circuit: AnyNet, level: int = 2) -> tuple[AnyNet, list[PassReport]]:
    """Runs the passes of a level and says what each of them saved; see `optimize`."""
    levels = LOOPED_LEVELS if isinstance(circuit, LoopedNetlist) else LEVELS
    if level not in levels:
        raise CircuitError(
            f"there is no optimization level {level!r} of a {type(circuit).__name__}; levels are "
            + ", ".join(map(str, levels))
        )
    reports = []
    for function in levels[level]:
        started, before = time.perf_counter(), circuit.num_gates
        circuit = function(circuit)
        seconds = round(time.perf_counter() - started, 6)
        reports.append(PassReport(function.__name__, before, circuit.num_gates, seconds))
    return circuit, reports


def optimize_for_export(circuit: AnyInputs) -> tuple[AnyInputs, list[PassReport]]:
    """Runs all two-input passes and puts flat gates into chain order; without a C++ compiler, level 1 alone.

    A circuit with state also loses the state that is constant, equal or never read.
    """
    found: tuple[Any, list[PassReport]]
    if isinstance(circuit, SequentialNetlist):
        found = _optimize_sequential(circuit)
        return found
    assert isinstance(circuit, Netlist | LoopedNetlist)
    try:
        native.library()
    except native.BuildError:
        found = optimize_with_report(circuit, level=1)
        return found
    small, reports = optimize_with_report(circuit, level=2)
    found = small if isinstance(small, LoopedNetlist) else flat.order_in_chains(small), reports
    return found


def _optimize_sequential(circuit: AnySequential) -> tuple[AnySequential, list[PassReport]]:
    try:
        native.library()
    except native.BuildError:
        step, reports = optimize_with_report(circuit.step, level=1)
        return circuit.with_step(step), reports
    started = time.perf_counter()
    small = reduce_state(circuit)
    seconds = round(time.perf_counter() - started, 6)
    report = PassReport("reduce_state", circuit.num_gates, small.num_gates, seconds)
    return small.with_step(flat.order_in_chains(small.step)), [report]

"""Whether the circuit of a net is unrolled or keeps its loops, and how its C is written: chosen by size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from lgn_lightning.circuit.net.looped import Loop, LoopedCircuit
from lgn_lightning.circuit.net.netlist import Circuit, CircuitError

if TYPE_CHECKING:
    from torch import nn

#: Stem of exported files and prefix of their C names unless another is given: a newer net takes an older one's place.
STEM: Final = "lgn_net"
#: Nets of more unrolled gates keep their loops: passes and engine of the flat circuit take minutes and gigabytes there.
LOOPS_ABOVE: Final = 10_000_000
#: Flat circuits of more gates are written as tables: one statement a gate takes a C compiler minutes there.
TABLE_ABOVE: Final = 250_000
#: What `circuit_of_net` and ``lgn export --form`` know; code and table are forms of C of a flat circuit.
FORMS: Final = ("auto", "code", "table", "loops")
#: Export formats that have no loops.
FLAT_FORMATS: Final = ("verilog", "blif", "aiger")


def circuit_of_net(
    net: nn.Module, class_names: Sequence[str] | None = None, form: str = "auto", formats: Sequence[str] = ()
) -> Circuit | LoopedCircuit:
    """Turns a net into a circuit of the form that suits its size.

    Args:
        net: As `Circuit.from_module` takes it.
        class_names: One name a class.
        form: ``"loops"``, ``"code"`` or ``"table"`` (a flat circuit), or ``"auto"``: loops for convolutional nets of
            more than `LOOPS_ABOVE` unrolled gates.
        formats: What it will be exported as; with one that has no loops, ``"auto"`` unrolls.

    Raises:
        CircuitError: If the net cannot become a circuit, or loops are asked for and a format has none.
    """
    looped = LoopedCircuit.from_module(net, class_names)
    return looped if keeps_loops(looped, form, formats, LOOPS_ABOVE) else looped.unroll()


def keeps_loops(circuit: LoopedCircuit, form: str, formats: Sequence[str], above: int) -> bool:
    """Whether a looped circuit is left as it is; arguments and errors as `circuit_of_net`.

    Args:
        circuit: The circuit.
        form: As there.
        formats: As there.
        above: Gates from which on ``"auto"`` keeps loops.
    """
    if form not in FORMS:
        raise CircuitError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    flat = [name for name in formats if name in FLAT_FORMATS]
    if form == "loops" and flat:
        raise CircuitError(f"{', '.join(flat)} cannot hold loops: leave the format out, or take another form")
    large = circuit.num_gates > above and any(isinstance(stage, Loop) for stage in circuit.stages)
    return form == "loops" or (form == "auto" and large and not flat)


def c_form(circuit: Circuit | LoopedCircuit, form: str = "auto") -> str:
    """The form of C: ``"code"`` or ``"table"``, for a looped circuit that of the gates behind its loops."""
    if form in ("code", "table"):
        return form
    return "table" if isinstance(circuit, LoopedCircuit) or circuit.num_gates > TABLE_ABOVE else "code"

"""`SequentialNetlist`: a circuit that remembers: one step of it, which of its bits are state, and how they begin."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.circuit.net.decoding import ARGMAX, Decoding
from lgn_lightning.circuit.net.netlist import CircuitError, CircuitInputs, Netlist

#: What the score of a sequence is: the counts of its last step, or the sum of those of all steps.
READOUTS: Final = ("last", "sum")
#: Once one of the sums of a stream has this bit all of them stand still: endless streams overflow no 32 bits.
FULL_BIT: Final = 30
#: How an image is a sequence: row by row or pixel by pixel, the first row first.
SCANS: Final = ("rows", "pixels")


@dataclass(frozen=True, eq=False)
class SequentialNetlist(CircuitInputs):
    """A circuit with registers; its inputs, those of one step, are as in `CircuitInputs`.

    Attributes:
        step: One step on plain bits. Its inputs are the ``num_inputs`` bits of a step, then the state; its outputs are
            ``num_classes`` equal groups, as those of a `Netlist`, then the next state. Each is a class of its own.
        initial: The state before the first step, bool ``[state]``.
        num_classes: Number of groups.
        readout: One of `READOUTS`.
        scan: How images become steps, one of `SCANS`; None where samples are sequences as they are.
        tau: As in `Netlist`, like the rest.
        class_names: Likewise.
        decoding: Likewise.

    Raises:
        CircuitError: If the parts do not fit one another; the message says which.
    """

    step: Netlist
    initial: NDArray[np.bool_]
    num_classes: int
    readout: str = "last"
    scan: str | None = None
    tau: float = 1.0
    class_names: tuple[str, ...] | None = field(default=None, kw_only=True)
    decoding: Decoding = field(default=ARGMAX, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        initial = np.ascontiguousarray(self.initial, dtype=np.bool_).view()
        initial.flags.writeable = False
        object.__setattr__(self, "initial", initial)
        step, state = self.step, initial.size
        if initial.ndim != 1:
            raise CircuitError(f"the initial state is a vector of bits, got {list(initial.shape)}")
        if not step.is_plain or step.num_classes != step.outputs.size:
            raise CircuitError("a step takes plain bits, and each of its outputs is a class of its own")
        if step.num_inputs != self.num_inputs + state:
            raise CircuitError(
                f"a step of {self.num_inputs} inputs and {state} bits of state takes {self.num_inputs + state} bits, "
                f"and this one {step.num_inputs}"
            )
        if step.outputs.size <= state:
            raise CircuitError(f"a step of {step.outputs.size} outputs gives no scores beside {state} bits of state")
        if self.readout not in READOUTS:
            raise CircuitError(f"readout must be one of {', '.join(READOUTS)}, got {self.readout!r}")
        if self.scan is not None and (self.scan not in SCANS or self.image_shape is None):
            raise CircuitError(f"scan must be one of {', '.join(SCANS)}, of images, got {self.scan!r}")
        _ = self.counted  # whose checks are those of groups, decoding and names

    @property
    def num_state(self) -> int:
        """Bits of state."""
        return int(self.initial.size)

    @property
    def num_gates(self) -> int:
        """Gates of a step."""
        return self.step.num_gates

    @property
    def arity(self) -> int:
        """Operands a gate has."""
        return self.step.arity

    @cached_property
    def counted(self) -> Netlist:
        """The step with the outputs alone that are counted: the scores of one step, of inputs and state."""
        outputs = self.step.outputs[: self.step.outputs.size - self.num_state]
        return replace(
            self.step,
            outputs=outputs,
            num_classes=self.num_classes,
            tau=self.tau,
            class_names=self.class_names,
            decoding=self.decoding,
        )

    def with_step(self: AnySequential, step: Netlist, initial: NDArray[np.bool_] | None = None) -> AnySequential:
        """Returns the circuit with another step, and perhaps other state."""
        return replace(self, step=step, initial=self.initial if initial is None else initial)

    def __repr__(self) -> str:
        outputs = f"{self.counted.outputs.size} outputs in {self.num_classes} classes, {self.readout} step's scores"
        if self.readout == "sum":
            outputs = outputs.replace("sum step's scores", "scores summed over the steps")
        return self._describe(f"{self.num_state} bits of state, {self.num_gates} gates a step, {outputs}")


#: A sequential netlist or its public subclass: passes return what they were given.
AnySequential = TypeVar("AnySequential", bound=SequentialNetlist)

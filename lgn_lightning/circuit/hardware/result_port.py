"""What Verilog makes of scores: a class, labels, or numbers in fixed point."""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.circuit.net.netlist import Netlist

#: Names of classes that comments give.
_MOST_NAMES = 100


def result_bits(circuit: Netlist) -> tuple[int, int]:
    """Widths of a score and of what it decides in the Verilog of a circuit."""
    group, decoding = circuit.outputs.size // circuit.num_classes, circuit.decoding
    if decoding.kind == "labels":
        return group.bit_length(), circuit.num_classes
    if decoding.kind == "numbers":
        return group.bit_length(), circuit.num_classes * fixed_point(circuit).width
    return group.bit_length(), max(1, (decoding.num_names(circuit.num_classes) - 1).bit_length())


@dataclass(frozen=True)
class FixedPoint:
    """Numbers as whole multiples of 2^-fraction: ``offset[c] + scale[c] · score[c]``, signed, of ``width`` bits."""

    fraction: int
    width: int
    scale: tuple[int, ...]
    offset: tuple[int, ...]


def fixed_point(circuit: Netlist) -> FixedPoint:
    """The numbers of a circuit in Verilog: wrong by at most 1/64 of what one more bit of a score changes."""
    group, decoding = circuit.outputs.size // circuit.num_classes, circuit.decoding
    least = min((abs(scale) for scale in decoding.scale if scale), default=1.0)
    fraction = max(0, math.ceil(math.log2(32 * (group + 1)) - math.log2(least)))
    scale, offset = (
        tuple(round(Fraction(value) * 2**fraction) for value in values) for values in (decoding.scale, decoding.offset)
    )
    ends = [o + s * group for s, o in zip(scale, offset, strict=True)] + [s * group for s in scale] + [group]
    return FixedPoint(fraction, 1 + max(abs(value).bit_length() for value in (*scale, *offset, *ends)), scale, offset)


def result_of(circuit: Netlist, scores: NDArray[np.integer]) -> list[int]:
    """What the Verilog of a circuit makes of scores ``[N, groups]``, as bits of its result port."""
    kind = circuit.decoding.kind
    if kind == "labels":
        return [sum(int(bit) << c for c, bit in enumerate(row)) for row in circuit.decoding.decide(scores)]
    if kind == "numbers":
        fixed = fixed_point(circuit)
        rows = [
            [o + s * score for s, o, score in zip(fixed.scale, fixed.offset, row, strict=True)]
            for row in scores.tolist()
        ]
        return [sum((value % (1 << fixed.width)) << (c * fixed.width) for c, value in enumerate(row)) for row in rows]
    return [int(decision) for decision in circuit.decoding.decide(scores)]


def port(circuit: Netlist) -> str:
    """The output that is the decision."""
    return circuit.decoding.kind if circuit.decoding.kind in ("labels", "numbers") else "class_index"


def describe_port(circuit: Netlist) -> str:
    """What comments say of it, and of the names of its classes, labels or numbers."""
    text, names = "", circuit.class_names or ()
    if circuit.decoding.kind == "labels":
        text = "\n// labels[c] is label c."
    elif circuit.decoding.kind == "numbers":
        fixed = fixed_point(circuit)
        bits = f"numbers[{fixed.width} * c +: {fixed.width}]"
        text = f"\n// Number c is $signed({bits}) / 2^{fixed.fraction}."
        text += "\n// It is wrong by at most 1/64 of what one more bit of a score changes."
    for number, name in enumerate(names[:_MOST_NAMES]):
        text += f"\n// {number}: {''.join(char if char.isprintable() else '?' for char in name)}."
    return text + "\n// The manifest has the other names." * (len(names) > _MOST_NAMES)

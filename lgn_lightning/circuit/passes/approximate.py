"""Leaves out bits of the sums that matter to no decision on some samples. Other samples may be decided otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lgn_lightning.circuit.net.netlist import AnyFlat, CircuitError
from lgn_lightning.circuit.passes.flat import remove_dead_gates
from lgn_lightning.circuit.simulate import encode, pack_bits, simulate, unpack_bits

#: Samples that are simulated at once.
_BLOCK: Final = 1 << 13


def leave_out_bits(circuit: AnyFlat, samples: ArrayLike, share: float = 0.0) -> tuple[AnyFlat, int, int]:
    """Replaces outputs by constants, the rarest to differ from theirs first, as long as decisions stay.

    Args:
        circuit: A circuit whose decision is a class or a level, or labels.
        samples: As `Circuit.scores` takes them, the more the better: those of the training.
        share: Of the samples that may be decided otherwise in the end.

    Returns:
        The circuit, without the gates that nothing reads then; how many outputs are constants now that were none; and
        how many samples are decided otherwise.

    Raises:
        CircuitError: If the circuit gives numbers.
    """
    decoding = circuit.decoding
    if decoding.kind == "numbers":
        raise CircuitError("numbers change with every bit of the sums: no bit can be left out")
    bits = _outputs(circuit, samples)  # [outputs, N], packed
    count = len(np.asarray(samples))
    groups = np.repeat(np.arange(circuit.num_classes), circuit.outputs.size // circuit.num_classes)
    ones = np.array([unpack_bits(row[None], count).sum() for row in bits])
    counts = np.stack([_sum(bits[groups == group], count) for group in range(circuit.num_classes)], axis=1)
    wanted = decoding.decide(counts).reshape(count, -1)
    wrong, most = np.zeros(count, np.bool_), int(share * count)
    usual = ones * 2 > count
    left_out: list[int] = []
    for output in np.argsort(np.minimum(ones, count - ones), kind="stable").tolist():
        own = np.unpackbits(bits[output].view(np.uint8), count=count, bitorder="little").view(np.bool_)
        rare = np.flatnonzero(own != usual[output])
        changed = counts[rare]
        changed[:, groups[output]] += 1 if usual[output] else -1
        now = (decoding.decide(changed).reshape(-1, wanted.shape[1]) != wanted[rare]).any(axis=1)
        if int(wrong.sum()) - int(wrong[rare].sum()) + int(now.sum()) > most:
            continue
        counts[rare], wrong[rare] = changed, now
        left_out.append(output)
    return _with_constants(circuit, left_out, usual), len(left_out), int(wrong.sum())


def _outputs(circuit: AnyFlat, samples: ArrayLike) -> NDArray[np.uint64]:
    array = np.asarray(samples)
    blocks = [encode(circuit, array[start : start + _BLOCK]) for start in range(0, len(array), _BLOCK)]
    return np.concatenate([simulate(circuit, pack_bits(block)) for block in blocks], axis=1)


def _sum(bits: NDArray[np.uint64], count: int) -> NDArray[np.int32]:
    """Ones of each sample among some outputs."""
    total = np.zeros(count, np.int32)
    for start in range(0, len(bits), 256):
        total += unpack_bits(bits[start : start + 256], count).sum(axis=1, dtype=np.int32)
    return total


def _with_constants(circuit: AnyFlat, outputs: list[int], values: NDArray[np.bool_]) -> AnyFlat:
    """The circuit with some outputs replaced by constants."""
    zero, one = circuit.num_nodes, circuit.num_nodes + 1
    constants = np.array([0, (1 << (1 << circuit.arity)) - 1], np.uint8)
    nodes = circuit.outputs.copy()
    nodes[outputs] = np.where(values[outputs], one, zero)
    operands = [np.concatenate([operand, np.zeros(2, np.int32)]) for operand in circuit.operands]
    gates = np.concatenate([circuit.gates, constants])
    a, b, *c = operands
    return remove_dead_gates(replace(circuit, gates=gates, a=a, b=b, c=c[0] if c else None, outputs=nodes))

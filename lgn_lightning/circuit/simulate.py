"""Numpy evaluation of a circuit on packed words: slow, short, and the oracle that every engine is checked against."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lgn_lightning.circuit.net.netlist import Circuit, CircuitError
from lgn_lightning.gates import TRUTH_TABLES

if TYPE_CHECKING:
    from lgn_lightning.circuit.net.looped import LoopedCircuit

#: Samples that `scores` packs and evaluates at once, and values that it holds: they bound its memory.
BLOCK = 4096
MAX_WORDS = 1 << 26

_LEVELS_AT_ONCE = 64

Words = NDArray[np.uint64]


def pack_bits(bits: NDArray[np.bool_]) -> Words:
    """Packs samples into words: bool ``[N, n]`` → uint64 ``[n, ceil(N/64)]``, bit j of word i is sample 64i + j."""
    packed = np.packbits(bits, axis=0, bitorder="little")
    padded = np.zeros((-(-bits.shape[0] // 64) * 8, bits.shape[1]), np.uint8)
    padded[: packed.shape[0]] = packed
    words = np.ascontiguousarray(padded.T).view(np.uint64)
    return words if sys.byteorder == "little" else words.byteswap()


def unpack_bits(words: Words, count: int) -> NDArray[np.bool_]:
    """Inverse of `pack_bits`: uint64 ``[n, w]`` → bool ``[count, n]``."""
    little = np.ascontiguousarray(words if sys.byteorder == "little" else words.byteswap())
    return np.unpackbits(little.view(np.uint8), axis=1, count=count, bitorder="little").T.astype(bool)


def encode(circuit: Circuit | LoopedCircuit, x: ArrayLike) -> NDArray[np.bool_]:
    """Brings samples into input bits.

    Args:
        circuit: The circuit.
        x: bool ``[N, num_inputs]``; or, for a circuit with an encoder, uint8 pixels ``[N, C, H, W]`` or ``[N, C·H·W]``.

    Returns:
        bool ``[N, num_inputs]``.

    Raises:
        CircuitError: On a wrong width or dtype.
    """
    kind, samples = check_samples(circuit, x)
    if kind == "bits":
        return samples.view(np.bool_)
    assert circuit.levels is not None
    return (samples[:, None, :] > circuit.levels[None, :, None]).reshape(samples.shape[0], circuit.num_inputs)


def check_samples(circuit: Circuit | LoopedCircuit, x: ArrayLike) -> tuple[str, NDArray[np.uint8]]:
    """Checks dtype and width of samples.

    Returns:
        ``("bits", uint8 view [N, num_inputs])`` or ``("pixels", uint8 [N, C·H·W])``; C-contiguous.

    Raises:
        CircuitError: On a wrong width or dtype.
    """
    samples = x.detach().cpu().numpy() if hasattr(x, "detach") else np.asarray(x)
    pixels = circuit.num_pixels
    wanted = f"bool [N, {circuit.num_inputs}]"
    if pixels is not None:
        wanted += f" or uint8 [N, {pixels}] ([N, {', '.join(map(str, circuit.image_shape or ()))}])"
    if samples.ndim < 2:
        raise CircuitError(f"samples must be {wanted}, got {samples.dtype} {list(samples.shape)}; add the batch axis")
    width = int(np.prod(samples.shape[1:]))
    flat = np.ascontiguousarray(samples).reshape(samples.shape[0], width)
    if samples.dtype == np.bool_ and width == circuit.num_inputs:
        return "bits", flat.view(np.uint8)
    if samples.dtype == np.uint8 and pixels is not None and width == pixels:
        return "pixels", flat
    raise CircuitError(f"samples must be {wanted}, got {samples.dtype} {list(samples.shape)}{_hint(circuit, samples)}")


def _hint(circuit: Circuit | LoopedCircuit, samples: NDArray[Any]) -> str:
    """How to convert samples of the right width and another dtype."""
    width = math.prod(samples.shape[1:])
    if samples.dtype in (np.bool_, np.uint8):
        return ""
    if width == circuit.num_pixels:  # thresholds are on the 256 levels of training
        return (
            "; convert pixels to uint8 from 0 to 255 first: (x * 255).round().astype(np.uint8) if x is from 0 to 1, "
            "x.round().astype(np.uint8) if it is from 0 to 255"
        )
    return "; convert bits first: x.astype(bool)" if width == circuit.num_inputs else ""


def gate_levels(circuit: Circuit) -> NDArray[np.int32]:
    """Level of each gate: 1 + the highest level of its operands, inputs having level 0."""
    # All gates at once, as often as there are levels; gate by gate where there are many.
    levels = np.zeros(circuit.num_nodes, np.int32)
    for _ in range(_LEVELS_AT_ONCE):
        own = np.asarray(1 + np.maximum.reduce([levels[operand] for operand in circuit.operands]))
        if np.array_equal(own, levels[circuit.num_inputs :]):
            return own
        levels[circuit.num_inputs :] = own
    level = [0] * circuit.num_nodes
    node = circuit.num_inputs
    for operands in zip(*(operand.tolist() for operand in circuit.operands), strict=True):
        level[node] = 1 + max([level[operand] for operand in operands])
        node += 1
    return np.array(level[circuit.num_inputs :], np.int32)


def simulate(circuit: Circuit, words: Words) -> Words:
    """Evaluates packed inputs.

    Args:
        circuit: The circuit.
        words: uint64 ``[num_inputs, w]``.

    Returns:
        uint64 ``[outputs, w]``.

    Raises:
        CircuitError: On a wrong shape or dtype.
    """
    if words.dtype != np.uint64 or words.ndim != 2 or words.shape[0] != circuit.num_inputs:
        raise CircuitError(f"words must be uint64 [{circuit.num_inputs}, w], got {words.dtype} {list(words.shape)}")
    values = np.empty((circuit.num_nodes, words.shape[1]), np.uint64)
    values[: circuit.num_inputs] = words
    # Gates of one level and kind are evaluated together; lexsort makes them neighbours.
    order = np.lexsort((circuit.gates, circuit.gate_levels))
    key = circuit.gate_levels[order].astype(np.int64) * 256 + circuit.gates[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    for group in np.split(order, starts[1:]) if order.size else []:
        operands = [values[operand[group]] for operand in circuit.operands]
        values[circuit.num_inputs + group] = _evaluate(int(circuit.gates[group[0]]), operands)
    return values[circuit.outputs]


def _evaluate(table: int, operands: list[Words]) -> Words:
    """Evaluates a truth table by Shannon expansion on its first operand."""
    if len(operands) == 2:
        return _evaluate2(table, *operands)
    first, *rest = operands
    return (~first & _evaluate(table >> 4, rest)) | (first & _evaluate(table & 15, rest))


def _evaluate2(gate: int, a: Words, b: Words) -> Words:
    t00, t01, t10, t11 = TRUTH_TABLES[gate]
    result = np.zeros_like(a)
    for value, left, right in ((t00, ~a, ~b), (t01, ~a, b), (t10, a, ~b), (t11, a, b)):
        if value:
            result |= left & right
    return result


def scores(circuit: Circuit | LoopedCircuit, x: ArrayLike) -> NDArray[np.int32]:
    """Scores of samples, int32 ``[N, num_classes]``; see `encode` for ``x``."""
    kind, samples = check_samples(circuit, x)
    result = np.empty((samples.shape[0], circuit.num_classes), np.int32)
    size = min(BLOCK, 64 * max(1, MAX_WORDS // circuit.num_nodes))
    for start in range(0, samples.shape[0], size):
        block = samples[start : start + size]
        bits = encode(circuit, block.view(np.bool_) if kind == "bits" else block)
        outputs = unpack_bits(circuit.simulate(pack_bits(bits)), block.shape[0])
        grouped = outputs.reshape(block.shape[0], circuit.num_classes, -1)
        result[start : start + size] = grouped.sum(axis=2, dtype=np.int32)
    return result


@cache
def dependence(arity: int) -> NDArray[np.bool_]:
    """Whether a truth table depends on an operand, bool ``[2^(2^arity), arity]``."""
    size = 1 << arity
    tables = np.arange(1 << size)[:, None]
    bits = (tables >> (size - 1 - np.arange(size)) & 1).astype(np.bool_)
    index = np.arange(size)
    return np.stack([(bits != bits[:, index ^ 1 << (arity - 1 - k)]).any(axis=1) for k in range(arity)], axis=1)


def remove_dead_gates(circuit: Circuit) -> Circuit:
    """Removes the gates that no output depends on; inputs and the order of the gates stay.

    An operand that a gate ignores does not keep its node alive; the gate reads one of its other operands in its place.
    """
    depends = dependence(circuit.arity)[circuit.gates]
    # An ignored operand becomes the first one that counts; for a constant, node 0.
    first = np.zeros(circuit.num_gates, np.int32)
    for operand, used in reversed(list(zip(circuit.operands, depends.T, strict=True))):
        first = np.where(used, operand, first)
    operands = [np.where(used, operand, first) for operand, used in zip(circuit.operands, depends.T, strict=True)]
    live = np.zeros(circuit.num_nodes, np.bool_)
    live[circuit.outputs] = True
    # From the last level to the first: all consumers of a gate have been seen when its turn comes.
    order = np.argsort(circuit.gate_levels, kind="stable")
    levels = circuit.gate_levels[order]
    for group in reversed(np.split(order, np.flatnonzero(np.diff(levels)) + 1)):
        reached = group[live[circuit.num_inputs + group]]
        for operand in operands:
            live[operand[reached]] = True
    live[: circuit.num_inputs] = True
    keep = live[circuit.num_inputs :]
    renumber = (np.cumsum(live, dtype=np.int64) - 1).astype(np.int32)
    kept = [renumber[operand[keep]] for operand in operands]
    return replace(
        circuit,
        gates=circuit.gates[keep],
        a=kept[0],
        b=kept[1],
        c=kept[2] if circuit.arity == 3 else None,
        outputs=renumber[circuit.outputs],
    )

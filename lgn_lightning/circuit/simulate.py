"""Numpy evaluation of a circuit on packed words: slow, short, and the oracle that every engine is checked against."""

import math
import sys
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lgn_lightning.base.arrays import to_array
from lgn_lightning.base.columns import Column, make_rows, row_dtype
from lgn_lightning.circuit.net.kernel import Places
from lgn_lightning.circuit.net.looped import Loop, LoopedNetlist
from lgn_lightning.circuit.net.netlist import CircuitError, CircuitInputs, Netlist
from lgn_lightning.gates import TRUTH_TABLES

#: Samples that `scores` packs and evaluates at once.
BLOCK: Final = 4096
#: Words that a simulation may hold: they bound its memory.
MAX_WORDS: Final = 1 << 26

Words = NDArray[np.uint64]


class TakesSamples(Protocol):
    """Whatever knows its inputs: a netlist of either form, or the library compiled of one."""

    @property
    def num_inputs(self) -> int: ...

    @property
    def image_shape(self) -> tuple[int, int, int] | None: ...

    @property
    def num_pixels(self) -> int | None: ...

    @property
    def columns(self) -> tuple[Column, ...] | None: ...


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


def encode(circuit: CircuitInputs, x: ArrayLike) -> NDArray[np.bool_]:
    """Brings samples into input bits, bool ``[N, num_inputs]``.

    Args:
        circuit: The circuit.
        x: bool ``[N, num_inputs]``; or, for a circuit with an encoder, uint8 pixels ``[N, C, H, W]`` or ``[N, C·H·W]``;
            or, for a circuit on columns, rows: a structured array ``[N]`` with their names, numbers ``[N, columns]``,
            or uint8 ``[N, bytes]``, structs as `lgn_lightning.base.columns.row_dtype` lays them out.

    Raises:
        CircuitError: On a wrong width or dtype.
    """
    kind, samples = check_samples(circuit, x)
    if kind == "bits":
        return samples.view(np.bool_)
    if circuit.comparisons is not None:
        return circuit.comparisons.encode(samples.view(circuit.comparisons.row_dtype)[:, 0])
    assert circuit.levels is not None
    return (samples[:, None, :] > circuit.levels[None, :, None]).reshape(samples.shape[0], circuit.num_inputs)


def check_samples(circuit: TakesSamples, x: ArrayLike) -> tuple[str, NDArray[np.uint8]]:
    """Checks dtype and width of samples; a CircuitError if they are wrong.

    Returns:
        ``("bits", uint8 view [N, num_inputs])``, ``("pixels", uint8 [N, C·H·W])`` or ``("rows", uint8 [N, bytes])``;
        C-contiguous.
    """
    samples = to_array(x)
    if samples.ndim >= 2:
        width, pixels = math.prod(samples.shape[1:]), circuit.num_pixels
        bits = samples.dtype == np.bool_ and width == circuit.num_inputs
        if bits or (pixels and samples.dtype == np.uint8 and width == pixels):
            flat = np.ascontiguousarray(samples).reshape(samples.shape[0], width)
            return ("bits", flat.view(np.uint8)) if bits else ("pixels", flat)
    if circuit.columns is not None:
        return "rows", _row_bytes(circuit.columns, circuit.num_inputs, samples)
    wanted = f"bool [N, {circuit.num_inputs}]"
    if circuit.num_pixels:
        wanted += f" or uint8 [N, {circuit.num_pixels}]"
    if circuit.image_shape is not None:
        wanted += f" ([N, {', '.join(map(str, circuit.image_shape))}])"
    hint = _hint(circuit, samples) if samples.ndim >= 2 else "; add the batch axis"
    raise CircuitError(f"samples must be {wanted}, got {samples.dtype} {list(samples.shape)}{hint}")


def _row_bytes(columns: tuple[Column, ...], num_inputs: int, samples: NDArray[Any]) -> NDArray[np.uint8]:
    """Rows as structs, of a structured array by the names of its fields, of numbers column by column."""
    layout = row_dtype(columns)
    names = samples.dtype.names
    if samples.ndim == 2 and samples.dtype == np.uint8 and samples.shape[1] == layout.itemsize:
        return np.ascontiguousarray(samples)
    if samples.ndim == 2 and samples.shape[1] == len(columns) and {c.dtype for c in columns} == {samples.dtype}:
        return np.ascontiguousarray(samples).view(np.uint8)  # the matrix is the structs
    try:
        if samples.dtype == layout and samples.ndim == 1:
            rows = np.ascontiguousarray(samples)
        elif names is not None and samples.ndim == 1:
            lacking = [column.name for column in columns if column.name not in names]
            if lacking:
                raise CircuitError(f"rows lack the column {lacking[0]!r}; they have {', '.join(names[:8])}")
            rows = make_rows(columns, [column.convert(samples[column.name]) for column in columns])
        elif samples.ndim == 2 and samples.dtype.kind in "fiu" and samples.shape[1] == len(columns):
            rows = make_rows(columns, [column.convert(samples[:, i]) for i, column in enumerate(columns)])
        else:
            raise CircuitError(
                f"rows must be a structured array [N] with {len(columns)} columns ({columns[0].name}, …), numbers "
                f"[N, {len(columns)}], uint8 [N, {layout.itemsize}] or bool [N, {num_inputs}], got "
                f"{samples.dtype if names is None else 'fields ' + ', '.join(names[:8])} {list(samples.shape)}"
            )
    except CircuitError:
        raise
    except ValueError as error:
        raise CircuitError(str(error)) from error
    return rows.view(np.uint8).reshape(len(rows), layout.itemsize)


def _hint(circuit: TakesSamples, samples: NDArray[Any]) -> str:
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


def simulate(circuit: Netlist | LoopedNetlist, words: Words) -> Words:
    """Evaluates packed inputs, uint64 ``[num_inputs, w]`` → ``[outputs, w]``; a CircuitError on others."""
    if words.dtype != np.uint64 or words.ndim != 2 or words.shape[0] != circuit.num_inputs:
        raise CircuitError(f"words must be uint64 [{circuit.num_inputs}, w], got {words.dtype} {list(words.shape)}")
    return _simulate_flat(circuit, words) if isinstance(circuit, Netlist) else _simulate_looped(circuit, words)


def _simulate_flat(circuit: Netlist, words: Words) -> Words:
    values = np.empty((circuit.num_nodes, words.shape[1]), np.uint64)
    values[: circuit.num_inputs] = words
    # Gates of one level and kind are evaluated together; lexsort makes them neighbours.
    order = np.lexsort((circuit.gates, circuit.gate_levels))
    key = circuit.gate_levels[order].astype(np.int64) << 8 | circuit.gates[order]
    for start, length in zip(*runs_of(key), strict=True):
        group = order[start : start + length]
        operands = [values[operand[group]] for operand in circuit.operands]
        values[circuit.num_inputs + group] = _evaluate(int(circuit.gates[group[0]]), operands)
    return values[circuit.outputs]


def runs_of(numbers: NDArray[np.integer]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First place and length of each run of equal numbers, none of them negative."""
    starts = np.flatnonzero(np.diff(numbers.astype(np.int64), prepend=-1))
    return starts, np.diff(np.append(starts, numbers.size))


def _simulate_looped(circuit: LoopedNetlist, words: Words) -> Words:
    values = np.empty((circuit.tail.num_inputs, words.shape[1]), np.uint64)
    values[: circuit.num_inputs] = words
    for first, stage in circuit.numbered():
        last = first + stage.num_nodes
        if isinstance(stage, Loop):
            values[first:last] = _simulate_loop(stage, values[stage.wires])
        elif last > first:
            outputs = np.arange(first, last, dtype=np.int32)
            values[first:last] = _simulate_flat(stage.as_circuit(first, outputs), values[:first])
    return _simulate_flat(circuit.tail, values)


def _simulate_loop(stage: Loop, image: Words) -> Words:
    """Simulates a kernel at all places: ``[channels, H, W, w]`` → ``[nodes of the stage, w]``."""
    places, kernel = stage.places, stage.kernel
    borders = ((0, 0), (places.padding[0],) * 2, (places.padding[1],) * 2, (0, 0))
    padded = np.pad(image, borders)
    (height, width), words = places.unpooled, image.shape[-1]
    rows, columns = ((n - 1) * s + 1 for n, s in zip(places.unpooled, places.stride, strict=True))
    at_once = max(1, MAX_WORDS // (kernel.num_nodes * height * width))
    result = np.empty((*stage.shape, words), np.uint64)
    for start in range(0, words, at_once):
        part = padded[..., start : start + at_once]
        down, across = places.stride
        read = [part[:, i : i + rows : down, j : j + columns : across] for i, j in np.ndindex(places.kernel)]
        at_places = _simulate_flat(kernel, np.stack(read, axis=1).reshape(kernel.num_inputs, -1))
        at_places = at_places.reshape(-1, height, width, part.shape[-1])
        result[..., start : start + at_once] = _or_windows(at_places, places)
    return result.reshape(stage.num_nodes, words)


def _or_windows(values: Words, places: Places) -> Words:
    windows = np.lib.stride_tricks.sliding_window_view(values, places.window, axis=(1, 2))
    stepped = windows[:, :: places.window_stride[0], :: places.window_stride[1]]
    return np.asarray(np.bitwise_or.reduce(stepped, axis=(-2, -1)))


def _evaluate(table: int, operands: list[Words]) -> Words:
    """Evaluates a truth table by Shannon expansion on its first operand."""
    if len(operands) == 2:
        return _evaluate2(table, *operands)
    first, *rest = operands
    return (~first & _evaluate(table >> 4, rest)) | (first & _evaluate(table & 15, rest))


def _evaluate2(gate: int, a: Words, b: Words) -> Words:
    """Evaluates a gate by its algebraic normal form, which takes fewer operations than a sum of products."""
    t00, t01, t10, t11 = TRUTH_TABLES[gate]
    result = np.full_like(a, ~np.uint64(0) if t00 else 0)
    if t00 ^ t10:
        result ^= a
    if t00 ^ t01:
        result ^= b
    if t00 ^ t01 ^ t10 ^ t11:
        result ^= a & b
    return result


def scores(circuit: Netlist | LoopedNetlist, x: ArrayLike) -> NDArray[np.int32]:
    """Scores of samples, int32 ``[N, num_classes]``; see `encode` for ``x``."""
    kind, samples = check_samples(circuit, x)
    result = np.empty((samples.shape[0], circuit.num_classes), np.int32)
    size = min(BLOCK, 64 * max(1, MAX_WORDS // circuit.num_nodes))
    for start in range(0, samples.shape[0], size):
        block = samples[start : start + size]
        bits = encode(circuit, block.view(np.bool_) if kind == "bits" else block)
        result[start : start + size] = packed_scores(circuit, pack_bits(bits), block.shape[0])
    return result


def packed_scores(circuit: Netlist | LoopedNetlist, words: Words, count: int) -> NDArray[np.int32]:
    """Scores of ``count`` packed samples, int32 ``[count, num_classes]``."""
    return count_ones(simulate(circuit, words), count, circuit.num_classes)


def count_ones(outputs: Words, count: int, num_classes: int) -> NDArray[np.int32]:
    """Scores int32 ``[count, num_classes]`` of packed output bits."""
    groups = unpack_bits(outputs, count).reshape(count, num_classes, len(outputs) // num_classes)
    return np.asarray(groups.sum(axis=2, dtype=np.int32))

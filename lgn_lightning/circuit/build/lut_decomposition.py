"""Lookup tables of up to six inputs as two-input gates: Shannon expansion with shared cofactors."""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lgn_lightning.circuit.build.sink import GateSink
from lgn_lightning.circuit.net.netlist import NodeIds
from lgn_lightning.gates import AND, NOT_A, NOT_A_AND_B, NOT_A_OR_B, OR, PASS_A, XOR

#: A table of six inputs is one 64-bit word.
MAX_LUT_INPUTS: Final = 6

_Tables = NDArray[np.uint64]


def add_luts(sink: GateSink, tables: ArrayLike, wires: ArrayLike) -> NodeIds:
    """Adds lookup tables; see `NetlistBuilder.luts`."""
    rows, operands = np.asarray(tables), np.asarray(wires)
    if operands.ndim != 2 or not 1 <= operands.shape[1] <= MAX_LUT_INPUTS:
        raise ValueError(f"wires must be [n, k] with k in 1…{MAX_LUT_INPUTS}, got {list(operands.shape)}")
    count, arity = operands.shape
    if rows.shape != (count, 1 << arity):
        raise ValueError(f"tables must be [{count}, {1 << arity}] for wires {[count, arity]}, got {list(rows.shape)}")
    if rows.size and not np.isin(rows, (0, 1)).all():
        raise ValueError("the entries of lookup tables must be 0 or 1")
    if count == 0:
        return np.zeros(0, np.int32)
    if arity == 1:
        operands, rows, arity = np.repeat(operands, 2, axis=1), rows[:, [0, 0, 1, 1]], 2
    # Row 0 becomes the most significant bit, as in a gate id.
    weights = np.uint64(1) << np.arange((1 << arity) - 1, -1, -1, dtype=np.uint64)
    words = (rows.astype(np.uint64) * weights).sum(axis=1, dtype=np.uint64)
    return _expand(sink, words, operands)


def _expand(sink: GateSink, tables: _Tables, wires: NDArray[np.int64]) -> NodeIds:
    """Node ids of tables over wires ``[n, k]``, k ≥ 2."""
    if wires.shape[1] == 2:
        return sink.gates(tables.astype(np.uint8), wires[:, 0], wires[:, 1])
    half = 1 << (wires.shape[1] - 1)
    ones = np.uint64((1 << half) - 1)
    low, high, first = tables >> np.uint64(half), tables & ones, wires[:, 0]
    # f = first ? high : low needs fewer gates than a multiplexer where a cofactor is constant or both are related.
    result = np.empty(tables.size, np.int32)
    equal, opposite = low == high, low == (high ^ ones)
    needs_low = (low != 0) & (low != ones)
    needs_high = (high != 0) & (high != ones) & ~equal & ~(opposite & needs_low)
    # An independent table keeps a gate, also where it is constant: every table is expanded on its first cofactor.
    needs_low |= equal
    cofactor = np.full((2, tables.size), -1, np.int32)
    lut = np.concatenate([np.flatnonzero(needs_low), np.flatnonzero(needs_high)])
    side = np.concatenate([np.zeros(int(needs_low.sum()), np.int64), np.ones(int(needs_high.sum()), np.int64)])
    cofactor[side, lut] = _shared(sink, np.where(side == 0, low[lut], high[lut]), wires[lut, 1:])
    to_low, to_high = cofactor
    done = equal.copy()
    result[equal] = to_low[equal]

    def put(where: NDArray[np.bool_], gate: int, operand: NodeIds) -> None:
        chosen = where & ~done
        done[chosen] = True
        ids = np.full(int(chosen.sum()), gate, np.uint8)
        result[chosen] = sink.gates(ids, first[chosen], operand[chosen])

    put((low == 0) & (high == ones), PASS_A, first.astype(np.int32))
    put((low == ones) & (high == 0), NOT_A, first.astype(np.int32))
    put(opposite, XOR, to_low)
    put(low == 0, AND, to_high)
    put(low == ones, NOT_A_OR_B, to_high)
    put(high == 0, NOT_A_AND_B, to_low)
    put(high == ones, OR, to_low)
    rest = ~done
    number = int(rest.sum())
    taken = sink.gates(np.full(number, AND), first[rest], to_high[rest])
    kept = sink.gates(np.full(number, NOT_A_AND_B), first[rest], to_low[rest])
    result[rest] = sink.gates(np.full(number, OR), taken, kept)
    return result


def _shared(sink: GateSink, tables: _Tables, wires: NDArray[np.int64]) -> NodeIds:
    """As `_expand`, but equal tables on equal wires are made once."""
    keys = np.concatenate([tables[:, None].view(np.int64), wires.astype(np.int64)], axis=1)
    # One opaque item a row sorts several times faster than np.unique(axis=0).
    items = np.ascontiguousarray(keys).view(np.dtype((np.void, keys.shape[1] * 8))).ravel()
    _, first, inverse = np.unique(items, return_index=True, return_inverse=True)
    return _expand(sink, tables[first], wires[first])[inverse.ravel()]

"""What the net became as a circuit: gates through the passes, the pixels it reads, and how fast it runs."""

import time
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from lgn_lightning.base.columns import Comparisons
from lgn_lightning.circuit import (
    ARGMAX,
    Circuit,
    CircuitStats,
    Decoding,
    Engine,
    FpgaEstimate,
    PassReport,
    estimate,
    map_to_luts,
    optimize_with_report,
)
from lgn_lightning.circuit.native import BuildError


@dataclass(frozen=True)
class CircuitFacts:
    """The circuit of a net, gate for gate (``raw``) and after the passes on two-input gates (``small``).

    ``small`` lacks only dead gates if there is no C++ compiler. ``pixel_reads`` are its operands that read each pixel,
    summed over thresholds and channels, int64 ``[H, W]``; ``threshold_reads`` are the same by level (0 to 255).
    ``column_reads`` are a table's columns, those that are read most first: number of the column, comparisons of it that
    are read, and operands that read them. ``fpga`` is None without a C++ compiler.
    """

    raw: Circuit
    small: Circuit
    stats: CircuitStats
    passes: list[PassReport]
    engine: Engine
    pixel_reads: NDArray[np.int64] | None
    threshold_reads: list[tuple[int, int]]
    column_reads: list[tuple[int, int, int]]
    fpga: FpgaEstimate | None = None


def circuit_facts(net: nn.Module, decoding: Decoding = ARGMAX) -> CircuitFacts:
    """Turns a net in ``.eval()`` mode into a circuit and looks at it; a CircuitError if a layer of it is no gates."""
    raw = Circuit.from_module(net).with_decoding(decoding)
    try:
        small, passes = optimize_with_report(raw, 2)
        started = time.perf_counter()
        mapped = map_to_luts(small).num_gates
        fpga = estimate(small)
        passes.append(PassReport("map_to_luts", small.num_gates, mapped, round(time.perf_counter() - started, 6)))
    except BuildError:
        fpga = None
        small, passes = optimize_with_report(raw, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy instead of machine code: the report says which engine
        engine = Engine(small, optimized=True)
    reads = input_reads(small)
    pixels, thresholds = None, []
    if small.levels is not None and small.image_shape is not None:
        by_level = reads.reshape(len(small.levels), *small.image_shape)
        pixels = by_level.sum((0, 1))
        thresholds = list(zip(small.levels.tolist(), by_level.sum((1, 2, 3)).tolist(), strict=True))
    columns = [] if small.comparisons is None else _column_reads(small.comparisons, reads)
    return CircuitFacts(raw, small, small.stats(), passes, engine, pixels, thresholds, columns, fpga)


def _column_reads(comparisons: Comparisons, reads: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    numbers = range(len(comparisons.columns))
    of_column = [reads[comparisons.column == number] for number in numbers]
    found = [(i, int((own > 0).sum()), int(own.sum())) for i, own in zip(numbers, of_column, strict=True)]
    return sorted(found, key=lambda entry: -entry[2])


def input_reads(circuit: Circuit) -> NDArray[np.int64]:
    """Counts the operands and outputs of a circuit that read each input bit, int64 ``[num_inputs]``."""
    read = np.concatenate([*circuit.operands, circuit.outputs])
    return np.bincount(read[read < circuit.num_inputs], minlength=circuit.num_inputs)

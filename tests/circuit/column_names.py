"""Columns whose names are words of the languages of exported files, or names inside of these files."""

from __future__ import annotations

import re
from itertools import cycle

import numpy as np

from lgn_lightning.base.columns import Column, Comparisons, Op
from lgn_lightning.circuit import Circuit, SequentialCircuit
from lgn_lightning.circuit.emit.text import template
from tests.circuit.random_circuits import random_circuit
from tests.circuit.random_streams import random_stream

MORE = "Time Type _x x_ unix linux i386 errno stdin EOF typeof M_PI"
VHDL = "access all array body entity file in is label map of on open range record report signal to type units when"

CPP = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t class compl
concept const consteval constexpr constinit const_cast continue contract_assert co_await co_return co_yield decltype
default delete do double dynamic_cast else enum explicit export extern false float for friend goto if inline int
long mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public register
reinterpret_cast requires return short signed sizeof static static_assert static_cast struct switch template this
thread_local throw true try typedef typeid typename union unsigned using virtual void volatile wchar_t while xor
xor_eq
"""


def keywords() -> list[str]:
    files = [template(f"{name}.txt") for name in ("verilog_keywords", "systemverilog_keywords", "c_words")]
    return list(dict.fromkeys(" ".join([*files, VHDL, CPP, MORE]).split()))


def inner_names(text: str) -> list[str]:
    """Every word of a file, and what it is without underscores at its ends."""
    words = dict.fromkeys(re.findall(r"[A-Za-z_]\w*", text))
    return [*words, *(word.strip("_") for word in words)]


def table(names: list[str], *kinds: str) -> Comparisons:
    """Two thresholds of each column, whose kinds come in turn, and whether it is missing."""
    columns = [Column(name, kind) for name, kind in zip(names, cycle(kinds or ("float32",)))]
    numbers = [np.array([0.5, -0.5, 0.0]).view(np.int64) if column.is_float else [1, -2, 0] for column in columns]
    ops = np.tile([Op.GREATER, Op.GREATER, Op.MISSING], len(names))
    return Comparisons(tuple(columns), np.arange(3 * len(names)) // 3, ops, np.concatenate(numbers))


def table_circuit(names: list[str], *kinds: str) -> Circuit:
    """Every comparison is read."""
    plain = random_circuit(0, 3 * len(names), 4 * len(names), 3, 4)
    a = np.arange(plain.num_gates, dtype=np.int32) % plain.num_inputs
    gates = np.full_like(plain.gates, 6)
    outputs = np.arange(plain.num_inputs, plain.num_nodes // 3 * 3, dtype=np.int32)
    return Circuit(plain.num_inputs, gates, a, plain.b, outputs, 3, comparisons=table(names, *kinds))


def table_stream(names: list[str], readout: str = "last") -> SequentialCircuit:
    plain = random_stream(1, inputs=3 * len(names), gates=4 * len(names), group=7, readout=readout)
    return SequentialCircuit(plain.num_inputs, plain.step, plain.initial, 3, readout, comparisons=table(names))


def values(names: list[str], *shape: int) -> np.ndarray:
    """Numbers of the columns ``[…, columns]``, a tenth of them missing."""
    numbers = np.random.default_rng(1).normal(size=(*shape, len(names))).astype(np.float32)
    numbers[np.random.default_rng(2).random(numbers.shape) < 0.1] = np.nan
    return numbers

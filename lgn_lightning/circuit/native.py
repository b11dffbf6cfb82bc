"""The circuit library of ``ext/circuit``: built once, loaded with ctypes."""

import ctypes
import threading
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.base import native_build
from lgn_lightning.base.columns import Comparisons
from lgn_lightning.base.instruction_sets import FLAGS, all_sets
from lgn_lightning.base.native_build import BuildError, BuildPlan, Unit
from lgn_lightning.circuit.net.netlist import AnyFlat, Netlist

__all__ = ["BuildError", "library"]  # BuildError: for those who call the library

_KERNELS = ("kernels.cpp", "loop_kernels.cpp", "row_kernels.cpp")  # compiled once per instruction set
_ENGINES = ("engine.cpp", "loops.cpp", "sequences.cpp")  # run with them; the others make what is run
ISA_NAMES = ("generic", "avx2", "avx512")
KINDS = ("interpreter", "machine-code")
ABSORB_INVERTERS, HASH_STRUCTURE = 1, 2


_ARRAYS = tuple((name, ctypes.c_void_p) for name in ("tables", "a", "b", "c", "output_nodes"))


class _Circuit(ctypes.Structure):
    _fields_ = (*((name, ctypes.c_int64) for name in ("inputs", "gates", "outputs", "classes")), *_ARRAYS)


class _Result(ctypes.Structure):
    _fields_ = (("gates", ctypes.c_int64), *_ARRAYS)


class Sequences(ctypes.Structure):
    """Sequences of an engine of one step; see ``ext/circuit/api.h``."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("inputs", "initial", "lengths", "scores")),
        *(
            (name, ctypes.c_int64)
            for name in ("steps", "num_inputs", "state", "counted", "classes", "words", "samples", "summed")
        ),
    )


class LoopStep(ctypes.Structure):
    """A step of a looped circuit, as the library takes it."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("runs", "parts", "places", "window", "chunk")),
        *((name, ctypes.c_void_p) for name in ("run", "part_gates", "gates", "part_results", "results")),
        *((name, ctypes.c_void_p) for name in ("reads", "writes")),
    )


class Comparison(ctypes.Structure):
    """A comparison of a row, as the library takes it."""

    _fields_ = (*((name, ctypes.c_int32) for name in ("offset", "type", "op", "input")), ("constant", ctypes.c_int64))


#: Types of stored values, by their number in the library.
VALUE_TYPES = ("<f4", "<f8", "<i4", "<i8")


def describe_comparisons(comparisons: Comparisons, inputs: NDArray[np.intp]) -> ctypes.Array[Comparison]:
    """Comparisons that make some of a circuit's inputs, as the library takes them: by column, thresholds ascending."""
    fields: Any = comparisons.row_dtype.fields
    values = comparisons.numbers()[inputs]
    kept = inputs[np.lexsort((inputs, values, comparisons.op[inputs], comparisons.column[inputs]))].tolist()
    columns = [comparisons.columns[comparisons.column[bit]] for bit in kept]
    return (Comparison * len(kept))(
        *(
            Comparison(
                fields[column.name][1],
                VALUE_TYPES.index(column.dtype.str),
                int(comparisons.op[bit]),
                bit,
                int(comparisons.constant[bit]),
            )
            for bit, column in zip(kept, columns, strict=True)
        )
    )


_lock = threading.Lock()
_library: ctypes.CDLL | None = None


def library() -> ctypes.CDLL:
    """Builds the library unless it is there, and loads it; a BuildError if that fails."""
    global _library
    with _lock:
        if _library is None:
            _library = _declare(ctypes.CDLL(str(build())))
        return _library


def build(verbose: bool = False) -> Path:
    """Finds the library, or builds it; errors as `library`."""
    return native_build.build(plan(), verbose)


def plan() -> BuildPlan:
    """What the library is built of."""
    sources = Path(str(files("lgn_lightning.ext"))) / "circuit"
    # Units of several files each: what they include takes longer than they do.
    passes = [path.name for path in sorted(sources.glob("*.cpp")) if path.name not in (*_KERNELS, *_ENGINES)]
    units = [_unit(passes, "passes", "-O1"), _unit(_ENGINES, "engines")]
    units += [_unit(_KERNELS, f"kernels_{name}", f"-DLGN_SET={name.capitalize()}", *FLAGS[name]) for name in all_sets()]
    units += [_unit(_KERNELS, "kernels_generic", "-DLGN_SET=Generic")]
    return BuildPlan("circuit", "lgn_circuit.so", sources, (sources,), tuple(units), ("-shared", "-pthread"))


def _unit(names: Sequence[str], result: str, *flags: str) -> Unit:
    *others, last = names
    return Unit(last, f"{result}.o", ("-O2", *flags, *(flag for name in others for flag in ("-include", name))))


def _declare(lib: ctypes.CDLL) -> ctypes.CDLL:
    address, i32, i64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
    net, result = ctypes.POINTER(_Circuit), ctypes.POINTER(_Result)
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "lgn_pass_capacity": (i64, [net]),
        "lgn_rewrite": (i32, [net, i32, result]),
        "lgn_map_luts": (i32, [net, i32, result]),
        "lgn_cover_luts": (i32, [net, i32, address, address, address, address]),
        "lgn_chain_order": (i32, [net, address]),
        "lgn_best_isa": (i32, []),
        "lgn_engine_new": (address, [net, i32, i32, ctypes.c_char_p, i64]),
        "lgn_engine_free": (None, [address]),
        "lgn_engine_set_loops": (i32, [address, i64, i64, ctypes.POINTER(LoopStep), i64]),
        "lgn_engine_info": (i64, [address, i32]),
        "lgn_engine_bytes": (i32, [address, address, i64, address, i64, i64, i32, address, address]),
        "lgn_engine_rows": (
            i32,
            [address, address, i64, ctypes.POINTER(Comparison), i64, i64, i32, address, address],
        ),
        "lgn_engine_sequences": (i32, [address, ctypes.POINTER(Sequences), i32]),
        "lgn_engine_packed": (i32, [address, address, i64, i64, i32, address, address, address]),
    }
    for name, (restype, argtypes) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = restype, argtypes
    return lib


def pointer(array: NDArray[Any] | None) -> int | None:
    """Address of an array's data; None for none."""
    return None if array is None else int(array.ctypes.data)


def describe(circuit: Netlist) -> _Circuit:
    """The circuit as the library takes it; valid as long as ``circuit`` lives."""
    sizes = circuit.num_inputs, circuit.num_gates, circuit.outputs.size, circuit.num_classes
    return _Circuit(*sizes, *map(pointer, (circuit.gates, circuit.a, circuit.b, circuit.c, circuit.outputs)))


def _run_pass(circuit: AnyFlat, function: str, option: int, arity: int) -> AnyFlat:
    lib = library()
    net = describe(circuit)
    size = lib.lgn_pass_capacity(ctypes.byref(net))
    tables, outputs = np.empty(size, np.uint8), np.empty(circuit.outputs.size, np.int32)
    operands = [np.empty(size, np.int32) for _ in range(arity)]
    c = operands[2] if arity == 3 else None
    result = _Result(0, *map(pointer, (tables, operands[0], operands[1], c, outputs)))
    if getattr(lib, function)(ctypes.byref(net), option, ctypes.byref(result)):
        raise MemoryError(f"no memory to optimise {circuit!r}")
    count = result.gates
    parts = [operand[:count].copy() for operand in operands]
    return circuit.with_gates(tables[:count].copy(), parts, outputs)


def rewrite(circuit: AnyFlat, flags: int = 0) -> AnyFlat:
    """One sweep over two-input gates, which folds constants; ``flags`` are ABSORB_INVERTERS, HASH_STRUCTURE."""
    return _run_pass(circuit, "lgn_rewrite", flags, 2)


def map_luts(circuit: AnyFlat, rounds: int) -> AnyFlat:
    """Covers two-input gates with three-input gates."""
    return _run_pass(circuit, "lgn_map_luts", rounds, 3)


class Cover(NamedTuple):
    """Lookup tables that compute a circuit, by its gates.

    Attributes:
        sizes: Inputs of the table that a gate is the result of, uint8 ``[gates]``; 0 where its readers take it in.
        levels: Level of that table, int32 ``[gates]``.
        leaves: Nodes that it reads, int32 ``[gates, 6]``, as many as its size says.
        tables: Its entries, uint64 ``[gates]``: bit *i* is the value where leaf *k* is bit *k* of *i*.
    """

    sizes: NDArray[np.uint8]
    levels: NDArray[np.int32]
    leaves: NDArray[np.int32]
    tables: NDArray[np.uint64]


def cover_luts(circuit: Netlist, inputs: int) -> Cover:
    """Covers a circuit with tables of up to so many inputs, no deeper than need be."""
    gates = circuit.num_gates
    cover = Cover(
        np.zeros(gates, np.uint8),
        np.zeros(gates, np.int32),
        np.zeros((gates, 6), np.int32),
        np.zeros(gates, np.uint64),
    )
    if library().lgn_cover_luts(ctypes.byref(describe(circuit)), inputs, *(pointer(part) for part in cover)):
        raise MemoryError(f"no memory to cover {circuit!r}")
    return cover


def chain_order(circuit: Netlist) -> NDArray[np.int64]:
    """Gates in chain order; there must be no dead ones."""
    order = np.empty(circuit.num_gates, np.int64)
    status = library().lgn_chain_order(ctypes.byref(describe(circuit)), pointer(order))
    if status == -2:
        raise ValueError("the circuit has dead gates: remove them before it is ordered")
    if status:
        raise MemoryError(f"no memory to order {circuit!r}")
    return order

"""Writes a circuit as portable C99."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from lgn_lightning.circuit.emit.c_loops import emit_loops
from lgn_lightning.circuit.emit.c_one_row import emit_one_row
from lgn_lightning.circuit.emit.c_rows import c_string, emit_row_header, emit_rows
from lgn_lightning.circuit.emit.expressions import gate_expression
from lgn_lightning.circuit.emit.text import cases, fill, is_identifier, lines_of, template
from lgn_lightning.circuit.net.decoding import KINDS, Decoding
from lgn_lightning.circuit.net.looped import LoopedNetlist
from lgn_lightning.circuit.net.netlist import CircuitError, Netlist
from lgn_lightning.circuit.passes.flat import remove_dead_gates
from lgn_lightning.circuit.passes.schedule import Allocation, allocate_slots, reorder
from lgn_lightning.circuit.run.loop_program import loop_program
from lgn_lightning.circuit.simulate import runs_of

WORD_BITS: Final = (8, 16, 32, 64)
#: Flat circuits of more gates are written as tables: one statement a gate takes a C compiler minutes there.
TABLE_ABOVE: Final = 250_000
#: Slots of nets on tables that lie on the stack: they take a row alone, and on machines without a heap.
STACK_BYTES: Final = 131_072

TITLE: Final = "/* A logic gate network as a boolean circuit, written by lgn-lightning. */\n"

_KEYS: Final = ("RESULT", "RESULTS", "NAMED", "PRINTED", "SHOWN", "MEANING")
_CLASS: Final = ("int32_t", "classes", "class", "%s", "CLASS_NAMES[results[j]]")
_EACH: Final = "results[j * RESULTS + i]"
#: Words by the kind of decoding: type and name of what is predicted, what has a name, how `main` prints it, what it is.
_WORDS: Final = {
    "argmax": (*_CLASS, "count; the class of the highest score, the first one of equals"),
    "levels": (*_CLASS, "count; the number of thresholds that the score reaches"),
    "labels": (
        "int32_t",
        "labels",
        "label",
        "%d",
        f"(int){_EACH}",
        "like scores; 1 from the threshold of its label on",
    ),
    "numbers": ("double", "numbers", "number", "%.17g", _EACH, "like scores; an offset plus a scale times the score"),
}


def emit_c(
    circuit: Netlist | LoopedNetlist,
    *,
    name: str = "lgn_net",
    word_bits: int = 64,
    header: str | None = None,
    gates_per_function: int = 100,
    form: str = "auto",
) -> str:
    """Writes a circuit as one C99 file without dependencies.

    The gates stand in functions of bounded length, so that compile time grows linearly with the net. ``-DLGN_MAIN``
    adds a ``main`` that classifies standard input; ``-DLGN_VECTOR_BYTES=32`` (gcc, clang) computes on vectors of that
    size.

    Args:
        circuit: The circuit; only dead gates are left out, so optimise it before. The loops of a looped circuit become
            loops over tables, whatever the form of the gates behind them.
        name: Prefix of all public names.
        word_bits: Samples in a word of the packed entry points: 8, 16, 32 or 64.
        header: Name of a header to include; by default its declarations are written into the file.
        gates_per_function: Gates in a function.
        form: ``"code"``, one statement a gate; or ``"table"``, a loop over tables, which compiles in no time and suits
            nets of millions of gates. ``"auto"`` is a table for looped circuits and for more than 250,000 gates.

    Raises:
        CircuitError: If ``name`` is no C identifier, or ``word_bits`` or ``form`` is not known.
    """
    check_options(name, word_bits)
    if form == "auto":
        form = "table" if isinstance(circuit, LoopedNetlist) or circuit.num_gates > TABLE_ABOVE else "code"
    if form not in ("code", "table"):
        raise CircuitError(f"form must be 'auto', 'code' or 'table', got {form!r}")
    if gates_per_function < 1:
        raise CircuitError(f"gates_per_function must be at least 1, got {gates_per_function}")
    loops, before, registers = "", "", 0
    flat = circuit if isinstance(circuit, Netlist) else circuit.tail
    if isinstance(circuit, LoopedNetlist) and circuit.stages:
        program = loop_program(circuit)
        flat, registers, before = program.tail, program.register_slots, "    run_loops(s);\n"
    flat = remove_dead_gates(flat)
    if form == "table":
        flat = reorder(flat, np.lexsort((flat.gates, flat.gate_levels)))  # long runs of equal gates
    allocation = allocate_slots(flat, 1 if form == "table" else gates_per_function)
    if before:
        loops = emit_loops(program, allocation.count)
    declarations = f'#include "{header}"\n' if header else emit_header(circuit, name=name, word_bits=word_bits)
    outputs = [allocation.slot[node] for node in flat.outputs.tolist()]
    if form == "table":
        gates = _table(flat, allocation, before)
    else:
        gates = gate_functions(flat, allocation, gates_per_function, before)
    row = "one byte a pixel" if circuit.levels is not None else "one byte 0 or 1 an input"
    rows, row_bytes = "", "0"
    if circuit.comparisons is not None:
        row, row_bytes = f"the struct {name}_row", f"(int64_t)sizeof({name}_row)"
        read = flat.inputs_read if isinstance(circuit, Netlist) else np.arange(circuit.num_inputs)
        rows = f"\n#define ROWS {name}_row\n" + emit_rows(circuit.comparisons, read.tolist(), name)
        rows += emit_one_row(flat, name) if isinstance(circuit, Netlist) else ""
    includes = "".join(f"#include <{header}.h>\n" for header in ("math", "stddef", "stdint", "stdlib", "string"))
    constants = _constants(circuit, outputs, allocation.count + registers, name, word_bits)
    words = decision_words(circuit.decoding)
    entries = fill("entry_points.c.in", name, ROW_BYTES=row_bytes, **words)
    entries += fill("rows.c.in", name, **words) + "\n" + fill("row_names.c.in", name) if rows else ""
    entries += fill("main.c.in", name, ROW=row, **words)
    loops = f"#define ZERO_SLOTS\n{loops}" if loops else ""
    parts = (TITLE, includes, "\n", declarations, constants, loops, gates, rows, template("runtime.c"), entries)
    return "".join(parts)


def emit_header(circuit: Netlist | LoopedNetlist, *, name: str = "lgn_net", word_bits: int = 64) -> str:
    """Writes the header that belongs to `emit_c` with the same ``name`` and ``word_bits``."""
    check_options(name, word_bits)
    pixels = template("pixels.h.in") if circuit.levels is not None else ""
    rows = (
        ""
        if circuit.comparisons is None
        else emit_row_header(circuit.comparisons, name, decision_words(circuit.decoding))
    )
    shape = " x ".join(map(str, circuit.image_shape or ()))
    about = sizes(circuit, word_bits) | {"LAST": word_bits - 1, "ROW": circuit.num_pixels or 0, "SHAPE": shape}
    words = decision_words(circuit.decoding)
    return fill("header.h.in", name, PIXELS=pixels, ROWS=rows, GUARD=name.upper(), **{**about, **words})


def decision_words(decoding: Decoding) -> dict[str, str]:
    """Words of templates that name what the scores say."""
    return dict(zip(_KEYS, _WORDS[decoding.kind], strict=True)) | {"DECODING": str(KINDS.index(decoding.kind))}


def sizes(circuit: Netlist | LoopedNetlist, word_bits: int) -> dict[str, Any]:
    group = circuit.outputs.size // circuit.num_classes
    return {"INPUTS": circuit.num_inputs, "CLASSES": circuit.num_classes, "GROUP": group, "BITS": word_bits}


def check_options(name: str, word_bits: int) -> None:
    """Refuses, by a CircuitError, what is no prefix of C names and no size of words."""
    if not is_identifier(name):
        raise CircuitError(f"{name!r} cannot be the prefix of C names: use letters, digits and underscores")
    if word_bits not in WORD_BITS:
        raise CircuitError(f"word_bits must be one of {WORD_BITS}, got {word_bits}")


def _constants(circuit: Netlist | LoopedNetlist, outputs: list[int], num_slots: int, name: str, word_bits: int) -> str:
    group = circuit.outputs.size // circuit.num_classes
    decoding = circuit.decoding
    count = decoding.num_names(circuit.num_classes)
    names = circuit.class_names or tuple(map(str, range(count)))
    levels = [] if circuit.levels is None else circuit.levels.tolist()
    slots = {"SLOTS": num_slots, "SLOT_TYPE": "uint16_t" if num_slots <= 0x10000 else "uint32_t"}
    pixels = {"THRESHOLDS": len(levels), "PIXELS": circuit.num_pixels, "LEVELS": ", ".join(map(str, levels))}
    samples = template("thresholds.c.in" if levels else "bools.c" if circuit.columns is None else "row_samples.c.in")
    about = {"SAMPLES": samples, **sizes(circuit, word_bits), "PLANES": group.bit_length(), "NAMES": count}
    about["STACK"] = 0 if circuit.comparisons is None else STACK_BYTES
    constants = fill("constants.c.in", name, **about, **slots, **pixels)
    constants += decide(decoding, names, name)
    table = f"static const slot_index OUTPUTS[] = {{\n{lines_of(outputs)}}};\n"
    return f"{constants}/* Slots of the outputs, class by class. */\n{table}"


def decide(decoding: Decoding, names: Sequence[str], name: str) -> str:
    """What the scores say: a type, its function where that is not the highest score, and the names."""
    lists = {
        "LIMITS": ", ".join(str(t) for t in decoding.thresholds),
        "SCALES": ", ".join(map(repr, decoding.scale)),
        "OFFSETS": ", ".join(map(repr, decoding.offset)),
    }
    text = fill("decide_argmax.c" if decoding.kind == "argmax" else f"decide_{decoding.kind}.c.in", name, **lists)
    return f"{text}\nstatic const char *const CLASS_NAMES[NUM_NAMES] = {{{', '.join(map(c_string, names))}}};\n\n"


def gate_functions(circuit: Netlist, allocation: Allocation, chunk_size: int, before: str) -> str:
    """One statement a gate; values that leave their function go through the slots ``s``. ``before`` comes first."""
    slot = allocation.slot
    inputs = circuit.num_inputs
    operands = [operand.tolist() for operand in circuit.operands]
    parts: list[str] = []
    count = -(-circuit.num_gates // chunk_size)
    for chunk in range(count):
        parts.append(f"\nstatic void gates_{chunk}(vec *s)\n{{\n")
        for gate in range(chunk * chunk_size, min((chunk + 1) * chunk_size, circuit.num_gates)):
            texts = [f"s[{slot[x[gate]]}]" if slot[x[gate]] >= 0 else f"t{x[gate] - inputs}" for x in operands]
            value = gate_expression(int(circuit.gates[gate]), texts, zero="ZERO", one="~ZERO")
            if slot[inputs + gate] >= 0:
                parts.append(f"    s[{slot[inputs + gate]}] = (vec)({value});\n")
            else:
                parts.append(f"    const vec t{gate} = (vec)({value});\n")
        parts.append("}\n")
    what = "/* Evaluates all gates; the inputs lie in the first slots. */"
    parts.append(f"\n{what}\nstatic void run(vec *s)\n{{\n{before}")
    parts += [f"    gates_{chunk}(s);\n" for chunk in range(count)] or ["    (void)s;\n"]
    parts.append("}\n")
    return "".join(parts)


def _table(circuit: Netlist, allocation: Allocation, before: str) -> str:
    """Runs of gates of one kind; each gate is the slots of its output and its operands."""
    slot = np.asarray(allocation.slot)
    width = circuit.arity + 1
    columns = [slot[circuit.num_inputs :], *(slot[operand] for operand in circuit.operands)]
    rows = np.stack(columns, axis=1)
    runs = [f"{{{circuit.gates[start]}, {length}}}" for start, length in zip(*runs_of(circuit.gates), strict=True)]
    names = [f"s[p[{index + 1}]]" for index in range(circuit.arity)]
    branches = cases(np.unique(circuit.gates).tolist(), names, f"for (; p < end; p += {width})", "s[p[0]]", indent=8)
    if not runs:
        return f"\nstatic void run(vec *s)\n{{\n{before}    (void)s;\n}}\n"
    about = {"ARITY": circuit.arity, "WIDTH": width, "BEFORE": before, "BRANCHES": branches}
    return fill("table.c.in", "", GATES=lines_of(rows.ravel().tolist()), RUNS=lines_of(runs), **about)

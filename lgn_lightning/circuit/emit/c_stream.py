"""Writes a sequential circuit as portable C99: a struct of its state, reset, and one step at a call."""

from typing import Any

import numpy as np

from lgn_lightning.circuit.emit.c import TITLE, check_options, decide, decision_words, gate_functions, sizes
from lgn_lightning.circuit.emit.c_rows import emit_row_header, emit_rows
from lgn_lightning.circuit.emit.text import fill, lines_of
from lgn_lightning.circuit.net.sequential import FULL_BIT, SCANS, SequentialNetlist
from lgn_lightning.circuit.passes.flat import remove_dead_gates
from lgn_lightning.circuit.passes.schedule import allocate_slots

_READOUT = {"last": "in this step", "sum": f"summed over the steps since the last reset, until one is 2^{FULL_BIT}"}


def emit_c_stream(
    circuit: SequentialNetlist,
    *,
    name: str = "lgn_net",
    word_bits: int = 64,
    header: str | None = None,
    gates_per_function: int = 100,
) -> str:
    """Writes a sequential circuit as one C99 file without dependencies, which allocates nothing.

    ``-DLGN_MAIN`` adds a ``main`` that takes steps from standard input. Arguments and errors as `emit_c`; with a word
    of 8 bits the state of a single stream takes a byte a bit.
    """
    check_options(name, word_bits)
    step = remove_dead_gates(circuit.step)
    allocation = allocate_slots(step, gates_per_function)
    slots = [allocation.slot[node] for node in step.outputs.tolist()]
    counted = len(slots) - circuit.num_state
    initial = np.packbits(circuit.initial, bitorder="little").tolist() or [0]
    count = circuit.decoding.num_names(circuit.num_classes)
    names = circuit.class_names or tuple(map(str, range(count)))
    words = decision_words(circuit.decoding)
    kind, row_bytes, row_struct, pack, steps = "bools", "NUM_INPUTS", "0", "", ""
    pixels = {
        "ROW": circuit.num_pixels or 0,
        "LEVELS": ", ".join(map(str, [] if circuit.levels is None else circuit.levels)),
    }
    if circuit.levels is not None:
        kind, row_bytes = "pixels", str(circuit.num_pixels)
        steps = fill("stream_pixels.c.in", name, **pixels)
    if circuit.comparisons is not None:
        kind, row_bytes = "rows", f"sizeof({name}_row)"
        row_struct = row_bytes
        read = step.inputs_read  # of which the state is none of the row
        pack = emit_rows(circuit.comparisons, read[read < circuit.num_inputs].tolist(), name)
        steps = fill("stream_rows.c.in", name) + "\n" + fill("row_names.c.in", name)
    what = {"bools": "one byte 0 or 1 an input", "pixels": "one byte a pixel", "rows": f"the struct {name}_row"}[kind]
    take = f"{name}_step_{kind}(&stream, row, scores);"
    if kind == "rows":
        copied = f"{name}_row values;\n        memcpy(&values, row, sizeof values);\n"
        take = f"{copied}        {name}_step_rows(&stream, &values, scores);"
    values: dict[str, Any] = {
        **_all_sizes(circuit, word_bits),
        "NAMES": count,
        "SLOTS": max(1, allocation.count),
        "SLOT_TYPE": "uint16_t" if allocation.count <= 0x10000 else "uint32_t",
        "ROW_BYTES": row_bytes,
        "ROW_STRUCT": row_struct,
        "ROW": circuit.num_pixels or 0,
        "DECIDE": decide(circuit.decoding, names, name),
        "INITIAL": lines_of(initial),
        "OUTPUT_SLOTS": lines_of(slots[:counted]),
        "NEXT_SLOTS": lines_of(slots[counted:] or [0]),
        "GATES": gate_functions(step, allocation, gates_per_function, ""),
        "PACK": pack,
        "STEPS": steps,
        "SUMS_UP": int(circuit.readout == "sum"),
        "FULL_BIT": FULL_BIT,
        "WHAT": what,
        "SCAN": 0 if circuit.scan is None else 1 + SCANS.index(circuit.scan),
        "STEP_MAIN": take,
        **words,
    }
    includes = "".join(f"#include <{header}.h>\n" for header in ("math", "stddef", "stdint", "string"))
    declarations = f'#include "{header}"\n' if header else emit_stream_header(circuit, name=name, word_bits=word_bits)
    return f"{TITLE}{includes}\n{declarations}{fill('stream.c.in', name, **values)}"


def emit_stream_header(circuit: SequentialNetlist, *, name: str = "lgn_net", word_bits: int = 64) -> str:
    """Writes the header that belongs to `emit_c_stream` with the same ``name`` and ``word_bits``."""
    check_options(name, word_bits)
    words = decision_words(circuit.decoding)
    shape = {"ROW": circuit.num_pixels or 0, "SHAPE": " x ".join(map(str, circuit.image_shape or ()))}
    pixels = "" if circuit.levels is None else fill("stream_pixels.h.in", name, **shape)
    rows = ""
    if circuit.comparisons is not None:
        rows = emit_row_header(circuit.comparisons, name, words, "stream_rows.h.in")
    more = {"GUARD": name.upper(), "PIXELS": pixels, "ROWS": rows, "READOUT": _READOUT[circuit.readout]}
    return fill("stream.h.in", name, **more, **shape, **_all_sizes(circuit, word_bits), **words)


def _all_sizes(circuit: SequentialNetlist, word_bits: int) -> dict[str, Any]:
    return sizes(circuit.counted, word_bits) | {
        "INPUTS": circuit.num_inputs,
        "OUTPUTS": circuit.counted.outputs.size,
        "STATE": circuit.num_state,
        "STATE_ROOM": max(1, circuit.num_state),
        "SUMS": circuit.num_classes if circuit.readout == "sum" else 1,
    }

"""Loops over the places of an image in exported C: tables of kernels, and the short program that runs them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from lgn_lightning.circuit.emit.expressions import gate_expression
from lgn_lightning.circuit.run.loop_program import GateStep, KernelStep, LoopProgram
from lgn_lightning.gates import NUM_GATES

_STEP: Final = """
/* A step: `runs` of equal gates on slots (result, a, b), or where there are none a kernel, evaluated at all places. Its
   `parts` are trees of `gates` (gate, a, b, register) with `results` (value, slot). An operand or value >= 0 is a slot,
   to which the base of the place is added; one < 0 is register -1 - value. A result is the OR over `window` places. */
typedef struct {
    uint32_t runs, parts, window, chunk, places;
    const int32_t *run, *gates, *part_gates, *part_results, *results, *reads, *writes;
} step;
"""

_RUN: Final = """
/* A kernel, `chunk` results of a part at once. A register holds a value for each of their places. */
static void run_kernel(const step *k, vec *s)
{
    const size_t length = (size_t)k->chunk * k->window;
    for (uint32_t part = 0; part < k->parts; part++)
        for (uint32_t start = 0; start < k->places; start += k->chunk) {
            const size_t count = k->places - start < k->chunk ? k->places - start : k->chunk;
            const int32_t *const reads = k->reads + (size_t)start * k->window;
            for (int32_t g = k->part_gates[part]; g < k->part_gates[part + 1]; g++) {
                const int32_t *const gate = k->gates + 4 * (size_t)g;
                kernel_gate(gate[0], VALUE(gate[1]), PLACES(gate[1]), VALUE(gate[2]), PLACES(gate[2]),
                            s + FIRST_REGISTER + (size_t)gate[3] * length, count * k->window);
            }
            for (int32_t r = k->part_results[part]; r < k->part_results[part + 1]; r++) {
                const int32_t *const result = k->results + 2 * (size_t)r;
                const vec *const value = VALUE(result[0]);
                const int32_t *const places = PLACES(result[0]);
                vec *const out = s + result[1];
                for (size_t i = 0; i < count; i++) {
                    vec sum = value[places[i]];
                    for (size_t j = 1; j < k->window; j++)
                        sum = (vec)(sum | value[places[j * count + i]]);
                    out[k->writes[start + i]] = sum;
                }
            }
        }
}

static void run_loops(vec *s)
{
    for (size_t i = 0; i < sizeof STEPS / sizeof STEPS[0]; i++) {
        const int32_t *gates = STEPS[i].gates;
        if (STEPS[i].runs == 0)
            run_kernel(&STEPS[i], s);
        for (uint32_t r = 0; r < STEPS[i].runs; r++) {
            plain_gates(s, STEPS[i].run[2 * r], gates, (size_t)STEPS[i].run[2 * r + 1]);
            gates += 3 * (size_t)STEPS[i].run[2 * r + 1];
        }
    }
}
"""


def emit_loops(program: LoopProgram, first_register: int) -> str:
    """Writes the steps of a looped circuit and the function ``run_loops(vec *s)``; there must be one step at least.

    Args:
        program: The steps.
        first_register: Slot of the first register.
    """
    longest = max((step.chunk * step.window for step in program.steps if isinstance(step, KernelStep)), default=1)
    tables = "".join(_tables(index, step) for index, step in enumerate(program.steps))
    steps = "".join(f"    {_step(index, step)},\n" for index, step in enumerate(program.steps))
    return (
        _STEP
        + tables
        + f"\nstatic const step STEPS[] = {{\n{steps}}};\n"
        + f"\n#define FIRST_REGISTER {first_register}\n"
        + "#define VALUE(v) ((v) < 0 ? s + FIRST_REGISTER + (size_t)(-1 - (v)) * length : s + (v))\n"
        + "#define PLACES(v) ((v) < 0 ? OWN_PLACES : reads)\n"
        + _table("OWN_PLACES", np.arange(longest))
        + _gate_functions()
        + _RUN
    )


def _tables(index: int, step: GateStep | KernelStep) -> str:
    return "".join(
        f"\n/* Step {index}, {name.replace('_', ' ')}. */" + _table(f"STEP{index}_{name.upper()}", array)
        for name, array in _arrays(step)
    )


def _step(index: int, step: GateStep | KernelStep) -> str:
    """The initialiser of a step."""
    if isinstance(step, GateStep):
        numbers = f".runs = {len(step.runs)}"
    else:
        parts, places = step.part_gates.size - 1, step.writes.size
        numbers = f".parts = {parts}, .window = {step.window}, .chunk = {step.chunk}, .places = {places}"
    names = ", ".join(f".{name} = STEP{index}_{name.upper()}" for name, _ in _arrays(step))
    return f"{{{numbers}, {names}}}"


def _arrays(step: GateStep | KernelStep) -> Iterator[tuple[str, np.ndarray]]:
    """The tables of a step by their name in ``step``; a kernel of wires has no gates, and C no empty array."""
    names = ("run", "gates", "part_gates", "part_results", "results", "reads", "writes")
    for name in names:
        array = getattr(step, {"run": "runs"}.get(name, name), None)
        if isinstance(array, np.ndarray) and array.size:
            yield name, array


def _table(name: str, values: np.ndarray) -> str:
    return f"\nstatic const int32_t {name}[] = {{\n{wrap(values.ravel().tolist())}}};\n"


def _gate_functions() -> str:
    """A gate at many places, and a run of equal gates on slots."""
    places = "".join(
        f"    case {gate}:\n        for (; i < n; i++)\n            out[i] = (vec)("
        f"{gate_expression(gate, ['a[ia[i]]', 'b[ib[i]]'], zero='ZERO', one='~ZERO')});\n        break;\n"
        for gate in range(NUM_GATES)
    )
    slots = "".join(
        f"    case {gate}:\n        for (; p < end; p += 3)\n            s[p[0]] = (vec)("
        f"{gate_expression(gate, ['s[p[1]]', 's[p[2]]'], zero='ZERO', one='~ZERO')});\n        break;\n"
        for gate in range(NUM_GATES)
    )
    return (
        "\nstatic void kernel_gate(int32_t gate, const vec *a, const int32_t *ia, const vec *b, const int32_t *ib,\n"
        "                        vec *out, size_t n)\n{\n    size_t i = 0;\n"
        f"    switch (gate) {{\n{places}    }}\n}}\n"
        "\nstatic void plain_gates(vec *s, int32_t gate, const int32_t *p, size_t count)\n{\n"
        f"    const int32_t *const end = p + 3 * count;\n    switch (gate) {{\n{slots}    }}\n}}\n"
    )


def wrap(values: list[int] | list[str], per_line: int = 20) -> str:
    """The lines of a table."""
    lines = (values[start : start + per_line] for start in range(0, len(values), per_line))
    return "".join("    " + ", ".join(map(str, line)) + ",\n" for line in lines)

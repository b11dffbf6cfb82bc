"""Loops over the places of an image in exported C: tables of kernels, and the short program that runs them."""

import numpy as np

from lgn_lightning.circuit.emit.text import cases, fill, lines_of, template
from lgn_lightning.circuit.run.loop_program import GateStep, KernelStep, LoopProgram
from lgn_lightning.gates import NUM_GATES


def emit_loops(program: LoopProgram, first_register: int) -> str:
    """Writes the steps of a looped circuit, at least one, with ``run_loops(vec *s)``; registers follow its slots."""
    longest = max((step.chunk * step.window for step in program.steps if isinstance(step, KernelStep)), default=1)
    tables = "".join(_tables(index, step) for index, step in enumerate(program.steps))
    steps = "".join(f"    {_step(index, step)},\n" for index, step in enumerate(program.steps))
    return (
        template("loop_step.c")
        + tables
        + f"\nstatic const step STEPS[] = {{\n{steps}}};\n"
        + f"\n#define FIRST_REGISTER {first_register}\n"
        + "#define VALUE(v) ((v) < 0 ? s + FIRST_REGISTER + (size_t)(-1 - (v)) * length : s + (v))\n"
        + "#define PLACES(v) ((v) < 0 ? OWN_PLACES : reads)\n"
        + _table("OWN_PLACES", np.arange(longest))
        + _gate_functions()
        + template("loops.c")
    )


def _tables(index: int, step: GateStep | KernelStep) -> str:
    return "".join(
        f"\n/* Step {index}, {name.replace('_', ' ')}. */" + _table(f"STEP{index}_{name.upper()}", array)
        for name, array in step.arrays.items()
        if array.size  # a kernel of wires has no gates, and C no empty array
    )


def _step(index: int, step: GateStep | KernelStep) -> str:
    numbers = [f".{name} = {number}" for name, number in step.numbers.items()]
    arrays = [f".{name} = STEP{index}_{name.upper()}" for name, array in step.arrays.items() if array.size]
    return f"{{{', '.join(numbers + arrays)}}}"


def _table(name: str, values: np.ndarray) -> str:
    return f"\nstatic const int32_t {name}[] = {{\n{lines_of(values.ravel().tolist())}}};\n"


def _gate_functions() -> str:
    """A gate at many places, and a run of equal gates on slots."""
    gates = range(NUM_GATES)
    places = cases(gates, ["a[ia[i]]", "b[ib[i]]"], "for (; i < n; i++)", "out[i]")
    slots = cases(gates, ["s[p[1]]", "s[p[2]]"], "for (; p < end; p += 3)", "s[p[0]]")
    return fill("gate_functions.c.in", "", PLACES=places, SLOTS=slots)

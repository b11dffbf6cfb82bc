"""What the engine and the exported C execute of a looped circuit: steps on slots, the places of values.

Every node has a slot. An image that a kernel reads beyond its border lies in a block with a border of slots that nobody
writes and that hold 0, so that a leaf of a kernel is read at *its own offset + the place's base*, whatever the place.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.circuit.net.kernel import Pair, Places
from lgn_lightning.circuit.net.looped import Gates, Loop, LoopedNetlist
from lgn_lightning.circuit.net.netlist import Netlist
from lgn_lightning.circuit.net.rewire import rewired
from lgn_lightning.circuit.simulate import runs_of
from lgn_lightning.gates import PASS_A

#: Places that a gate of a kernel is evaluated at before the next gate's turn comes: enough that choosing the gate costs
#: little, few enough that the registers stay in the first-level cache.
PLACES_AT_ONCE = 64

Ints = NDArray[np.int32]


@dataclass(frozen=True)
class GateStep:
    """Plain gates, level by level: id and number of each run of equal gates, and slots of result and operands."""

    runs: Ints
    gates: Ints

    @property
    def numbers(self) -> dict[str, int]:
        return {"runs": len(self.runs)}

    @property
    def arrays(self) -> dict[str, Ints]:
        return {"run": self.runs, "gates": self.gates}


@dataclass(frozen=True)
class KernelStep:
    """A kernel at all places. It is split into parts that share no gate, usually one tree each.

    Attributes:
        part_gates: First gate of each part, and their number, ``[parts + 1]``.
        gates: Gate id, operands and register of the result, ``[gates, 4]``. An operand ≥ 0 is a leaf: the slot that it
            has at a place of base 0; an operand < 0 is register ``~operand``.
        part_results: First result of each part, and their number, ``[parts + 1]``.
        results: What is stored, an operand as above, and its slot at a place of base 0, ``[results, 2]``.
        window: Places whose results are joined by OR.
        chunk: Results of a part that are computed together.
        reads: Bases of the places, chunk by chunk, in a chunk first all first places of the windows, then all second
            ones, ``[window · places]``.
        writes: Bases of the results, ``[places]``.
        registers: Number of registers, each of ``chunk · window`` slots.
    """

    part_gates: Ints
    gates: Ints
    part_results: Ints
    results: Ints
    window: int
    chunk: int
    reads: Ints
    writes: Ints
    registers: int

    @property
    def numbers(self) -> dict[str, int]:
        parts, places = self.part_gates.size - 1, self.writes.size
        return {"parts": parts, "window": self.window, "chunk": self.chunk, "places": places}

    @property
    def arrays(self) -> dict[str, Ints]:
        names = ("gates", "part_gates", "part_results", "results", "reads", "writes")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class LoopProgram:
    """A looped circuit as steps on slots, and the tail behind them: a circuit whose inputs are all of these slots."""

    num_inputs: int
    steps: tuple[GateStep | KernelStep, ...]
    tail: Netlist
    register_slots: int


@dataclass(frozen=True)
class _Block:
    """An image with a border of zeros around each channel; ``first`` is the node of its first pixel."""

    first: int
    channels: int
    size: Pair
    border: Pair

    @property
    def pitch(self) -> int:
        """Slots from a row to the next."""
        return self.size[1] + 2 * self.border[1]

    @property
    def num_slots(self) -> int:
        return self.channels * (self.size[0] + 2 * self.border[0]) * self.pitch

    def slots(self, first: int) -> NDArray[np.int64]:
        """Slots of the pixels, ``[channels, H, W]``, if the block begins at slot ``first``."""
        slots = np.arange(first, first + self.num_slots).reshape(self.channels, -1, self.pitch)
        (top, left), (height, width) = self.border, self.size
        return slots[:, top : top + height, left : left + width]


def loop_program(circuit: LoopedNetlist) -> LoopProgram:
    """Gives every node a slot and every stage a step."""
    slot = np.zeros(circuit.tail.num_inputs, np.int64)
    slot[: circuit.num_inputs] = np.arange(circuit.num_inputs)
    count = circuit.num_inputs
    blocks: list[_Block] = []
    steps: list[GateStep | KernelStep] = []
    for first, stage in circuit.numbered():
        last = first + stage.num_nodes
        if isinstance(stage, Gates):
            slot[first:last] = np.arange(count, count + stage.num_nodes)
            count += stage.num_nodes
            levels = stage.as_circuit(first, np.zeros(1, np.int32)).gate_levels
            steps.append(_gate_step(levels, stage.gates, slot[first:last], slot[stage.a], slot[stage.b]))
            continue
        image = slot[stage.wires]
        pitch = _pitch(stage, image, blocks)
        if pitch is None:
            copy = _Block(first, len(image), stage.places.image, stage.places.padding)
            source, image, pitch = image.reshape(-1), copy.slots(count), copy.pitch
            count += copy.num_slots
            copies = np.full(source.size, PASS_A, np.uint8)
            steps.append(_gate_step(np.zeros(source.size), copies, image.reshape(-1), source, source))
        block = _Block(first, stage.shape[0], stage.places.size, _border(circuit, first, last, stage.places.size))
        blocks.append(block)
        result = block.slots(count)
        count += block.num_slots
        slot[first:last] = result.reshape(-1)
        steps.append(_kernel_step(stage, image[:, 0, 0], pitch, result[:, 0, 0], block.pitch))
    tail = rewired(circuit.tail, slot, count, constants=False)
    registers = [step.registers * step.chunk * step.window for step in steps if isinstance(step, KernelStep)]
    return LoopProgram(circuit.num_inputs, tuple(steps), tail, max(registers, default=0))


def _border(circuit: LoopedNetlist, first: int, last: int, size: Pair) -> Pair:
    """The widest border that kernels read around the nodes of a loop, so that they need no copy."""
    paddings = [(0, 0)]
    for _, stage in circuit.numbered():
        reads = isinstance(stage, Loop) and ((stage.wires >= first) & (stage.wires < last)).any()
        if isinstance(stage, Loop) and reads and stage.places.image == size:
            paddings.append(stage.places.padding)
    return max(p[0] for p in paddings), max(p[1] for p in paddings)


def _pitch(stage: Loop, image: NDArray[np.int64], blocks: list[_Block]) -> int | None:
    """Slots from a row of an image to the next, if it can be read where it lies; None if it has to be copied.

    A leaf's slot must be its own offset + the base of the place: rows and columns have to follow one another alike in
    all channels, and where the kernel reads beyond the border there must be one.
    """
    (height, width), padding = stage.places.image, stage.places.padding
    pitch = int(image[0, 1, 0] - image[0, 0, 0]) if height > 1 else width
    if padding != (0, 0):
        # Each channel must be a whole channel of a block, with enough border and the same rows.
        corners, fits = stage.wires[:, 0, 0], np.zeros(len(image), np.bool_)
        pitch = -1
        for block in blocks:
            offset = corners - block.first
            inside = (offset >= 0) & (offset < block.channels * height * width)
            enough = all(b >= p for b, p in zip(block.border, padding, strict=True))
            if inside.any() and block.size == (height, width) and enough and pitch in (-1, block.pitch):
                pitch = block.pitch
                fits |= inside & (offset % (height * width) == 0)
        if not fits.all():
            return None
    regular = image[:, :1, :1] + pitch * np.arange(height)[:, None] + np.arange(width)
    return pitch if np.array_equal(image, regular) else None


def _gate_step(levels: NDArray[np.number], gates: NDArray[np.uint8], *slots: NDArray[np.int64]) -> GateStep:
    """The step of gates in levels; ``slots`` are those of the results, of operands A and of operands B."""
    order = np.lexsort((gates, levels))
    starts, lengths = runs_of(levels[order].astype(np.int64) << 8 | gates[order])
    runs = np.stack([gates[order[starts]], lengths], axis=1).astype(np.int32)
    return GateStep(runs, np.stack(slots, axis=1)[order].astype(np.int32))


def _kernel_step(
    stage: Loop, image: NDArray[np.int64], pitch: int, result: NDArray[np.int64], result_pitch: int
) -> KernelStep:
    """The step of a loop; ``image`` and ``result`` are the slots of the first pixel of each channel."""
    kernel, places = stage.kernel, stage.places
    channel, row, column = np.unravel_index(np.arange(kernel.num_inputs), (len(image), *places.kernel))
    leaf = image[channel] + (row - places.padding[0]) * pitch + column - places.padding[1]
    part, part_of_output = _parts(kernel)
    order = np.argsort(part, kind="stable")
    by_part = np.argsort(part_of_output, kind="stable")
    count = int(part_of_output.max()) + 1
    part_gates = np.searchsorted(part[order], np.arange(count + 1))
    part_results = np.searchsorted(part_of_output[by_part], np.arange(count + 1))
    register, registers = _registers(kernel, order, part)
    operand = np.concatenate([leaf, ~register])
    gates = [kernel.gates[order].astype(np.int64), operand[kernel.a[order]], operand[kernel.b[order]], register[order]]
    results = [operand[kernel.outputs[by_part]], result[by_part]]
    window = places.window[0] * places.window[1]
    chunk = max(1, PLACES_AT_ONCE // window)
    reads, writes = _bases(places, pitch, result_pitch, chunk)
    tables = [part_gates, np.stack(gates, axis=1), part_results, np.stack(results, axis=1)]
    first_gate, gate_table, first_result, result_table = (table.astype(np.int32) for table in tables)
    chunk = min(chunk, writes.size)
    return KernelStep(first_gate, gate_table, first_result, result_table, window, chunk, reads, writes, registers)


def _parts(kernel: Netlist) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Part of each gate and of each output; parts are numbered in the order of their first outputs."""
    label = np.arange(kernel.num_gates)
    operands = [operand.astype(np.int64) - kernel.num_inputs for operand in kernel.operands]
    while True:
        new = label.copy()
        for gate in operands:
            inner = gate >= 0
            np.minimum.at(new, gate[inner], new[inner])
            new[inner] = np.minimum(new[inner], new[gate[inner]])
        if np.array_equal(new, label):
            break
        label = new
    gate = kernel.outputs.astype(np.int64) - kernel.num_inputs
    # An output that is an input is a part of its own; so are gates that no output reads, behind all others.
    of_gate = label[np.maximum(gate, 0)] if label.size else 0
    of_output = np.where(gate >= 0, of_gate, kernel.num_gates + np.arange(gate.size))
    names, first = np.unique(of_output, return_index=True)
    rank = np.full(kernel.num_gates + gate.size, names.size)
    rank[names[np.argsort(first)]] = np.arange(names.size)
    return rank[label], rank[of_output]


def _registers(kernel: Netlist, order: NDArray[np.int64], part: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Register of each gate, by liveness within its part, and how many there are."""
    inputs = kernel.num_inputs
    a, b = (operand[order].tolist() for operand in kernel.operands)
    last: dict[int, int] = {}
    for index, (x, y) in enumerate(zip(a, b, strict=True)):
        last[x] = last[y] = index
    last |= dict.fromkeys(kernel.outputs.tolist(), len(a))
    register = [0] * kernel.num_gates
    count, used, current = 0, 0, -1
    free: list[int] = []
    for index, (gate, own_part) in enumerate(zip(order.tolist(), part[order].tolist(), strict=True)):
        if own_part != current:
            current, used, free = own_part, 0, []
        for node in {a[index], b[index]}:
            if node >= inputs and last[node] == index:
                free.append(register[node - inputs])
        if not free:
            free.append(used)
            used += 1
        register[gate] = free.pop()
        count = max(count, used)
    return np.array(register, np.int64), count


def _bases(places: Places, pitch: int, result_pitch: int, chunk: int) -> tuple[Ints, Ints]:
    row, column = np.indices(places.size).reshape(2, -1)
    i, j = np.indices(places.window).reshape(2, -1, 1)
    y, x = row * places.window_stride[0] + i, column * places.window_stride[1] + j
    reads = y * places.stride[0] * pitch + x * places.stride[1]  # [window, places]
    pieces = [reads[:, start : start + chunk].reshape(-1) for start in range(0, row.size, chunk)]
    return np.concatenate(pieces).astype(np.int32), (row * result_pitch + column).astype(np.int32)

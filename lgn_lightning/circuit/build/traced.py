"""What stands for activations while a net's forward pass is followed: tensors that know nodes and no numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_leaves

from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.net.netlist import NodeIds

#: Samples that are followed at once: with two, a net that mixes samples is found out.
BATCH: Final = 2
#: Ids of the constants, which belong to no sample; that of node n in sample s is BATCH · n + s.
FALSE, TRUE = -1, -2
#: How often a sum is counted, at most, so that sums over several temperatures can be added.
_MOST_TIMES: Final = 100


@dataclass(frozen=True)
class Bits:
    """Numbers that depend on bits: entry r of the table where the operands' bits are r, the first most significant.

    Attributes:
        operands: Ids of nodes, int64, of shapes that broadcast to that of the value.
        table: The numbers, ``[2^operands]``, of the value's dtype.
    """

    operands: tuple[Tensor, ...]
    table: Tensor


@dataclass(frozen=True)
class Counts:
    """Sums of bits, (count + offset) / tau each; an id is BATCH · (number of the sum in `Space.sums`) + sample."""

    ids: Tensor
    tau: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class Correction:
    """Bits minus sums, which added to the sums are the bits: a straight-through estimate, s + (bits − s).detach()."""

    bits: Bits
    counts: Counts


@dataclass(frozen=True)
class Raw:
    """An input of the net that nothing has made bits of yet; ``known`` says whether its shape is."""

    name: str
    known: bool


Value: TypeAlias = Bits | Counts | Correction | Raw


class NeedsBits(Exception):  # noqa: N818 - no error: the pass starts again
    """An input of the net is used as bits."""

    def __init__(self, name: str, function: str = "") -> None:
        super().__init__(f"the size of the input {name} is not known: pass input_shape=…, or give the net in_shape")
        self.name, self.function = name, function


@dataclass(eq=False)
class Memory:
    """What a tensor and its views share: how often it was written in place."""

    writes: int = 0


class Traced(Tensor):
    """A tensor of a value's shape and dtype that hands every function of torch to its `Space`.

    A view has the value that its base had. So whichever of them is written in place, the others are not read any more.
    """

    space: Space
    memory: Memory
    current: Value
    seen: int  # writes of the memory that the value knows
    place: tuple[Traced, Any, int] | None  # of x[index]: x, the index, and what it had seen

    @property
    def value(self) -> Value:
        """What it stands for; a ValueError if it was written under another name since."""
        if self.seen != self.memory.writes:
            raise ValueError(
                "it reads a tensor that was written in place under another name, as a view or the base of one: "
                "write x = x * y in place of x.mul_(y)"
            )
        return self.current

    def write(self, value: Value) -> None:
        """Takes another value in place."""
        self.memory.writes += 1
        self.current, self.seen = value, self.memory.writes

    def share(self, base: Traced) -> None:
        """Becomes a view, of which the base has the memory."""
        self.memory, self.seen = base.memory, base.memory.writes

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = next(part for part in tree_leaves((args, kwargs)) if isinstance(part, Traced))
        return found.space.apply(found.space, func, args, kwargs or {})


class Space:
    """The values of one forward pass, and the builder that their gates go to."""

    def __init__(self, builder: NetlistBuilder, apply: Callable[..., Any]) -> None:
        self.builder, self.apply = builder, apply
        self.sums: list[NodeIds] = []
        self._numbers: dict[bytes, int] = {}
        self._operands_of: dict[int, tuple[Tensor, tuple[Tensor, ...]]] = {}  # of sums, by the tensors of their ids

    def make(self, value: Value, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Traced:
        """A tensor that stands for a value."""
        traced = torch.zeros((), dtype=dtype).expand(tuple(shape)).as_subclass(Traced)
        traced.space, traced.current = self, value
        traced.memory, traced.seen, traced.place = Memory(), 0, None
        return traced

    def of_ids(self, ids: Tensor, table: Tensor | None = None) -> Traced:
        """Bits of these ids."""
        table = torch.tensor([0.0, 1.0]) if table is None else table
        return self.make(Bits((ids,), table), ids.shape, table.dtype)

    def of_wires(self, wires: NodeIds) -> Traced:
        """Bits of the nodes of a sample."""
        return self.of_ids(_of_samples(wires))

    def of_groups(self, wires: NodeIds, tau: float) -> Traced:
        """Sums of the nodes of a sample over the last dimension."""
        numbers = [self.number_of(group) for group in wires.reshape(-1, wires.shape[-1])]
        ids = _of_samples(np.array(numbers).reshape(wires.shape[:-1]))
        return self.make(Counts(ids, tau), ids.shape)

    def constants(self, x: Tensor) -> Traced:
        """A tensor of the net that holds zeros and ones only."""
        if not ((x == 0) | (x == 1)).all():
            raise ValueError("it meets a tensor with other numbers than 0 and 1, which gates cannot hold")
        if x.numel() and (x == x.flatten()[0]).all():
            return self.make(Bits((), x.cpu().flatten()[:1]), x.shape, x.dtype)
        return self.of_ids(torch.where(x.cpu() == 1, TRUE, FALSE), torch.tensor([0, 1]).to(x.dtype))

    def number_of(self, nodes: NodeIds) -> int:
        """Number of a sum, the same for equal nodes."""
        number = self._numbers.setdefault(nodes.tobytes(), len(self.sums))
        if number == len(self.sums):
            self.sums.append(nodes)
        return number

    def ids(self, x: Traced) -> Tensor:
        """Ids of bits, int64 in the shape of ``x``; gates are added where they are no nodes yet."""
        if isinstance(x.value, Raw):
            raise NeedsBits(x.value.name)
        if not isinstance(x.value, Bits):
            raise ValueError("sums can only be the scores, at the end: gates take bits")
        table, operands = x.value.table, x.value.operands
        if not ((table == 0) | (table == 1)).all():
            numbers = ", ".join(f"{number:g}" for number in sorted({float(number) for number in table}))
            raise ValueError(
                f"gates take bits, and these are numbers among {numbers}: join bits by a gate, such as a * b or "
                "torch.maximum(a, b), or by a layer"
            )
        shape = torch.Size(x.shape)
        bits = table.bool().tolist()
        if not operands:
            return torch.full(shape, TRUE if bits[0] else FALSE)
        if bits == [False, True]:
            return operands[0].expand(shape)
        columns = np.stack([part.expand(shape).reshape(-1).numpy() for part in operands], 1)
        ids = torch.from_numpy(self._gates(bits, columns)).reshape(shape)
        x.current = Bits((ids,), torch.tensor([0, 1]).to(table.dtype))  # the same, as nodes
        return ids

    def _gates(self, table: list[bool], ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Ids of gates with one truth table at operands ``[n, k]``; equal ones are added once."""
        fixed = ids < 0
        sample = np.where(fixed, -1, ids % BATCH)
        own = sample.max(1)
        if ((sample != own[:, None]) & ~fixed).any():
            raise ValueError("it mixes the samples of a batch")
        nodes = self.nodes(ids)
        key = nodes[:, 0]
        for column in nodes.T[1:]:
            key = np.unique(key, return_inverse=True)[1].ravel() * (int(nodes.max()) + 1) + column
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        made = _add_gates(self.builder, table, nodes[first])[inverse.ravel()].astype(np.int64) * BATCH + own
        row = (ids == TRUE) @ (1 << np.arange(ids.shape[1])[::-1])
        return np.where(own < 0, np.where(np.array(table)[row], TRUE, FALSE), made)

    def nodes(self, ids: NDArray[np.int64]) -> NodeIds:
        """Nodes of ids, whatever the sample."""
        nodes = ids // BATCH
        for constant, value in ((FALSE, False), (TRUE, True)):
            if (ids == constant).any():
                nodes[ids == constant] = self.builder.constant(value)
        return nodes.astype(np.int32)

    def sample(self, ids: Tensor) -> NDArray[np.int64]:
        """The ids of the first sample, which are those of all; a ValueError if samples were mixed."""
        found = ids.numpy()
        if found.shape[:1] != (BATCH,):
            raise ValueError(f"the first dimension of {list(found.shape)} is not the batch any more")
        number = np.arange(BATCH).reshape(-1, *[1] * (found.ndim - 1))
        if ((found >= 0) & (found % BATCH != number)).any() or (found // BATCH != found[:1] // BATCH).any():
            raise ValueError("it mixes the samples of a batch, or treats them differently")
        return np.asarray(found[0])

    def wires(self, x: Traced) -> NodeIds:
        """Nodes of a sample's bits."""
        return self.nodes(self.sample(self.ids(x)))

    def size(self, x: Traced) -> int:
        """How many bits an element depends on: those that it counts, of a sum."""
        if isinstance(x.value, Counts):
            return max(len(self.sums[number]) for number in set((x.value.ids.flatten() // BATCH).tolist()))
        return len(x.value.operands) if isinstance(x.value, Bits) else 1

    def numbers(self, x: Any) -> Any:
        """Sums of a few bits as the numbers that they are; anything else as it is."""
        if not isinstance(x, Traced) or not isinstance(x.value, Counts):
            return x
        value, most = x.value, self.size(x)
        if id(value.ids) not in self._operands_of:
            ids = torch.full((*value.ids.shape, most), FALSE)
            for number, row in zip((value.ids.flatten() // BATCH).tolist(), ids.view(-1, most), strict=True):
                nodes = self.sums[number]
                row[: len(nodes)] = torch.from_numpy(nodes.astype(np.int64))
            ids = torch.where(ids == FALSE, FALSE, ids * BATCH + value.ids[..., None] % BATCH)
            self._operands_of[id(value.ids)] = value.ids, ids.unbind(-1)
        rows = torch.arange(2**most)
        counts = sum((rows >> place & 1 for place in range(most)), start=torch.zeros_like(rows))
        table = (counts.to(x.dtype) + value.offset) / value.tau
        return self.make(Bits(self._operands_of[id(value.ids)][1], table), x.shape, x.dtype)

    def alike(self, counts: Sequence[Counts]) -> list[Counts]:
        """The same sums over one temperature and with one offset: each counts its bits a whole number of times."""
        ratios = [Fraction(part.tau / counts[0].tau).limit_denominator(_MOST_TIMES) for part in counts]
        most = math.lcm(*(ratio.numerator for ratio in ratios))
        times = [most / ratio if ratio > 0 else Fraction(0) for ratio in ratios]
        exact = (math.isclose(ratio * counts[0].tau, part.tau) for ratio, part in zip(ratios, counts, strict=True))
        if not all(exact) or any(time.denominator != 1 or not 0 < time <= _MOST_TIMES for time in times):
            taus = ", ".join(f"{part.tau:g}" for part in counts)
            raise ValueError(f"sums over the temperatures {taus} have no common one: choose whole ratios")
        alike = []
        for part, time in zip(counts, map(int, times), strict=True):
            ids = part.ids if time == 1 else self.combined([part.ids] * time)
            alike.append(Counts(ids, counts[0].tau * most, part.offset * time))
        return alike

    def combined(self, parts: Sequence[Tensor]) -> Tensor:
        """Ids of the sums of sums, element by element; all ids of a shape that broadcasts."""
        rows = torch.stack(torch.broadcast_tensors(*parts), -1)  # type: ignore[no-untyped-call]
        return self.summed(rows, lambda ids: np.concatenate([self.sums[number] for number in ids // BATCH]))

    def summed(self, rows: Tensor, nodes: Callable[[NDArray[np.int64]], NodeIds]) -> Tensor:
        """Ids of sums over the last dimension of ids, whose nodes a function gives."""
        flat = rows.reshape(-1, rows.shape[-1]).numpy()
        samples = np.where(flat < 0, -1, flat % BATCH)
        own = samples.max(1, initial=-1)
        if ((samples != own[:, None]) & (flat >= 0)).any() or (own < 0).any():
            raise ValueError("it sums over the samples of a batch, or over constants alone: give the dimension to sum")
        numbers = [BATCH * self.number_of(nodes(ids)) + int(sample) for ids, sample in zip(flat, own, strict=True)]
        return torch.tensor(numbers).reshape(rows.shape[:-1])


def _of_samples(wires: NDArray[Any]) -> Tensor:
    ids = torch.from_numpy(wires.astype(np.int64)) * BATCH
    return torch.stack([ids + sample for sample in range(BATCH)])


def _add_gates(builder: NetlistBuilder, table: list[bool], nodes: NodeIds) -> NodeIds:
    """Gates of one truth table, ``[n]``, at nodes ``[n, k]``."""
    if len(table) > 4:
        return builder.luts(np.broadcast_to(np.array(table, np.uint8), (len(nodes), len(table))), nodes)
    both = table if len(table) == 4 else [table[0], table[0], table[1], table[1]]
    gate = sum(bit << place for bit, place in zip(both, (3, 2, 1, 0), strict=True))
    return builder.gates(np.full(len(nodes), gate, np.uint8), nodes[:, 0], nodes[:, -1])

"""Sums of bits by compressors: at most six bits of two weights become three, in three lookup tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import Final

from lgn_lightning.circuit.hardware.nodes import Bit, Nodes
from lgn_lightning.circuit.net.rewire import ZERO

#: Bits that a compressor takes: what six-input tables hold.
_MOST: Final = 6
#: And how many of the next weight, where it takes fewer of the lower one: so many that three bits hold the sum.
_ALSO: Final = {5: 1, 4: 1, 3: 2, 2: 2}


def total(nodes: Nodes, columns: Sequence[Sequence[Bit]], width: int) -> list[Bit]:
    """The sum of bits by weight, ``columns[w]`` of weight 2^w, modulo 2^width: its bits, the lowest first.

    From the lowest weight up each column is compressed to one bit, the bits that are known first before the others.
    """
    heaps: list[list[tuple[int, Bit]]] = [[] for _ in range(width + 2)]
    times: Counter[Bit] = Counter()
    for weight in range(width):
        times.update(columns[weight] if weight < len(columns) else ())
        heaps[weight] = [(nodes.level(bit), bit) for bit, many in times.items() if many % 2 and bit != ZERO]
        heapify(heaps[weight])
        times = Counter({bit: many // 2 for bit, many in times.items()})  # a bit twice is once the next weight
    result = []
    for weight in range(width):
        low, high = heaps[weight], heaps[weight + 1]
        while len(low) > 1:
            taken = [heappop(low)[1] for _ in range(min(_MOST, len(low)))]
            wanted = _ALSO.get(len(taken), 0)
            also = [heappop(high)[1] for _ in range(wanted)] if len(high) >= wanted else []
            for above, bit in enumerate(count(nodes, [taken, also])):
                if bit != ZERO:
                    heappush(heaps[weight + above], (nodes.level(bit), bit))
        result.append(low[0][1] if low else ZERO)
    return result


def count(nodes: Nodes, columns: Sequence[Sequence[Bit]]) -> list[Bit]:
    """A cell that adds a few bits by weight: full adders, which lookup tables then hold together."""
    nodes.cell()
    result, carries = [], [list(column) for column in columns]
    while carries:
        bits, above = carries.pop(0), []
        while len(bits) > 1:
            low, high = nodes.add(*bits[:3])
            bits = [*bits[3:], low]
            above.append(high)
        result.append(bits[0] if bits else ZERO)
        above = [bit for bit in above if bit != ZERO]
        if carries:
            carries[0] += above
        elif above:
            carries.append(above)
    return result

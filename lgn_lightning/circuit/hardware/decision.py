"""What scores decide, as nodes: the class of the highest, levels and labels by thresholds, numbers in fixed point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from lgn_lightning.circuit.hardware.nodes import AND2, CELL_LEVELS, EXCEEDS, OR2, XNOR2, Bit, Nodes
from lgn_lightning.circuit.hardware.result_port import fixed_point
from lgn_lightning.circuit.hardware.sums import total
from lgn_lightning.circuit.net.netlist import Netlist
from lgn_lightning.circuit.net.rewire import ONE, ZERO

#: Scores that play each other at once: their six comparisons are the inputs of one table, and so are four bits and
#: the two that choose among them.
_PLAYERS: Final = 4
#: Bits of both scores that a segment of a comparison takes.
_SEGMENT: Final = 3


def decide(nodes: Nodes, circuit: Netlist, scores: Sequence[Sequence[Bit]], width: int) -> list[Bit]:
    """The bits of a circuit's decision, the lowest first, of ``width``."""
    decoding = circuit.decoding
    if decoding.kind == "argmax":
        return [*_winner(nodes, scores), *[ZERO] * width][:width]
    if decoding.kind == "numbers":
        return _numbers(nodes, circuit, scores)
    pairs = [(scores[0] if decoding.kind == "levels" else scores[c], t) for c, t in enumerate(decoding.thresholds)]
    reached = [reaches(nodes, score, int(threshold)) for score, threshold in pairs]
    return reached if decoding.kind == "labels" else total(nodes, [reached], width)


def exceeds(nodes: Nodes, x: Sequence[Bit], y: Sequence[Bit]) -> Bit:
    """Whether a number is above another one of as many bits: in a chain from the lowest bits, or in segments at once.

    A chain is smaller, and no later where the lowest bits are known first, as those of sums are.
    """
    levels = [max(nodes.level(a), nodes.level(b)) for a, b in zip(x, y, strict=True)]
    chained = max(levels[:_SEGMENT], default=0) + CELL_LEVELS
    for start in range(_SEGMENT, len(levels), _SEGMENT - 1):
        chained = max([chained, *levels[start : start + _SEGMENT - 1]]) + CELL_LEVELS
    at_once, parts = max(levels, default=0) + CELL_LEVELS, -(-len(levels) // _SEGMENT)
    while parts > 1:
        at_once, parts = at_once + CELL_LEVELS, -(-parts // _SEGMENT)
    return (_chain if chained <= at_once else _segments)(nodes, x, y)


def _chain(nodes: Nodes, x: Sequence[Bit], y: Sequence[Bit]) -> Bit:
    known = ZERO
    for place, (a, b) in enumerate(zip(x, y, strict=True)):
        if place == 0 or (place >= _SEGMENT and (place - _SEGMENT) % (_SEGMENT - 1) == 0):
            nodes.cell()
        known = nodes.node(EXCEEDS, a, b, known)
    return known


def _segments(nodes: Nodes, x: Sequence[Bit], y: Sequence[Bit]) -> Bit:
    parts = []  # from the lowest: whether x is above y, and whether it is equal
    for start in range(0, len(x), _SEGMENT):
        pair = x[start : start + _SEGMENT], y[start : start + _SEGMENT]
        nodes.cell()
        above = ZERO
        for a, b in zip(*pair, strict=True):
            above = nodes.node(EXCEEDS, a, b, above)
        equal = ONE
        for a, b in zip(*pair, strict=True):
            equal = nodes.node(AND2, equal, nodes.node(XNOR2, a, b))
        parts.append((above, equal))
    while len(parts) > 1:
        joined = []
        for start in range(0, len(parts), _SEGMENT):
            nodes.cell()
            (above, equal), *higher = parts[start : start + _SEGMENT]
            for more, same in higher:
                above = nodes.node(OR2, more, nodes.node(AND2, same, above))
                equal = nodes.node(AND2, same, equal)
            joined.append((above, equal))
        parts = joined
    return parts[0][0] if parts else ZERO


def reaches(nodes: Nodes, score: Sequence[Bit], threshold: int) -> Bit:
    if threshold <= 0:
        return ONE
    if threshold >> len(score):
        return ZERO
    return exceeds(nodes, score, [ONE if (threshold - 1) >> k & 1 else ZERO for k in range(len(score))])


@dataclass(frozen=True)
class _Player:
    score: list[Bit]
    number: list[Bit]


def _winner(nodes: Nodes, scores: Sequence[Sequence[Bit]]) -> list[Bit]:
    """The number of the first of the highest scores: a tournament of groups, in which all play each other at once."""
    width = max(1, (len(scores) - 1).bit_length())
    numbers = [[ONE if c >> k & 1 else ZERO for k in range(width)] for c in range(len(scores))]
    players = [_Player(list(score), number) for score, number in zip(scores, numbers, strict=True)]
    while len(players) > 1:
        players = [_play(nodes, players[i : i + _PLAYERS]) for i in range(0, len(players), _PLAYERS)]
    return players[0].number


def _play(nodes: Nodes, players: Sequence[_Player]) -> _Player:
    # The right side wins only if it is strictly higher, so the first of equals stays.
    beats = {
        (i, j): exceeds(nodes, players[j].score, players[i].score) for i, j in combinations(range(len(players)), 2)
    }
    if len(players) == 1:
        return players[0]
    all_of = [*players, *[players[-1]] * (_PLAYERS - len(players))]
    nodes.cell()
    left, right = beats[0, 1], beats.get((2, 3), ZERO)
    across = ZERO
    if len(players) > 2:
        third = [beats[0, 2], beats[1, 2]]
        fourth = [beats.get((0, 3), third[0]), beats.get((1, 3), third[1])]
        ahead = [nodes.mux(right, third[side], fourth[side]) for side in (0, 1)]
        across = nodes.mux(left, *ahead)
    low = nodes.mux(across, left, right)
    nodes.cell()

    def chosen(parts: Sequence[Sequence[Bit]]) -> list[Bit]:
        halves = [nodes.mux_all(low, parts[2 * side], parts[2 * side + 1]) for side in (0, 1)]
        return nodes.mux_all(across, *halves)

    return _Player(chosen([p.score for p in all_of]), chosen([p.number for p in all_of]))


def _numbers(nodes: Nodes, circuit: Netlist, scores: Sequence[Sequence[Bit]]) -> list[Bit]:
    """Offset and scale times score, modulo 2^width: the scale once for each bit of the score."""
    fixed, result = fixed_point(circuit), []
    for scale, offset, score in zip(fixed.scale, fixed.offset, scores, strict=True):
        columns: list[list[Bit]] = [[] for _ in range(fixed.width)]
        for constant, bit in [(offset, ONE), *((scale << place, bit) for place, bit in enumerate(score))]:
            for weight in range(fixed.width):
                if (constant % (1 << fixed.width)) >> weight & 1:
                    columns[weight].append(bit)
        result += total(nodes, columns, fixed.width)
    return result

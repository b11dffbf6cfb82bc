"""Proofs that a circuit decides alike on a whole region of inputs, or a case where it does not."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.check.region import Region
from lgn_lightning.circuit.check.satisfy import UndecidedError, satisfy
from lgn_lightning.circuit.hardware.decision import decide, reaches
from lgn_lightning.circuit.hardware.nodes import OR2, XOR2, Bit, Nodes, bits_of
from lgn_lightning.circuit.hardware.result_port import result_bits
from lgn_lightning.circuit.hardware.sums import total
from lgn_lightning.circuit.net.netlist import CircuitError, Netlist, NodeIds
from lgn_lightning.circuit.net.rewire import ONE, ZERO
from lgn_lightning.circuit.passes.flat import remove_dead_gates
from lgn_lightning.circuit.passes.optimize import optimize_for_export
from lgn_lightning.circuit.simulate import scores

#: Regions of so many cases are tried as a whole.
_EVERY_CASE: Final = 1 << 16
#: Random cases, and rounds of the search that changes one pixel or column at a time.
_RANDOM, _ROUNDS = 2048, 40


@dataclass(frozen=True)
class Answer:
    """What was found of a region.

    Attributes:
        holds: Whether all of it has the same decision; None where time was up.
        how: How that is known.
        found: Cases with different decisions, one sample or two as `Region.sample` has them; empty if there are none.
    """

    holds: bool | None
    how: str
    found: tuple[NDArray[Any], ...] = ()


@dataclass(frozen=True)
class _Wrong:
    """A way to another decision: (ones in group ``plus``) − (ones in group ``minus``) ≥ ``least``; None counts as 0."""

    plus: int | None
    minus: int | None
    least: int

    def margins(self, counts: NDArray[Any]) -> NDArray[Any]:
        """How far scores ``[N, groups]`` are from it; 0 or less where it is so."""
        plus = 0 if self.plus is None else counts[:, self.plus]
        return np.asarray(self.least - plus + (0 if self.minus is None else counts[:, self.minus]))


def decides_alike(circuit: Netlist, region: Region, timeout: float) -> Answer:
    """Proves that a circuit decides on all cases of a region as on its sample, or finds a case where it does not.

    All cases are tried where they are few. Else a search changes one pixel or column at a time, and for each other
    decision the number of bits that may change, or a SAT solver, says that it cannot be.

    Args:
        circuit: A flat circuit of two-input gates that decides on classes, levels or labels.
        region: What may change.
        timeout: Seconds.

    Raises:
        CircuitError: If the circuit gives numbers, or has gates of three inputs.
    """
    end = time.monotonic() + timeout
    _check(circuit)
    base = scores(circuit, region.bits[None])[0]
    wrong = _wrong_decisions(circuit, base)
    if not wrong:
        return Answer(True, "there is no other decision")

    def found(picks: NDArray[np.intp]) -> Answer:
        return Answer(False, "a case was found", (region.sample_of(picks),))

    def margins(picks: NDArray[np.intp]) -> NDArray[Any]:
        counts = scores(circuit, region.inputs(picks))
        every = [way.margins(counts) for way in wrong]
        return np.asarray(np.min(every, axis=0, initial=np.iinfo(np.int32).max))

    if region.cases <= _EVERY_CASE:
        for picks in region.every_case():
            bad = np.flatnonzero(margins(picks) <= 0)
            if bad.size:
                return found(picks[bad[0]])
        return Answer(True, f"all {region.cases:,} cases were tried")
    nearest = _search(region, margins, end)
    if nearest is not None:
        return found(nearest)
    net = _on_selectors(circuit, region)
    bounded = 0
    for way in wrong:
        bits, constant = _difference(net, way)
        if constant + len(bits) < way.least:
            bounded += 1
            continue
        try:
            case = satisfy(_reached(net, bits, way.least - constant), end - time.monotonic())
        except UndecidedError as error:
            return Answer(None, str(error))
        if case is not None:
            picks = _picks(region, case)
            assert margins(picks[None])[0] <= 0
            return found(picks)
    rest = len(wrong) - bounded
    return Answer(True, f"{bounded} other decisions by counts of bits" + f", {rest} by a SAT solver" * (rest > 0))


def ignores_column(circuit: Netlist, region: Region, place: int, timeout: float, samples: NDArray[Any]) -> Answer:
    """Proves that a decision does not depend on a column, or finds two rows that differ in it alone.

    Args:
        circuit: As in `decides_alike`; its inputs are comparisons.
        region: All rows.
        place: Number of the column.
        timeout: Seconds.
        samples: Input bits of rows whose column is changed in search of an example, bool ``[N, inputs]``.
    """
    end = time.monotonic() + timeout
    _check(circuit)
    number = next((n for n, choice in enumerate(region.choices) if choice.place == place), None)
    if number is None:
        return Answer(True, "no bit of it is read")
    choice = region.choices[number]
    decided = []
    for case in choice.cases:
        bits = samples.copy()
        bits[:, choice.bits] = case
        decided.append(circuit.decoding.decide(scores(circuit, bits)))
    differs = np.stack([(own != decided[0]).reshape(len(samples), -1).any(axis=1) for own in decided])
    if differs.any():
        case, sample = (int(part[0]) for part in np.nonzero(differs))
        return Answer(False, "found among samples", _pair(region, samples[sample], number, (0, case)))
    builder = NetlistBuilder()
    sizes = [len(own.cases) - 1 for own in region.choices]
    wires = builder.inputs(sum(sizes) + sizes[number])
    selectors = np.split(wires, np.cumsum(sizes))
    twin = [*selectors[:number], selectors[-1], *selectors[number + 1 : -1]]
    outputs = [_copy(builder, circuit, region.wires(builder, own)) for own in (selectors[:-1], twin)]
    nodes, gates = builder.joined(), np.concatenate(outputs)
    net = optimize_for_export(Netlist(int(wires.size), *nodes, gates, 2 * circuit.num_classes))[0]
    halves = net.outputs.reshape(2, circuit.num_classes, -1)
    added = Nodes(net.num_nodes, [0] * net.num_inputs + net.gate_levels.tolist())
    score_bits, decision_bits = result_bits(circuit)
    decisions = []
    for half in halves:
        own = [total(added, [bits_of(net, group).tolist()], score_bits) for group in half]
        decisions.append(decide(added, circuit, own, decision_bits))
    added.cell()
    other = ZERO
    for x, y in zip(*decisions, strict=True):
        other = added.node(OR2, other, added.node(XOR2, x, y))
    try:
        found = satisfy(remove_dead_gates(added.netlist([other], net)), end - time.monotonic())
    except UndecidedError as error:
        return Answer(None, str(error))
    if found is None:
        return Answer(True, "by a SAT solver, for all rows")
    picks = [_picked(part) for part in np.split(found, np.cumsum(sizes))]
    pairs = tuple(
        region.sample_of(np.array([*picks[:number], own, *picks[number + 1 : -1]]))
        for own in (picks[number], picks[-1])
    )
    return Answer(False, "found by a SAT solver", pairs)


def _check(circuit: Netlist) -> None:
    if circuit.decoding.kind == "numbers":
        raise CircuitError("this circuit gives numbers, which change with every bit: there is no decision to prove")
    if circuit.arity != 2:
        raise CircuitError("the gates of this circuit have three inputs; take it as it was before map_to_luts")


def _wrong_decisions(circuit: Netlist, base: NDArray[Any]) -> list[_Wrong]:
    """All ways to a decision that is not that on some scores ``[groups]``."""
    decoding = circuit.decoding
    if decoding.kind == "argmax":  # the first of the highest
        winner = int(base.argmax())
        return [_Wrong(c, winner, int(c > winner)) for c in range(len(base)) if c != winner]
    thresholds = [int(threshold) for threshold in decoding.thresholds]
    if decoding.kind == "levels":
        level = int((base[0] >= np.array(thresholds)).sum())
        up = [_Wrong(0, None, thresholds[level])] if level < len(thresholds) else []
        return up + ([_Wrong(None, 0, 1 - thresholds[level - 1])] if level else [])
    return [
        _Wrong(None, c, 1 - threshold) if base[c] >= threshold else _Wrong(c, None, threshold)
        for c, threshold in enumerate(thresholds)
    ]


def _search(region: Region, margins: Callable[[NDArray[np.intp]], NDArray[Any]], end: float) -> NDArray[np.intp] | None:
    """A case of another decision: the best of random ones, changed place by place as long as that helps."""
    generator = np.random.default_rng(0)
    sizes = np.array([len(choice.cases) for choice in region.choices])
    places = np.repeat(np.arange(sizes.size), sizes)
    cases = np.concatenate([np.arange(size) for size in sizes])
    trials = generator.integers(0, sizes, (_RANDOM, sizes.size))
    for _ in range(_ROUNDS):
        reached = margins(trials)
        best, margin = trials[int(reached.argmin())], int(reached.min())
        if margin <= 0:
            return np.asarray(best)
        if time.monotonic() > end:
            return None
        single = np.repeat(best[None], len(places), axis=0)
        single[np.arange(len(places)), places] = cases
        alone = margins(single)
        helps = np.argsort(alone, kind="stable")[: int((alone < margin).sum())]
        if not helps.size:
            return None
        # The changes that help, the first, the first two, and so on: together they may help more, or not.
        trials = np.repeat(best[None], helps.size, axis=0)
        for many, change in enumerate(helps):
            trials[many:, places[change]] = cases[change]
    return None


def _bits_of(net: Netlist, group: int | None) -> Counter[Bit]:
    """The bits of a group of outputs, with constants as such; none of no group."""
    if group is None:
        return Counter()
    return Counter(bits_of(net, net.outputs.reshape(net.num_classes, -1)[group]).tolist())


def _on_selectors(circuit: Netlist, region: Region) -> Netlist:
    """A circuit whose inputs are the selectors of a region's choices."""
    builder = NetlistBuilder()
    sizes = [len(choice.cases) - 1 for choice in region.choices]
    wires = builder.inputs(sum(sizes))
    bits = region.wires(builder, np.split(wires, np.cumsum(sizes)[:-1]))
    outputs = _copy(builder, circuit, bits)
    return optimize_for_export(Netlist(wires.size, *builder.joined(), outputs, circuit.num_classes))[0]


def _copy(builder: NetlistBuilder, circuit: Netlist, bits: NodeIds) -> NodeIds:
    """Adds a circuit's gates on other input bits; returns its outputs."""
    gates = builder.append(bits, circuit.gates, circuit.a, circuit.b)
    return np.concatenate([bits, gates])[circuit.outputs].astype(np.int32)


def _difference(net: Netlist, way: _Wrong) -> tuple[list[tuple[Bit, bool]], int]:
    """Ones of one group less those of another as a sum of bits, each with whether it is inverted, and a constant."""
    plus, minus = _bits_of(net, way.plus), _bits_of(net, way.minus)
    plus, minus = plus - minus, minus - plus
    constant = plus.pop(ONE, 0) - minus.pop(ONE, 0)
    del plus[ZERO], minus[ZERO]
    bits = [(bit, False) for bit in plus.elements()] + [(bit, True) for bit in minus.elements()]
    return bits, constant - minus.total()


def _reached(net: Netlist, bits: Sequence[tuple[Bit, bool]], least: int) -> Netlist:
    """A netlist whose output is whether so many of some bits are one."""
    nodes = Nodes(net.num_nodes, [0] * net.num_inputs + net.gate_levels.tolist())
    nodes.cell()
    column = [nodes.node(XOR2, bit, ONE) if inverted else bit for bit, inverted in bits]
    score = total(nodes, [column], len(bits).bit_length())
    return remove_dead_gates(nodes.netlist([reaches(nodes, score, least)], net))


def _picked(selectors: NDArray[np.bool_]) -> int:
    """The case that selectors name: how many ones there are before the first zero."""
    return int(np.argmin([*selectors.tolist(), False]))


def _picks(region: Region, selectors: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The case of each choice."""
    sizes = [len(choice.cases) - 1 for choice in region.choices]
    return np.array([_picked(part) for part in np.split(selectors, np.cumsum(sizes)[:-1])], np.intp)


def _pair(region: Region, bits: NDArray[np.bool_], number: int, cases: tuple[int, int]) -> tuple[NDArray[Any], ...]:
    """Two samples that differ in a choice, of which the others make some bits."""
    picks = [int((choice.cases == bits[choice.bits]).all(axis=1).argmax()) for choice in region.choices]
    return tuple(region.sample_of(np.array([*picks[:number], case, *picks[number + 1 :]])) for case in cases)

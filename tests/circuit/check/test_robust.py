"""Decisions over a region: against trying every input that there is."""

from __future__ import annotations

import numpy as np
import pytest

from lgn_lightning.base.columns import Column, Comparisons, Op, make_rows
from lgn_lightning.circuit import Circuit, CircuitError
from lgn_lightning.circuit.check import robust
from lgn_lightning.circuit.check.region import Region, pixel_region, row_of, row_region
from lgn_lightning.circuit.check.robust import decides_alike, ignores_column
from lgn_lightning.circuit.net.decoding import Decoding
from tests.circuit.random_circuits import random_circuit
from tests.circuit.tools import needs_abc

LEVELS = np.array([63, 127, 191], np.uint8)


def images(seed: int = 0, shape: tuple[int, int, int] = (1, 2, 3), classes: int = 3, group: int = 20) -> Circuit:
    pixels = int(np.prod(shape))
    base = random_circuit(seed, inputs=LEVELS.size * pixels, gates=150, classes=classes, group=group)
    return Circuit(base.num_inputs, base.gates, base.a, base.b, base.outputs, classes, levels=LEVELS, image_shape=shape)


def table(seed: int = 0) -> Circuit:
    """A circuit on numbers, whole numbers, with missing ones and single bits, and categories."""
    columns = (Column("size", "float32"), Column("age", "int32"), Column("sex", "category", ("f", "m")))
    sizes = np.array([-1.5, 0.0, 2.5]).view(np.int64)
    comparisons = Comparisons(
        columns,
        np.array([0, 0, 0, 0, 1, 1, 1, 2, 2], np.int32),
        np.array([*[Op.GREATER] * 3, Op.MISSING, Op.GREATER, Op.GREATER, Op.EQUAL, Op.EQUAL, Op.EQUAL], np.uint8),
        np.array([*sizes, 0, 20, 40, 33, 1, 2], np.int64),
    )
    base = random_circuit(seed, inputs=9, gates=60, classes=2, group=9)
    return Circuit(9, base.gates, base.a, base.b, base.outputs, 2, comparisons=comparisons)


def row(size: float, age: int, sex: int) -> np.ndarray:
    return make_rows(table().columns or (), [np.array([value]) for value in (size, age, sex)])


def truth(circuit: Circuit, region: Region) -> bool:
    """Whether all cases of a region decide alike, by trying them."""
    decided = np.concatenate([circuit.decoding.decide(circuit.scores(region.inputs(p))) for p in region.every_case()])
    return bool((decided == circuit.decoding.decide(circuit.scores(region.bits[None]))).all())


def test_the_cases_of_pixels_are_what_their_levels_tell_apart() -> None:
    circuit = images()
    image = np.array([[[0, 60, 63], [64, 255, 130]]], np.uint8)
    region = pixel_region(circuit, image, 4)
    values = {1: [56, 64], 2: [59, 64], 3: [60, 64], 5: [126, 128]}
    assert {choice.place: choice.values.tolist() for choice in region.choices} == values
    assert region.cases == 16
    assert len(pixel_region(circuit, image, 255).choices[0].cases) == 4
    assert pixel_region(circuit, image, 0).cases == 1
    picks = np.array([1, 0, 1, 0])
    sample = region.sample_of(picks).reshape(image.shape)
    assert np.abs(sample.astype(int) - image).max() <= 4
    assert np.array_equal(region.inputs(picks[None])[0], pixel_region(circuit, sample.astype(np.uint8), 0).bits)


@needs_abc
@pytest.mark.parametrize("tried", [1 << 16, 1])
@pytest.mark.parametrize("decoding", ["argmax", "levels", "labels"])
def test_answers_are_right(monkeypatch: pytest.MonkeyPatch, tried: int, decoding: str) -> None:
    # With one tried: by search, counts and solver.
    monkeypatch.setattr(robust, "_EVERY_CASE", tried)
    monkeypatch.setattr(robust, "_ROUNDS", 1 if tried > 1 else 0)  # what the search would find is the solver's to find
    kinds = {
        "argmax": (3, None),
        "levels": (1, Decoding("levels", (7, 11), (1.0,), (0.0, 0.0))),
        "labels": (3, Decoding("labels", (9, 10, 11), (1.0,) * 3, (0.0,) * 3)),
    }
    classes, chosen = kinds[decoding]
    rng, answers = np.random.default_rng(0), []
    for seed in range(6):
        circuit = images(seed, classes=classes)
        circuit = circuit if chosen is None else circuit.with_decoding(chosen)
        for radius in (10, 40, 90):
            image = rng.integers(0, 256, (1, 2, 3)).astype(np.uint8)
            region = pixel_region(circuit, image, radius)
            answer = decides_alike(circuit, region, 60)
            assert answer.holds == truth(circuit, region)
            answers.append(answer.holds)
            if answer.holds:
                continue
            found = answer.found[0].reshape(image.shape).astype(np.uint8)
            assert np.abs(found.astype(int) - image).max() <= radius
            assert np.any(circuit.predict(found[None]) != circuit.predict(image[None]))
    assert {True, False} == set(answers)


@needs_abc
def test_rows_of_a_table() -> None:
    answers = set()
    for seed in range(8):
        circuit = table(seed)
        comparisons = circuit.comparisons
        assert comparisons is not None
        start = row(0.5, 33, 1)
        region = row_region(comparisons, start, {"size": (-3, 3), "age": (30, 50), "sex": None})
        assert [len(choice.cases) for choice in region.choices] == [4, 3, 3]
        answer = decides_alike(circuit, region, 60)
        assert answer.holds == truth(circuit, region)
        answers.add(answer.holds)
        for sample in answer.found:
            found = row_of(comparisons, sample)
            assert -3 <= found["size"][0] <= 3
            assert 30 <= found["age"][0] <= 50
            assert circuit.predict(found) != circuit.predict(start)
    assert answers == {True, False}


@needs_abc
@pytest.mark.parametrize("sampled", [True, False])
def test_a_decision_without_a_column(sampled: bool) -> None:
    answers = set()
    for seed in range(8):
        circuit = table(seed)
        comparisons = circuit.comparisons
        assert comparisons is not None
        region = row_region(comparisons, row(0.5, 33, 1))
        every = region.inputs(np.concatenate(list(region.every_case())))
        by_case = circuit.predict(every).reshape([len(choice.cases) for choice in region.choices])
        for place in range(3):
            wanted = bool((by_case == by_case.take([0], axis=place)).all())
            answer = ignores_column(circuit, region, place, 60, every if sampled else every[:1])
            assert answer.holds == wanted
            answers.add(wanted)
            if wanted:
                continue
            rows = [row_of(comparisons, sample) for sample in answer.found]
            same = [np.array_equal(rows[0][name], rows[1][name], equal_nan=True) for name in ("size", "age", "sex")]
            assert same.index(False) == place
            assert same.count(False) == 1
            assert circuit.predict(rows[0]) != circuit.predict(rows[1])
    assert answers == {True, False}


def test_a_column_that_is_not_read() -> None:
    circuit = table()
    comparisons = circuit.comparisons
    assert comparisons is not None
    unread = comparisons.take(np.arange(7))
    region = row_region(unread, row(0.5, 33, 1))
    base = random_circuit(0, inputs=7, gates=30, classes=2, group=9)
    other = Circuit(7, base.gates, base.a, base.b, base.outputs, 2, comparisons=unread)
    assert ignores_column(other, region, 2, 10, region.bits[None]).holds


@needs_abc
def test_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robust, "_EVERY_CASE", 1)
    monkeypatch.setattr(robust, "_ROUNDS", 0)
    circuit = images(3, (1, 8, 8), classes=3, group=150)
    region = pixel_region(circuit, np.full((1, 8, 8), 127, np.uint8), 128)
    answer = decides_alike(circuit, region, 0.01)
    assert answer.holds is None
    assert not answer.found


def test_bad_regions() -> None:
    circuit, rows = images(), table()
    assert rows.comparisons is not None
    with pytest.raises(CircuitError, match="0 or more grey levels"):
        pixel_region(circuit, np.zeros((1, 2, 3), np.uint8), -1)
    with pytest.raises(CircuitError, match="no pixels"):
        pixel_region(rows, np.zeros((1, 2, 3), np.uint8), 1)
    with pytest.raises(CircuitError, match="no column 'weight'"):
        row_region(rows.comparisons, row(0, 0, 1), {"weight": (0, 1)})
    with pytest.raises(CircuitError, match="is empty"):
        row_region(rows.comparisons, row(0, 0, 1), {"age": (3, 1)})
    numbers = circuit.with_decoding(Decoding("numbers", (), (1.0,) * 3, (0.0,) * 3))
    with pytest.raises(CircuitError, match="gives numbers"):
        decides_alike(numbers, pixel_region(circuit, np.zeros((1, 2, 3), np.uint8), 1), 1)

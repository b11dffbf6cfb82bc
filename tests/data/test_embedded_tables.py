from __future__ import annotations

import pytest

from lgn_lightning.data import Monk, SklearnTable
from lgn_lightning.data.embedded_tables import ROBOT


@pytest.mark.parametrize(("problem", "monks", "trained"), [(1, 216, 124), (2, 142, 169), (3, 228, 122)])
def test_monks_are_as_many_as_published(problem: int, monks: int, trained: int) -> None:
    """Thrun et al. (1991): 216, 142 and 228 of the 432 robots."""
    data = Monk(problem, val_fraction=0)  # type: ignore[arg-type]
    assert int(data.test_samples()[1].sum()) == monks
    assert len(data.test_samples()[1]) == 432
    assert data.training_size == trained
    assert data.num_bits == sum(map(len, ROBOT.values()))


def test_the_third_problem_has_wrong_classes_in_training_alone() -> None:
    data = Monk(3, rows=432, val_fraction=0)
    rows, labels = data.training_samples()
    right = {tuple(row): label for row, label in zip(*(part.tolist() for part in data.test_samples()), strict=True)}
    wrong = sum(right[tuple(row)] != label for row, label in zip(rows.tolist(), labels.tolist(), strict=True))
    assert wrong == round(0.05 * 432)


def test_tables_of_sklearn() -> None:
    assert SklearnTable("wine").class_names == ["class_0", "class_1", "class_2"]
    data = SklearnTable("breast_cancer")
    data.setup()
    assert data.class_names == ["benign", "malignant"]
    assert (data.training_size, len(data.test_samples()[1])) == (386, 114)

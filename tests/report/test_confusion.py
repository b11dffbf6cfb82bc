import numpy as np

from lgn_lightning.report.confusion import confusion

LABELS = np.array([0, 0, 0, 1, 1, 2])
SCORES = np.array([[9, 1, 0], [1, 5, 0], [2, 8, 0], [3, 3, 0], [0, 7, 0], [0, 0, 1]])


def test_rows_are_classes_and_columns_are_predictions() -> None:
    result = confusion(SCORES, LABELS)
    assert result.matrix.tolist() == [[1, 2, 0], [1, 1, 0], [0, 0, 1]]  # the first of equal scores wins
    assert result.accuracy == 3 / 6
    assert result.largest(5) == [(0, 1, 2), (1, 0, 1)]


def test_the_surest_errors_come_first() -> None:
    result = confusion(SCORES, LABELS)
    assert result.examples(LABELS, 0, 1, 5) == [2, 1]
    assert result.examples(LABELS, 0, 1, 1) == [2]

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from lgn_lightning.base.errors import DataError
from lgn_lightning.data.splits import split_rows


@pytest.mark.parametrize("labelled", [False, True])
def test_few_rows_are_split_as_scikit_learn_does(labelled: bool) -> None:
    labels = np.random.default_rng(0).integers(0, 3, 200)
    first, second = split_rows(200, 0.2, 3, labels if labelled else None)
    wanted = train_test_split(np.arange(200), test_size=0.2, random_state=3, stratify=labels if labelled else None)
    assert np.array_equal(first, np.sort(wanted[0]))
    assert np.array_equal(second, np.sort(wanted[1]))


@pytest.mark.parametrize("labelled", [False, True])
def test_many_rows_have_the_same_shares(labelled: bool) -> None:
    count = 1_000_001
    labels = (np.random.default_rng(0).random(count) ** 3 * 5).astype(np.int64)
    parts = split_rows(count, 0.15, 1, labels if labelled else None)
    assert len(parts[1]) == int(count * 0.15)
    seen = np.zeros(count, np.int64)
    for part in parts:
        assert (np.diff(part) > 0).all()
        seen[part] += 1
    assert (seen == 1).all()
    if labelled:
        counts = np.bincount(labels)
        assert np.abs(np.bincount(labels[parts[1]]) - counts * 0.15).max() <= 1
    assert not np.array_equal(parts[1], split_rows(count, 0.15, 2, labels if labelled else None)[1])
    assert np.array_equal(parts[1], split_rows(count, 0.15, 1, labels if labelled else None)[1])


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(DataError, match="all 20 rows are of one group, 7"):
        split_rows(20, 0.2, 0, None, np.full(20, 7))


def test_fewer_rows_held_out_than_classes() -> None:
    labels = np.repeat(np.arange(10), 6)
    first, second = split_rows(60, 0.05, 0, labels)
    assert len(second) == 3
    assert sorted([*first, *second]) == list(range(60))

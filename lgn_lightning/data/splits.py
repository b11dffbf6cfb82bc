"""Seeded splits: every class on both sides alike, groups on one side only."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.base.errors import DataError

_Indices = NDArray[np.int64]
#: Rows above which scikit-learn's split takes too much memory, 100 bytes a row.
_MANY: Final = 1_000_000


def split_rows(
    count: int,
    fraction: float,
    seed: int,
    labels: NDArray[np.int64] | None = None,
    groups: NDArray[Any] | None = None,
) -> tuple[_Indices, _Indices]:
    """Splits rows: indices of the larger and of the smaller part, each in ascending order.

    Without groups this is ``sklearn.model_selection.train_test_split(…, test_size=fraction, random_state=seed,
    stratify=labels)``, with the rows of classes that have a single one left in the larger part; where the smaller part
    has fewer rows than there are classes, they are drawn of no class in particular. Of more than a million rows it is a
    draw of its own, with the same shares. Groups are drawn whole, of no class in particular.

    Args:
        count: Number of rows.
        fraction: Share of the smaller part, above 0.
        seed: Of the draw.
        labels: Classes ``[count]`` of which both parts get their share, or None.
        groups: ``[count]``, or None.

    Raises:
        DataError: If there are too few rows or groups.
    """
    if groups is not None and np.unique(groups).size < 2:
        raise DataError(f"all {count} rows are of one group, {groups[0]}: there is no other side of a split for it")
    if count > _MANY and groups is None:
        return _split_many(count, fraction, seed, labels)
    from sklearn.model_selection import GroupShuffleSplit, train_test_split  # takes a second to import

    rows = np.arange(count)
    lone = np.zeros(count, np.bool_) if labels is None else np.bincount(labels)[labels] < 2
    try:
        if groups is not None:
            splitter = GroupShuffleSplit(n_splits=1, test_size=fraction, random_state=seed)
            first, second = next(splitter.split(rows, labels, groups))
        else:
            classes = None if labels is None else labels[~lone]
            if classes is not None and np.ceil(fraction * classes.size) < np.unique(classes).size:
                classes = None
            first, second = train_test_split(rows[~lone], test_size=fraction, random_state=seed, stratify=classes)
            first = np.concatenate([first, rows[lone]])
    except ValueError as error:
        raise DataError(f"{count} rows cannot be split by the share {fraction}: {error}") from error
    return np.sort(first).astype(np.int64), np.sort(second).astype(np.int64)


def _split_many(count: int, fraction: float, seed: int, labels: NDArray[np.int64] | None) -> tuple[_Indices, _Indices]:
    """Rows in a random order, class by class: of the positions there evenly many are in the smaller part."""
    order = np.random.default_rng(seed).permutation(count)
    if labels is not None:
        order = order[np.argsort(labels[order].astype(np.int32), kind="stable")]
    held_out = np.diff(np.floor(np.arange(count + 1) * fraction)) > 0
    return np.sort(order[~held_out]), np.sort(order[held_out])

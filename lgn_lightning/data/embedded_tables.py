"""Tables that need no file: two of scikit-learn's, and the MONK's problems, which are rules."""

from __future__ import annotations

from itertools import product
from typing import Any, ClassVar, Final, Literal

import numpy as np
import pandas as pd

from lgn_lightning.data.table import RowSet, Table, _Named


class SklearnTable(Table):
    """A table that scikit-learn ships: ``breast_cancer`` (569 rows, 30 numbers, 2 classes) or ``wine`` (178, 13, 3).

    Args:
        name: Which one.
        **kwargs: Arguments of :class:`Table`.
    """

    def __init__(self, name: Literal["breast_cancer", "wine"], **kwargs: Any) -> None:
        super().__init__(target="class", **kwargs)
        self.name = name

    def _tables(self) -> tuple[_Named, _Named | None]:
        from sklearn import datasets  # takes a second to import

        bunch = datasets.load_wine() if self.name == "wine" else datasets.load_breast_cancer()
        frame = pd.DataFrame(bunch.data, columns=list(bunch.feature_names))
        return (frame.assign(**{"class": bunch.target_names[bunch.target]}), f"scikit-learn's {self.name}"), None


#: Attributes of a robot (Thrun et al., The MONK's Problems, 1991), their values in the order of the problems' numbers.
ROBOT: Final = {
    "head_shape": ("round", "square", "octagon"),
    "body_shape": ("round", "square", "octagon"),
    "is_smiling": ("yes", "no"),
    "holding": ("sword", "balloon", "flag"),
    "jacket_color": ("red", "yellow", "green", "blue"),
    "has_tie": ("yes", "no"),
}


class Monk(Table):
    """One of the three MONK's problems: 432 robots of six attributes, of which a rule makes monks (Thrun et al., 1991).

    1: head and body have the same shape, or the jacket is red. 2: exactly two attributes have their first value. 3: the
    jacket is green and a sword is held, or the jacket is not blue and the body no octagon.

    Training rows are drawn by ``split_seed``; in the third problem 5 of 100 have the wrong class, as published. All
    432 robots are the test rows, those of the training among them, so an accuracy of 1 is a proof: `lgn verify --rule`.

    Args:
        problem: 1, 2 or 3.
        rows: Rows to train and validate on; as many as the original drew if ``None``: 124, 169 or 122.
        **kwargs: Arguments of :class:`Table`.
    """

    train_rows: ClassVar = {1: 124, 2: 169, 3: 122}

    def __init__(self, problem: Literal[1, 2, 3], rows: int | None = None, **kwargs: Any) -> None:
        super().__init__(target="monk", **kwargs)
        self.problem = problem
        self.rows = self.train_rows[problem] if rows is None else rows

    @property
    def has_test(self) -> bool:
        """All robots."""
        return True

    def every_row(self) -> RowSet:
        """All robots: no value is missing, and no other ones are there."""
        return self._load_test()

    def _tables(self) -> tuple[_Named, _Named | None]:
        robots = np.array(list(product(*(range(len(values)) for values in ROBOT.values()))))
        monk = monk_rule(self.problem, robots)
        frame = pd.DataFrame({name: np.array(v)[robots[:, i]] for i, (name, v) in enumerate(ROBOT.items())})
        random = np.random.default_rng(self.split_seed)
        drawn = random.permutation(len(robots))[: self.rows]
        noisy = monk[drawn]
        if self.problem == 3:
            wrong = random.permutation(len(drawn))[: round(0.05 * len(drawn))]
            noisy[wrong] = ~noisy[wrong]
        train = frame.iloc[drawn].reset_index(drop=True).assign(monk=np.where(noisy, "yes", "no"))
        name = f"MONK's problem {self.problem}"
        return (train, name), (frame.assign(monk=np.where(monk, "yes", "no")), name)


def monk_rule(problem: int, robots: np.ndarray[Any, np.dtype[np.integer[Any]]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which robots are monks: numbers of attribute values from 0 on, ``[N, 6]`` → bool ``[N]``."""
    head, body, _, holding, jacket, _ = robots.T
    if problem == 1:
        return np.asarray((head == body) | (jacket == 0))
    if problem == 2:
        return np.asarray((robots == 0).sum(1) == 2)
    return np.asarray(((jacket == 2) & (holding == 0)) | ((jacket != 3) & (body != 2)))

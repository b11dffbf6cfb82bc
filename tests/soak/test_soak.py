"""A slice of each stress test in ``make test``, and all of each in ``make soak``; every one prints its counts.

make soak                                          all of it
python -m pytest -q -s tests/soak -m "not soak"    the slices
python -m tests.soak mutated_ops 2000 --first 500  other seeds of one of them
python -m tests.soak mutated_ops --seed 517        one case, in one process
"""

from __future__ import annotations

import pytest

from tests.soak import mutated_ops

soak = pytest.mark.soak


def counts(few: int, many: int) -> pytest.MarkDecorator:
    """Runs a test with a few cases, and in the soak with many."""
    return pytest.mark.parametrize("count", [few, pytest.param(many, marks=soak)])


@counts(150, 10_000)
def test_mutated_op_calls(count: int) -> None:
    mutated_ops.run(count).check()

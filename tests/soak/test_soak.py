"""Stress tests, run by ``make soak``, and a slice of those in ``make test`` that pass; every one prints its counts.

make soak                                              all of it: half an hour on two cores
python -m pytest -q -s tests/soak -m "not soak"        the slices
python -m tests.soak forged_circuits 2000 --first 500  other seeds of one of them
python -m tests.soak forged_circuits --seed 517        one case, in one process
"""

from __future__ import annotations

import pytest

from tests.soak import disk_full, forged_checkpoints, forged_circuits, kills_in_writes, mutated_ops, mutated_recipes

soak = pytest.mark.soak


def counts(few: int, many: int) -> pytest.MarkDecorator:
    """Runs a test with a few cases, and in the soak with many."""
    return pytest.mark.parametrize("count", [few, pytest.param(many, marks=soak)])


@counts(150, 10_000)
def test_forged_circuits(count: int) -> None:
    forged_circuits.run(count).check()


@counts(30, 10_000)
def test_forged_checkpoints(count: int) -> None:
    forged_checkpoints.run(count).check()


@counts(150, 10_000)
def test_mutated_op_calls(count: int) -> None:
    mutated_ops.run(count).check()


@counts(8, 1_000)
def test_mutated_recipes(count: int) -> None:
    mutated_recipes.run(count).check()


@counts(1, 50)
def test_kills_in_writes_of_a_run(count: int) -> None:
    kills_in_writes.kills(count).check()


@counts(6, 50)
def test_kills_while_a_library_is_built(count: int) -> None:
    kills_in_writes.cache_kills(count).check()


@counts(5, 25)
def test_damaged_libraries_are_built_anew(count: int) -> None:
    kills_in_writes.damaged_libraries(count).check()


@pytest.fixture(scope="session")
def _mounts() -> None:
    why = disk_full.why_no_mounts()
    if why:
        pytest.skip(f"mounts are not possible here ({why}): run as root")


@pytest.mark.usefixtures("_mounts")
@counts(1, 50)
def test_full_disks(count: int) -> None:
    disk_full.full_disks(count).check()


@soak
@pytest.mark.usefixtures("_mounts")
def test_runs_on_noexec_and_with_a_read_only_home() -> None:
    disk_full.odd_mounts().check()


@counts(1, 20)
def test_folders_that_vanish_during_a_run(count: int) -> None:
    disk_full.vanished_folders(count).check()


@counts(1, 10)
def test_runs_that_are_terminated(count: int) -> None:
    disk_full.terminations(count).check()


@counts(1, 5)
def test_eight_processes_on_an_empty_cache(count: int) -> None:
    disk_full.empty_caches(count).check()


@soak
def test_two_processes_in_one_folder() -> None:
    disk_full.two_in_one_folder().check()

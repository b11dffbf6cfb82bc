import os
import sys

import pytest

from lgn_lightning.base import machine


def test_processor_and_cores_are_named() -> None:
    assert machine.processor_name()
    assert 1 <= machine.usable_cores() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no core pinning on this system")
def test_pinning_leaves_one_core() -> None:
    before = os.sched_getaffinity(0)
    try:
        core = machine.pin_to_one_core()
        assert os.sched_getaffinity(0) == {core}
        assert machine.usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_versions() -> None:
    assert machine.package_version("torch")
    assert machine.package_version("no-such-package") is None
    assert machine.program_version([sys.executable]).startswith("Python 3")
    assert machine.program_version(["true"]) == "true" or "coreutils" in machine.program_version(["true"])


def test_what_does_not_fit_into_memory_is_refused_with_both_numbers() -> None:
    assert 1 << 20 < machine.free_memory() < 1 << 50
    machine.check_memory(1 << 20, "a megabyte")
    with pytest.raises(ValueError, match=r"a net takes at least 64 GB of memory, and 8\.0 GB are free"):
        machine.check_memory(64 * 10**9, "a net", 8 * 10**9)
    with pytest.raises(ValueError, match="of memory"):  # no float holds it
        machine.check_memory(10**400, "a net")

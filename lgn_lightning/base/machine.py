"""The machine that this process runs on: its processor, its cores, and the versions of what is installed."""

import os
import platform
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def processor_name() -> str:
    """Name of the processor as Linux gives it, elsewhere what Python knows of it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores that this process may use: fewer than the machine has in a container or under taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pin_to_one_core() -> int | None:
    """Pins this process to the last of its cores and returns the core's number; None where the system cannot."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


def free_memory() -> int:
    """Bytes that this process can still take, as far as the system says."""
    found = []
    with suppress(OSError, ValueError):
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
        found += [1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("MemAvailable:")]
    with suppress(OSError, ValueError):  # the limit of a container; "max" where there is none
        limit, used = (int(Path("/sys/fs/cgroup", f"memory.{name}").read_text()) for name in ("max", "current"))
        found.append(max(0, limit - used))
    return min(found, default=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def check_memory(needed: int, what: str, free: int | None = None) -> None:
    """Refuses what cannot fit into memory before any of it is taken: systems give more than they have, and kill later.

    Args:
        needed: Bytes.
        what: What takes them, for the message.
        free: Bytes that there are, if they are not the machine's.

    Raises:
        ValueError: If there are not as many; the message names both.
    """
    free = free_memory() if free is None else free
    if needed > free:
        raise ValueError(f"{what} takes at least {in_gigabytes(needed)} of memory, and {in_gigabytes(free)} are free")


def in_gigabytes(count: int) -> str:
    """A number of bytes, as text; also one beyond all floats."""
    return f"{count // 10**9:,} GB" if count >= 10**10 else f"{count / 1e9:.1f} GB"


def package_version(name: str) -> str | None:
    """Version of an installed package; None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def program_version(command: Sequence[str]) -> str:
    """The line in which a program names its version; the command's first word if it prints none."""
    result = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    lines = [line.strip() for line in result.stdout.splitlines() if any(character.isdigit() for character in line)]
    # nvcc prints its release in its fourth line.
    return next((line for line in lines if "release" in line), lines[0] if lines else command[0])

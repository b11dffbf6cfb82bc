"""Vector instruction sets that kernels are compiled for, and the best of them that this processor has."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache

from lgn_lightning.base.native_build import find_compiler

#: Compiler flags by set, from the least to the best; above all of them stands the plain build, for any processor.
FLAGS = {
    "avx2": ("-mavx2", "-mfma"),
    "avx512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma", "-mprefer-vector-width=512"),
}
#: What a compiler predefines where the processor has a set.
_MACROS = {
    "avx2": {"__AVX2__", "__FMA__"},
    "avx512": {"__AVX2__", "__FMA__", "__AVX512F__", "__AVX512BW__", "__AVX512DQ__", "__AVX512VL__"},
}


def all_sets() -> tuple[str, ...]:
    """The sets that a processor of this architecture may have."""
    return tuple(FLAGS) if platform.machine() in ("x86_64", "AMD64") else ()


def best_set() -> tuple[str, ...]:
    """The best set of this processor, or of those that ``LGN_CPU_ISA`` allows; empty for the plain build.

    Raises:
        BuildError: If there is no C++ compiler, which knows the processor.
    """
    compiler, _ = find_compiler()
    wish = os.environ.get("LGN_CPU_ISA")
    sets = all_sets()
    allowed = sets if wish not in (*sets, "baseline") else sets[: sets.index(wish) + 1] if wish in sets else ()
    return next(((name,) for name in reversed(allowed) if _MACROS[name] <= _macros(compiler)), ())


@cache
def _macros(compiler: str) -> frozenset[str]:
    command = [compiler, "-march=native", "-dM", "-E", "-x", "c++", os.devnull]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return frozenset(line.split()[1] for line in result.stdout.splitlines() if line.startswith("#define "))

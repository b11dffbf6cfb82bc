"""Plans the build of the CPU kernels for ``native_build``."""

from __future__ import annotations

import platform
from importlib.resources import files
from pathlib import Path

import torch

from lgn_lightning.base.native_build import BuildError, BuildPlan, Unit, plan_of

LIBRARY_NAME = "lgn_cpu.so"
_INSTRUCTION_SETS = {
    "avx2": ("-mavx2", "-mfma"),
    "avx512": (
        "-mavx512f",
        "-mavx512bw",
        "-mavx512dq",
        "-mavx512vl",
        "-mavx2",
        "-mfma",
        "-mprefer-vector-width=512",
    ),
}


def make_plan() -> BuildPlan:
    """Finds the tools and works out what is to be built.

    Raises:
        BuildError: If there is no compiler, no ninja or no source.
    """
    sources = Path(str(files("lgn_lightning.ext"))) / "cpu"
    if not sources.is_dir():
        raise BuildError(f"the C++ sources are missing from {sources}; reinstall lgn-lightning")
    versions = (torch.__version__,)
    return plan_of("CPU", LIBRARY_NAME, sources, (sources,), _units(), _link_flags(), versions=versions)


def torch_includes() -> tuple[str, ...]:
    """Flags that a unit needs to include headers of torch."""
    torch_root = Path(torch.__path__[0]) / "include"
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}"
    return (f"-isystem{torch_root}", f"-isystem{torch_root / 'torch/csrc/api/include'}", abi)


def _units() -> tuple[Unit, ...]:
    # First what takes longest.
    units = [Unit("torch_ops.cpp", "torch_ops.o", ("-O1", *torch_includes()))]
    if platform.machine() in ("x86_64", "AMD64"):
        units += [
            Unit("isa.cpp", f"{name}.o", ("-O3", f"-DLGN_ISA={name}", *flags))
            for name, flags in reversed(_INSTRUCTION_SETS.items())
        ]
    units.append(Unit("isa.cpp", "baseline.o", ("-O3", "-DLGN_ISA=baseline", "-DLGN_WITH_F64")))
    units += [Unit(f"{name}.cpp", f"{name}.o", ("-O2",)) for name in ("plan", "plan_cache", "pool", "dispatch")]
    return tuple(units)


def _link_flags() -> tuple[str, ...]:
    return ("-shared", f"-L{Path(torch.__path__[0]) / 'lib'}", "-ltorch_cpu", "-lc10", "-pthread")

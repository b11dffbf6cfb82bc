"""Plans the build of the CPU kernels for ``native_build``."""

import platform
import re
from importlib.resources import files
from pathlib import Path

import torch

from lgn_lightning.base.native_build import BuildError, BuildPlan, Unit, plan_of

LIBRARY_NAME = "lgn_cpu.so"
_INSTRUCTION_SETS = {
    "avx2": ("-mavx2", "-mfma"),
    "avx512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma", "-mprefer-vector-width=512"),
}
#: Code that needs headers of torch.
_TORCH = re.compile(r"\b(at::|TORCH_)")


def make_plan() -> BuildPlan:
    """Finds the tools and works out what is to be built; BuildError without compiler, ninja or sources."""
    sources = Path(str(files("lgn_lightning.ext"))) / "cpu"
    if not sources.is_dir():
        raise BuildError(f"the C++ sources are missing from {sources}; reinstall lgn-lightning")
    versions = (torch.__version__,)
    return plan_of("CPU", LIBRARY_NAME, sources, (sources,), _units(sources), _link_flags(), versions=versions)


def torch_includes() -> tuple[str, ...]:
    """Flags that a unit needs to include headers of torch."""
    torch_root = Path(torch.__path__[0]) / "include"
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}"
    return (f"-isystem{torch_root}", f"-isystem{torch_root / 'torch/csrc/api/include'}", abi)


def host_units(sources: Path, folder: str, torch_flags: tuple[str, ...]) -> list[Unit]:
    """The compilations of all ``.cpp`` of a folder: first one of those that include headers of torch, then the others.

    The headers take a compiler far longer than the code behind them, so these files are compiled as one, with the
    ``torch_flags``. Sources are named relative to ``sources``, as ``folder`` is (``""`` for that itself).
    """
    names = [str(path.relative_to(sources)) for path in sorted((sources / folder).glob("*.cpp"))]
    *others, last = with_torch = [name for name in names if _TORCH.search((sources / name).read_text())]
    included = tuple(flag for name in others for flag in ("-include", name))
    plain = [Unit(name, f"{Path(name).stem}.o", ("-O2",)) for name in names if name not in with_torch]
    return [Unit(last, "torch_ops.o", ("-O1", *torch_flags, *included)), *plain]


def _units(sources: Path) -> tuple[Unit, ...]:
    # First what takes longest.
    torch_ops, *plain = host_units(sources, "", torch_includes())
    units = [torch_ops]
    if platform.machine() in ("x86_64", "AMD64"):
        sets = reversed(_INSTRUCTION_SETS.items())
        units += [Unit("isa.cpp", f"{name}.o", ("-O3", f"-DLGN_ISA={name}", *flags)) for name, flags in sets]
    units.append(Unit("isa.cpp", "baseline.o", ("-O3", "-DLGN_ISA=baseline", "-DLGN_WITH_F64")))
    return (*units, *(unit for unit in plain if unit.source != "isa.cpp"))


def _link_flags() -> tuple[str, ...]:
    return ("-shared", f"-L{Path(torch.__path__[0]) / 'lib'}", "-ltorch_cpu", "-lc10", "-pthread")

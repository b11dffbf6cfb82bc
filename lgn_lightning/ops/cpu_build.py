"""The library of the CPU kernels: for this processor's best instruction set, or for all sets and any processor."""

import re
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import torch

from lgn_lightning.base import native_build
from lgn_lightning.base.instruction_sets import FLAGS, all_sets, best_set
from lgn_lightning.base.native_build import BuildError, BuildPlan, Unit

LIBRARY_NAME = "lgn_cpu.so"
#: Code that needs headers of torch.
_TORCH = re.compile(r"\b(at::|TORCH_)")


def find_library() -> Path | None:
    """The library with all sets if there is one, else the one for this processor, else None.

    Raises:
        BuildError: As `native_build.find_library`.
    """
    return native_build.find_library(every_set_plan()) or native_build.find_library(make_plan(best_set()))


def build(every_set: bool = False, verbose: bool = False) -> Path:
    """Finds the library, or builds it.

    Args:
        every_set: Only one with all instruction sets will do, for a cache or an image that several machines share.
        verbose: Show the compiler's output.

    Raises:
        BuildError: As `native_build.build`.
    """
    if every_set:
        return native_build.build(every_set_plan(), verbose)
    return find_library() or native_build.build(make_plan(best_set()), verbose)


def every_set_plan() -> BuildPlan:
    """The plan of the library with all instruction sets, which is the one that a wheel can carry."""
    return make_plan(all_sets())


def make_plan(sets: tuple[str, ...]) -> BuildPlan:
    """Works out what is to be built.

    Args:
        sets: Instruction sets beside the plain build.

    Raises:
        BuildError: If the sources are missing.
    """
    sources = Path(str(files("lgn_lightning.ext"))) / "cpu"
    if not sources.is_dir():
        raise BuildError(f"the C++ sources are missing from {sources}; reinstall lgn-lightning")
    versions = (torch.__version__,)
    units = _units(sources, sets)
    return BuildPlan("CPU", LIBRARY_NAME, sources, (sources,), units, _link_flags(), versions=versions)


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


def _units(sources: Path, sets: tuple[str, ...]) -> tuple[Unit, ...]:
    # First what takes longest. Nobody waits for gradient checks, which take double, and the plain build.
    torch_ops, *plain = host_units(sources, "", torch_includes())
    fast = ("-O2", "-fpeel-loops")  # -O3 takes a third longer and measures no faster
    units = [Unit("isa.cpp", f"{name}.o", (*fast, f"-DLGN_ISA={name}", *FLAGS[name])) for name in reversed(sets)]
    one = len(sets) == 1 < len(all_sets())  # that of this processor, which runs no other
    any_processor = () if one else ("-DLGN_ISA=baseline",)
    units += [torch_ops, Unit("isa.cpp", "baseline.o", ("-O1", "-DLGN_WITH_F64", *any_processor))]
    has = (*(f"-DLGN_HAS_{name.upper()}" for name in sets), *(("-DLGN_NO_BASELINE",) if one else ()))
    for unit in plain:
        if unit.source != "isa.cpp":
            units.append(replace(unit, flags=(*unit.flags, *has)) if unit.source == "kernels.cpp" else unit)
    return tuple(units)


def _link_flags() -> tuple[str, ...]:
    # The linker of macOS wants to know every symbol; that of OpenMP is one which torch brings.
    late = ("-undefined", "dynamic_lookup") if sys.platform == "darwin" else ()
    return ("-shared", *late, f"-L{Path(torch.__path__[0]) / 'lib'}", "-ltorch_cpu", "-lc10", "-pthread")

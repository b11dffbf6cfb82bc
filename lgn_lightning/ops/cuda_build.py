"""Plans the build of the CUDA kernels: the toolkit, the architectures and the units for ``native_build``."""

import os
import re
import shutil
import subprocess
from functools import cache
from importlib.resources import files
from pathlib import Path

import torch

from lgn_lightning.base.native_build import BuildError, BuildPlan, Unit
from lgn_lightning.ops.cpu_build import host_units, torch_includes

LIBRARY_NAME = "lgn_cuda.so"
#: What takes nvcc longest, and so goes first.
_LONGEST = ("tree_backward", "tree_forward", "tree_choices", "bit_tree", "lut")
_ARCHITECTURE = re.compile(r"(\d+\.\d)[af]?(\+PTX)?")


def architectures() -> tuple[str, ...]:
    """Compute capabilities to build for, such as ``"9.0"``, ascending: those of the visible GPUs.

    Where there are none, they are those of ``TORCH_CUDA_ARCH_LIST``; if it is empty or names something else, a
    BuildError.
    """
    if torch.cuda.is_available():
        visible = {torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())}
        return tuple(f"{major}.{minor}" for major, minor in sorted(visible))
    asked = os.environ.get("TORCH_CUDA_ARCH_LIST", "").replace(";", " ").split()
    if not asked:
        raise BuildError(
            "no GPU is visible and TORCH_CUDA_ARCH_LIST is not set, so it is not known what to build the CUDA kernels "
            "for; set it to the compute capability of your GPU, e.g. TORCH_CUDA_ARCH_LIST=9.0 for an H100"
        )
    named = set()
    for text in asked:
        match = _ARCHITECTURE.fullmatch(text)
        if match is None:
            raise BuildError(f"TORCH_CUDA_ARCH_LIST names {text!r}; give compute capabilities, e.g. '8.0 9.0'")
        named.add(match[1])
    return tuple(sorted(named, key=lambda text: tuple(map(int, text.split(".")))))


def find_toolkit() -> tuple[Path, str]:
    """Finds a CUDA toolkit of torch's major version: its folder, with ``bin/nvcc``, and version, e.g. ``"13.0"``.

    Searched are ``$CUDA_HOME`` and ``$CUDA_PATH``, else the nvcc on the path, the usual folders and what pip installs.
    A BuildError if torch has no CUDA, or there is no toolkit, or only one of another major version.
    """
    wanted = torch.version.cuda
    if wanted is None:
        raise BuildError(f"torch {torch.__version__} is a build without CUDA; install one with CUDA")
    major = wanted.split(".", 1)[0]
    cure = f"install the CUDA toolkit {major}.x (nvcc) and set CUDA_HOME to its folder"
    other: list[str] = []
    for home in _toolkit_folders(major):
        # An nvcc on the path may be a wrapper that lies far from its headers.
        if not (home / "bin" / "nvcc").is_file() or not _header_folders(home):
            continue
        version = _nvcc_version(str(home / "bin" / "nvcc"))
        if version.split(".", 1)[0] == major:
            return home, version
        other.append(f"{version} in {home}")
    if other:
        raise BuildError(
            f"torch {torch.__version__} was built with CUDA {wanted}, but the CUDA toolkit here is {', '.join(other)}; "
            f"{cure}, or install a torch built for the toolkit"
        )
    raise BuildError(f"no CUDA toolkit (nvcc) is here, and torch was built with CUDA {wanted}; {cure}")


def _header_folders(home: Path) -> list[Path]:
    folders = [home / "include", *sorted(home.glob("targets/*/include"))]
    return [folder for folder in folders if (folder / "cuda_runtime.h").is_file()]


def _toolkit_folders(major: str) -> list[Path]:
    asked = [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    if asked:
        return asked
    found = shutil.which("nvcc")
    folders = [Path(found).resolve().parents[1]] if found else []
    base = Path("/usr/local")
    folders += [base / "cuda", *sorted(base.glob(f"cuda-{major}*"), reverse=True)]
    return [*folders, Path(torch.__path__[0]).parent / "nvidia" / f"cu{major}"]


@cache
def _nvcc_version(nvcc: str) -> str:
    result = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"release (\d+\.\d+)", result.stdout)
    if match is None:
        raise BuildError(f"{nvcc} does not tell its version: {(result.stderr or result.stdout).strip()[:200]}")
    return match[1]


def _runtime(home: Path, major: str) -> Path:
    """The shared CUDA runtime of the toolkit, by its file: pip's toolkit has none of the links that -lcudart wants."""
    folders = [home / "lib64", home / "lib", *sorted(home.glob("targets/*/lib"))]
    folders.append(Path(torch.__path__[0]).parent / "nvidia" / f"cu{major}" / "lib")
    for folder in folders:
        for pattern in ("libcudart.so", f"libcudart.so.{major}*"):
            for path in sorted(folder.glob(pattern)):
                return path
    raise BuildError(f"the CUDA toolkit in {home} has no libcudart.so; install its runtime (cuda-cudart)")


def make_plan(archs: tuple[str, ...] | None = None) -> BuildPlan:
    """Works out what is to be built, by default for the `architectures`; a BuildError if something is missing."""
    sources = Path(str(files("lgn_lightning.ext")))
    if not (sources / "cuda").is_dir():
        raise BuildError(f"the CUDA sources are missing from {sources / 'cuda'}; reinstall lgn-lightning")
    home, version = find_toolkit()
    archs = architectures() if archs is None else archs
    # The compiler searches /usr/include anyway, and breaks if told to do so earlier.
    system = tuple(f"-isystem{path}" for path in _header_folders(home) if path != Path("/usr/include"))
    code = tuple(f"-gencode=arch=compute_{a},code=sm_{a}" for a in (arch.replace(".", "") for arch in archs))
    torch_flags = (*torch_includes(), *system)
    kernels = [path.stem for path in sorted((sources / "cuda").glob("*.cu"))]
    kernels = [name for name in _LONGEST if name in kernels] + [name for name in kernels if name not in _LONGEST]
    torch_ops, *plain = host_units(sources, "cuda", torch_flags)
    of_kernels = [Unit(f"cuda/{name}.cu", f"{name}.o", code) for name in kernels]
    units = (torch_ops, *of_kernels, *plain, Unit("cpu/dense_plan.cpp", "cpu_dense_plan.o", ("-O2",)))
    runtime = _runtime(home, version.split(".", 1)[0])
    torch_lib = Path(torch.__path__[0]) / "lib"
    flags = ("-shared", f"-L{torch_lib}", "-ltorch_cpu", "-lc10", "-lc10_cuda", str(runtime), "-pthread")
    nvcc, hashed = str(home / "bin" / "nvcc"), (sources / "cuda", sources / "cpu")
    versions = (torch.__version__, f"CUDA {version}", f"torch with CUDA {torch.version.cuda}", *archs)
    return BuildPlan("CUDA", LIBRARY_NAME, sources, hashed, units, flags, nvcc, versions)

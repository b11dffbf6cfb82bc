"""The CUDA build: which toolkit, which architectures, and that all of it compiles and links."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lgn_lightning.base import native_build
from lgn_lightning.base.native_build import BuildError, BuildPlan
from lgn_lightning.ops import cuda_build, loader


def make_toolkit(home: Path, version: str) -> Path:
    (home / "bin").mkdir(parents=True)
    (home / "include").mkdir()
    (home / "lib64").mkdir()
    (home / "include" / "cuda_runtime.h").touch()
    (home / "lib64" / "libcudart.so").touch()
    nvcc = home / "bin" / "nvcc"
    nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {version}, V{version}.1'\n")
    nvcc.chmod(0o755)
    return home


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    for name in ("TORCH_CUDA_ARCH_LIST", "CUDA_HOME", "CUDA_PATH", "LGN_BACKEND"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("9.0", ("9.0",)), ("8.6;9.0+PTX 9.0a", ("8.6", "9.0")), ("12.0 7.5", ("7.5", "12.0"))],
)
@pytest.mark.usefixtures("no_gpu")
def test_architectures_from_the_variable(text: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", text)
    assert cuda_build.architectures() == expected


@pytest.mark.usefixtures("no_gpu")
def test_architectures_that_nobody_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BuildError, match=r"no GPU is visible and TORCH_CUDA_ARCH_LIST is not set.*ARCH_LIST="):
        cuda_build.architectures()
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "Hopper")
    with pytest.raises(BuildError, match="'Hopper'"):
        cuda_build.architectures()


@pytest.mark.usefixtures("no_gpu")
def test_architectures_of_the_visible_gpus_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "7.5")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: ((9, 0), (8, 0), (9, 0))[i])
    assert cuda_build.architectures() == ("8.0", "9.0")


@pytest.mark.usefixtures("no_gpu")
def test_toolkit_of_another_major_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_HOME", str(make_toolkit(tmp_path / "old", "12.4")))
    with pytest.raises(BuildError, match=r"built with CUDA 13\.2.*toolkit here is 12\.4.*toolkit 13\.x.*CUDA_HOME"):
        cuda_build.make_plan(("9.0",))
    monkeypatch.setenv("CUDA_HOME", str(make_toolkit(tmp_path / "new", "13.0")))
    assert cuda_build.find_toolkit() == (tmp_path / "new", "13.0")


@pytest.mark.usefixtures("no_gpu")
def test_toolkit_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with pytest.raises(BuildError, match=r"no CUDA toolkit.*built with CUDA 13\.2.*set CUDA_HOME"):
        cuda_build.find_toolkit()
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(BuildError, match="without CUDA"):
        cuda_build.find_toolkit()


@pytest.mark.usefixtures("no_gpu")
def test_backend_cuda_by_name_is_an_error_with_its_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader._State, "libraries", {})
    monkeypatch.setenv("LGN_BACKEND", "cuda")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with pytest.raises(loader.BackendError, match="no CUDA toolkit"):
        loader.ensure_loaded("cuda")
    assert "no CUDA toolkit" in loader.report()["native cuda"]


@pytest.mark.usefixtures("no_gpu")
def test_key_depends_on_toolkit_and_architectures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    for version in ("13.0", "13.2"):
        monkeypatch.setenv("CUDA_HOME", str(make_toolkit(tmp_path / version, version)))
        keys |= {cuda_build.make_plan(archs).key for archs in (("9.0",), ("8.0",), ("8.0", "9.0"))}
    assert len(keys) == 6


@pytest.fixture
def hopper_plan() -> BuildPlan:
    """The build for a GPU of the Hopper kind; skips the test without a toolkit, and for no other reason."""
    try:
        cuda_build.find_toolkit()
    except BuildError as error:
        pytest.skip(str(error))
    return cuda_build.make_plan(("9.0",))


def test_every_source_is_compiled(hopper_plan: BuildPlan) -> None:
    present = {f"cuda/{path.name}" for path in (hopper_plan.sources / "cuda").glob("*.c*") if path.suffix != ".cuh"}
    compiled = [unit.source for unit in hopper_plan.units]
    compiled += [flag for unit in hopper_plan.units for flag in unit.flags if flag.endswith(".cpp")]  # -include
    assert sorted(compiled) == sorted(present | {"cpu/dense_plan.cpp"})


def test_one_kernel_compiles_for_hopper(hopper_plan: BuildPlan, tmp_path: Path) -> None:
    """That nvcc, its flags and the headers fit one another, in seconds; the whole library is for `make soak`."""
    (unit,) = (unit for unit in hopper_plan.units if unit.source == "cuda/bits.cu")
    one = replace(hopper_plan, units=(unit,))
    (tmp_path / "build.ninja").write_text(native_build.ninja_file(one))
    done = subprocess.run(
        [native_build.find_ninja(), "-C", str(tmp_path), unit.object], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert (tmp_path / unit.object).stat().st_size > 0


@pytest.mark.soak
def test_compiles_and_links_for_hopper(hopper_plan: BuildPlan) -> None:
    """The library loads and registers its kernels without a GPU; nvcc checks every line of device code.

    That takes minutes, once: the same sources, flags and compilers are found in the cache afterwards.
    """
    library = native_build.build(hopper_plan)
    code = (
        "import sys, torch, lgn_lightning.ops; torch.ops.load_library(sys.argv[1]); "
        "print(*(n for n in sys.argv[2:] if not torch._C._dispatch_has_kernel_for_dispatch_key(f'lgn::{n}', 'CUDA')))"
    )
    sources = "".join(path.read_text() for path in (hopper_plan.sources / "cuda").glob("*.cpp"))
    names = re.findall(r'm\.impl\("(\w+)"', sources)
    assert len(names) > 20
    done = subprocess.run(
        [sys.executable, "-c", code, str(library), *names],
        capture_output=True, text=True, env={**os.environ, "LGN_BACKEND": "torch"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stdout.split(), "these are not registered"

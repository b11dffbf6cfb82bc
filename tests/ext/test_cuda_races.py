"""The tests of the CUDA kernels on the host again, under ThreadSanitizer: threads of a block that race are reports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
#include "cuda_on_host.h"
static __global__ void sum_of_neighbours(const int* x, int* out) {
  __shared__ int shared[256];
  shared[threadIdx.x] = x[threadIdx.x];
  BARRIER;
  out[threadIdx.x] = shared[threadIdx.x] + shared[threadIdx.x ^ 1];
}
int main() {
  int x[256], out[256];
  for (int i = 0; i < 256; i++) x[i] = i;
  lgn::cuda::launch(&sum_of_neighbours, 3, nullptr, x, out);
  for (int i = 0; i < 256; i++) {
    if (out[i] != i + (i ^ 1)) return 1;
  }
}
"""


def environment(folder: Path, **more: str) -> dict[str, str]:
    options = {"exitcode": "66", "log_path": str(folder / "races"), "ignore_noninstrumented_modules": "1"}
    return {**os.environ, "TSAN_OPTIONS": ":".join(f"{name}={value}" for name, value in options.items()), **more}


def reports(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("races.*"))


def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    # Its shadow memory has fixed addresses, which random ones of the kernel may take.
    fixed = [shutil.which("setarch"), "-R"] if shutil.which("setarch") else []
    return subprocess.run([*fixed, *command], capture_output=True, text=True, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.soak
@pytest.mark.parametrize(
    ("barrier", "races"), [("__syncthreads()", False), ("__syncwarp()", False), ("__shfl_sync(~0u, 0, 0)", True)]
)
def test_a_race_is_found(tmp_path: Path, barrier: str, races: bool) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    source, program = tmp_path / "race.cpp", tmp_path / "race"
    source.write_text(PROGRAM.replace("BARRIER", barrier))
    flags = ["-std=c++20", "-O1", "-w", "-fsanitize=thread", f"-I{Path(__file__).parent / 'cuda_host'}"]
    made = run(["g++", *flags, str(source), "-o", str(program)])
    assert made.returncode == 0, made.stderr
    done = run([str(program)], env=environment(tmp_path))
    assert done.returncode == (66 if races else 0)
    assert ("data race" in reports(tmp_path)) == races


@pytest.mark.soak
@pytest.mark.parametrize("name", ["dense", "lut", "tree"])
def test_no_kernel_races(tmp_path: Path, name: str) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    library = run(["g++", "-print-file-name=libtsan.so"]).stdout.strip()
    if not Path(library).is_absolute():
        pytest.skip("no ThreadSanitizer")
    tests = Path(__file__).with_name(f"test_cuda_{name}.py")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(tests)]
    extra = {"LD_PRELOAD": str(Path(library).resolve()), "LGN_CUDA_HOST_FLAGS": "-g -fsanitize=thread"}
    done = run(command, env=environment(tmp_path, **extra), cwd=Path(__file__).parents[2])
    assert "passed" in done.stdout, done.stdout + done.stderr
    assert not reports(tmp_path), reports(tmp_path)[:5000]
    assert done.returncode == 0, done.stdout + done.stderr

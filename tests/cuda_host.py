"""Builds CUDA kernels for the host (tests/ext/cuda_host) and hands them tensors as rows of samples."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from torch import Tensor

ROOT = Path(__file__).parents[1]
HOST = ROOT / "tests/ext/cuda_host"
STORAGE = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.float64: 3}


def build(driver: str, *sources: str, options: Sequence[str] = (), links: Sequence[str] = ()) -> Path:
    """Compiles a driver of ``tests/ext/cuda_host`` with sources of ``ext``, once for all test processes and runs.

    Args:
        driver: Name of the driver.
        sources: What it is linked with, relative to ``ext``.
        options: The compiler's options beside the usual ones.
        links: The same, at the end.

    Returns:
        The library; without a compiler the test is skipped.
    """
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    files = [HOST / driver, *(ROOT / "ext" / source for source in sources)]
    # Fibers jump from stack to stack, which the fortified longjmp of some distributions takes for an error.
    flags = ["-std=c++20", "-O1", "-U_FORTIFY_SOURCE", "-w", "-shared", "-fPIC", "-pthread", f"-I{HOST}", *options]
    flags += os.environ.get("LGN_CUDA_HOST_FLAGS", "").split()  # test_cuda_races.py
    command = [compiler, *flags, *map(str, files), *links]
    # By content and not by place: clones share what they build.
    described = "\0".join(command).replace(str(ROOT), "").replace(str(Path(torch.__path__[0])), torch.__version__)
    digest = hashlib.sha256(described.encode())
    for path in sorted([*HOST.rglob("*.*"), *ROOT.glob("ext/c*/*.*")]):
        digest.update(path.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"lgn-cuda-host-{os.getuid()}"
    folder.mkdir(exist_ok=True, mode=0o700)
    library = folder / f"{Path(driver).stem}-{digest.hexdigest()[:20]}.so"
    with FileLock(library.with_suffix(".lock")):
        if not library.is_file():
            made = library.with_suffix(".tmp")
            result = subprocess.run([*command, "-o", str(made)], capture_output=True, text=True)
            assert result.returncode == 0, result.stderr
            made.replace(library)
    return library


def i64(value: int) -> ctypes.c_int64:
    return ctypes.c_int64(value)


def at(tensor: Tensor | None) -> ctypes.c_void_p | None:
    return None if tensor is None else ctypes.c_void_p(tensor.data_ptr())


def padded(count: int, dtype: torch.dtype) -> int:
    """Elements of a row of whole lines."""
    line = 64 // dtype.itemsize
    return (max(count, 1) + line - 1) // line * line


def rows(features: int, batch: int, dtype: torch.dtype) -> Tensor:
    """``[features, pitch]`` on a 64-byte boundary, full of what kernels must not use."""
    pitch = padded(batch, dtype)
    buffer = torch.empty(features * pitch + 64, dtype=dtype)
    skip = -buffer.data_ptr() % 64 // dtype.itemsize
    made = buffer[skip : skip + features * pitch].view(features, pitch)
    return made.fill_(float("nan")) if dtype.is_floating_point else made.fill_(-1 if dtype.is_signed else 255)


def feature_major(x: Tensor) -> Tensor:
    """``[batch, features]`` as rows of samples."""
    made = rows(x.shape[1], x.shape[0], x.dtype)
    made[:, : x.shape[0]] = x.t()
    return made

"""``lgn doctor``: everything that decides which kernels run and how fast."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from lgn_lightning.ops import loader

_PACKAGES = ("lgn-lightning", "torch", "torchvision", "lightning", "torchmetrics", "jsonargparse", "numpy", "wandb")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    facts = report()
    if arguments.json:
        print(json.dumps(facts, indent=2))
        return 0
    table = Table(show_header=False)
    for key, value in facts.items():
        table.add_row(key, "–" if value is None else str(value))
    Console().print(table)
    return 0


def report() -> dict[str, Any]:
    """Collects versions, compilers, devices and the state of the native extension.

    Returns:
        Plain values by name, in the order to print; None for what is not there.
    """
    facts: dict[str, Any] = {"python": platform.python_version(), "platform": platform.platform()}
    facts.update({name: _package_version(name) for name in _PACKAGES})
    facts.update({tool: _tool_version(tool) for tool in ("gcc", "clang", "ninja", "nvcc")})
    facts["cpu"] = cpu_model()
    facts["cpu threads"] = torch.get_num_threads()
    facts["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    facts["torch cuda"] = torch.version.cuda
    facts.update(loader.report())
    return facts


def cpu_model() -> str:
    """Name of the processor, as Linux gives it; elsewhere what Python knows of it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _package_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _tool_version(tool: str) -> str | None:
    path = shutil.which(tool)
    if path is None:
        return None
    output = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    lines = [line for line in output.splitlines() if any(c.isdigit() for c in line)]
    return next((line for line in lines if "release" in line), lines[0]) if lines else path

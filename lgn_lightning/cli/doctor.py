"""``lgn doctor``: everything that decides which kernels run and how fast."""

import argparse
import json
import platform
import shutil
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from lgn_lightning.base.machine import package_version, processor_name, program_version
from lgn_lightning.ops import loader

_PACKAGES = ("lgn-lightning", "torch", "torchvision", "lightning", "torchmetrics", "jsonargparse", "numpy", "wandb")
_TOOLS = ("gcc", "clang", "ninja", "nvcc")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
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
    """Versions, compilers, devices and the state of the native extension, in the order to print; None if not there."""
    facts: dict[str, Any] = {"python": platform.python_version(), "platform": platform.platform()}
    facts.update({name: package_version(name) for name in _PACKAGES})
    facts.update({tool: None if shutil.which(tool) is None else program_version([tool]) for tool in _TOOLS})
    facts["cpu"] = processor_name()
    facts["cpu threads"] = torch.get_num_threads()
    facts["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    facts["torch cuda"] = torch.version.cuda
    facts.update(loader.report())
    return facts

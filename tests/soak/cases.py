"""All modules with cases, for the process that workers are forked from."""

import importlib
from contextlib import suppress

MODULES = (
    "forged_circuits",
    "forged_checkpoints",
    "mutated_ops",
    "mutated_recipes",
    "kills_in_writes",
    "disk_full",
)

for _name in MODULES:
    with suppress(ModuleNotFoundError):
        importlib.import_module(f"tests.soak.{_name}")

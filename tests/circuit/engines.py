"""The engines of this machine, as the tests visit them."""

from __future__ import annotations

from lgn_lightning.circuit import native


def available() -> list[tuple[str, str | None]]:
    """Name and instruction set of every engine that this processor can run."""
    best = native.library().lgn_best_isa()
    engines: list[tuple[str, str | None]] = [("numpy", None)]
    engines += [("interpreter", isa) for isa in native.ISA_NAMES[: best + 1]]
    return engines + [("machine-code", isa) for isa in native.ISA_NAMES[1 : best + 1]]


AVAILABLE = available()

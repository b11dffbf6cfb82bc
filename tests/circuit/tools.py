"""Compilers and other programs of this machine, and the check of what they make."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from lgn_lightning.circuit import Circuit, CompiledCircuit
from lgn_lightning.circuit.check.tools import ABC_NAMES
from tests.circuit.random_circuits import random_bits

STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
COMPILERS = [
    pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed"))
    for name in ("gcc", "clang")
]


def needs(*tools: str) -> pytest.MarkDecorator:
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed")


needs_abc = pytest.mark.skipif(not any(map(shutil.which, ABC_NAMES)), reason="Berkeley ABC is not installed")


def check_library(circuit: Circuit, library: CompiledCircuit) -> None:
    for count in (0, 1, 63, 64, 65, 700):
        bits = random_bits(circuit, count)
        expected = circuit.scores(bits)
        assert np.array_equal(library.scores(bits), expected)
        assert np.array_equal(library.predict(bits), expected.argmax(axis=1) if count else [])
        if circuit.image_shape:
            pixels = np.random.default_rng(count).integers(0, 256, (count, *circuit.image_shape)).astype(np.uint8)
            assert np.array_equal(library.scores(pixels), circuit.scores(pixels))

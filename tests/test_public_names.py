"""``import lgn_lightning`` imports little; its names are there on first use."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lgn_lightning

SCRIPT = """
import sys
import lgn_lightning
assert not {"torch", "lightning", "numpy"} & set(sys.modules), sorted(sys.modules)
from lgn_lightning import Circuit
assert "torch" not in sys.modules
assert lgn_lightning.nn.LogicLayer is lgn_lightning.LogicLayer
assert "torch" in sys.modules and "lightning" not in sys.modules
"""


def test_imports_happen_on_first_use() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_name_is_there_and_listed() -> None:
    for name in (*lgn_lightning.__all__, "nn", "ops"):
        assert getattr(lgn_lightning, name).__name__.rsplit(".", 1)[-1] == name
        assert name in dir(lgn_lightning)
    with pytest.raises(AttributeError, match="has no attribute 'LogicLayers'"):
        lgn_lightning.LogicLayers  # noqa: B018

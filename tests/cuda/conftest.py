"""Kernels for the tests on a GPU: one that cannot be built fails them, and is no reason to skip."""

import pytest
import torch

from lgn_lightning.ops import loader


@pytest.fixture(autouse=True, scope="session")
def _native() -> None:
    if torch.cuda.is_available():
        loader.require("cuda")

"""A folder with circuit files for the commands that read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.circuit.random_circuits import image_circuit, random_circuit


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    image_circuit().save("net.lgn")
    random_circuit().save("plain.lgn")
    return tmp_path

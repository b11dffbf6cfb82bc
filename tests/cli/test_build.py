"""``lgn build``: both libraries, and the copies that a wheel carries."""

from pathlib import Path

import pytest

from lgn_lightning.base.native_build import BuildPlan
from lgn_lightning.circuit import native
from lgn_lightning.cli import build
from lgn_lightning.cli.main import main
from lgn_lightning.ops import cpu_build


def test_build_prints_the_libraries_and_copies_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def every_set_plan() -> BuildPlan:  # compiling all instruction sets takes a minute
        return cpu_build.make_plan(cpu_build.best_set())

    monkeypatch.setattr(build.cpu_build, "every_set_plan", every_set_plan)
    assert main(["build", "--into", str(tmp_path)]) == 0
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.name for path in printed] == ["lgn_cpu.so", "lgn_circuit.so"]
    for path, plan in zip(printed, (every_set_plan(), native.plan()), strict=True):
        copy = tmp_path / plan.fingerprint / path.name
        assert copy.read_bytes() == path.read_bytes()
        assert copy.with_suffix(".sha256").read_bytes() == path.with_suffix(".sha256").read_bytes()

"""The script for the first minutes on a GPU: limits, what goes on in the next call, a run without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.script import FOLDER

#: Stands for the interpreter: notes its arguments, and does the first thing in `orders` that is meant for them.
STUB = f"""#!{sys.executable}
import os, signal, sys, time
from pathlib import Path
here, arguments = Path(__file__).parent, " ".join(sys.argv[1:])
with (here / "calls").open("a") as calls:
    print(arguments, file=calls)
orders = (here / "orders").read_text().splitlines() if (here / "orders").exists() else []
for order in orders:
    what, do = order.split(": ")
    if what in arguments:
        orders.remove(order)
        (here / "orders").write_text("\\n".join(orders))
        exec(do)
        break
"""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts the stub in place of python, and a compute-sanitizer that runs its command."""
    for name, text in (("python", STUB), ("compute-sanitizer", '#!/usr/bin/env bash\nexec "${@:7}"\n')):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PYTHON", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def call(folder: Path, seconds: int, *more: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(FOLDER / "first_gpu.sh"), str(folder), str(seconds), *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def calls(stub: Path) -> list[str]:
    """The calls of the interpreter since the last time."""
    file = stub / "calls"
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return lines


def test_each_part_runs_once(stub: Path) -> None:
    folder = stub / "results"
    assert call(folder, 60, "--root", "data").returncode == 0
    made = calls(stub)
    assert [line.split()[-1] for line in made[:2]] == ["tests/cuda/test_bit_tree.py", "tests/cuda/test_dense.py"]
    times = next(line for line in made if line.startswith("benchmarks/gpu.py"))
    assert f"--json {folder}/gpu.json --resume --part-seconds 90 --root data" in times
    assert {file.read_text() for file in folder.glob("*.status")} == {"0\n"}
    assert {"memcheck.status", "racecheck.status", "times.status"} <= {file.name for file in folder.iterdir()}
    assert call(folder, 60).returncode == 0
    assert calls(stub) == []


def test_a_part_that_fails_is_told_and_the_next_one_runs(stub: Path) -> None:
    (stub / "orders").write_text("test_dense.py: sys.exit(5)")
    done = call(stub / "results", 60)
    assert done.returncode == 1
    assert "failed, see" in done.stderr
    assert "test_dense.log" in done.stderr
    assert (stub / "results" / "test_dense.status").read_text() == "5\n"
    assert (stub / "results" / "test_lut.status").read_text() == "0\n"


def test_times_go_on_past_a_part_that_hangs(stub: Path) -> None:
    (stub / "orders").write_text("\n".join(["gpu.py: os.kill(os.getpid(), signal.SIGALRM)"] * 2))
    assert call(stub / "results", 60).returncode == 0
    assert sum(line.startswith("benchmarks/gpu.py") for line in calls(stub)) == 3


def test_what_the_time_ends_goes_on_in_the_next_call(stub: Path) -> None:
    (stub / "orders").write_text("test_lut.py: time.sleep(60)")
    folder = stub / "results"
    done = call(folder, 7)
    assert done.returncode == 3
    assert "test_lut goes on in the next call" in done.stderr
    assert (folder / "test_dense.status").exists()
    assert not (folder / "test_lut.status").exists()
    calls(stub)
    assert call(folder, 60).returncode == 0
    assert calls(stub)[0].endswith("test_lut.py")


def test_without_arguments_one_line_says_how(stub: Path) -> None:
    done = subprocess.run(["bash", str(FOLDER / "first_gpu.sh")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "  benchmarks/first_gpu.sh FOLDER SECONDS [--dry-run] [--root data]\n"


@pytest.mark.soak
def test_all_of_it_starts_and_writes_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON", sys.executable)
    done = call(tmp_path, 1200, "--dry-run")
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert {outcome.split(":")[0] for outcome in written["parts"].values()} == {"done", "skipped"}
    assert all(row["ms"] > 0 for row in written["results"])
    assert {row["what"] for row in written["results"]} >= {"step L, graph", "packed L, batch 33", "layer, batch 9"}

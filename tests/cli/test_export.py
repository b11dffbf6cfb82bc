"""``lgn export`` on circuit files."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from lgn_lightning.circuit import Circuit, LoopedCircuit, load_circuit
from lgn_lightning.circuit.check.tools import ABC_NAMES
from lgn_lightning.cli.main import main
from tests.circuit.random_circuits import image_circuit
from tests.circuit.random_conv_nets import tree_net


def test_export_from_a_circuit_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    formats = "c,verilog,circuit,aiger,blif"
    assert main(["export", "net.lgn", "--out", "out", "--format", formats, "--pipeline", "2"]) == 0
    assert {path.suffix for path in Path("out").iterdir()} >= {".c", ".h", ".v", ".lgn", ".aig", ".blif", ".json"}
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert manifest["check"]["reference"] == "simulated circuit as it was given"
    assert manifest["gates"]["after"] == Circuit.load("out/lgn_net.lgn").num_gates < manifest["gates"]["before"]
    assert image_circuit().verify(Circuit.load("out/lgn_net.lgn"))
    assert main(["export", "net.lgn", "--out", "raw", "--format", "circuit", "--raw"]) == 0
    assert Circuit.load("raw/lgn_net.lgn") == image_circuit()
    capsys.readouterr()
    for arguments, message in (
        (["--format", "pdf"], "pdf"),
        (["--pipeline", "2"], "--pipeline applies to Verilog"),
        (["--format", "verilog", "--pipeline", "-1"], "pipeline must be 0"),
        (["--name", "My-Net"], "my_net"),
        (["--top", "axi-stream"], "--top axi-stream applies to Verilog"),
        (["--format", "verilog", "--top", "axi-stream", "--beat", "20"], "a beat has 8, 16"),
        (["--format", "verilog", "--name", "module"], "'module' cannot be a Verilog module"),
        (["--format", "verilog", "--word-bits", "8"], "--word-bits applies to C: add --format c"),
        (["--may-change", "0.5"], "--may-change applies to --approximate RECIPE: add it"),
        (["--format", "verilog", "--beat", "64"], "--beat applies to --top axi-stream: add it"),
    ):
        assert main(["export", "net.lgn", "--out", "new", *arguments]) == 1
        assert message in capsys.readouterr().err
        assert not Path("new").exists()


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_nets_of_two_names_fit_into_one_program(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, bits in (("eyes", 8), ("ears", 32)):
        assert (
            main(
                ["export", "net.lgn", "--out", name, "--format", "c,verilog", "--name", name, "--word-bits", f"{bits}"]
            )
            == 0
        )
        assert {path.name for path in Path(name).iterdir()} >= {f"{name}.c", f"{name}.h", f"{name}.v", f"{name}_tb.v"}
        assert f"module {name} " in Path(name, f"{name}.v").read_text()
        assert main(["verify", "net.lgn", f"{name}/{name}.c"]) == 0
    Path("main.c").write_text(
        '#include "ears.h"\n#include "eyes.h"\n'
        "int main(void) { return ears_scores_pixels(0, 0, 0) | eyes_scores_pixels(0, 0, 0) |\n"
        "  (sizeof(ears_word) != 4) | (sizeof(eyes_word) != 1); }\n"
    )
    command = ["gcc", "-Iears", "-Ieyes", "-o", "both", "main.c", "ears/ears.c", "eyes/eyes.c"]
    subprocess.run(command, check=True)
    subprocess.run(["./both"], check=True)


def test_export_replaces_an_earlier_export_and_nothing_else(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("real").mkdir()
    Path("out").symlink_to("real")
    for formats in ("circuit,blif", "circuit"):
        assert main(["export", "net.lgn", "--out", "out", "--format", formats]) == 0
    assert Path("out").is_symlink()
    assert sorted(path.name for path in Path("real").iterdir()) == ["lgn_net.lgn", "manifest.json"]
    Path("out/classify.c").write_text("mine")
    Path("file").write_text("mine")
    capsys.readouterr()
    for target, message in (
        ("out", "out holds other files (classify.c)"),
        ("file", "file holds other files"),
        ("file/out", "cannot write file/out"),
    ):
        assert main(["export", "net.lgn", "--out", target, "--format", "circuit"]) == 1
        assert message in capsys.readouterr().err
    assert (Path("out/classify.c").read_text(), Path("file").read_text()) == ("mine", "mine")


def test_export_does_not_replace_the_working_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    monkeypatch.chdir("empty")
    assert main(["export", "../net.lgn", "--out", ".", "--format", "circuit"]) == 1
    assert "the working directory cannot be replaced" in capsys.readouterr().err


def test_export_reports_lookup_tables(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "net.lgn", "--out", "out", "--format", "verilog", "--pipeline", "2", "--report"]) == 0
    said = capsys.readouterr().out
    counts = {name: int(lut6.replace(",", "")) for name, lut6 in re.findall(r"^(\w+) +([\d,]+) ", said, re.MULTILINE)}
    assert counts["all"] == sum(counts[part] for part in ("encoder", "gates", "sums", "decision")) > 0
    assert re.search(r"; latency \d+ cycles$", said, re.MULTILINE)
    assert ("ABC (if -K 6):" in said) == any(map(shutil.which, ABC_NAMES))


def test_export_of_a_looped_circuit_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    looped = LoopedCircuit.from_module(tree_net())
    looped.save("loops.lgn")
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 16, 16)).astype(np.uint8)
    for name, table in (("auto", "STEPS[]"), ("table", "RUNS[]"), ("code", "gates_0(")):
        assert main(["export", "loops.lgn", "--out", name, "--format", "c,circuit", "--form", name]) == 0
        assert table in Path(name, "lgn_net.c").read_text()
        exported = load_circuit(Path(name, "lgn_net.lgn"))
        assert isinstance(exported, LoopedCircuit) == (name == "auto")
        assert np.array_equal(exported.scores(images), looped.scores(images))
    assert main(["verify", "loops.lgn", "auto/lgn_net.c", "--samples", "300"]) == 0
    assert main(["export", "loops.lgn", "--out", "blif", "--format", "blif"]) == 0  # unrolled without asking
    capsys.readouterr()
    assert main(["export", "loops.lgn", "--out", "new", "--format", "blif", "--form", "loops"]) == 1
    assert "blif cannot hold loops" in capsys.readouterr().err
    assert main(["export", "net.lgn", "--out", "new", "--form", "loops"]) == 1
    assert "net.lgn holds a circuit without loops" in capsys.readouterr().err

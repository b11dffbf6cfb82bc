"""``lgn bench`` on circuit files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lgn_lightning.circuit import LoopedCircuit
from lgn_lightning.cli.main import main
from tests.circuit.random_conv_nets import tree_net


def test_bench_prints_engines_and_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--samples", "600", "--rounds", "1", "--threads", "2"]
    assert main(["bench", "net.lgn", *options]) == 0
    printed = capsys.readouterr().out
    assert "interpreter" in printed
    assert "gates run: " in printed
    assert main(["bench", "plain.lgn", *options, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {"interpreter"} <= {row["engine"] for row in report["engines"]}
    assert all(row["images"] > 0 and row["packed"] > 0 and row["gates"] > 0 for row in report["engines"])
    assert main(["bench", "net.lgn", "--rounds", "0"]) == 1
    assert "--rounds must be at least 1" in capsys.readouterr().err


def test_bench_unrolls_loops_on_demand(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    LoopedCircuit.from_module(tree_net()).save("loops.lgn")
    options = ["--samples", "600", "--rounds", "1", "--json"]
    passes = []
    for choice in ([], ["--form", "code"], ["--no-loops"]):
        assert main(["bench", "loops.lgn", *options, *choice]) == 0
        passes.append([step["name"] for step in json.loads(capsys.readouterr().out)["passes"]])
    assert passes[0] != passes[1] == passes[2]
    assert "fold_kernels" in passes[0]

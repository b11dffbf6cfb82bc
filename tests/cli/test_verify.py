"""``lgn verify`` on circuit files, exported files and nets."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import reduce
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from lgn_lightning.circuit import Circuit, LoopedCircuit
from lgn_lightning.circuit.check import tools
from lgn_lightning.circuit.emit.export import export_circuit
from lgn_lightning.cli import verify as verification
from lgn_lightning.cli.main import main
from lgn_lightning.data import Monk
from lgn_lightning.data.embedded_tables import ROBOT, monk_rule
from tests.circuit.random_circuits import changed, image_circuit, random_circuit
from tests.circuit.random_conv_nets import tree_net

ROBOTS = np.array(list(product(*(range(len(values)) for values in ROBOT.values()))))


def test_verify_one_circuit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "net.lgn"]) == 0
    out = capsys.readouterr().out
    for what in ("optimised circuit", "three-input gates", "interpreter engine (generic)", "compiled C"):
        assert f"equal      {what}" in out or f"equal      circuit of {what}" in out
    if shutil.which("iverilog"):
        assert "equal      simulated Verilog: 64 samples" in out
    if shutil.which("berkeley-abc") and shutil.which("yosys"):
        assert "equal      Verilog, read back by yosys: formal proof" in out
        assert "equal, gates, sums and decision proven for all inputs" in out


def test_both_arguments_may_be_names_of_shipped_circuits(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "monk1", "monk1", "--samples", "64", "--no-proof"]) == 0
    assert "both circuits" in capsys.readouterr().out
    assert main(["verify", "parity-stream", "parity-stream", "--samples", "16", "--no-proof"]) == 0
    assert "both circuits" in capsys.readouterr().out
    assert main(["verify", "monk1", "monk9"]) == 1
    assert "did you mean monk1?" in capsys.readouterr().err


def test_verify_finds_a_changed_gate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed(image_circuit()).save("other.lgn")
    assert main(["verify", "net.lgn", "other.lgn"]) == 1
    out = capsys.readouterr().out
    assert "NOT EQUAL, for example where these input bits are one" in out
    assert main(["verify", "net.lgn", "plain.lgn"]) == 1
    assert "cannot be compared" in capsys.readouterr().err


def test_verify_finds_other_thresholds_on_equal_gates(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    circuit = image_circuit()
    assert circuit.levels is not None
    replace(circuit, levels=circuit.levels // 2).save("other.lgn")
    assert main(["verify", "net.lgn", "other.lgn", "--no-proof"]) == 1
    out = capsys.readouterr().out
    assert "NOT EQUAL  around the gates: they differ in thresholds" in out
    assert "equal      both circuits" in out
    assert out.endswith("NOT EQUAL\n")


@pytest.mark.skipif(not shutil.which("berkeley-abc"), reason="berkeley-abc is not installed")
def test_verify_finds_by_proof_what_samples_miss(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # An AND of 40 inputs differs from constant 0 on one input alone.
    node = np.arange(40, 79, dtype=np.int32)
    rare = Circuit(
        num_inputs=40,
        gates=np.ones(39, np.uint8),
        a=np.concatenate([[0], node[:-1]]).astype(np.int32),
        b=np.arange(1, 40, dtype=np.int32),
        outputs=node[-1:].copy(),
        num_classes=1,
    )
    rare.save("rare.lgn")
    replace(rare, gates=np.concatenate([rare.gates[:-1], [0]]).astype(np.uint8)).save("zero.lgn")
    assert main(["verify", "rare.lgn", "zero.lgn", "--no-proof"]) == 0
    assert "not proven" in capsys.readouterr().out
    assert main(["verify", "rare.lgn", "zero.lgn"]) == 1
    assert "(40 of 40); the first circuit's scores there are [1]" in capsys.readouterr().out


@pytest.mark.parametrize("pipeline", [0, 2])
def test_verify_exported_files(folder: Path, capsys: pytest.CaptureFixture[str], pipeline: int) -> None:
    good, bad = image_circuit(), changed(image_circuit())
    formats = ["library"]
    if shutil.which("berkeley-abc"):
        formats += ["blif", "aiger"] + (["verilog"] if shutil.which("yosys") else [])
    for circuit, code in ((good, 0), (bad, 1)):
        files = export_circuit(circuit, folder / f"files{code}", "net", formats, pipeline=pipeline).files
        for kind in set(files) - {"header"}:
            assert main(["verify", "net.lgn", str(files[kind])]) == code, kind
    capsys.readouterr()
    (folder / "empty.v").write_text("module x; endmodule\n")
    if "verilog" in formats:
        assert main(["verify", "net.lgn", "empty.v"]) == 1
        assert "no module …_logic" in capsys.readouterr().err


@pytest.mark.skipif(
    not all(map(shutil.which, ("berkeley-abc", "yosys", "iverilog"))), reason="a tool that verifies Verilog is missing"
)
def test_verify_finds_what_is_wrong_in_verilog_beside_its_gates(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_circuit(image_circuit(), folder, "net", ("verilog",), pipeline=2)
    text = Path("net.v").read_text()
    latency = text[text.index("Latency: ") :].split()[1]
    for old, new, found in (
        ("", "", "equal      simulated wrong.v: 64 samples"),
        ("> 8'd63;", "> 8'd64;", "NOT EQUAL  simulated wrong.v"),
        ("wire s0 = ", "wire s0 = 1'b1 ^ ", "NOT EQUAL  simulated wrong.v"),
        ("class_index = {", "class_index = ~{", "NOT EQUAL  simulated wrong.v"),
        (f"Latency: {latency}", f"Latency: {int(latency) + 1}", "NOT EQUAL  simulated wrong.v"),
        ("// Latency", "//", "skipped    simulated wrong.v: wrong.v does not say its latency"),
        ("module net_pixels", "module pixels", "skipped    simulated wrong.v: wrong.v has no module net_pixels"),
    ):
        assert old in text
        Path("wrong.v").write_text(text.replace(old, new))
        assert main(["verify", "net.lgn", "wrong.v"]) == found.startswith("NOT")
        out = capsys.readouterr().out
        assert found in out
        assert "equal      gates of wrong.v: formal proof" in out
        assert ("; what was skipped is not checked" in out) == found.startswith("skipped")


def test_verify_without_abc_says_so_and_compares_on_samples(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    random_circuit(inputs=30).save("wide.lgn")
    monkeypatch.setattr(tools, "ABC_NAMES", ("no-abc-here",))
    assert main(["verify", "wide.lgn"]) == 0
    out = capsys.readouterr().out
    assert "no proof: Berkeley ABC is not installed" in out
    assert "not proven" in out


@pytest.mark.skipif(not all(map(shutil.which, ("iverilog", "yosys", "berkeley-abc"))), reason="tools are not installed")
@pytest.mark.skipif(find_spec("cocotb") is None, reason="cocotb is not installed")
def test_verify_a_top_level_of_streams(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--format", "verilog", "--top", "axi-stream", "--beat", "64", "--pipeline", "2"]
    assert main(["export", "net.lgn", "--out", "out", *options]) == 0
    assert main(["verify", "net.lgn", "out/lgn_net_axis.v"]) == 0
    out = capsys.readouterr().out
    assert "equal      lgn_net_axis.v: 64 samples in Icarus Verilog" in out
    assert "nothing lost, repeated or swapped, whoever waits: proof by induction" in out
    top = Path("out/lgn_net_axis.v")
    top.write_text(top.read_text().replace("if (pop) tail", "if (m_axis_tvalid) tail"))
    assert main(["verify", "net.lgn", "out/lgn_net_axis.v"]) == 1
    assert "a result is wrong in cycle" in capsys.readouterr().out
    Path("out/lgn_net.v").unlink()
    assert main(["verify", "net.lgn", "out/lgn_net_axis.v"]) == 1
    assert "should lie beside it, in lgn_net.v" in capsys.readouterr().err


def test_verify_errors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["nothing.lgn"], "there is no file or folder nothing.lgn"),
        (["net.lgn", "nothing.v"], "there is no file or folder nothing.v"),
        (["net.lgn", "--samples", "0"], "--samples"),
        (["net.lgn", "--timeout", "0"], "--timeout must be positive"),
        (["net.lgn", "--timeout", "nan"], "--timeout must be positive"),
        ([str(folder)], "holds no checkpoint"),
    ):
        assert main(["verify", *arguments]) == 1
        assert message in capsys.readouterr().err
    data = bytearray(Path("net.lgn").read_bytes())
    data[50] ^= 1
    Path("bad.lgn").write_bytes(data)
    for command in ("verify", "bench", "export"):
        assert main([command, "bad.lgn"]) == 1
        assert "bad.lgn is truncated or corrupt" in capsys.readouterr().err


@pytest.mark.parametrize("large", [False, True])
def test_verify_keeps_the_loops_of_large_nets(
    large: bool, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looped = LoopedCircuit.from_module(tree_net(8))
    looped.save("loops.lgn")
    monkeypatch.setattr(verification, "LOOPS_ABOVE", looped.num_gates - large)
    assert main(["verify", "loops.lgn", "--samples", "300", "--no-proof"]) == 0
    out = capsys.readouterr().out
    assert ("LoopedCircuit(" in out) == large
    assert ("simulated Verilog" in out) == (not large and shutil.which("iverilog") is not None)
    assert "equal      optimised circuit" in out
    assert "equal      interpreter engine (generic): 300 samples" in out
    assert "equal      compiled C: 300 samples" in out
    assert ("skipped    proofs and Verilog" in out) == large


def test_verify_keeps_loops_only_where_both_sides_can_have_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    looped = LoopedCircuit.from_module(tree_net())
    looped.save("loops.lgn")
    export_circuit(looped, folder, "exported", ("c",))
    assert main(["verify", "loops.lgn", "exported.c", "--samples", "300", "--form", "loops"]) == 0
    capsys.readouterr()
    assert main(["verify", "loops.lgn", "net.lgn", "--loops"]) == 1
    assert "net.lgn is compared with a circuit without loops" in capsys.readouterr().err


def monk_circuit(problem: int) -> Circuit:
    """The rule of a MONK's problem as gates."""
    data = Monk(problem, rows=432, val_fraction=0)  # type: ignore[arg-type]
    rule = data.comparisons
    place = {rule.describe(bit): bit for bit in range(len(rule))}
    gates: list[tuple[int, int, int]] = []

    def gate(table: int, a: int, b: int) -> int:
        gates.append((table, a, b))
        return len(rule) + len(gates) - 1

    def any_of(nodes: list[int]) -> int:
        return reduce(lambda a, b: gate(7, a, b), nodes)

    shapes = ("round", "square", "octagon")
    same = [gate(1, place[f"head_shape = {shape}"], place[f"body_shape = {shape}"]) for shape in shapes]
    yes = any_of([*same, place["jacket_color = red"]])
    no = gate(12, yes, yes)
    kinds, a, b = (np.array(part) for part in zip(*gates, strict=True))
    return Circuit(
        len(rule),
        kinds.astype(np.uint8),
        a.astype(np.int32),
        b.astype(np.int32),
        np.array([no, yes], np.int32),
        2,
        comparisons=rule,
        class_names=("no", "yes"),
    )


def test_verify_against_a_rule(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monk_circuit(1).save("monk.lgn")
    assert main(["verify", "monk.lgn", "--rule", "monk1", "--no-proof"]) == 0
    assert "equal      rule of monk1: on all 432 rows" in capsys.readouterr().out
    assert main(["verify", "monk.lgn", "--rule", "monk2", "--no-proof"]) == 1
    out = capsys.readouterr().out
    different = int((monk_rule(1, ROBOTS) != monk_rule(2, ROBOTS)).sum())
    assert f"NOT EQUAL  rule of monk2: on {different} of all 432 rows" in out
    assert "for example where these input bits are one" in out
    for arguments, message in (
        (["monk.lgn", "--rule", "wine"], "follow no rule"),
        (["net.lgn", "--rule", "monk1"], "rows of a table"),
        (["monk.lgn", "--rule", "nothing"], "nothing"),
    ):
        assert main(["verify", *arguments]) == 1
        assert message in capsys.readouterr().err

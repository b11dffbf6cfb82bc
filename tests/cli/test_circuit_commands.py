"""``lgn export``, ``bench``, ``verify`` and ``predict`` on circuit files and on the checkpoint of a run."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from lgn_lightning import GroupSum, LogicLayer
from lgn_lightning.circuit import Circuit, CircuitError, LoopedCircuit, form
from lgn_lightning.circuit.check import prove
from lgn_lightning.circuit.emit.export import export_circuit
from lgn_lightning.circuit.file import circuit_from_bytes, circuit_to_bytes, load_circuit
from lgn_lightning.circuit.form import circuit_of_net
from lgn_lightning.cli import verify as verification
from lgn_lightning.cli.main import main
from lgn_lightning.data.border import remove_border
from lgn_lightning.data.decode import decode_files
from lgn_lightning.deploy.source import CircuitSource
from tests.circuit.net.test_looped import tree_net
from tests.circuit.random_circuits import image_circuit, random_circuit
from tests.data.conftest import digit_like


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    image_circuit().save("net.lgn")
    random_circuit().save("plain.lgn")
    return tmp_path


def changed(circuit: Circuit) -> Circuit:
    gates = circuit.gates.copy()
    gates[int(circuit.outputs.max()) - circuit.num_inputs] ^= 15
    return replace(circuit, gates=gates)


def test_bench_prints_engines_and_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--samples", "600", "--rounds", "1", "--threads", "2"]
    assert main(["bench", "net.lgn", *options]) == 0
    assert "interpreter" in capsys.readouterr().out
    assert main(["bench", "plain.lgn", *options, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {"interpreter"} <= {row["engine"] for row in report["engines"]}
    assert all(row["images"] > 0 and row["packed"] > 0 and row["gates"] > 0 for row in report["engines"])
    assert main(["bench", "net.lgn", "--rounds", "0"]) == 1
    assert "--rounds must be at least 1" in capsys.readouterr().err


def test_verify_one_circuit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "net.lgn"]) == 0
    out = capsys.readouterr().out
    for what in ("optimised circuit", "three-input gates", "interpreter engine (generic)", "compiled C"):
        assert f"equal      {what}" in out or f"equal      circuit of {what}" in out
    if shutil.which("iverilog"):
        assert "equal      simulated Verilog: 64 samples" in out
    if shutil.which("berkeley-abc") and shutil.which("yosys"):
        assert "equal      Verilog, read back by yosys: formal proof" in out
        assert "equal, gates proven for all inputs" in out


def test_verify_finds_a_changed_gate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed(image_circuit()).save("other.lgn")
    assert main(["verify", "net.lgn", "other.lgn"]) == 1
    out = capsys.readouterr().out
    assert "NOT EQUAL, for example on the input bits that are one at" in out
    assert main(["verify", "net.lgn", "plain.lgn"]) == 1
    assert "cannot be compared" in capsys.readouterr().err


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
        ("m0_0_wins = score1 >", "m0_0_wins = score1 >=", "NOT EQUAL  simulated wrong.v"),
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
    monkeypatch.setattr(prove, "ABC_NAMES", ("no-abc-here",))
    assert main(["verify", "wide.lgn"]) == 0
    out = capsys.readouterr().out
    assert "no proof: Berkeley ABC is not installed" in out
    assert "not proven" in out


def test_verify_errors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["nothing.lgn"], "there is no file or folder nothing.lgn"),
        (["net.lgn", "nothing.v"], "there is no file or folder nothing.v"),
        (["net.lgn", "--samples", "0"], "--samples"),
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


def test_predict_images_arrays_and_folders(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    circuit = random_circuit(3, inputs=30, levels=[63, 200], image_shape=(1, 3, 5), class_names=tuple("abcd"))
    circuit.save("net.lgn")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 1, 3, 5)).astype(np.uint8)
    np.save("x.npy", pixels)
    (folder / "images").mkdir()
    for index, image in enumerate(pixels):
        Image.fromarray(image[0]).save(f"images/{index}.png")
    expected = circuit.predict(pixels).tolist()
    for inputs in (["x.npy"], ["images"], [f"images/{index}.png" for index in range(4)]):
        assert main(["predict", "net.lgn", *inputs]) == 0
        rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        assert [int(row["class"]) for row in rows] == expected
        assert [row["name"] for row in rows] == ["abcd"[k] for k in expected]
    assert main(["predict", "net.lgn", "x.npy", "--scores", "--out", "out.csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(Path("out.csv").read_text())))
    assert [[int(row[f"score_{name}"]) for name in "abcd"] for row in rows] == circuit.scores(pixels).tolist()


WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "lightning"):
    sys.modules[name] = None  # an import of it fails
from lgn_lightning.cli.main import main
for arguments in (["x.npy", "--scores"], ["images"]):
    code = main(["predict", "net.lgn", *arguments, "--engine", "interpreter"])
    assert code == 0, code
"""


def test_predict_needs_no_torch(folder: Path) -> None:
    circuit = random_circuit(3, inputs=30, levels=[63, 200], image_shape=(1, 3, 5)).with_preparation("resize")
    circuit.save("net.lgn")
    images = np.random.default_rng(0).integers(0, 256, (4, 9, 7, 3)).astype(np.uint8)
    Path("images").mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image[: 9 - index, index:]).save(f"images/{index}.png")
    pixels = decode_files(sorted(Path("images").iterdir()), (3, 5), grayscale=True, resize=True).numpy()
    np.save("x.npy", pixels)
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [row.split(",") for row in done.stdout.splitlines() if not row.startswith("input")]
    assert [int(row[1]) for row in rows] == circuit.predict(pixels).tolist() * 2


def test_predict_prepares_images_as_mnist_20_does(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    circuit = random_circuit(3, inputs=800, levels=[63, 200], image_shape=(1, 20, 20)).with_preparation("remove_border")
    circuit.save("net.lgn")
    pixels = digit_like(4, seed=1)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(f"{index}.png")
    Image.fromarray(remove_border(pixels)[0]).save("cropped.png")
    assert main(["predict", "net.lgn", *(f"{index}.png" for index in range(4)), "cropped.png"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    expected = circuit.predict(remove_border(pixels)).tolist()
    assert [int(row["class"]) for row in rows] == [*expected, expected[0]]
    Image.new("L", (28, 28), 9).save("white.png")
    circuit.with_preparation("squeeze").save("later.lgn")
    for arguments, message in (
        (["net.lgn", "white.png"], "white.png: image 0 has only 0 black rows"),
        (["later.lgn", "0.png"], "prepared by 'squeeze', which this release does not know"),
    ):
        assert main(["predict", *arguments]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("loops", [False, True])
def test_a_circuit_keeps_the_preparation_of_its_images(loops: bool) -> None:
    plain = LoopedCircuit.from_module(tree_net()) if loops else image_circuit()
    circuit = plain.with_preparation("resize")
    assert circuit != plain
    assert circuit_from_bytes(circuit_to_bytes(circuit)) == circuit
    assert b"preparation" not in circuit_to_bytes(plain)  # so that files are as they were before there was one
    assert circuit_from_bytes(circuit_to_bytes(plain)).preparation is None
    assert circuit.optimize().preparation == "resize"
    if isinstance(circuit, LoopedCircuit):
        assert circuit.unroll().optimize().preparation == "resize"
    assert random_circuit().with_preparation("resize").preparation is None  # it takes bits and no images


def test_predict_errors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (7, 3)).save("wide.png")
    np.save("wide.npy", np.zeros((2, 9), np.uint8))
    np.save("intensities.npy", np.zeros((2, 1, 3, 5)))
    np.save("bits.npy", np.zeros((2, 30), np.int64))
    np.save("features.npy", np.zeros((2, 12), np.float32))
    Path("broken.npy").write_bytes(b"\x93NUMPY")
    (folder / "empty").mkdir()
    for arguments, message in (
        (["none.lgn", "x.npy"], "there is no circuit file none.lgn"),
        (["net.lgn"], "give what to predict"),
        (["net.lgn", "wide.png"], "is 3×7 pixels, but the net was trained on 3×5"),
        (["net.lgn", "wide.npy"], "samples must be bool"),
        (["net.lgn", "intensities.npy"], "pixels to uint8 from 0 to 255 first: (x * 255).round().astype(np.uint8)"),
        (["net.lgn", "bits.npy"], "convert bits first: x.astype(bool)"),
        (["plain.lgn", "features.npy"], "convert bits first: x.astype(bool)"),
        (["net.lgn", "broken.npy"], "cannot be read as a numpy array"),
        (["net.lgn", "nothing.png"], "there is no image or folder nothing.png"),
        (["net.lgn", "empty"], "no images in empty"),
        (["plain.lgn", "wide.png"], "it takes 12 bits a sample"),
    ):
        assert main(["predict", *arguments]) == 1, arguments
        assert message in capsys.readouterr().err


def test_predict_the_data_of_a_recipe(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random_circuit(0, inputs=64, levels=[127], image_shape=(1, 8, 8), classes=10).save("digits.lgn")
    assert main(["predict", "digits.lgn", "--data", "digits"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 360


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
        (["--format", "pdf"], "unknown format 'pdf'"),
        (["--pipeline", "2"], "--pipeline is of Verilog"),
        (["--format", "verilog", "--pipeline", "-1"], "--pipeline must be 0"),
        (["--name", "My-Net"], "small letters, digits, underscores, as 'my_net'"),
        (["--format", "verilog", "--name", "module"], "'module' cannot be a Verilog module"),
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
        ("file/out", "cannot write file/out (File exists)"),
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


def test_commands_on_a_looped_circuit_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = tree_net()
    looped = LoopedCircuit.from_module(net)
    looped.save("loops.lgn")
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 16, 16)).astype(np.uint8)
    np.save("x.npy", images)
    assert main(["predict", "loops.lgn", "x.npy"]) == 0
    rows = [row.split(",") for row in capsys.readouterr().out.splitlines()[1:]]
    assert [int(row[1]) for row in rows] == looped.predict(images).tolist()
    options = ["--samples", "600", "--rounds", "1", "--json"]
    gates = []
    for choice in ([], ["--no-loops"]):
        assert main(["bench", "loops.lgn", *options, *choice]) == 0
        gates.append([step["name"] for step in json.loads(capsys.readouterr().out)["passes"]])
    assert gates[0] != gates[1]
    assert "fold_kernels" in gates[0]
    for name, table in (("auto", "STEPS[]"), ("table", "RUNS[]"), ("code", "gates_0(")):
        assert main(["export", "loops.lgn", "--out", name, "--format", "c,circuit", "--form", name]) == 0
        assert table in Path(name, "lgn_net.c").read_text()
        exported = load_circuit(Path(name, "lgn_net.lgn"))
        assert isinstance(exported, LoopedCircuit) == (name == "auto")
        assert np.array_equal(exported.scores(images), looped.scores(images))
    assert main(["export", "loops.lgn", "--out", "blif", "--format", "blif"]) == 0  # unrolled without asking
    capsys.readouterr()
    assert main(["export", "loops.lgn", "--out", "new", "--format", "blif", "--form", "loops"]) == 1
    assert "blif cannot hold loops" in capsys.readouterr().err
    assert main(["export", "net.lgn", "--out", "new", "--form", "loops"]) == 1
    assert "net.lgn holds a circuit without loops" in capsys.readouterr().err
    for choice in ([], ["--loops"]):
        assert main(["verify", "loops.lgn", "auto/lgn_net.c", "--samples", "300", *choice]) == 0
    assert main(["verify", "loops.lgn", "net.lgn", "--loops"]) == 1
    assert "net.lgn is compared with a circuit without loops" in capsys.readouterr().err


@pytest.mark.parametrize("large", [False, True])
def test_verify_keeps_the_loops_of_large_nets(
    large: bool, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    net = tree_net()
    looped = LoopedCircuit.from_module(net)
    looped.save("loops.lgn")
    monkeypatch.setattr(verification, "LOOPS_ABOVE", looped.num_gates - large)
    assert main(["verify", "loops.lgn", "--samples", "300", "--no-proof"]) == 0
    out = capsys.readouterr().out
    assert ("LoopedCircuit(" in out) == large
    assert ("simulated Verilog" in out) == (not large and shutil.which("iverilog") is not None)
    assert "equal      optimised circuit" in out
    assert "equal      interpreter engine (generic): 300 samples" in out
    assert "equal      compiled C: 300 samples" in out
    assert ("skipped    proofs and Verilog: there are none of loops" in out) == large


def test_verify_with_loops_compares_with_the_net(capsys: pytest.CaptureFixture[str]) -> None:
    net = tree_net()
    looped = LoopedCircuit.from_module(net)
    other = replace(looped, tail=changed(looped.tail))
    for circuit, word in ((looped, "equal"), (other, "NOT EQUAL")):
        verdict = verification.Verdict()
        verification.verify_source(CircuitSource(Path("net"), circuit, net), verdict, 200, None)
        assert verdict.equal == (word == "equal")
        assert f"{word:<10} hard net in torch" in capsys.readouterr().out
        assert (verdict.counterexample is None) == verdict.equal


def test_the_form_of_a_net_goes_by_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    net = tree_net()
    assert circuit_of_net(net) == Circuit.from_module(net)
    assert circuit_of_net(net, form="loops") == LoopedCircuit.from_module(net)
    monkeypatch.setattr(form, "LOOPS_ABOVE", 1000)
    assert isinstance(circuit_of_net(net), LoopedCircuit)
    assert isinstance(circuit_of_net(net, form="table"), Circuit)
    assert isinstance(circuit_of_net(net, formats=("c", "verilog")), Circuit)
    dense = nn.Sequential(LogicLayer(1200, 1200), GroupSum(4)).eval()
    assert isinstance(circuit_of_net(dense), Circuit)
    with pytest.raises(CircuitError, match="form must be one of auto, code, table, loops, got 'poem'"):
        circuit_of_net(net, form="poem")
    with pytest.raises(CircuitError, match="verilog cannot hold loops"):
        circuit_of_net(net, form="loops", formats=("verilog",))
    with pytest.raises(CircuitError, match=r"aiger cannot hold loops: export circuit\.unroll\(\)"):
        export_circuit(LoopedCircuit.from_module(net), "none", "net", ("aiger",))


@pytest.mark.skipif(not shutil.which("yosys"), reason="yosys is not installed")
def test_export_reports_lookup_tables(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "net.lgn", "--out", "out", "--format", "verilog", "--report"]) == 0
    assert "lookup tables of up to six inputs" in capsys.readouterr().out


def test_random_samples_have_the_kind_that_the_circuit_takes() -> None:
    assert verification.random_samples(image_circuit(), 3).shape == (3, 1, 3, 5)
    assert verification.random_samples(random_circuit(), 3).dtype == np.bool_

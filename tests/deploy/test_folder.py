"""The folder of an exported circuit, without a training."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lgn_lightning.base.errors import ExportError
from lgn_lightning.circuit.emit.compiler import find_compiler
from lgn_lightning.circuit.emit.export import ExportOptions
from lgn_lightning.deploy import folder as module
from lgn_lightning.deploy.folder import (
    ExportedCircuit,
    add_library,
    check_replaceable,
    circuit_folder,
    copy_circuit_folder,
    write_circuit_folder,
)
from lgn_lightning.deploy.trial import Trial
from tests.circuit.random_circuits import image_circuit


def write(folder: Path, checkpoint: str = "best.ckpt", options: ExportOptions | None = None, **more: Any) -> Trial:
    circuit = image_circuit()
    trial = Trial.of_circuit(circuit)
    write_circuit_folder(circuit, trial, folder, {"checkpoint": checkpoint}, options or ExportOptions(), None, **more)
    return trial


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_source_first_and_the_library_later(tmp_path: Path) -> None:
    trial = write(tmp_path / "a")
    exported = ExportedCircuit.read(tmp_path / "a")
    assert exported is not None
    assert names(exported.folder) == ["lgn_net.c", "lgn_net.h", "manifest.json"]
    with pytest.raises(ExportError, match="no C compiler"):
        exported.compiled()
    add_library(exported, trial, find_compiler())
    built = ExportedCircuit.read(tmp_path / "a")
    assert built is not None
    assert built.manifest["check"]["compared"][-1] == "compiled C"
    assert (built.compiled().scores(trial.inputs) == trial.scores).all()


def test_a_library_is_named_as_a_format_and_built_by_the_compiler(tmp_path: Path) -> None:
    write(tmp_path / "a", options=ExportOptions(("library", "c", "circuit"), "eyes"))
    assert names(tmp_path / "a") == ["eyes.c", "eyes.h", "eyes.lgn", "manifest.json"]


def test_every_gate_is_kept_without_the_passes(tmp_path: Path) -> None:
    write(tmp_path / "a", optimize=False)
    gates = json.loads((tmp_path / "a" / "manifest.json").read_text())["gates"]
    assert gates["before"] == gates["after"]
    assert gates["passes"] == []


def test_a_circuit_that_differs_leaves_what_was_there(tmp_path: Path) -> None:
    write(tmp_path / "a")
    before = (tmp_path / "a" / "lgn_net.c").read_bytes()
    trial = Trial.of_circuit(image_circuit())
    other = replace(trial, scores=trial.scores + 1)
    with pytest.raises(ExportError, match="disagrees"):
        write_circuit_folder(image_circuit(), other, tmp_path / "a", {"checkpoint": "x"}, ExportOptions(), None)
    assert (tmp_path / "a" / "lgn_net.c").read_bytes() == before
    assert names(tmp_path) == ["a"]


def test_a_library_that_differs_takes_its_source_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = write(tmp_path / "a")
    exported = ExportedCircuit.read(tmp_path / "a")
    assert exported is not None
    monkeypatch.setattr(module.CompiledCircuit, "scores", lambda self, x: trial.scores + 1)
    with pytest.raises(ExportError, match="compiled C disagrees"):
        add_library(exported, trial, find_compiler())
    assert not exported.folder.exists()


@pytest.mark.parametrize("name", ["best.ckpt", "val/acc=0.5.ckpt", "a/b/c.ckpt"])
def test_the_circuit_of_a_checkpoint_is_found_beside_it(tmp_path: Path, name: str) -> None:
    root = tmp_path / "checkpoints"
    write(circuit_folder(root, root / name), name)
    found = ExportedCircuit.of_checkpoint(root / name)
    assert found is not None
    assert found.folder.is_relative_to(tmp_path / "circuits")
    assert ExportedCircuit.of_checkpoint(root / "other.ckpt") is None


def test_a_copy_says_what_it_is_of(tmp_path: Path) -> None:
    write(tmp_path / "a")
    source = ExportedCircuit.read(tmp_path / "a")
    assert source is not None
    copy_circuit_folder(source, tmp_path / "b", {"checkpoint": "last.ckpt"})
    copied = ExportedCircuit.read(tmp_path / "b")
    assert copied is not None
    assert copied.manifest == source.manifest | {"checkpoint": "last.ckpt"}
    assert names(copied.folder) == names(source.folder)


def test_only_an_earlier_export_may_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_replaceable(tmp_path / "new")
    write(tmp_path / "a")
    check_replaceable(tmp_path / "a")
    (tmp_path / "a" / "mine.c").write_text("")
    with pytest.raises(ExportError, match=r"mine\.c"):
        check_replaceable(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    check_replaceable(tmp_path / "empty")
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(ExportError, match="working directory"):
        check_replaceable(Path())


@pytest.mark.parametrize("text", ["", "[]", "{}", "{"])
def test_a_folder_without_our_manifest_is_no_export(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    assert ExportedCircuit.read(tmp_path) is None


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"../../evil.so": "0"}},
        {"files": {"/tmp/evil.so": "0"}},
        {"files": ["lgn_net.so"]},
        {"files": {"lgn_net.c": 3}},
        {"prefix": "../x"},
        {"prefix": None},
        {"gates": 3},
        {"gates": {"after": "many"}},
        {"checkpoint": ["best.ckpt"]},
    ],
    ids=str,
)
def test_a_manifest_that_names_anything_else_is_no_export(tmp_path: Path, change: dict[str, Any]) -> None:
    write(tmp_path / "a")
    manifest = tmp_path / "a" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | change))
    assert ExportedCircuit.read(tmp_path / "a") is None


def test_no_library_but_the_one_of_the_manifest_is_loaded(tmp_path: Path) -> None:
    trial = write(tmp_path / "a")
    exported = ExportedCircuit.read(tmp_path / "a")
    assert exported is not None
    add_library(exported, trial, find_compiler())
    built = ExportedCircuit.read(tmp_path / "a")
    assert built is not None
    assert built.library is not None
    elsewhere = built.library.rename(tmp_path / "other.so")
    assert built.library is None
    (tmp_path / "a" / "lgn_net.so").symlink_to(elsewhere)
    assert built.library is None
    (tmp_path / "a" / "lgn_net.so").unlink()
    (tmp_path / "a" / "lgn_net.so").write_bytes(elsewhere.read_bytes() + b"x")
    with pytest.raises(ExportError, match="is not the library"):
        built.compiled()

"""The circuits that ship: each is what its manifest says, and a command takes one by its name."""

from pathlib import Path

import numpy as np
import pytest

from lgn_lightning import hub
from lgn_lightning.base.errors import LgnError
from lgn_lightning.circuit import Circuit, Engine, LoopedCircuit
from lgn_lightning.circuit.run.engine import native_engines
from lgn_lightning.circuit.simulate import packed_scores
from lgn_lightning.cli.main import main
from lgn_lightning.data import Digits
from lgn_lightning.deploy.source import find_source
from lgn_lightning.runs.recipes import find_recipe

#: Bytes of all shipped circuits together.
MOST_BYTES = 4_000_000
#: Gates up to which a quick test proves, too; more take minutes.
QUICK_GATES = 5_000


#: Circuits that follow a rule on all that they can be given.
RULES = ("game-of-life", "monk1", "parity-stream")
#: Seconds that a proof may take. Of these all but the Verilog as a whole is proven: tens of thousands of gates, and
#: spam's comparators of columns, keep yosys and ABC busy for longer than a test may last.
LIMITS = {"fashion-64k": "120", "mnist-48k": "120", "mnist-tree-s": "120", "spam": "60"}


def circuits(quick: bool) -> list[str]:
    return [name for name in hub.names() if (hub.find(name).manifest.gates_shipped <= QUICK_GATES) == quick]


@pytest.mark.parametrize("name", hub.names())
def test_a_circuit_is_what_its_manifest_says(name: str) -> None:
    shipped = hub.find(name)
    circuit, about = shipped.load(), shipped.manifest
    assert circuit.num_gates == about.gates_shipped
    assert find_recipe(about.recipe).is_file()
    assert 0.5 < about.accuracy_hard <= 1
    assert about.proofs
    assert all(line.startswith("equal") for line in about.proofs)
    assert any("formal proof" in line for line in about.proofs)


def test_they_are_small() -> None:
    assert sum(path.stat().st_size for path in hub.FOLDER.iterdir() if path.is_file()) < MOST_BYTES


def prove(name: str) -> None:
    """By the command, with the rule of the data where they have one: it fails if anything differs."""
    rule = ["--rule", name] if name in RULES else []
    assert main(["verify", name, "--samples", "1000", "--timeout", LIMITS.get(name, "300"), *rule]) == 0


@pytest.mark.parametrize("name", circuits(quick=True))
def test_a_circuit_equals_all_that_is_made_of_it(name: str) -> None:
    prove(name)


@pytest.mark.parametrize("name", circuits(quick=False))
def test_a_large_circuit_runs_as_its_gates_say(name: str) -> None:
    circuit = hub.load(name)
    assert isinstance(circuit, Circuit | LoopedCircuit)
    words = np.random.default_rng(0).integers(2**64, size=(circuit.num_inputs, 4), dtype=np.uint64)
    expected = packed_scores(circuit, words, 256)
    for engine, isa in native_engines():
        assert np.array_equal(Engine(circuit, engine, isa=isa).packed(words), expected), (engine, isa)


@pytest.mark.soak
@pytest.mark.parametrize("name", circuits(quick=False))
def test_a_large_circuit_equals_all_that_is_made_of_it(name: str) -> None:
    prove(name)


def test_digits_has_the_accuracy_of_its_manifest() -> None:
    data = Digits()
    data.prepare_data()
    images, labels = data.test_samples()
    shipped = hub.find("digits")
    decided = shipped.load().predict(images.numpy())
    assert np.mean(decided == labels.numpy()) == pytest.approx(shipped.manifest.accuracy_hard)
    assert len(labels) == shipped.manifest.test_samples


def test_a_command_takes_a_path_before_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_source(Path("digits")) == hub.find("digits").path
    assert main(["predict", "digits"]) == 0
    assert capsys.readouterr().out.startswith("input,class,name,label\n0,")
    (tmp_path / "digits").mkdir()
    assert find_source(Path("digits")) == Path("digits")


def test_a_circuit_of_a_table_takes_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    circuit = hub.load("spam")
    assert isinstance(circuit, Circuit)
    names = [column.name for column in circuit.columns or ()]
    mails = {"spam": ("charDollar", "free", "remove", "num000", "charExclamation"), "nonspam": ("hp", "george", "edu")}
    rows = [",".join("3" if name in words else "0" for name in names) for words in mails.values()]
    (tmp_path / "rows.csv").write_text("\n".join([",".join(names), *rows]))
    assert main(["predict", "spam", str(tmp_path / "rows.csv")]) == 0
    assert [line.split(",")[1] for line in capsys.readouterr().out.splitlines()[1:]] == list(mails)
    assert main(["predict", "spam"]) == 1
    assert "where its data are" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "error"),
    [("digitz", "did you mean digits"), ("mnist", "is a recipe"), ("nothing", "give a circuit file")],
)
def test_what_is_nothing_is_one_error(name: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LgnError, match=error):
        find_source(Path(name))


def test_the_hub_names_what_it_has() -> None:
    with pytest.raises(LgnError, match="did you mean digits"):
        hub.load("digit")

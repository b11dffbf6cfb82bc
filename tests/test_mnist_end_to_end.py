"""The whole way on real MNIST: train, export, and compare the compiled C with the hard net on every test image."""

import json
import os
from pathlib import Path

import pytest
import torch

from lgn_lightning.circuit import Circuit, export_circuit
from lgn_lightning.cli.main import main
from lgn_lightning.data import MNIST
from lgn_lightning.nn import GroupSum
from lgn_lightning.training.checkpoint import load_net

ROOT = Path(os.environ.get("LGN_DATA_ROOT") or Path(__file__).parents[2] / "shared" / "data")


@pytest.mark.skipif(not (ROOT / "MNIST" / "raw").is_dir(), reason=f"no real data: {ROOT} holds no MNIST/raw")
@pytest.mark.parametrize("size", [20, 28])
def test_c_of_a_trained_net_is_the_hard_net_on_all_test_images(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [
        f"--data.root={ROOT}",
        "--model.net.width=1000",
        "--model.net.depth=3",
        "--model.net.tau=10",
        "--trainer.max_steps=300",
        "--trainer.val_check_interval=150",
    ]
    assert main(["fit", "mnist20x20" if size == 20 else "mnist", *arguments]) == 0
    assert "equal scores on all 10,000 test images" in capsys.readouterr().out

    checkpoint = next(tmp_path.rglob("best.ckpt"))
    net = load_net(checkpoint)
    manifest = json.loads((checkpoint.parents[1] / "circuits" / "best" / "manifest.json").read_text())
    assert manifest["check"]["compared"] == ["simulated circuit", "machine-code engine", "compiled C"]

    # Once more by hand, with the circuit's simulation as the third witness.
    data = MNIST(root=str(ROOT), size=size, download=False)
    images, labels = (torch.cat(parts) for parts in zip(*data.test_dataloader(), strict=True))
    with torch.no_grad():
        scores = (net(images) * next(m.tau for m in net if isinstance(m, GroupSum))).round().int().numpy()
    circuit = Circuit.from_module(net)
    assert (circuit.scores(images.flatten(1).numpy()) == scores).all()
    assert (scores.argmax(1) == labels.numpy()).mean() > 0.7

    first = export_circuit(circuit, tmp_path / "first", "net").files["c"].read_bytes()
    again = export_circuit(Circuit.from_module(load_net(checkpoint)), tmp_path / "again", "net").files["c"]
    assert first == again.read_bytes()

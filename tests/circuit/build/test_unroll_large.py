"""The export of the paper's medium nets: memory, and agreement with the net."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from lgn_lightning.circuit import Circuit, CompiledCircuit, export_circuit
from lgn_lightning.models import LogicTreeNet
from lgn_lightning.nn import logic_layers
from lgn_lightning.runs.recipes import find_recipe


def net_of(recipe: str) -> LogicTreeNet:
    """The net of a recipe, with random gates."""
    torch.manual_seed(0)
    net = LogicTreeNet(**yaml.safe_load(find_recipe(recipe).read_text())["model"]["net"]["init_args"])
    for layer in logic_layers(net).values():
        torch.nn.init.normal_(layer.weights)
    return net.eval()


def export(recipe: str, folder: str) -> None:
    """What the subprocess below runs: unroll, optimise, write C and circuit file; prints the peak memory in GB."""
    circuit = Circuit.from_module(net_of(recipe))
    export_circuit(circuit.optimize(), folder, "net", ("c", "circuit"))
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(circuit.num_gates, kilobytes / 2**20)


@pytest.mark.soak
@pytest.mark.parametrize(("recipe", "gigabytes"), [("mnist-tree-m", 2.0), ("cifar10-tree-m", 8.0)])
def test_peak_memory_of_an_export(recipe: str, gigabytes: float, tmp_path: Path) -> None:
    program = f"from {__name__} import export; export({recipe!r}, {str(tmp_path)!r})"
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    gates, peak = run.stdout.split()[-2:]
    assert int(gates) > 800_000
    assert float(peak) <= gigabytes


@pytest.mark.soak
def test_the_small_mnist_net_and_its_c_agree(tmp_path: Path) -> None:
    net = net_of("mnist-tree-s")
    images = torch.randint(256, (2000, 1, 28, 28), dtype=torch.uint8)
    with torch.no_grad():
        expected = torch.cat([net(part) for part in images.split(500)])
    counts = (expected * net[-1].tau).round().int().numpy()
    circuit = Circuit.from_module(net)
    assert np.array_equal(circuit.scores(images), counts)
    assert np.array_equal(circuit.optimize(3).scores(images), counts)
    small = circuit.optimize()
    assert np.array_equal(small.compile()(images), counts)
    exported = export_circuit(small, tmp_path, "net", ("library",))
    assert np.array_equal(CompiledCircuit(exported.files["library"], "net").scores(images), counts)

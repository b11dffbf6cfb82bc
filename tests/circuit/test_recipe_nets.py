"""The net of every recipe: hard net, circuit, passes, engines, compiled C and simulated Verilog give the same scores.

Gates are random. In the fast tests nets are shrunken: fewer gates, smaller images, but the recipe's own encoder,
layers, parametrization and arity; the soak tests take them at full size.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from torch import nn

from lgn_lightning.circuit import Circuit, CompiledCircuit, LoopedCircuit
from lgn_lightning.circuit.emit.compiler import compile_library, compile_source
from lgn_lightning.circuit.emit.verilog import emit_test_bench, emit_verilog
from lgn_lightning.circuit.run.engine import Engine
from lgn_lightning.circuit.simulate import encode, pack_bits
from lgn_lightning.nn import LogicTreeConv2d, logic_layers, soft_gates
from lgn_lightning.nn.parametrizations import Softmax
from lgn_lightning.runs.recipes import recipe_files
from tests.circuit.engines import AVAILABLE

NETS = (".LogicMLP", ".LogicTreeNet")
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
SANITIZED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DLGN_MAIN"]
#: Larger circuits are written as tables: one statement a gate takes compilers long.
TABLE_GATES = 1_000
#: Icarus Verilog takes a minute for circuits of more inputs, and seconds a vector for more gates.
VERILOG_INPUTS, VERILOG_GATES = 6_000, 60_000
#: The largest nets of convolutions do not fit the memory of a usual machine once unrolled.
FULL_SIZE_GATES = 8_000_000


@cache
def recipes() -> dict[str, dict[str, Any]]:
    """What each recipe of a logic net holds; nobody may change it."""
    content = {path.stem: yaml.safe_load(path.read_text()) for path in recipe_files()}
    return {name: recipe for name, recipe in content.items() if recipe["model"]["net"]["class_path"].endswith(NETS)}


def recipe_nets() -> dict[str, tuple[str, dict[str, Any]]]:
    """Class and arguments of the logic net of each recipe."""
    nets = {name: recipe["model"]["net"] for name, recipe in recipes().items()}
    return {name: (net["class_path"].rpartition(".")[2], net["init_args"]) for name, net in nets.items()}


def shrunken(kind: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The same kind of net with few gates: as few as its encoder, its convolutions and poolings allow."""
    colours = arguments["in_shape"][0]
    if kind == "LogicTreeNet":
        # The smallest images that every pooling of the recipe still divides.
        shape = [colours, 12, 12] if colours == 1 else [colours, 16, 16]
        factor = arguments["channels"][0] // 2
        narrow = {name: [width // factor for width in arguments[name]] for name in ("channels", "dense")}
        return {**arguments, "in_shape": shape, **narrow}
    thresholds = arguments["thresholds"]
    bits = (thresholds if isinstance(thresholds, int) else len(thresholds)) * colours * 5 * 4
    classes = arguments["num_classes"]
    width = classes * (max(80, bits * 3 // 5) // classes + 1)
    widths = [width] * len(arguments["width"]) if isinstance(arguments["width"], list) else width
    return {**arguments, "in_shape": [colours, 5, 4], "width": widths}


def shrunken_nets() -> list[Any]:
    """One parameter set for each net that differs: recipes of one architecture shrink to the same."""
    names: dict[str, list[str]] = {}
    for name, (kind, arguments) in recipe_nets().items():
        key = json.dumps([kind, {k: v for k, v in shrunken(kind, arguments).items() if k != "tau"}])
        names.setdefault(key, []).append(name)
    return [pytest.param(group[0], id="=".join(group)) for group in names.values()]


def random_net(kind: str, arguments: dict[str, Any]) -> nn.Module:
    """A net of random gates, with fewer ORs in convolutions: behind OR poolings most outputs would be constant."""
    torch.manual_seed(0)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "net")
    config = {"class_path": f"lgn_lightning.models.{kind}", "init_args": arguments}
    net: nn.Module = parser.instantiate(parser.parse_object({"net": config})).net
    for layer in logic_layers(net).values():
        layer.weights.data.normal_()
        if isinstance(layer, LogicTreeConv2d):
            logits = torch.randn(layer.num_neurons, 16)
            logits[:, [1, 2, 3, 4, 5, 6]] += 2.5
            layer.weights.data.copy_(layer.parametrization.from_table(Softmax().hard_table(logits).float()))
    return net.eval()


def images_of(shape: list[int], count: int) -> torch.Tensor:
    """Noise of any brightness, so that every threshold sees images on both sides."""
    brightness = torch.randint(1, 257, (count, 1, 1, 1))
    return (torch.randint(256, (count, *shape)) * brightness // 256).byte()


def hard_scores(net: Any, images: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return np.concatenate([(net(part) * net[-1].tau).round().int().numpy() for part in images.split(128)])


def check_engines(circuit: Circuit | LoopedCircuit, images: torch.Tensor, expected: np.ndarray) -> None:
    words = pack_bits(encode(circuit, images))
    small = circuit.optimize()  # as engines do: here once for all of them
    for name, isa in AVAILABLE:
        engine = Engine(circuit if name == "numpy" else small, name, isa=isa, optimized=True)
        scores, classes = engine.scores_and_classes(images)
        assert np.array_equal(scores, expected), (name, isa)
        assert np.array_equal(classes, expected.argmax(axis=1)), (name, isa)
        assert np.array_equal(engine.packed(words, len(images)), expected), (name, isa)


def check_c(circuit: Circuit, images: torch.Tensor, expected: np.ndarray, folder: Path) -> None:
    code = circuit.to_c(form="code" if circuit.num_gates <= TABLE_GATES else "table")
    for compiler in COMPILERS:
        compile_source(code, folder / f"{compiler}.so", compiler=compiler, opt_level=0)
        assert np.array_equal(CompiledCircuit(folder / f"{compiler}.so").scores(images), expected), compiler
    if not COMPILERS:
        return
    (folder / "net.c").write_text(code)
    compile_library(folder / "net.c", folder / "net", compiler=COMPILERS[0], opt_level=0, flags=SANITIZED, shared=False)
    run = subprocess.run([folder / "net", "--scores"], input=images.numpy().tobytes(), capture_output=True, check=True)
    rows = [line.split()[-circuit.num_classes :] for line in run.stdout.decode().splitlines()]
    assert np.array_equal(np.array(rows, np.int32), expected)


def check_verilog(circuit: Circuit, images: torch.Tensor, expected: np.ndarray, folder: Path) -> None:
    assert np.array_equal(circuit.scores(images), expected)  # the bench takes its scores from the circuit
    verilog = emit_verilog(circuit, name="net")
    (folder / "net.v").write_text(verilog.text)
    (folder / "net_tb.v").write_text(emit_test_bench(circuit, verilog, images, name="net"))
    subprocess.run(["iverilog", "-g2001", "-o", "net.vvp", "net.v", "net_tb.v"], cwd=folder, check=True)
    out = subprocess.run(["vvp", "net.vvp"], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert out.strip() == f"PASS {len(images)} vectors"


def full_size_nets() -> list[str]:
    return [name for name, recipe in recipes().items() if recipe["paper"]["gates"] <= FULL_SIZE_GATES]


def recipes_of_this_project() -> list[str]:
    return [name for name, recipe in recipes().items() if "a recipe of this project" in recipe["paper"]["source"]]


def check_all(kind: str, arguments: dict[str, Any], samples: int, folder: Path) -> None:
    net = random_net(kind, arguments)
    images = images_of(arguments["in_shape"], samples)
    expected = hard_scores(net, images)
    assert len(np.unique(expected, axis=0)) > 20  # a net that has something to get wrong
    circuit = Circuit.from_module(net)
    assert np.array_equal(circuit.scores(images), expected)
    for level in (1, 2, 3):
        assert np.array_equal(circuit.optimize(level).scores(images), expected), level
    check_engines(circuit, images, expected)
    if kind == "LogicTreeNet":
        looped = LoopedCircuit.from_module(net)
        assert looped.unroll() == circuit
        assert np.array_equal(looped.optimize().scores(images), expected)
        check_engines(looped, images, expected)
    small = circuit.optimize()
    check_c(small, images, expected, folder)
    if shutil.which("iverilog") and small.num_inputs <= VERILOG_INPUTS and small.num_gates <= VERILOG_GATES:
        check_verilog(small, images[:8], expected[:8], folder)


@pytest.mark.parametrize("name", shrunken_nets())
def test_everything_made_of_a_net_gives_its_scores(name: str, tmp_path: Path) -> None:
    kind, arguments = recipe_nets()[name]
    check_all(kind, shrunken(kind, arguments), 600, tmp_path)


@pytest.mark.parametrize("name", recipes_of_this_project())
def test_recipes_of_this_project_have_no_discretization_gap(name: str) -> None:
    kind, arguments = recipe_nets()[name]
    arguments = shrunken(kind, arguments)
    net = random_net(kind, arguments)
    images = images_of(arguments["in_shape"], 100)
    with torch.no_grad():
        hard = net(images)
        with soft_gates(net):
            assert torch.equal(net(images), hard)


@pytest.mark.parametrize("arity", [3, 6])
def test_other_arities_of_lookup_tables(arity: int, tmp_path: Path) -> None:
    kind, arguments = recipe_nets()["mnist-lut4-st"]
    check_all(kind, {**shrunken(kind, arguments), "arity": arity}, 600, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("name", full_size_nets())
def test_nets_of_full_size(name: str, tmp_path: Path) -> None:
    check_all(*recipe_nets()[name], 130, tmp_path)

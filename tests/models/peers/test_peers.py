"""Imported nets give the scores of the papers' formulas, which ``make.py`` computed, and of torchlogix's own code."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lgn_lightning.circuit import Circuit
from lgn_lightning.deploy.trial import hard_counts
from lgn_lightning.models.peers import torchlogix as importer
from lgn_lightning.models.peers.parts import Shape
from tests.models.peers.make import FILE

CASES: dict[str, Any] = torch.load(FILE, weights_only=True)


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_the_formulas(name: str) -> None:
    case = CASES[name]
    library = import_module(f"lgn_lightning.models.peers.{name.split()[0]}")
    net = library.import_state_dict(case["state"], Shape(**case["shape"]))
    x = case["x"] if case["x"].dtype == torch.uint8 else case["x"].float()
    with torch.no_grad():
        assert torch.equal(net(x), case["scores"])
    assert len(case["scores"].unique(dim=0)) > 2
    counts = (case["scores"].double() * net[-1].tau).round().int().numpy()
    circuit = Circuit.from_module(net)
    inputs = case["x"].numpy() if case["x"].dtype == torch.uint8 else case["x"].bool().flatten(1).numpy()
    assert np.array_equal(circuit.scores(inputs), counts)
    assert np.array_equal(hard_counts(circuit, net, inputs), counts)


def make_torchlogix() -> nn.Module:
    """A net of torchlogix with random weights: convolutions, learned wires, thresholds."""
    layers, binarization = (pytest.importorskip(f"torchlogix.layers{end}") for end in ("", ".binarization"))
    torch.manual_seed(0)
    options = {"parametrization": "warp"}
    net = nn.Sequential(
        binarization.LearnableBinarization(torch.tensor([0.2, 0.5, 0.7]), feature_dim=1),
        layers.LogicConv2d(8, 6, 5, tree_depth=2, receptive_field_size=3, padding=1, **options),
        layers.OrPooling2d(2, 2),
        nn.Flatten(),
        layers.LogicDense(80, 60, connections="learnable", connections_kwargs={"num_candidates": 3}, **options),
        layers.GroupSum(10, 3.0, beta=1.0),
    ).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "raw_diffs" not in name:
                parameter.normal_()
    return net


def test_a_live_module_of_torchlogix() -> None:
    peer = make_torchlogix()
    net = importer.import_module(peer)
    pixels = torch.randint(0, 256, (500, 2, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(net(pixels), peer(pixels.float() / 255))


def test_what_does_not_fit_is_named() -> None:
    state = CASES["torchlogix light"]["state"]
    with pytest.raises(ValueError, match="light and warp look alike"):
        importer.import_state_dict(state, Shape(3))
    with pytest.raises(ValueError, match="no layer of gates of this library; it begins with other"):
        importer.import_state_dict({"other": torch.zeros(1)}, Shape(3))
    with pytest.raises(ValueError, match=r"beta=0\.5 is no whole number"):
        importer.import_state_dict(state, Shape(3, beta=0.5, parametrization="light"))
    broken = {**state, "2.connections.indices": state["2.connections.indices"] + 50}
    with pytest.raises(ValueError, match=r"layer 1 .*of the imported net"):
        importer.import_state_dict(broken, Shape(3, parametrization="light", inputs=12))
    with pytest.raises(ValueError, match="convolution takes images"):
        importer.import_state_dict(
            {k: v for k, v in CASES["torchlogix convolution"]["state"].items() if k != "0.thresholds"},
            Shape(3, parametrization="light"),
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: {"2.connections.indices": state["2.connections.indices"] + 0.7},
            r"whole numbers.*torch\.float32",
        ),
        (lambda state: {"2.connections.indices": state["2.connections.indices"] + 2**32}, "are 4294967296 to"),
        (lambda state: {"2.connections.indices": state["2.connections.indices"] > 0}, r"torch\.bool"),
        (lambda state: {"2.weight": state["2.weight"] + torch.inf}, r"2\.weight holds NaN or infinite"),
        (lambda state: {"2.weight": state["2.weight"] + 1j}, r"2\.weight holds complex"),
    ],
)
def test_damaged_tensors_are_refused(change: Any, message: str) -> None:
    state = CASES["torchlogix light"]["state"]
    with pytest.raises(ValueError, match=message):
        importer.import_state_dict({**state, **change(state)}, Shape(3, parametrization="light"))


@pytest.mark.parametrize(
    "options", [{"classes": 0}, {"in_shape": (3, 4)}, {"temperature": 0.0}, {"beta": float("inf")}]
)
def test_shapes_that_no_net_has_are_refused(options: dict[str, Any]) -> None:
    state = CASES["torchlogix light"]["state"]
    with pytest.raises(ValueError, match=f"{next(iter(options))}="):
        importer.import_state_dict(state, Shape(**{"classes": 3, "parametrization": "light", **options}))


@pytest.mark.parametrize(
    ("library", "names", "message"),
    [
        ("torchlogix", ["1.main.0.tree_weights.0"], r"1\.main\.0 is part of a ResidualLogicBlock"),
        ("torchlogix", ["block.shortcut.1.tree_weights.0"], r"shortcut\.1 is part of a ResidualLogicBlock"),
        ("silogic", ["0.thresholds", "1._conn.idx"], "a learned thermometer of real inputs is not imported"),
        ("silogic", ["net.dec_w"], "net is a learned decoder, whose weighted sums are no gates"),
    ],
)
def test_parts_that_have_no_counterpart_are_named(library: str, names: list[str], message: str) -> None:
    state = {name: torch.zeros(4, 4) for name in names}
    with pytest.raises(ValueError, match=message):
        import_module(f"lgn_lightning.models.peers.{library}").import_state_dict(state, Shape(2))


def test_convolutions_over_volumes_are_named() -> None:
    state = {"net.0.tree_weights.0": torch.zeros(1, 4, 16), "net.0.connections._indices_L0": torch.zeros(2, 4, 1, 1, 4)}
    with pytest.raises(ValueError, match=r"net\.0 is a convolution over volumes"):
        importer.import_state_dict(state, Shape(2))

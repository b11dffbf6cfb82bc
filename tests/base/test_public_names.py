"""Paths of classes as settings keep them: public, and those of earlier releases."""

from importlib import import_module

import pytest

from lgn_lightning.base.public_names import _PUBLIC, public_names
from lgn_lightning.training import ddp


def test_a_public_name_has_one_meaning() -> None:
    found: dict[str, object] = {}
    for package in _PUBLIC:
        module = import_module(package)
        for name in module.__all__:
            assert found.setdefault(name, getattr(module, name)) is getattr(module, name), f"{package}.{name}"


@pytest.mark.parametrize(
    ("path", "public"),
    [
        ("lgn_lightning.tree_net.LogicTreeNet", "lgn_lightning.models.LogicTreeNet"),
        ("lgn_lightning.teachers.TorchvisionNet", "lgn_lightning.models.TorchvisionNet"),
        ("lgn_lightning.models.mlp.MLP", "lgn_lightning.models.MLP"),
        ("lgn_lightning.module.LogicClassifier", "lgn_lightning.LogicClassifier"),
        ("lgn_lightning.strategies.LogicDDPStrategy", "lgn_lightning.LogicDDPStrategy"),
        (f"{ddp.__name__}.LogicDDPStrategy", "lgn_lightning.LogicDDPStrategy"),
        ("lgn_lightning.losses.DistillationLoss", "lgn_lightning.losses.DistillationLoss"),
        ("lgn_lightning.data.mnist.MNIST", "lgn_lightning.data.MNIST"),
        ("lgn_lightning.callbacks.gate_entropy.GateEntropy", "lgn_lightning.callbacks.GateEntropy"),
        ("lgn_lightning.LogicLayer", "lgn_lightning.LogicLayer"),
        ("lgn_lightning.nn.logic_layer.LogicLayer", "lgn_lightning.nn.LogicLayer"),
        ("lgn_lightning.nowhere.Net", "lgn_lightning.nowhere.Net"),
        ("mine.tree_net.LogicTreeNet", "mine.tree_net.LogicTreeNet"),
    ],
)
def test_paths_become_public(path: str, public: str) -> None:
    assert public_names(path) == public
    assert public_names(f"net: # why\n  class_path: '{path}'\n") == f"net: # why\n  class_path: '{public}'\n"

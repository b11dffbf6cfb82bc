"""Parameters with options of their own in the optimizer of a module."""

from functools import partial
from typing import Any

import pytest
import torch

from lgn_lightning import LogicClassifier
from lgn_lightning.models import LogicMLP


def test_parameters_have_options_of_their_own_by_name() -> None:
    net = LogicMLP((1, 2, 3), 2, 12, 2, connections="learned")
    groups = {"*.learned.logits": {"lr": 0.03}, "1.*": {"lr": 0.2, "betas": (0.8, 0.9)}}
    module = LogicClassifier(net, 2, partial(torch.optim.Adam, lr=0.1), parameter_groups=groups)
    optimizer: Any = module.configure_optimizers()
    rates = {id(p): (group["lr"], group["betas"]) for group in optimizer.param_groups for p in group["params"]}
    names = {name: rates[id(p)] for name, p in net.named_parameters()}
    usual = (0.9, 0.999)
    assert names == {
        "1.weights": (0.2, (0.8, 0.9)),
        "1.learned.logits": (0.03, usual),
        "2.weights": (0.1, usual),
        "2.learned.logits": (0.03, usual),
    }
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(module.parameters()))
    module = LogicClassifier(net, 2, parameter_groups={"*": {}, "1.weights": {"lr": 1.0}})
    with pytest.raises(ValueError, match=r"parameter_groups: '1.weights'"):
        module.configure_optimizers()

"""What nets know of their arguments; tests/training/test_checkpoint.py builds nets from it."""

from __future__ import annotations

import pytest
from torch import nn

from lgn_lightning.models import LogicMLP
from lgn_lightning.models.arguments import KnowsArguments, describe_net
from lgn_lightning.nn.samplers import Soft


class Net(KnowsArguments, nn.Module):
    def __init__(self, width: int, shape: tuple[int, ...] = (1, 2), name: str | None = None) -> None:
        super().__init__()


def test_arguments_are_known_by_name_with_defaults_as_plain_values() -> None:
    assert Net(3).init_args == {"width": 3, "shape": [1, 2], "name": None}
    assert Net(3, name="a", shape=(4,)).init_args == {"width": 3, "shape": [4], "name": "a"}


def test_objects_are_no_plain_values() -> None:
    net = LogicMLP((1, 4, 4), 2, 20, 2, sampler=Soft())
    assert net.init_args is None
    assert describe_net(net) is None


def test_what_does_not_fit_is_the_constructors_error() -> None:
    with pytest.raises(TypeError, match="no_such"):
        Net(3, no_such=1)


def test_a_description_is_of_the_net_as_it_was_built() -> None:
    net = LogicMLP((1, 4, 4), 2, 20, 2)
    description = describe_net(net)
    assert description is not None
    assert description["init_args"]["width"] == 20
    net[1].convert("sigmoid")
    assert describe_net(net) is None

"""Numbers outside [0, 1] do not reach gates in silence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lgn_lightning import GroupSum, LogicLayer, Threshold
from lgn_lightning.nn import Intensity, LogicSequential, LogicTreeConv2d, LutLayer, OrPool2d, soft_gates
from lgn_lightning.nn.checked_input import check_next_inputs

HARD = {"sampler": "straight_through"}
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dense": (lambda: LogicLayer(16, 32), (16,)),
    "python": (lambda: LogicLayer(16, 32, implementation="python"), (16,)),
    "lut": (lambda: LutLayer(16, 32), (16,)),
    "straight through": (lambda: LogicLayer(16, 32, **HARD), (16,)),
    "on packed bits": (lambda: LogicSequential(LogicLayer(16, 32, **HARD), GroupSum(2)), (16,)),
    "fused": (lambda: LogicSequential(nn.Flatten(), LogicLayer(16, 32), GroupSum(2)), (4, 4)),
    "tree": (lambda: LogicTreeConv2d(2, 3, 2, 2), (2, 4, 4)),
    "packed tree": (
        lambda: LogicSequential(LogicTreeConv2d(2, 3, 2, 2, padding=1, **HARD), OrPool2d(2, 2)),
        (2, 5, 5),
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_gates_take_numbers_from_0_to_1(name: str) -> None:
    make, shape = NETS[name]
    net, x = make(), torch.rand(10, *shape)
    net(x)
    for bad, facts in ((x * 255, "25"), (x - 0.5, "-0.4"), (x * torch.nan, "NaN")):
        net.train()
        with pytest.raises(ValueError, match=r"Logic|Lut") as error:
            net(bad)
        assert facts in str(error.value)
        net(bad)  # once a stage
        check_next_inputs(net)
        with pytest.raises(ValueError, match=r"Logic|Lut"):
            net(bad)
    for mode in (True, False):
        with pytest.raises(TypeError, match=r"Threshold.*x\.bool"):
            net.train(mode)((x * 255).to(torch.uint8))


@pytest.mark.parametrize("name", NETS)
def test_hard_gates_take_bits(name: str) -> None:
    make, shape = NETS[name]
    net, x = make().eval(), torch.rand(10, *shape)
    with pytest.raises(ValueError, match=r"Threshold"):
        net(x)
    net.eval()((x > 0.5).float())
    net.eval()(x > 0.5)
    net.eval()
    with soft_gates(net):
        net(x)


def test_what_layers_were_trained_to_give_is_theirs() -> None:
    net = nn.Sequential(LogicLayer(8, 16), nn.Dropout(0.5), LogicLayer(16, 16))  # survivors are doubled
    net(torch.ones(4, 8)).sum().backward()


@pytest.mark.parametrize("encoder", [Threshold([0.5], (1, 4, 4)), Intensity()])
def test_encoders_take_pixels_or_intensities(encoder: nn.Module) -> None:
    x = torch.rand(10, 1, 4, 4)
    for mode in (True, False):
        encoder.train(mode)
        encoder(x)
        encoder((x * 255).to(torch.uint8))
        for bad in (x * 255, x - 0.5, x * torch.nan):
            for _ in range(2):  # on the CPU at every batch
                with pytest.raises(ValueError, match=type(encoder).__name__):
                    encoder(bad)


def test_rounding_is_no_error() -> None:
    LogicLayer(4, 4)(torch.tensor([[-1e-6, 1 + 1e-6, 0.0, 1.0]]))


def test_compiled_code_has_no_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)

    def no_item(self: Tensor) -> float:
        raise AssertionError

    monkeypatch.setattr(Tensor, "item", no_item)
    LogicLayer(4, 4, implementation="python")(torch.rand(3, 4))

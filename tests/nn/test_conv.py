"""The convolutional layer and its pooling: modes, fusion, wiring, memory format, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lgn_lightning.callbacks import GateEntropy
from lgn_lightning.nn import GroupSum, LogicLayer, LogicSequential, LogicTreeConv2d, OrPool2d, logic_layers, soft_gates


def net() -> LogicSequential:
    return LogicSequential(
        LogicTreeConv2d(1, 4, 5, 3, channels_per_tree=1),
        OrPool2d(2),
        LogicTreeConv2d(4, 12, 3, 3, padding=1),
        OrPool2d(2),
        torch.nn.Flatten(),
        LogicLayer(48, 40),
        GroupSum(10, 2.0),
    )


def test_residual_initialization_passes_the_first_leaf_through() -> None:
    layer = LogicTreeConv2d(3, 5, 3, 2, padding=1).eval()
    x = torch.rand(7, 3, 6, 6).round()
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    y = layer(x)
    for o, (c, dy, dx) in enumerate(layer.leaves[:, :, 0].t().tolist()):
        assert torch.equal(y[:, o], padded[:, c, dy : dy + 6, dx : dx + 6])


def test_soft_while_training_and_hard_in_evaluation() -> None:
    layer = LogicTreeConv2d(2, 3, 3, 3, init="gaussian")
    x = torch.rand(4, 2, 5, 5).round()
    soft, hard = layer.train()(x), layer.eval()(x)
    assert ((soft > 0) & (soft < 1)).all()
    assert ((hard == 0) | (hard == 1)).all()
    with soft_gates(layer):
        assert torch.equal(layer(x), soft)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(12, 12), (13, 12), (12, 15)])  # of 13 and 15 the second pooling leaves a remainder
def test_fused_pooling_gives_the_values_and_gradients_of_the_unfused(training: bool, size: tuple[int, int]) -> None:
    fused = net()[: 6 if size == (12, 12) else 4].train(training)
    plain = torch.nn.Sequential(*fused)
    x = torch.rand(6, 1, *size, requires_grad=True)
    results = []
    for model in (fused, plain):
        y = model(x)
        gradients = torch.autograd.grad(y.square().sum(), [x, *model.parameters()] if training else [x])
        results.append((y, *gradients))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_forward_hooks_see_the_layer_before_pooling() -> None:
    fused = net()
    shapes: list[torch.Size] = []
    fused[0].register_forward_hook(lambda layer, args, y: shapes.append(y.shape))
    fused(torch.rand(2, 1, 12, 12))
    assert shapes == [(2, 4, 8, 8)]


def test_callbacks_see_convolutions() -> None:
    layers = logic_layers(net())
    assert [type(layer).__name__ for layer in layers.values()] == ["LogicTreeConv2d", "LogicTreeConv2d", "LogicLayer"]
    assert [layer.num_neurons for layer in layers.values()] == [28, 84, 40]
    assert "gate_entropy/layer_3" in GateEntropy.summary(net())


def test_bool_input_and_python_implementation() -> None:
    layer = LogicTreeConv2d(2, 3, 3, 2, padding=1, init="gaussian")
    plain = LogicTreeConv2d(2, 3, 3, 2, padding=1, implementation="python")
    plain.load_state_dict(layer.state_dict())
    x = torch.rand(4, 2, 6, 6) > 0.5
    torch.testing.assert_close(plain(x, OrPool2d(2)), layer(x, OrPool2d(2)))


def test_straight_through_training_evaluates_the_hard_net() -> None:
    layer = LogicTreeConv2d(2, 3, 3, 2, padding=1, parametrization="sigmoid", sampler="straight_through")
    layer.weights.data.normal_()
    x = torch.rand(4, 2, 6, 6, requires_grad=True)
    y = layer(x, OrPool2d(2))
    y.sum().backward()
    assert torch.equal(y, layer.eval()(x.detach().round(), OrPool2d(2)))
    assert x.grad is not None
    assert layer.weights.grad is not None
    assert x.grad.any()
    assert layer.weights.grad.any()


@pytest.mark.parametrize(
    "sizes", [(3, 2), (2,), (3,), (4, 3, 2), ((2, 3), (3, 1), (1, 1)), ((3, 2), None, (1, 0)), ((1, 4), (1, 2), (0, 2))]
)
def test_pooling_is_that_of_torch_and_its_first_maximum_gets_the_gradient(sizes: tuple[Any, ...]) -> None:
    """Also where windows leave a remainder, which is left out, and with a border, which no maximum comes from."""
    pool = OrPool2d(*sizes)
    x = torch.randint(0, 3, (4, 2, 7, 9)).float().requires_grad_()
    y = pool(x)
    expected = torch.nn.MaxPool2d(*sizes)(x)
    assert torch.equal(y, expected)
    assert y.shape[2:] == pool.output_size(7, 9)
    assert torch.equal(pool(x[0]), expected[0])
    assert pool(x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)).stride(0) == 1
    upper = torch.rand_like(y)
    torch.testing.assert_close(torch.autograd.grad(y, x, upper), torch.autograd.grad(expected, x, upper))
    assert torch.equal(pool(x > 1), y > 1)


def test_flatten_behind_a_convolution_copies_nothing() -> None:
    y = LogicTreeConv2d(2, 3, 3, 2)(torch.rand(5, 2, 8, 8), OrPool2d(2))
    flat = torch.nn.Flatten()(y)
    assert flat.data_ptr() == y.data_ptr()
    assert torch.equal(flat, y.contiguous().view(5, -1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 4, 3, 2, 0, 1, 2), r"channels_per_tree=2 .* pass channels_per_tree=1"),
        ((4, 4, 3, 0), "all sizes must be at least 1"),
        ((4, 4, 0, 2), "all sizes must be at least 1"),
        ((4, 4, 3, 2, -1), "padding=-1 at least 0"),
        ((8, 4, 3, 1, 0, 1, 4), r"2 leaves .*channels_per_tree=4"),
    ],
)
def test_constructor_errors(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogicTreeConv2d(*arguments)


def test_input_errors_name_the_layer() -> None:
    layer = LogicTreeConv2d(2, 3, 5, 2)
    with pytest.raises(ValueError, match=r"LogicTreeConv2d\(2, 3, 5, 2\).* \[4, 3, 8, 8\]"):
        layer(torch.rand(4, 3, 8, 8))
    with pytest.raises(ValueError, match=r"LogicTreeConv2d\(2, 3, 5, 2\).* 5x5 .* 4x8"):
        layer(torch.rand(4, 2, 4, 8))
    with pytest.raises(ValueError, match=r"LogicTreeConv2d\(2, 3, 5, 2\).* 5x5 .* 4x4"):
        layer(torch.rand(4, 2, 8, 8), OrPool2d(5))
    with pytest.raises(ValueError, match=r"OrPool2d\(\(5, 5\)\).* 4x4"):
        OrPool2d(5)(layer(torch.rand(4, 2, 8, 8)))
    with pytest.raises(ValueError, match="half the window"):
        OrPool2d(3, padding=2)
    with pytest.raises(ValueError, match="window and stride must be at least 1"):
        OrPool2d(0)


def test_wiring_is_saved() -> None:
    saved, loaded = (LogicTreeConv2d(4, 3, 3, 2) for _ in range(2))
    loaded.load_state_dict(saved.state_dict())
    assert torch.equal(loaded.leaves, saved.leaves)


def test_a_first_convolution_of_one_channel_takes_the_defaults() -> None:
    layer = LogicTreeConv2d(1, 4, 3, 2)
    assert layer(torch.rand(2, 1, 6, 6)).shape == (2, 4, 4, 4)
    assert (layer.channels_per_tree, LogicTreeConv2d(2, 4, 3, 2).channels_per_tree) == (1, 2)
    assert "channels_per_tree" not in repr(layer)

"""Gate counts and structure of the convolutional net."""

import pytest
import torch
from torch import nn

from lgn_lightning import GroupSum, LogicLayer, LogicTreeConv2d, OrPool2d, Threshold
from lgn_lightning.circuit import Circuit
from lgn_lightning.models import LogicTreeNet
from lgn_lightning.nn import EdgeChannels, logic_layers


def mnist(k: int, output_factor: int = 1) -> LogicTreeNet:
    dense = [1280 * k, 640 * k, 320 * k * output_factor]
    return LogicTreeNet((1, 28, 28), 10, [k, 3 * k, 9 * k], dense, kernel_size=[5, 3, 3], padding=[0, 1, 1])


def cifar10(k: int, thresholds: int = 3, output_factor: int = 1) -> LogicTreeNet:
    dense = [1280 * k, 640 * k, 320 * k * output_factor]
    return LogicTreeNet((3, 32, 32), 10, [k, 4 * k, 16 * k, 32 * k], dense, thresholds=thresholds)


def unrolled(k: int, sizes: list[tuple[int, int]], output_factor: int) -> int:
    """The paper's count: 7 gates a tree and place, 3 ORs a pooled place, and the dense layers.

    ``sizes`` are channels, as multiples of k, and height and width before pooling.
    """
    trees = sum(7 * channels * k * side**2 + 3 * channels * k * (side // 2) ** 2 for channels, side in sizes)
    return trees + (1280 + 640 + 320 * output_factor) * k


def test_mnist_nets_have_12563_gates_times_k() -> None:
    assert mnist(2).num_gates == 2 * 12_563
    with torch.device("meta"):
        for k, factor in ((16, 2), (64, 2), (256, 1)):
            assert mnist(k, factor).num_gates == unrolled(k, [(1, 24), (3, 12), (9, 6)], factor)
        # The paper prints k = 1024 for MNIST-L and 3,216,128 gates, which is k = 256.
        assert mnist(256).num_gates == 3_216_128


@pytest.mark.parametrize(("k", "factor"), [(32, 1), (256, 1), (512, 2), (1024, 2), (2560, 1)])
def test_cifar_nets_have_the_papers_count(k: int, factor: int) -> None:
    with torch.device("meta"):
        net = cifar10(k, 31 if k > 256 else 3, factor)
    assert net.num_gates == unrolled(k, [(1, 32), (4, 16), (16, 8), (32, 4)], factor)
    assert [layer.out_dim for layer in logic_layers(net).values()] == [
        k * m for m in (1, 4, 16, 32, 1280, 640, 320 * factor)
    ]


def test_count_is_that_of_the_unrolled_circuit() -> None:
    net = mnist(1).eval()
    assert Circuit.from_module(net).num_gates == net.num_gates + 1  # and the constant 0 around the image


def test_structure_and_arguments() -> None:
    net = LogicTreeNet(
        (1, 8, 8),
        4,
        [3, 6],
        [160, 80],
        kernel_size=[3, 2],
        padding=[1, 0],
        pool=1,
        tau=3.0,
        thresholds=3,
        edges=[0, 1],
        sampler="straight_through",
        parametrization="sigmoid",
        implementation="python",
    )
    kinds = [Threshold, EdgeChannels, *[LogicTreeConv2d, OrPool2d] * 2, nn.Flatten, LogicLayer, LogicLayer, GroupSum]
    assert [type(m) for m in net] == kinds
    layers = list(logic_layers(net).values())
    assert [layer.out_dim for layer in layers] == [3, 6, 160, 80]
    assert layers[0].in_channels == 3 + 2 * 8
    assert {(m.implementation, m.parametrization.name, m.sampler.name, m.init) for m in layers} == {
        ("python", "sigmoid", "straight_through", "residual")
    }
    x = torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8)
    assert net(x).shape == (5, 4)
    assert net[0](x).stride(0) == net[1](net[0](x)).stride(0) == 1


def test_checkpoint_gives_the_same_net() -> None:
    arguments = ((1, 8, 8), 2, [2, 4], [40, 20])
    net, other = LogicTreeNet(*arguments), LogicTreeNet(*arguments)
    other.load_state_dict(net.state_dict())
    x = torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(net(x), other(x))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dense": [60, 55]}, r"55 .* 10 classes; take 60"),
        ({"dense": [60, -5]}, r"-5 .* 10 classes; take 10"),
        ({"channels": []}, "at least one layer of each"),
        ({"kernel_size": [3]}, r"kernel_size=\[3\].* 2 convolutions"),
        ({"pool": 5}, r"convolution 2: pooling 5x5 .* 1x1"),
        ({"kernel_size": 9, "padding": 0}, "convolution 1: .*9.*8"),
        ({"channels": [2, 32]}, r"60 gates .* 128"),
        ({"num_classes": 0}, "num_classes=0"),
    ],
)
def test_bad_sizes(changes: dict[str, object], message: str) -> None:
    arguments = {"in_shape": (1, 8, 8), "num_classes": 10, "channels": [2, 4], "dense": [60, 50], **changes}
    with pytest.raises(ValueError, match=message):
        LogicTreeNet(**arguments)  # type: ignore[arg-type]


def test_dense_layers_may_have_learned_connections_each_by_a_word() -> None:
    sizes = {"in_shape": (1, 8, 8), "num_classes": 10, "channels": [4], "dense": [60, 40, 20]}
    net = LogicTreeNet(**sizes, connections=["learned", "random", "unique"], num_candidates=3)
    first, second, third = (layer for layer in net if isinstance(layer, LogicLayer))
    assert first.learned is not None
    assert first.learned.candidates.shape == (60, 2, 3)
    assert second.learned is None
    assert third.learned is None
    images = torch.randint(256, (40, 1, 8, 8), dtype=torch.uint8)
    net.eval()
    assert torch.equal(net(images), torch.from_numpy(Circuit.from_module(net).scores(images)).to(torch.float32))
    with pytest.raises(ValueError, match=r"connections=\[.learned.\].* 3 dense layers"):
        LogicTreeNet(**sizes, connections=["learned"])

import numpy as np
import pytest
import torch
from torch import Tensor

from lgn_lightning import GroupSum, LogicLayer, Threshold
from lgn_lightning.circuit import Circuit
from lgn_lightning.models import LogicMLP
from lgn_lightning.nn import Intensity

ALL_PIXELS = torch.arange(256, dtype=torch.uint8).view(256, 1, 1, 1)
THREE = [(i + 1) / 4 for i in range(3)]
THIRTY_ONE = [(i + 1) / 32 for i in range(31)]


@pytest.mark.parametrize("thresholds", [THREE, THIRTY_ONE, [0.5], [0.0], [0.0, 1 / 255, 254 / 255], [1 - 252 / 255]])
def test_every_pixel_value_as_in_the_original(thresholds: list[float]) -> None:
    # The original takes torchvision's ToTensor (uint8 / 255 in float32) and compares `x > t`.
    intensity = ALL_PIXELS.float() / 255
    expected = torch.cat([(intensity > t).float() for t in thresholds], 1).flatten(1)
    encoder = Threshold(thresholds, (1, 1, 1))
    assert torch.equal(encoder(ALL_PIXELS), expected)
    assert torch.equal(encoder(intensity), expected)
    assert torch.equal(encoder(ALL_PIXELS.float() * (1 / 255)), expected)
    assert torch.equal(encoder(intensity.double()), expected)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("learnable", [False, True])
def test_floats_between_two_levels_are_what_the_circuit_gets(learnable: bool, train: bool) -> None:
    middle = (torch.arange(255) + 0.5) / 255  # as near to the middle as floats go, and the floats beside it
    beside = [torch.nextafter(middle, torch.tensor(end)) for end in (0.0, 1.0)]
    x = torch.cat([middle, *beside, torch.tensor([0.5, 0.1])]).view(-1, 1, 1, 1)
    encoder = Threshold([k / 255 for k in range(255)], (1, 1, 1), learnable=learnable).train(train)
    pixels = (x.numpy() * 255).round().astype("uint8")  # as `Circuit.scores` says
    assert torch.equal(encoder(x), encoder(torch.from_numpy(pixels)))
    assert torch.equal(encoder(x).sum(1).int(), torch.from_numpy(pixels).flatten().int())


def test_one_half_is_the_originals_round() -> None:
    intensity = ALL_PIXELS.float() / 255
    assert torch.equal(Threshold([0.5], (1, 1, 1))(ALL_PIXELS), intensity.round().flatten(1))


@pytest.mark.parametrize("convert", [lambda x: x, lambda x: x.float() / 255])
def test_feature_order_is_threshold_channel_row_column(convert: object) -> None:
    x = torch.randint(256, (5, 3, 4, 2), dtype=torch.uint8)
    intensity = x.float() / 255
    expected = torch.cat([intensity > t for t in THREE], 1).flatten(1).float()
    encoder = Threshold(THREE, (3, 4, 2))
    got: Tensor = encoder(convert(x))  # type: ignore[operator]
    assert torch.equal(got, expected)
    assert encoder.out_dim == got.shape[1] == 72
    assert got.stride() == (1, 5)
    assert got.dtype == torch.float32


def test_strided_images() -> None:
    x = torch.randint(256, (5, 3, 4, 2), dtype=torch.uint8)
    assert torch.equal(
        Threshold(THREE, (3, 4, 2))(x.to(memory_format=torch.channels_last)), Threshold(THREE, (3, 4, 2))(x)
    )


@pytest.mark.parametrize("as_floats", [True, False])
def test_grey_bits_of_several_thresholds_are_ramps_around_their_levels(as_floats: bool) -> None:
    thresholds = [0.2, 0.4, 0.8]
    encoder, plain = Threshold(thresholds, (1, 16, 16), True), Threshold(thresholds, (1, 16, 16))
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    x = pixels / 255 if as_floats else pixels
    ramps = encoder(x).view(3, 256)
    bits = plain(x).view(3, 256)
    assert torch.equal(ramps > 0.5, bits.bool())  # each crosses one half where its bit changes
    assert (ramps.diff(dim=1) >= 0).all()
    levels = encoder.levels.float() + 0.5
    values = torch.arange(256.0)
    for ramp, below, level, above in zip(ramps, [0.0, *levels[:-1]], levels, [*levels[1:], 255.0], strict=True):
        rising = 1 + (values - level) / (above - level)
        expected = torch.where(values < level, (values - below) / (level - below), rising)
        torch.testing.assert_close(ramp, (expected / 2).clamp(0, 1), atol=1e-5, rtol=0)
    assert torch.equal(encoder.eval()(x), plain(x))


def test_grey_in_training_only() -> None:
    encoder = Threshold([0.5], (1, 16, 16), grey_in_training=True)
    x = ALL_PIXELS.view(1, 1, 16, 16)
    for pixels in (x, x.float() / 255):
        assert torch.equal(encoder.train()(pixels), x.flatten(1).float() / 255)
        assert torch.equal(encoder.eval()(pixels), (x.flatten(1) > 127).float())


def test_levels_are_state() -> None:
    encoder, other = Threshold([0.1, 0.2], (1, 1, 1)), Threshold([0.5, 0.6], (1, 1, 1))
    other.load_state_dict(encoder.state_dict())
    assert other.levels.tolist() == [25, 51]
    assert repr(other) == "Threshold(levels=[25, 51], in_shape=(1, 1, 1))"


@pytest.mark.parametrize("train", [True, False])
def test_nan_is_refused(train: bool) -> None:
    x = torch.rand(4, 1, 2, 2)
    x[3, 0, 1, 1] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        Threshold([0.5], (1, 2, 2), grey_in_training=True).train(train)(x)


@pytest.mark.parametrize("shape", [(4, 1, 2, 3), (4, 4), (4, 2, 2)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[1, 2, 2\] .*check in_shape"):
        Threshold([0.5], (1, 2, 2))(torch.rand(shape))


@pytest.mark.parametrize("module", [Threshold([0.5], (1, 2, 2)), Intensity()])
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64])
def test_other_dtypes_are_refused(module: torch.nn.Module, dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=f"images are {dtype}, but must be torch.uint8"):
        module(torch.zeros(3, 1, 2, 2, dtype=dtype))


@pytest.mark.parametrize("thresholds", [[], [0.5, 0.5], [0.6, 0.5], [-0.1], [1.0], [float("nan")], [0.5, float("nan")]])
def test_bad_thresholds(thresholds: list[float]) -> None:
    with pytest.raises(ValueError, match=r"thresholds .*\[0, 1\)"):
        Threshold(thresholds, (1, 1, 1))


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"in_shape .*\[28, 28\]"):
        Threshold([0.5], (28, 28))
    with pytest.raises(ValueError, match="in_shape"):
        Threshold([0.5], (0, 28, 28))


def test_intensity() -> None:
    x = torch.randint(256, (5, 3, 4, 2), dtype=torch.uint8)
    assert torch.equal(Intensity()(x), x.flatten(1).float() / 255)
    assert torch.equal(Intensity()(x.float() / 255), x.flatten(1).float() / 255)


def test_image_shaped_bits() -> None:
    x = torch.randint(256, (5, 3, 4, 2), dtype=torch.uint8)
    flat, image = Threshold(THREE, (3, 4, 2)), Threshold(THREE, (3, 4, 2), flatten=False)
    got = image(x)
    assert got.shape[1:] == image.out_shape == (9, 4, 2)
    assert got.stride()[0] == 1
    assert torch.equal(got.flatten(1), flat(x))
    grey = Threshold([0.5], (3, 4, 2), grey_in_training=True, flatten=False)
    assert torch.equal(grey(x), x / 255)


def test_a_number_of_thresholds() -> None:
    assert Threshold(3, (1, 1, 1)).levels.tolist() == Threshold(THREE, (1, 1, 1)).levels.tolist()
    for count in (0, 255):
        with pytest.raises(ValueError, match="there can be 1 to 254"):
            Threshold(count, (1, 1, 1))


def test_quantiles_split_the_pixels_evenly() -> None:
    encoder = Threshold(3, (2, 1, 1), spacing="quantile")
    histogram = torch.zeros(2, 256, dtype=torch.int64)
    histogram[0, :100] = 5
    histogram[1, 200:240] = 1
    encoder.fit_levels(histogram)
    assert encoder.levels.tolist() == [[24, 209], [49, 219], [74, 229]]
    pixels = torch.tensor([[24, 210], [60, 255], [75, 0]], dtype=torch.uint8).view(3, 2, 1, 1)
    assert encoder(pixels).tolist() == [[0, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 1], [1, 0, 1, 0, 1, 0]]
    other = Threshold(3, (2, 1, 1), spacing="quantile")
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(other(pixels), encoder(pixels))


@pytest.mark.parametrize("brightness", [0, 7, 254, 255])
def test_quantiles_of_pixels_that_are_all_alike_stay_different(brightness: int) -> None:
    encoder = Threshold(5, (1, 1, 1), spacing="quantile")
    histogram = torch.zeros(1, 256, dtype=torch.int64)
    histogram[0, brightness] = 1000
    encoder.fit_levels(histogram)
    levels = encoder.levels.flatten().tolist()
    assert levels == sorted(set(levels))
    assert levels[-1] < 255


def test_quantile_levels_in_the_circuit() -> None:
    encoder = Threshold(3, (2, 3, 3), spacing="quantile")
    encoder.fit_levels(torch.randint(1000, (2, 256)).sort(1).values)
    net = torch.nn.Sequential(encoder, LogicLayer(54, 60), GroupSum(3)).eval()
    images = torch.randint(256, (200, 2, 3, 3), dtype=torch.uint8)
    assert len(set(encoder.levels.flatten().tolist())) == 6
    assert Circuit.from_module(net).scores(images).tolist() == net(images).int().tolist()


def test_quantiles_need_a_number_and_a_histogram() -> None:
    with pytest.raises(ValueError, match="give their number"):
        Threshold([0.5], (1, 1, 1), spacing="quantile")
    with pytest.raises(ValueError, match=r"spacing='even'.*'uniform'.*'quantile'"):
        Threshold(1, (1, 1, 1), spacing="even")
    with pytest.raises(ValueError, match="fixed thresholds"):
        Threshold(3, (1, 1, 1)).fit_levels(torch.zeros(1, 256))
    with pytest.raises(ValueError, match=r"must be \[3, 256\]"):
        Threshold(3, (3, 1, 1), spacing="quantile").fit_levels(torch.zeros(1, 256))


def test_an_empty_batch() -> None:
    x = torch.zeros(0, 3, 4, 2, dtype=torch.uint8)
    assert Threshold(THREE, (3, 4, 2))(x).shape == (0, 72)
    assert Threshold(THREE, (3, 4, 2), flatten=False)(x / 255).shape == (0, 9, 4, 2)


UNEVEN = (0.1, 0.4, 0.7)


def images(count: int, channels: int = 2) -> torch.Tensor:
    return torch.randint(256, (count, channels, 3, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("spacing", ["uniform", "quantile"])
@pytest.mark.parametrize("flatten", [True, False])
def test_learnable_bits_are_those_of_fixed_thresholds(spacing: str, flatten: bool) -> None:
    fixed = Threshold(3, (2, 3, 4), spacing=spacing, flatten=flatten)
    learned = Threshold(3, (2, 3, 4), spacing=spacing, flatten=flatten, learnable=True)
    histogram = torch.randint(100, (2, 256))
    if spacing == "quantile":
        fixed.fit_levels(histogram)
        learned.fit_levels(histogram)
    assert torch.equal(learned.current_levels(), fixed.levels)
    assert learned.out_dim == fixed.out_dim
    for x in (images(9), images(9).float() / 255):
        assert torch.equal(learned(x), fixed(x))
        assert torch.equal(learned.eval()(x), fixed(x))
        learned.train()
    assert [name for name, _ in learned.named_parameters()] == ["weights"]


def test_every_learnable_level_survives_the_weights() -> None:
    for softness in (0.01, 0.05, 0.3):
        encoder = Threshold(254, (1, 1, 1), learnable=True, softness=softness)
        assert torch.equal(encoder.current_levels(), Threshold(254, (1, 1, 1)).levels)


def test_gradient_of_learnable_thresholds_is_that_of_the_sigmoid() -> None:
    encoder = Threshold(UNEVEN, (2, 3, 4), learnable=True, softness=0.1)
    x, upper = images(5), torch.randn(5, 72)
    (grad,) = torch.autograd.grad(encoder(x), encoder.weights, upper)
    thresholds = (encoder.weights.detach() * 0.1).requires_grad_()
    intensities = (x.float() / 255)[:, None]
    soft = torch.sigmoid((intensities - thresholds.view(1, 3, 1, 1, 1)) / 0.1)
    (expected,) = torch.autograd.grad(soft.flatten(1), thresholds, upper)
    torch.testing.assert_close(grad, expected * 0.1, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sampler", ["soft", "straight_through"])
def test_a_wrong_threshold_is_learned_and_exported(sampler: str) -> None:
    torch.manual_seed(0)
    net = LogicMLP(
        (1, 3, 4), 2, 40, 2, tau="auto", thresholds=(0.2,), parametrization="sigmoid", init="residual", sampler=sampler,
        learnable_thresholds=True, connections="random"
    )  # fmt: skip
    x = images(512, 1)
    y = (x[:, 0, 1, 1] > 140).long()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    first = int(net[0].current_levels())
    for _ in range(150):
        loss = torch.nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    level = int(net[0].current_levels())
    assert abs(level - 140) < abs(first - 140) / 2
    circuit = Circuit.from_module(net.eval())
    assert circuit.levels is not None
    assert circuit.levels.tolist() == [level]
    expected = (net(x) * net[-1].tau).round().int().numpy()
    assert np.array_equal(circuit.scores(x.numpy()), expected)


def test_learned_levels_may_cross_meet_and_leave_the_range() -> None:
    net = torch.nn.Sequential(Threshold((0.1, 0.4, 0.5, 0.7), (2, 3, 4), learnable=True), GroupSum(4))
    with torch.no_grad():
        net[0].weights.copy_(torch.tensor([200.5, 90.5, 200.2, 999.0]) / (255 * 0.05))
    assert net[0].current_levels().tolist() == [200, 90, 200, 254]
    x = images(50)
    scores = Circuit.from_module(net.eval()).scores(x.numpy())
    assert np.array_equal(scores, net(x).int().numpy())
    assert scores[:, 0].tolist() == [(image > 200).sum().item() for image in x]
    other = Threshold((0.1, 0.4, 0.5, 0.7), (2, 3, 4), learnable=True)
    other.load_state_dict(net[0].state_dict())
    assert torch.equal(other.current_levels(), net[0].current_levels())


def test_arguments_that_do_not_fit_learnable_thresholds() -> None:
    with pytest.raises(ValueError, match="grey_in_training feeds no bits"):
        Threshold((0.5,), (1, 2, 2), grey_in_training=True, learnable=True)
    with pytest.raises(ValueError, match="softness=0: it is a difference"):
        Threshold((0.5,), (1, 2, 2), learnable=True, softness=0)

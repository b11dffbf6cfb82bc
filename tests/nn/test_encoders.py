import pytest
import torch
from torch import Tensor

from lgn_lightning import Threshold
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
    with pytest.raises(ValueError, match="the batch of 4 images holds NaN"):
        Threshold([0.5], (1, 2, 2), grey_in_training=True).train(train)(x)


@pytest.mark.parametrize("shape", [(4, 1, 2, 3), (4, 4), (4, 2, 2)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"built for images \[1, 2, 2\] and got a batch of .*check in_shape"):
        Threshold([0.5], (1, 2, 2))(torch.rand(shape))


@pytest.mark.parametrize("module", [Threshold([0.5], (1, 2, 2)), Intensity()])
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64])
def test_other_dtypes_are_refused(module: torch.nn.Module, dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=f"images are {dtype}, but must be torch.uint8"):
        module(torch.zeros(3, 1, 2, 2, dtype=dtype))


@pytest.mark.parametrize("thresholds", [[], [0.5, 0.5], [0.6, 0.5], [-0.1], [1.0], [float("nan")], [0.5, float("nan")]])
def test_bad_thresholds(thresholds: list[float]) -> None:
    with pytest.raises(ValueError, match=r"thresholds must be increasing and in \[0, 1\)"):
        Threshold(thresholds, (1, 1, 1))


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="grey_in_training needs a single threshold, not 2"):
        Threshold([0.3, 0.6], (1, 1, 1), grey_in_training=True)
    with pytest.raises(ValueError, match=r"in_shape must be \(channels, height, width\), not \[28, 28\]"):
        Threshold([0.5], (28, 28))
    with pytest.raises(ValueError, match="in_shape"):
        Threshold([0.5], (0, 28, 28))


def test_intensity() -> None:
    x = torch.randint(256, (5, 3, 4, 2), dtype=torch.uint8)
    assert torch.equal(Intensity()(x), x.flatten(1).float() / 255)
    assert torch.equal(Intensity()(x.float() / 255), x.flatten(1).float() / 255)

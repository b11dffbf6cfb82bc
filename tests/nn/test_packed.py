import pytest
import torch

from lgn_lightning import PackBitsTensor


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
@pytest.mark.parametrize("batch", [0, 1, 63, 64, 65])
def test_packs_along_the_batch(bits: int, batch: int) -> None:
    x = torch.rand(batch, 5) > 0.5
    packed = PackBitsTensor(x, bit_count=bits)
    rows = -(-batch // bits)
    assert packed.t.shape == (rows, 5)
    assert packed.shape == x.shape
    assert (packed.bit_count, packed.batch, packed.pad_len) == (bits, batch, rows * bits - batch)
    assert torch.equal(packed.unpack(), x)
    assert PackBitsTensor(x).bit_count == 32


def test_sample_order() -> None:
    x = torch.zeros(20, 1, dtype=torch.bool)
    x[8 + 3] = True
    assert PackBitsTensor(x, 8).t.tolist() == [[0], [8], [0]]
    x[8 + 7] = True
    assert PackBitsTensor(x, 8).t.tolist() == [[0], [8 - 128], [0]]


def test_flatten_keeps_it() -> None:
    packed = PackBitsTensor(torch.rand(3, 5) > 0.5)
    assert torch.nn.Flatten()(packed) is packed


def test_device() -> None:
    assert PackBitsTensor(torch.rand(3, 5) > 0.5, device="cpu").device == torch.device("cpu")
    assert PackBitsTensor(torch.rand(3, 5) > 0.5, 8, "meta").device.type == "meta"


def test_repr_shows_the_first_samples_first() -> None:
    x = torch.zeros(40, 6, dtype=torch.bool)
    x[0], x[7, 0] = True, True
    lines = repr(PackBitsTensor(x, 8)).splitlines()
    assert lines[0] == "PackBitsTensor(batch=40, features=6, bit_count=8)"
    assert lines[1] == "10000001 10000000 10000000 …"
    assert len(lines) == 6
    assert lines[-1] == "…"


def test_bad_arguments() -> None:
    x = torch.rand(3, 5) > 0.5
    with pytest.raises(TypeError, match=r"torch\.float32 \[3, 5\]"):
        PackBitsTensor(x.float())
    with pytest.raises(TypeError, match=r"\[3, 5, 1\]"):
        PackBitsTensor(x[..., None])
    with pytest.raises(ValueError, match=r"12.*8, 16, 32 or 64"):
        PackBitsTensor(x, 12)
    with pytest.raises(ValueError, match="k = 2"):
        PackBitsTensor(x).group_sum(2)

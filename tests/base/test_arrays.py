from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from lgn_lightning.base.arrays import load_arrays, to_array
from lgn_lightning.base.errors import DataError


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float32])
def test_tensors_of_every_type_become_arrays(dtype: torch.dtype) -> None:
    values = [[0, 1], [1, 0]]
    found = to_array(torch.tensor(values).to(dtype))
    assert found.tolist() == values
    assert found.dtype == (np.float32 if dtype == torch.bfloat16 else torch.empty(0, dtype=dtype).numpy().dtype)
    assert to_array(torch.tensor(0.5, dtype=dtype if dtype.is_floating_point else None, requires_grad=True)) == 0.5
    assert to_array(values).tolist() == values


def test_the_content_says_what_a_file_is(tmp_path: Path) -> None:
    x = np.arange(6).reshape(2, 3)
    np.save(tmp_path / "a.npy", x)
    np.savez(tmp_path / "b.npz", x=x, y=x[0])
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    found = load_arrays(tmp_path / "a.npz", mmap_mode="r")
    assert np.array_equal(found, x)
    named = load_arrays(tmp_path / "b.npz")
    assert isinstance(named, dict)
    assert list(named) == ["x", "y"]
    assert np.array_equal(named["x"], x)


def test_damaged_files_are_one_error(tmp_path: Path) -> None:
    file = tmp_path / "a"
    np.savez(tmp_path / "a.npz", x=np.arange(99), y=np.zeros(9))
    np.savez_compressed(tmp_path / "b.npz", x=np.arange(99))
    np.save(tmp_path / "c.npy", np.arange(99))
    plain, packed, one = ((tmp_path / name).read_bytes() for name in ("a.npz", "b.npz", "c.npy"))
    damaged = [b"", b"x", plain[:300], plain[:-9], packed[:150] + bytes(40) + packed[190:], one[:-9]]
    damaged += [plain[:200] + b"\xff" + plain[201:], one.replace(b"'<i8'", b"'<i8 ").replace(b"}", b"(")]
    for content in damaged:
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"a cannot be read as arrays \(.+\); write it anew"):
            load_arrays(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x", "1, 2")
    with pytest.raises(DataError, match="x in it is no array"):
        load_arrays(file)
    with pytest.raises(DataError, match="No such file"):
        load_arrays(tmp_path / "none.npy")

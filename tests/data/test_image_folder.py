from __future__ import annotations

import lzma
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lgn_lightning.data import DataError, ImageFolder, image_folder
from lgn_lightning.data.decode import decode_files

CLASSES = ("ant", "bee")


def write_image(path: Path, value: int, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (size[1], size[0]), value if mode in ("L", "P") else (value, value, value)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Per class 6 training and 2 test images 3×6×4 as PNG; the grey value is 10 · label + number."""
    for part, count in (("train", 6), ("test", 2)):
        for label, name in enumerate(CLASSES):
            for number in range(count):
                write_image(tmp_path / part / name / f"{number}.png", 10 * label + number)
    return tmp_path


def values(loader: object) -> list[tuple[int, int]]:
    return [
        (int(image.float().mean()), int(label))
        for images, labels in loader  # type: ignore[attr-defined]
        for image, label in zip(images, labels, strict=True)
    ]


def test_images_labels_and_splits(root: Path) -> None:
    data = ImageFolder(str(root), batch_size=3, val_fraction=0.25)
    data.prepare_data()
    data.setup()
    assert (data.class_names, data.num_classes, data.image_shape) == (["ant", "bee"], 2, (3, 6, 4))
    assert values(data.test_dataloader()) == [(0, 0), (1, 0), (10, 1), (11, 1)]
    train, val = values(data.train_dataloader()), values(data.val_dataloader())
    assert len(val) == 3
    assert sorted(train + val) == [(10 * label + number, label) for label in range(2) for number in range(6)]


def test_val_folder_replaces_the_split(root: Path) -> None:
    for label, name in enumerate(CLASSES):
        write_image(root / "val" / name / "0.png", 100 + label)
    data = ImageFolder(str(root), batch_size=4, val_fraction=0.25)
    assert values(data.val_dataloader()) == [(100, 0), (101, 1)]
    assert len(values(data.train_dataloader())) == 12


def test_resize_and_grayscale(root: Path) -> None:
    write_image(root / "train/ant/other.jpg", 50, size=(9, 9))
    write_image(root / "train/ant/other.bmp", 60, size=(3, 5), mode="L")
    write_image(root / "train/ant/palette.png", 0, size=(3, 5), mode="P")
    data = ImageFolder(str(root), image_size=(8, 5), grayscale=True, batch_size=15, val_fraction=0)
    data.setup("fit")
    assert data.image_shape == (1, 8, 5)
    ((images, _),) = list(data.train_dataloader())
    assert images.shape == (15, 1, 8, 5)
    assert images.dtype == torch.uint8
    expected = sorted([0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15, 50, 60, 0])
    assert sorted(value for value, _ in values([(images, torch.zeros(15))])) == expected
    assert ImageFolder(str(root), image_size=8).image_shape == (3, 8, 8)


def test_16_bit_images_keep_their_brightness(root: Path) -> None:
    for path in (root / "train").rglob("*.png"):
        Image.fromarray(np.full((6, 4), 128 * 257, np.uint16)).save(path)
    data = ImageFolder(str(root), batch_size=12, val_fraction=0, grayscale=True)
    assert {value for value, _ in values(data.train_dataloader())} == {128}


def test_many_threads_keep_the_order(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for index in range(200):
            write_image(tmp_path / part / CLASSES[index >= 100] / f"{index:03}.png", index, size=(100, 100))
    test = values(ImageFolder(str(tmp_path), eval_batch_size=64).test_dataloader())
    assert test == [(index, int(index >= 100)) for index in range(200)]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "train").rename(root / "training"), r"no folder .*train; data.root .*LGN_DATA_ROOT"),
        (lambda root: (root / "test").rename(root / "tests"), r"no folder .*test; put test images into"),
        (lambda root: (root / "train/bee").rename(root / "bee"), r"1 class folder\(s\) in .*train, 2 or more"),
        (lambda root: (root / "train/cat").mkdir(), r"no images in .*train/cat"),
        (lambda root: (root / "test/cat").mkdir(), r"test has class folders that train has not: cat"),
        (lambda root: (root / "train/bee/3.png").write_bytes(b"no image"), r"bee/3.png cannot be read as an image"),
        (lambda root: (root / "train/bee/3.png").write_bytes(b""), r"bee/3.png cannot be read as an image"),
        (
            lambda root: write_image(root / "train/bee/3.png", 0, (6, 5)),
            r"bee/3.png is 6×5 pixels, not 6×4 .*image_size",
        ),
        (lambda root: write_image(root / "test/bee/1.png", 0, (5, 5)), r"bee/1.png is 5×5 pixels"),
    ],
)
def test_one_clear_error(root: Path, damage: object, message: str) -> None:
    damage(root)  # type: ignore[operator]

    def use() -> None:
        data = ImageFolder(str(root))
        data.prepare_data()
        data.setup("fit")
        data.setup("test")

    with pytest.raises(DataError, match=message) as caught:
        use()
    assert str(root) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_decoded_images_are_kept_until_a_file_or_a_setting_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []

    def count(paths: Sequence[Path], *settings: Any) -> torch.Tensor:
        decoded.append(len(paths))
        return decode_files(paths, *settings)

    monkeypatch.setattr(image_folder, "decode_files", count)

    def load(**settings: Any) -> list[tuple[int, int]]:
        decoded.clear()
        return values(ImageFolder(str(root), **settings).test_dataloader())

    first = load()
    assert decoded == [4]
    assert load() == first
    assert decoded == []
    assert load(cache=False) == first
    assert decoded == [4]
    write_image(root / "test/ant/0.png", 99)
    assert load()[0] == (99, 0)
    load(grayscale=True)
    assert decoded == [4]
    (kept,) = (root / ".lgn-cache").iterdir()  # the older ones were removed
    kept.write_bytes(kept.read_bytes()[:-5])
    assert load(grayscale=True)[0] == (99, 0)
    assert decoded == [4]


def test_a_folder_that_cannot_hold_the_cache_is_read_all_the_same(root: Path) -> None:
    (root / ".lgn-cache").write_text("a file where the folder should be")
    assert values(ImageFolder(str(root)).test_dataloader()) == [(0, 0), (1, 0), (10, 1), (11, 1)]


def test_faults_of_the_test_split_show_before_training(root: Path) -> None:
    write_image(root / "test/bee/1.png", 0, (5, 5))
    with pytest.raises(DataError, match=r"bee/1.png is 5×5 pixels"):
        ImageFolder(str(root)).setup("fit")
    (root / "test/ant").rename(root / "test/ants")
    with pytest.raises(DataError, match=r"test has class folders that train has not: ants"):
        ImageFolder(str(root)).prepare_data()


def test_fit_alone_needs_no_test_split(root: Path) -> None:
    (root / "test").rename(root / "kept")
    data = ImageFolder(str(root), batch_size=4)
    data.prepare_data()
    for stage in ("fit", None):
        data.setup(stage)
    assert not data.has_test
    assert len(values(data.train_dataloader())) == 8


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_image(root: Path, suffix: str) -> None:
    path = root / "train/bee" / f"9.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=rf"9.{suffix} cannot be read as an image"):
        ImageFolder(str(root)).setup("fit")


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="image_size"):
        ImageFolder(image_size=0)


def test_real_jpeg_copy_of_cifar10(real_root: Path, tmp_path: Path) -> None:
    archive = real_root / "cifar10-jpeg.tar.xz"
    if not archive.is_file():
        pytest.skip(f"{archive} is not there")
    # the first members only: unpacking 60,000 files takes too long for a test
    with lzma.open(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        part, names = "", set()
        for count, member in enumerate(tar):
            if count >= 12000:
                break
            folder = Path(member.name).parts
            if not member.isfile() or len(folder) < 3 or (part and folder[-3] != part):
                continue
            part = folder[-3]
            names.add(folder[-2])
            content = tar.extractfile(member)
            assert content is not None
            if int(Path(member.name).stem) < 20:
                target = tmp_path / "train" / folder[-2] / folder[-1]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read())
    assert len(names) >= 2
    data = ImageFolder(str(tmp_path), batch_size=10)
    data.setup("fit")
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (10, 3, 32, 32)
    assert int(labels.max()) < data.num_classes == len(names)

from __future__ import annotations

import lzma
import tarfile
from pathlib import Path

import pytest
import torch

from lgn_lightning.data import DataError, ImageFolder
from tests.data.conftest import CLASSES, values, write_image


def test_images_labels_and_splits(image_root: Path) -> None:
    data = ImageFolder(str(image_root), batch_size=3, val_fraction=0.25)
    data.prepare_data()
    data.setup()
    assert (data.class_names, data.num_classes, data.image_shape) == (["ant", "bee"], 2, (3, 6, 4))
    assert values(data.test_dataloader()) == [(0, 0), (1, 0), (10, 1), (11, 1)]
    train, val = values(data.train_dataloader()), values(data.val_dataloader())
    assert len(val) == 3
    assert sorted(train + val) == [(10 * label + number, label) for label in range(2) for number in range(6)]


def test_val_folder_replaces_the_split(image_root: Path) -> None:
    for label, name in enumerate(CLASSES):
        write_image(image_root / "val" / name / "0.png", 100 + label)
    data = ImageFolder(str(image_root), batch_size=4, val_fraction=0.25)
    assert values(data.val_dataloader()) == [(100, 0), (101, 1)]
    assert len(values(data.train_dataloader())) == 12


def test_resize_and_grayscale(image_root: Path) -> None:
    write_image(image_root / "train/ant/other.jpg", 50, size=(9, 9))
    write_image(image_root / "train/ant/other.bmp", 60, size=(3, 5), mode="L")
    write_image(image_root / "train/ant/palette.png", 0, size=(3, 5), mode="P")
    data = ImageFolder(str(image_root), image_size=(8, 5), grayscale=True, batch_size=15, val_fraction=0)
    data.setup("fit")
    assert data.image_shape == (1, 8, 5)
    ((images, _),) = list(data.train_dataloader())
    assert images.shape == (15, 1, 8, 5)
    assert images.dtype == torch.uint8
    expected = sorted([0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15, 50, 60, 0])
    assert sorted(value for value, _ in values([(images, torch.zeros(15))])) == expected
    assert ImageFolder(str(image_root), image_size=8).image_shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "train").rename(root / "training"), r"no folder .*train; data.root .*LGN_DATA_ROOT"),
        (lambda root: (root / "test").rename(root / "tests"), r"no folder .*test; put test images into"),
        (lambda root: (root / "train/bee").rename(root / "bee"), r"1 class folder\(s\) in .*train, 2 or more"),
        (lambda root: (root / "train/cat").mkdir(), r"no images in .*train/cat"),
        (lambda root: (root / "test/cat").mkdir(), r"test .*: cat"),
        (lambda root: (root / "train/bee/3.png").write_bytes(b"no image"), r"bee/3.png cannot be read as an image"),
        (lambda root: (root / "train/bee/3.png").write_bytes(b""), r"bee/3.png cannot be read as an image"),
        (
            lambda root: write_image(root / "train/bee/3.png", 0, (6, 5)),
            r"bee/3.png is 6×5 pixels, not 6×4 .*image_size",
        ),
        (lambda root: write_image(root / "test/bee/1.png", 0, (5, 5)), r"bee/1.png is 5×5 pixels"),
    ],
)
def test_one_clear_error(image_root: Path, damage: object, message: str) -> None:
    damage(image_root)  # type: ignore[operator]

    def use() -> None:
        data = ImageFolder(str(image_root))
        data.prepare_data()
        data.setup("fit")
        data.setup("test")

    with pytest.raises(DataError, match=message) as caught:
        use()
    assert str(image_root) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_faults_of_the_test_split_show_before_training(image_root: Path) -> None:
    write_image(image_root / "test/bee/1.png", 0, (5, 5))
    with pytest.raises(DataError, match=r"bee/1.png is 5×5 pixels"):
        ImageFolder(str(image_root)).setup("fit")
    (image_root / "test/ant").rename(image_root / "test/ants")
    with pytest.raises(DataError, match=r"test .*: ants"):
        ImageFolder(str(image_root)).prepare_data()


def test_fit_alone_needs_no_test_split(image_root: Path) -> None:
    (image_root / "test").rename(image_root / "kept")
    data = ImageFolder(str(image_root), batch_size=4)
    data.prepare_data()
    for stage in ("fit", None):
        data.setup(stage)
    assert not data.has_test
    assert len(values(data.train_dataloader())) == 8


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


def test_hidden_files_and_folders_are_no_data(image_root: Path) -> None:
    """What notebooks, macOS and file managers leave behind moves no label and adds no image."""
    before = ImageFolder(str(image_root), batch_size=12, val_fraction=0, cache=False)
    for part in ("train", "test"):
        write_image(image_root / part / ".ipynb_checkpoints" / "0-checkpoint.png", 90)
        write_image(image_root / part / "ant" / ".ipynb_checkpoints" / "0-checkpoint.png", 90)
        (image_root / part / "bee" / "._0.png").write_bytes(b"no image")
    after = ImageFolder(str(image_root), batch_size=12, val_fraction=0, cache=False)
    after.prepare_data()
    assert after.class_names == ["ant", "bee"]
    assert sorted(values(after.train_dataloader())) == sorted(values(before.train_dataloader()))
    assert values(after.test_dataloader()) == values(before.test_dataloader())


def test_a_data_set_in_a_hidden_folder(image_root: Path) -> None:
    hidden = image_root.parent / ".cache-of-images"
    image_root.rename(hidden)
    assert ImageFolder(str(hidden)).class_names == ["ant", "bee"]

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule

import lgn_lightning.data
from lgn_lightning.data import DataError, ImageDataModule, ImageSet
from lgn_lightning.data.base import SampleDataModule


class Numbers(ImageDataModule):
    """Images 1×1×1 in two classes; pixel = number of the image."""

    train_count = 40

    @property
    def class_names(self) -> list[str]:
        return ["even", "odd"]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return 1, 1, 1

    def _images(self, first: int, count: int) -> ImageSet:
        numbers = torch.arange(first, first + count)
        return ImageSet(numbers.to(torch.uint8).reshape(-1, 1, 1, 1), numbers % 2)

    def _load_train(self) -> ImageSet:
        return self._images(0, self.train_count)

    def _load_test(self) -> ImageSet:
        return self._images(100, 10)


def pixels(loader: object) -> list[int]:
    return [value for images, _ in loader for value in images.flatten().tolist()]  # type: ignore[attr-defined]


def test_splits_are_disjoint_complete_and_test_files_are_apart() -> None:
    data = Numbers(batch_size=5, eval_batch_size=3, val_fraction=0.25)
    data.setup()
    train, val, test = (
        pixels(data.train_dataloader()),
        pixels(data.val_dataloader()),
        pixels(data.test_dataloader()),
    )
    assert len(val) == 10
    assert sorted(train + val) == list(range(40))
    assert test == list(range(100, 110)) == pixels(data.predict_dataloader())


def test_split_depends_on_its_seed_only() -> None:
    def val(**settings: int) -> list[int]:
        torch.manual_seed(settings.pop("global_seed", 0))
        return pixels(Numbers(**settings).val_dataloader())

    assert val() == val(global_seed=5, shuffle_seed=9)
    assert val() != val(split_seed=1)


def test_training_order_depends_on_seed_and_epoch() -> None:
    def order(epoch: int, seed: int) -> list[int]:
        loader = Numbers(batch_size=4, shuffle_seed=seed).train_dataloader()
        loader.batch_sampler.set_epoch(epoch)
        return pixels(loader)

    assert order(0, 1) == order(0, 1)
    assert sorted(order(0, 1)) == sorted(order(1, 1)) == sorted(order(0, 2))
    assert order(0, 1) != order(1, 1)
    assert order(0, 1) != order(0, 2)


def test_shuffle_seed_follows_seed_everything_and_the_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "17")
    data = Numbers()
    assert data.state_dict() == {"shuffle_seed": 17}
    monkeypatch.setenv("PL_GLOBAL_SEED", "18")
    assert data.shuffle_seed == 17
    resumed = Numbers(batch_size=4)
    resumed.load_state_dict(data.state_dict())
    assert resumed.train_dataloader().batch_sampler.seed == 17


def test_no_validation() -> None:
    data = Numbers(val_fraction=0, batch_size=8)
    assert data.val_dataloader() == []
    assert len(pixels(data.train_dataloader())) == 40


def test_drop_last() -> None:
    assert len(Numbers(batch_size=16, val_fraction=0).train_dataloader()) == 2
    assert len(Numbers(batch_size=16, val_fraction=0, drop_last=False).train_dataloader()) == 3


def test_root_from_argument_environment_and_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Numbers().root == Path("data")
    monkeypatch.setenv("LGN_DATA_ROOT", str(tmp_path))
    assert Numbers().root == tmp_path
    assert Numbers(root="elsewhere").root == Path("elsewhere")


def test_attributes() -> None:
    data = Numbers()
    assert (data.num_classes, data.class_names, data.image_shape) == (2, ["even", "odd"], (1, 1, 1))


def test_a_batch_larger_than_the_training_split_is_an_error() -> None:
    with pytest.raises(DataError, match=r"36 .* 100 .*smaller batch_size"):
        Numbers().train_dataloader()


def test_a_split_that_leaves_nothing_to_train_on_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Numbers, "train_count", 2)
    with pytest.raises(DataError, match=r"val_fraction=0.9 leaves none of the 2 images"):
        Numbers(val_fraction=0.9).setup("fit")


def test_fewer_images_than_classes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Numbers, "train_count", 1)
    with pytest.raises(DataError, match="only 1 images for 2 classes"):
        Numbers().setup("fit")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(8, 1, 1, 1, dtype=torch.uint8), torch.zeros(8), r"its labels torch.float32 \[8\]; they must be"),
        (torch.zeros(8, 1, 1, 1), torch.zeros(8, dtype=torch.int64), r"its images are torch.float32 \[8, 1, 1, 1\]"),
        (torch.zeros(8, 1, 1, dtype=torch.uint8), torch.zeros(8, dtype=torch.int64), r"torch.uint8 \[8, 1, 1\]"),
        (np.zeros((8, 1, 1, 1), np.uint8), np.zeros(8, np.int64), r"its images are ndarray and its labels ndarray"),
    ],
)
def test_images_and_labels_of_another_kind_are_one_error(
    monkeypatch: pytest.MonkeyPatch, images: Any, labels: Any, message: str
) -> None:
    monkeypatch.setattr(Numbers, "_load_train", lambda self: ImageSet(images, labels))
    with pytest.raises(DataError, match=rf"Numbers: .*{message}"):
        Numbers().setup("fit")


@pytest.mark.parametrize(
    "settings", [{"batch_size": 0}, {"eval_batch_size": -1}, {"val_fraction": 1.0}, {"val_fraction": -0.1}]
)
def test_bad_arguments(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Numbers(**settings)  # type: ignore[arg-type]


def test_recipes_can_name_every_class() -> None:
    parser = ArgumentParser()
    parser.add_subclass_arguments(ImageDataModule, "data")
    for name, settings in {
        "Digits": {"test_fraction": 0.3},
        "MNIST": {"size": 20, "root": "here"},
        "FashionMNIST": {"batch_size": 7},
        "CIFAR10": {"val_fraction": 0.1},
        "ImageFolder": {"image_size": [8, 4], "grayscale": True},
    }.items():
        entry = {"class_path": f"lgn_lightning.data.{name}", "init_args": settings}
        data = parser.instantiate(parser.parse_object({"data": entry})).data
        assert type(data) is getattr(lgn_lightning.data, name)
    assert data.size == (8, 4)


@pytest.mark.parametrize("name", ["Digits", "MNIST", "FashionMNIST", "CIFAR10", "ImageFolder"])
def test_recipes_know_every_argument_of_the_base(name: str) -> None:
    data_set, parser = getattr(lgn_lightning.data, name), ArgumentParser()
    parser.add_class_arguments(data_set, "data")
    known = parser.get_defaults().data
    for argument in signature(ImageDataModule).parameters.values():
        assert known[argument.name] == argument.default
    text = " ".join(parser.format_help().split())
    assert "Seed of training order and augmentation" in text  # the docstring of the base
    data = data_set(batch_size=7, shuffle_seed=3, resident=True)
    assert (data.batch_size, data.shuffle_seed, data.resident) == (7, 3, True)
    with pytest.raises(TypeError, match="no_such"):
        data_set(no_such=1)


def test_arguments_by_position_are_where_they_were() -> None:
    assert lgn_lightning.data.Digits("here", 7).batch_size == 7
    assert lgn_lightning.data.MNIST(20, "here", 7).batch_size == 7
    folder = lgn_lightning.data.ImageFolder("here", 8, True, False)
    assert (folder.root, folder.size, folder.grayscale, folder.cache) == (Path("here"), (8, 8), True, False)


def test_private_names_of_a_subclass_are_its_own() -> None:
    """Names that a careless subclass picks, methods and attributes, leave the base working."""

    class Own(Numbers):
        _loader = _device = _loaded = _splits = _residents = _shuffle_seed = _rank_and_world_size = "mine"

        def _split(self) -> None:
            raise AssertionError

    assert pixels(Own(batch_size=5).train_dataloader()) == pixels(Numbers(batch_size=5).train_dataloader())
    hooks = {"_check_samples", "_fold_of", "_load_train", "_load_val", "_load_test", "_split_train"}
    names = {
        name for name in (*vars(Numbers()), *vars(ImageDataModule), *vars(SampleDataModule)) if name.startswith("_")
    }
    of_lightning = {*vars(LightningDataModule()), *dir(LightningDataModule), "__abstractmethods__", "_abc_impl"}
    assert {name for name in names - of_lightning if not name.startswith(("_SampleDataModule__", "_abc"))} == hooks

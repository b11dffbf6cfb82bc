import re
from pathlib import Path
from typing import Any

import pytest

from lgn_lightning.base.errors import DataError
from lgn_lightning.data import MNIST, Digits
from lgn_lightning.data.from_settings import data_module


def test_the_data_module_of_a_recipe() -> None:
    settings = {"data": {"class_path": "lgn_lightning.data.Digits", "init_args": {"batch_size": 7}}}
    module = data_module(settings)
    assert isinstance(module, Digits)
    assert module.batch_size == 7
    assert len(module.test_samples()[1]) == 360


def test_another_folder_takes_the_place_of_the_recipes(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"data": {"class_path": "lgn_lightning.data.MNIST"}}
    module = data_module(settings, tmp_path)
    assert isinstance(module, MNIST)
    assert module.root == tmp_path
    assert settings == {"data": {"class_path": "lgn_lightning.data.MNIST"}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "name no data set"),
        ({"data": {"class_path": "nowhere.Data"}}, "nowhere"),
        ({"data": {"class_path": "lgn_lightning.data.Digits", "init_args": {"size": 3}}}, "size"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        data_module(settings)


def test_what_a_constructor_refuses_is_said_alone() -> None:
    settings = {"data": {"class_path": "lgn_lightning.data.Sequences", "init_args": {"every": 0}}}
    with pytest.raises(DataError, match=r"cannot be used: window=None, stride=1 and every=0 must be 1 or more$"):
        data_module(settings)

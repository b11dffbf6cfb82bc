"""Public tables on generated rows in the form of their makers' files."""

from __future__ import annotations

from pathlib import Path

import pytest

from lgn_lightning.cli.main import main
from lgn_lightning.data import DataError, PublicTable, Table
from lgn_lightning.data.public_tables import _HOUSES, _JET, TABLES
from lgn_lightning.runs.recipes import find_recipe
from tests.data.public_files import WRITERS, nid


@pytest.mark.parametrize("name", TABLES)
def test_files_in_the_published_form_are_read(name: str, tmp_path: Path) -> None:
    write, rows, classes = WRITERS[name]
    write(tmp_path)
    data = PublicTable(name, root=str(tmp_path), val_fraction=0)
    data.setup()
    assert data.training_size + len(data.test_samples()[1]) == rows
    assert (data.num_classes, data.task) == (classes, "number" if classes == 1 else "class")
    kinds = {column.name: column.kind for column in data.columns}
    if name == "adult":
        assert kinds["age"] == "int32"
        assert kinds["native-country"] == "category"
        assert data.class_names == ["<=50K", ">50K"]
        assert len(data.test_samples()[1]) == 30
        workclass = next(column for column in data.columns if column.name == "workclass")
        assert workclass.categories == ("Private", "State-gov")
    elif name.startswith("jsc"):
        assert tuple(kinds) == _JET
        assert set(kinds.values()) == {"float32"}
    elif name == "nid":
        assert not {"id", "attack_cat", "label"} & set(kinds)
        assert len(data.test_samples()[1]) == 40
    else:
        assert tuple(kinds) == _HOUSES[:-1]


@pytest.mark.parametrize("name", TABLES)
def test_recipes_train_on_them(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "files").mkdir()
    WRITERS[name][0](tmp_path / "files")
    arguments = [
        "--data.root=files",
        "--model.net.width=300",
        "--trainer.max_steps=4",
        "--trainer.val_check_interval=2",
    ]
    assert main(["fit", name, *arguments, "--trainer.enable_progress_bar=false"]) == 0
    assert (tmp_path / "runs" / name / "version_0" / "result.json").is_file()
    assert "Not measured" in find_recipe(name).read_text()


def test_what_is_not_there_is_said_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"adult.data and adult.test from https://.*--data.root"):
        PublicTable("adult", root=str(tmp_path)).setup()
    with pytest.raises(ValueError, match="jsc-cernbox"):
        PublicTable("jsc")
    (tmp_path / "cal_housing.data").write_text("1,2,3\n")
    with pytest.raises(DataError, match="has not the 9 columns"):
        PublicTable("california-housing", root=str(tmp_path)).setup()
    (tmp_path / TABLES["jsc-cernbox"].files[0]).write_text("no HDF5")
    pytest.importorskip("h5py")
    with pytest.raises(DataError, match="holds no table"):
        PublicTable("jsc-cernbox", root=str(tmp_path)).setup()


def test_files_may_lie_in_a_folder_of_the_tables_name_or_be_named(tmp_path: Path) -> None:
    (tmp_path / "nid").mkdir()
    nid(tmp_path / "nid")
    assert PublicTable("nid", root=str(tmp_path)).num_classes == 2
    train, test = (str(tmp_path / "nid" / file) for file in TABLES["nid"].files)
    assert isinstance(named := PublicTable("nid", path=train, test_path=test), Table)
    assert named.num_classes == 2

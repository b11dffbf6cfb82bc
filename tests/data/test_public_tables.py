"""Public tables on generated rows in the form of their makers' files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lgn_lightning.cli.main import main
from lgn_lightning.data import DataError, PublicTable, Table
from lgn_lightning.data.public_tables import _ADULT, _HOUSES, _JET, TABLES
from lgn_lightning.runs.recipes import find_recipe

RNG = np.random.default_rng(0)


def adult(folder: Path) -> None:
    """No header, blanks behind commas, "?" for missing, and a remark and full stops in the test file."""
    for name, rows, stop in (("adult.data", 80, ""), ("adult.test", 30, ".")):
        lines = [] if not stop else ["|1x3 Cross validator"]
        for row in range(rows):
            age, pay = RNG.integers(17, 90), RNG.integers(0, 2)
            work = RNG.choice(["Private", "State-gov", "?"])
            fields = [age, work, RNG.integers(1e4, 1e6), "HS-grad", 9, "Divorced", "Sales", "Husband", "White"]
            fields += ["Male", pay * 5000, 0, 40, "United-States", ("<=50K", ">50K")[row % 2] + stop]
            assert len(fields) == len(_ADULT)
            lines.append(", ".join(map(str, fields)))
        (folder / name).write_text("\n".join(lines) + "\n\n")


def jets(rows: int) -> pd.DataFrame:
    frame = pd.DataFrame(RNG.normal(size=(rows, 16)).astype(np.float32), columns=list(_JET))
    return frame.assign(**{"class": np.array(list("gqwzt"))[np.arange(rows) % 5]})


def jsc_openml(folder: Path) -> None:
    jets(100).to_csv(folder / "dataset_42468.csv", index=False)


def jsc_cernbox(folder: Path) -> None:
    h5py = pytest.importorskip("h5py")
    frame = jets(100)
    columns = {f"j_{name}": frame[name] for name in _JET}
    columns |= {f"j_{kind}": (frame["class"] == kind).astype(np.int32) for kind in "gqwzt"}
    table = pd.DataFrame(columns | {"j_index": np.arange(100)}).to_records(index=False)
    with h5py.File(folder / TABLES["jsc-cernbox"].files[0], "w") as file:
        file["t_allpar_new"] = np.concatenate([table, table[:10]])


def nid(folder: Path) -> None:
    for name, rows in zip(TABLES["nid"].files, (90, 40), strict=True):
        frame = pd.DataFrame(
            {
                "id": np.arange(rows),
                "dur": RNG.random(rows),
                "proto": RNG.choice(["tcp", "udp", "arp"], rows),
                "service": RNG.choice(["-", "http", "dns"], rows),
                "spkts": RNG.integers(1, 99, rows),
                "attack_cat": "Normal",
                "label": np.arange(rows) % 2,
            }
        )
        frame.to_csv(folder / name, index=False, encoding="utf-8-sig" if rows == 90 else "utf-8")


def california_housing(folder: Path) -> None:
    rows = RNG.integers(1, 500_000, (100, len(_HOUSES))).astype(float)
    np.savetxt(folder / "cal_housing.data", rows, fmt="%.6f", delimiter=",")


WRITERS = {
    "adult": (adult, 110, 2),
    "jsc-openml": (jsc_openml, 100, 5),
    "jsc-cernbox": (jsc_cernbox, 100, 5),
    "nid": (nid, 130, 2),
    "california-housing": (california_housing, 100, 1),
}


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

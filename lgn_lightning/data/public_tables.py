"""Tables that are public but not shipped: they are read from the files that their makers publish."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lgn_lightning.base.choice import check_choice
from lgn_lightning.base.errors import DataError
from lgn_lightning.data.table import Table, _Named
from lgn_lightning.data.table_file import SUFFIXES, check_frame, read_table

if TYPE_CHECKING:
    import pandas as pd

#: Substructure of a jet, in both data sets of jets.
_JET: Final = (
    *("zlogz", "c1_b0_mmdt", "c1_b1_mmdt", "c1_b2_mmdt", "c2_b1_mmdt", "c2_b2_mmdt", "d2_b1_mmdt", "d2_b2_mmdt"),
    *("d2_a1_b1_mmdt", "d2_a1_b2_mmdt", "m2_b1_mmdt", "m2_b2_mmdt", "n2_b1_mmdt", "n2_b2_mmdt", "mass_mmdt"),
    "multiplicity",
)
_ADULT: Final = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship"),
    *("race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income"),
)
_HOUSES: Final = (
    *("longitude", "latitude", "housing_median_age", "total_rooms", "total_bedrooms", "population", "households"),
    *("median_income", "median_house_value"),
)


def _without_header(path: Path, names: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd  # takes half a second, which nothing but tables needs

    frame = pd.read_csv(
        path, names=list(names), skipinitialspace=True, na_values=["?"], comment="|", dtype_backend="numpy_nullable"
    )
    if frame.iloc[:, -1].isna().any():
        raise DataError(f"{path} has not the {len(names)} columns {', '.join(names[:3])}, …")
    return frame


def _adult(path: Path) -> pd.DataFrame:
    """The test file writes a full stop behind each class."""
    frame = _without_header(path, _ADULT)
    return frame.assign(income=frame["income"].astype(str).str.rstrip("."))


def _jets_of_cernbox(path: Path) -> pd.DataFrame:
    """A compound table in HDF5, of which equal rows are one, as in LogicNets."""
    import numpy as np
    import pandas as pd  # as above

    try:
        import h5py  # of the extra
    except ImportError as error:
        raise DataError(f"{path}: HDF5 files need h5py: pip install 'lgn-lightning[hdf5]'") from error
    kinds = [f"j_{kind}" for kind in "gqwzt"]
    try:
        with h5py.File(path) as file:
            rows = file["t_allpar_new"]
            found = {name: rows[name] for name in [*(f"j_{name}" for name in _JET), *kinds]}
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} holds no table t_allpar_new of jets ({error})") from error
    frame = pd.DataFrame({name: found[f"j_{name}"] for name in _JET})
    one_hot = np.stack([found[kind] for kind in kinds], axis=1)
    if not (one_hot.sum(1) == 1).all():
        raise DataError(f"{path}: not every row is of one of the kinds {', '.join(kinds)}")
    return frame.assign(**{"class": np.array(list("gqwzt"))[one_hot.argmax(1)]}).drop_duplicates()


@dataclass(frozen=True)
class _Public:
    """Where a table is from, and how its files are read; the second one holds the test rows."""

    files: tuple[str, ...]
    target: str
    source: str
    read: Callable[[Path], pd.DataFrame] = read_table
    drop: tuple[str, ...] = ()


TABLES: Final = {
    "adult": _Public(("adult.data", "adult.test"), "income", "https://archive.ics.uci.edu/dataset/2/adult", _adult),
    "jsc-openml": _Public(("dataset_42468.pq",), "class", "https://www.openml.org/d/42468 (Parquet, or saved as CSV)"),
    "jsc-cernbox": _Public(
        ("processed-pythia82-lhc13-all-pt1-50k-r1_h022_e0175_t220_nonu_truth.z",),
        "class",
        "https://cernbox.cern.ch/index.php/s/jvFd5MoWhGs1l5v/download",
        _jets_of_cernbox,
    ),
    "nid": _Public(
        ("UNSW_NB15_training-set.csv", "UNSW_NB15_testing-set.csv"),
        "label",
        "https://research.unsw.edu.au/projects/unsw-nb15-dataset",
        drop=("id", "attack_cat"),
    ),
    "california-housing": _Public(
        ("cal_housing.data",),
        "median_house_value",
        "https://www.dcc.fc.up.pt/~ltorgo/Regression/cal_housing.html",
        lambda path: _without_header(path, _HOUSES),
    ),
}


class PublicTable(Table):
    """A public table, read from its makers' files in ``root``, or in a folder there that has its name.

    - ``adult``: 32,561 + 16,281 people, 14 columns, income above 50,000 dollars or not (Kohavi, 1996).
    - ``jsc-openml``: 830,000 jets, 16 numbers, 5 kinds (OpenML 42468). As CSV or Parquet.
    - ``jsc-cernbox``: jets of LogicNets (Umuroglu et al., 2020), the same 16 numbers and 5 kinds of another sample:
      accuracies of the two are not comparable.
    - ``nid``: UNSW-NB15, 175,341 + 82,332 connections, 42 columns, attack or not (Moustafa and Slay, 2015). The papers
      on logic nets take 593 bits that others made of it, which these rows are not.
    - ``california-housing``: 20,640 districts, 8 numbers, the median price of a house (Pace and Barry, 1997).

    ``path``, and ``test_path`` where there are two files, name other places. A fifth of the rows is the test split
    where there is one file.

    Args:
        name: Which one.
        drop: Columns to leave out.
        **kwargs: More arguments of :class:`Table`.

    Raises:
        ValueError: If there is no such table.
    """

    def __init__(self, name: str, drop: list[str] | None = None, **kwargs: Any) -> None:
        check_choice("name", name, TABLES)
        self._public = public = TABLES[name]
        super().__init__(target=public.target, drop=[*public.drop, *(drop or ())], **kwargs)
        self.name: str = name

    @property
    def has_test(self) -> bool:
        """Whether there are test rows."""
        return len(self._public.files) > 1 or super().has_test

    def _tables(self) -> tuple[_Named, _Named | None]:
        public = self._public
        train = self._frame_of(public, public.files[0], self.path, "path")
        if len(public.files) == 1:
            return train, None if self.test_path is None else self._frame_of(public, "", self.test_path, "test_path")
        return train, self._frame_of(public, public.files[1], self.test_path, "test_path")

    def _frame_of(self, public: _Public, file: str, given: Path | None, key: str) -> _Named:
        path = self._find(public, file) if given is None else given
        if not path.is_file():
            raise DataError(
                f"there is no {path}; get {' and '.join(public.files)} from {public.source}, and say where: "
                f"--data.root <its folder>, or --data.{key} <the file>"
            )
        try:
            frame = check_frame(public.read(path), str(path))
        except (OSError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path} cannot be read as {self.name}: {error}") from error
        return self._with_gaps(frame), str(path)

    def _find(self, public: _Public, file: str) -> Path:
        """The file in the data folder, by its name, or by its stem and another suffix of tables."""
        folders = self.root / self.name, self.root
        names = [file] if public.read is not read_table else [file, *(Path(file).stem + suffix for suffix in SUFFIXES)]
        found = (folder / name for folder in folders for name in names if (folder / name).is_file())
        return next(found, folders[1] / file)

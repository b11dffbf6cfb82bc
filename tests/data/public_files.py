"""Generated rows in the form in which the makers of public tables publish them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lgn_lightning.data.public_tables import _ADULT, _HOUSES, _JET, TABLES

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


#: By table: what writes its files into a folder, their rows, and classes or numbers.
WRITERS = {
    "adult": (adult, 110, 2),
    "jsc-openml": (jsc_openml, 100, 5),
    "jsc-cernbox": (jsc_cernbox, 100, 5),
    "nid": (nid, 130, 2),
    "california-housing": (california_housing, 100, 1),
}

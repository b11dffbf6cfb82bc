from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest

from lgn_lightning.data import DataError
from lgn_lightning.data.table_file import as_frame, read_table


def write(path: Path, text: str | bytes) -> Path:
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix.lower() == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_short_lines_behind_those_that_tell_the_form_are_no_missing_values(tmp_path: Path, name: str) -> None:
    lines = ["a,b,c", *(f"{i},{i},{i}" for i in range(300))]
    assert read_table(write(tmp_path / name, "\n".join([*lines, "7,8,"])))["c"].isna().sum() == 1
    with pytest.raises(DataError, match="row 301 has 2 fields"):
        read_table(write(tmp_path / name, "\n".join([*lines, "7,8", "1,2,3"])))


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_whole_numbers_stay_exact_beside_missing_ones(tmp_path: Path, name: str) -> None:
    frame = read_table(write(tmp_path / name, f"a,b\n{2**62 + 1},x\n,y\n"))
    assert frame["a"].tolist()[0] == 2**62 + 1
    assert frame["a"].isna().tolist() == [False, True]


def test_suffixes_in_capitals_are_the_same(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    table.to_parquet(tmp_path / "A.PARQUET")
    write(tmp_path / "A.CSV.GZ", "a,b\n1,x\n2,y\n")
    for name in ("A.PARQUET", "A.CSV.GZ"):
        assert read_table(tmp_path / name).to_dict("list") == {"a": [1, 2], "b": ["x", "y"]}


def test_large_files_in_another_encoding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["straße,n", *(f"ü{i},{i}" for i in range(60_000))]
    text = "\n".join(lines)
    for encoding in ("latin-1", "utf-8", "utf-16"):
        frame = read_table(write(tmp_path / "a.csv", text.encode(encoding)))
        assert frame["straße"].iloc[-1] == "ü59999"
        assert ("Latin-1" in capsys.readouterr().err) == (encoding == "latin-1")
    late = text.replace("ü", "u").replace("ß", "s").encode() + "\nü,1".encode("latin-1")
    with pytest.raises(DataError, match=r"utf-8.*write the file in UTF-8"):
        read_table(write(tmp_path / "a.csv", late))


def test_semicolons_decimal_commas_and_a_byte_order_mark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = read_table(write(tmp_path / "a.csv", "\ufeffgröße;n\n1,5;a\n2,25;b\n"))
    assert frame["größe"].tolist() == [1.5, 2.25]
    said = capsys.readouterr().err
    assert all(word in said for word in ("';'", "decimal commas", "byte-order mark"))


@pytest.mark.parametrize("mark", ["\u2028", "\x85", "\x0b", "\x0c", "\x1c"])
def test_only_line_feeds_and_carriage_returns_end_lines(tmp_path: Path, mark: str) -> None:
    for end in ("\n", "\r\n", "\r"):
        frame = read_table(write(tmp_path / "a.csv", end.join(["a,n", f"x{mark}y,1", "z,2", ""])))
        assert frame["a"].tolist() == [f"x{mark}y", "z"]


def test_text_that_is_no_utf_8_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = read_table(write(tmp_path / "a.csv", "größe,n\n1,ü\n".encode("latin-1")))
    assert frame["n"].tolist() == ["ü"]
    assert "Latin-1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("a,b\n", "0 rows"),
        ("a,a\n1,2\n", "'a'"),
        (",a\n0,1\n", "column 1"),
        ("a,b\n1,2\n3\n4,5\n", "row 2 has 1 fields"),
        ("1.5,2.5\n1,2\n", "header"),
    ],
)
def test_what_is_no_table(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_table(write(tmp_path / "a.csv", text))


def test_paths_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no table"):
        read_table(tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"\.csv"):
        read_table(write(tmp_path / "a.xlsx", "a"))


def test_parquet_keeps_types(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    made = pd.DataFrame({"a": pd.array([2**60 + 1, None], "Int64"), "b": [1.5, 2.5], "c": ["x", None]})
    made.to_parquet(tmp_path / "a.parquet")
    read = read_table(tmp_path / "a.parquet")
    assert read["a"].tolist()[0] == 2**60 + 1
    assert read["b"].tolist() == [1.5, 2.5]
    assert read.isna().to_numpy().tolist() == made.isna().to_numpy().tolist()


def test_frames_of_others() -> None:
    class Polars:
        def to_pandas(self) -> pd.DataFrame:
            return pd.DataFrame({"a": [1]})

    assert as_frame(Polars())["a"].tolist() == [1]
    assert as_frame({"a": [1, 2]})["a"].tolist() == [1, 2]
    with pytest.raises(DataError, match="list"):
        as_frame([1])
    with pytest.raises(DataError, match="'a'"):
        as_frame(pd.DataFrame([[1, 2]], columns=["a", "a"]))

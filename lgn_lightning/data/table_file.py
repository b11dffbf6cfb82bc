"""Reads tables: CSV and Parquet files, frames, arrays. What was found out about a file is said."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lgn_lightning.base.errors import DataError, note

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES: Final = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".parquet", ".pq")
#: Bytes that tell the form of a CSV file, and lines of them that are looked at.
_HEAD, _LINES = 1 << 18, 100
_NULLABLE: Final = ("Float32", "Float64", "boolean", *(f"{u}Int{n}" for u in ("", "U") for n in (8, 16, 32, 64)))
_NO_PYARROW: Final = "Parquet files need pyarrow: pip install 'lgn-lightning[parquet]'"
_SEPARATORS: Final = ",;\t|"
_COMMA: Final = re.compile(r"\s*[-+]?\d+,\d+([eE][-+]?\d+)?\s*")
_POINT: Final = re.compile(r"\s*[-+]?\d*\.\d+([eE][-+]?\d+)?\s*")
_NUMBER: Final = re.compile(r"\s*[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?\s*")


@dataclass(frozen=True)
class CsvForm:
    """How a CSV file is written.

    Attributes:
        names: The header.
        separator: Between fields.
        decimal: Decimal mark.
        encoding: Of its text.
    """

    names: list[str]
    separator: str
    decimal: str
    encoding: str


def is_table_file(path: Path) -> bool:
    """Whether a path has a suffix that `read_table` knows."""
    return path.name.lower().endswith(SUFFIXES)


def read_table(path: Path) -> pd.DataFrame:
    """Reads a table; columns keep exact integers, and missing values are NA.

    Raises:
        DataError: If there is none, or its form is not clear; the message says what to mend.
    """
    if not path.is_file():
        if path.exists():
            raise DataError(f"{path} is a folder or a pipe: give a CSV (also .gz) or Parquet file")
        raise DataError(f"there is no table {path}; give a CSV (also .gz) or Parquet file")
    if not is_table_file(path):
        raise DataError(f"{path} is no table by its name: {', '.join(SUFFIXES)}")
    import pandas as pd  # takes half a second, which nothing but tables needs

    try:
        if _is_parquet(path):
            frame = pd.read_parquet(path, dtype_backend="numpy_nullable")
        else:
            form = csv_form(path)
            frame = pd.read_csv(path, **_csv_options(form))
            if frame.shape[1] and frame.iloc[:, -1].isna().any():
                _refuse_short_lines(path, form)
    except DataError:
        raise
    except ImportError as error:
        raise DataError(f"{path}: {_NO_PYARROW}") from error
    except (OSError, ValueError, EOFError, csv.Error) as error:
        raise _unreadable(path, error) from error
    return check_frame(frame, str(path))


def read_chunks(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    """Reads a table a number of rows at a time; otherwise as `read_table`.

    A column may come as numbers in one piece and as text in another.
    """
    import pandas as pd  # as above

    if _is_parquet(path):
        try:
            from pyarrow import parquet  # of the extra
        except ImportError as error:
            raise DataError(f"{path}: {_NO_PYARROW}") from error
        # Without pre_buffer: it keeps all that was read.
        for batch in parquet.ParquetFile(path, pre_buffer=False).iter_batches(rows):
            yield check_frame(batch.to_pandas(types_mapper=_nullable), str(path))
        return
    form = csv_form(path)
    try:
        with pd.read_csv(path, chunksize=rows, **_csv_options(form)) as chunks:
            for chunk in chunks:
                yield check_frame(chunk, str(path))
    except (OSError, ValueError, EOFError) as error:
        if isinstance(error, DataError):
            raise
        raise _unreadable(path, error) from error


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".pq")


def _is_compressed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _unreadable(path: Path, error: Exception) -> DataError:
    mend = "; write the file in UTF-8" if isinstance(error, UnicodeDecodeError) else ""
    return DataError(f"{path} cannot be read as a table: {error}{mend}")


def _nullable(kind: Any) -> Any:
    """Types in which whole numbers with gaps stay whole; None for those that pandas chooses."""
    import pandas as pd  # as above

    name = {"double": "Float64", "float": "Float32", "bool": "boolean"}.get(str(kind), str(kind).title())
    name = name.replace("Uint", "UInt")
    return pd.api.types.pandas_dtype(name) if name in _NULLABLE else None


def _csv_options(form: CsvForm) -> dict[str, Any]:
    return {
        "sep": form.separator,
        "decimal": form.decimal,
        "encoding": form.encoding,
        "dtype_backend": "numpy_nullable",
        "low_memory": False,
        "index_col": False,
        "skip_blank_lines": True,
    }


def as_frame(table: Any) -> pd.DataFrame:
    """A pandas frame of a pandas or polars one, an Arrow table, or a mapping of arrays.

    Raises:
        DataError: If it is none of them.
    """
    import pandas as pd  # as above

    if hasattr(table, "to_pandas"):
        table = table.to_pandas()
    elif isinstance(table, dict):
        table = pd.DataFrame(table)
    if not isinstance(table, pd.DataFrame):
        raise DataError(f"a table is a pandas or polars frame, and not {type(table).__name__}")
    return check_frame(table, "the frame")


def check_frame(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """Refuses a table without rows, and names that are no names or occur twice."""
    names = [str(name) for name in frame.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{source} has several columns with the name {twice[0]!r}: rename them")
    unfit = [name for name in names if not name.strip() or not name.isprintable()]
    if unfit:
        raise DataError(f"{source} has a column with the name {unfit[0]!r}: rename it")
    if frame.empty:
        raise DataError(f"{source} has {len(frame)} rows and {len(names)} columns: there is nothing in it")
    return frame.set_axis(names, axis=1).reset_index(drop=True)


def csv_form(path: Path) -> CsvForm:
    """Finds separator, decimal mark and encoding of a CSV file, and says what is not the usual.

    Raises:
        DataError: If its header is none.
    """
    with gzip.open(path, "rb") if _is_compressed(path) else path.open("rb") as file:
        head = file.read(_HEAD)
    whole = len(head) < _HEAD
    if not head.strip():
        raise DataError(f"{path} is empty")
    encoding = "utf-8-sig" if head.startswith(b"\xef\xbb\xbf") else "utf-8"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    try:
        text = codecs.getincrementaldecoder(encoding)("strict").decode(head, final=whole)  # the end may be cut off
    except UnicodeDecodeError:
        encoding, text = "latin-1", head.decode("latin-1")
    # Not by `splitlines`: other characters that it takes for ends of lines are text in a field.
    lines = [line.rstrip("\r\n") for line in io.StringIO(text, newline="")][: _LINES + 1]
    if not whole and len(lines) <= _LINES:
        lines = lines[:-1]  # the last may be cut off
    found = {mark: _fields(lines, mark) for mark in _SEPARATORS}
    # The separator by which all lines have as many fields as the header, and the most.
    separator = max(found, key=lambda mark: (_is_even(found[mark]), len(found[mark][0])))
    rows = found[separator]
    names = [name.strip() for name in rows[0]]
    _check_header(path, names)
    uneven = [number for number, row in enumerate(rows[1:], 1) if len(row) != len(names)]
    if uneven and (uneven[0] < len(rows) - 1 or whole):  # the last may be cut off
        raise _uneven(path, uneven[0], rows[uneven[0]], names)
    fields = [field for row in rows[1:] for field in row]
    commas = separator != "," and any(map(_COMMA.fullmatch, fields)) and not any(map(_POINT.fullmatch, fields))
    said = [f"the separator {separator!r}"] if separator != "," else []
    said += ["decimal commas"] if commas else []
    said += ["a byte-order mark"] if encoding in ("utf-8-sig", "utf-16") else []
    said += ["text that is no UTF-8, read as Latin-1"] if encoding == "latin-1" else []
    if said:
        note(f"{path} has {', '.join(said)}")
    return CsvForm(names, separator, "," if commas else ".", encoding)


def _refuse_short_lines(path: Path, form: CsvForm) -> None:
    """Looks at all lines: pandas takes what a short one lacks for missing values."""
    with (
        gzip.open(path, "rt", encoding=form.encoding, newline="")
        if _is_compressed(path)
        else path.open(encoding=form.encoding, newline="")
    ) as file:
        for number, row in enumerate(filter(None, csv.reader(file, delimiter=form.separator))):
            if len(row) != len(form.names):
                raise _uneven(path, number, row, form.names)


def _uneven(path: Path, number: int, row: list[str], names: list[str]) -> DataError:
    return DataError(f"{path}: row {number} has {len(row)} fields ({row[0]!r}, …), and the header {len(names)}")


def _fields(lines: list[str], separator: str) -> list[list[str]]:
    return [row for row in csv.reader(lines, delimiter=separator) if row] or [[]]


def _is_even(rows: list[list[str]]) -> bool:
    return len(rows[0]) > 1 and all(len(row) == len(rows[0]) for row in rows)


def _check_header(path: Path, names: list[str]) -> None:
    nameless = [index for index, name in enumerate(names, 1) if not name]
    if nameless:
        raise DataError(
            f"{path}: column {nameless[0]} has no name in the header; name it (frame.to_csv(index=False) writes no "
            "index)"
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path} has several columns with the name {twice[0]!r}: rename them")
    if all(map(_NUMBER.fullmatch, names)):
        raise DataError(f"{path}: its first line holds numbers alone ({', '.join(names[:3])}, …): add a header")

"""From a frame to rows: what a column holds is found once, from the training rows; every later frame must fit it."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.base.columns import UNSEEN, Column, Rows, codes_of, make_rows
from lgn_lightning.base.errors import DataError
from lgn_lightning.data.table_remedies import Options, Remedies

if TYPE_CHECKING:
    import pandas as pd

#: What a user may say that a column holds. ``numeric`` is float32, or float64 where float32 cannot tell values apart.
TYPES: Final = ("numeric", "float32", "float64", "integer", "boolean", "category")
#: Share of the distinct values that float32 may merge.
_MERGED: Final = 0.1
#: Categories that a column may have unless it is said to be one: half as many as rows, but so many at most, and a few
#: always.
MAX_CATEGORIES: Final = 1000
FEW_CATEGORIES: Final = 20
_OPTIONS: Final = Options()
_TRUTHS: Final = {"true": 1, "false": 0, "1": 1, "0": 0, "yes": 1, "no": 0}


class _UselessError(DataError):
    """A column that says nothing as it is: leaving it out mends that; ``otherwise`` is what else does."""

    def __init__(self, name: str, what: str, otherwise: str = "") -> None:
        super().__init__(f"column {name!r} {what}")
        self.name, self.otherwise = name, otherwise


@dataclass
class RowNotes:
    """What was noticed while rows were made.

    By column: how many values are of unseen categories, or missing where none was in training; and unused columns.
    """

    unseen: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    extra: list[str] = field(default_factory=list)

    def add(self, more: RowNotes) -> None:
        """Adds those of further rows."""
        for own, new in ((self.unseen, more.unseen), (self.missing, more.missing)):
            for name, count in new.items():
                own[name] = own.get(name, 0) + count
        self.extra = more.extra

    def lines(self) -> list[str]:
        """One line a matter."""
        found = [
            f"{name}: {count:,} values are categories that the training had none of"
            for name, count in self.unseen.items()
        ]
        found += [
            f"{name}: {count:,} values are missing, and none was in training" for name, count in self.missing.items()
        ]
        return found + ([f"columns that are not used: {', '.join(self.extra)}"] if self.extra else [])


def find_columns(frame: pd.DataFrame, types: Mapping[str, str], source: str, remedies: Remedies) -> tuple[Column, ...]:
    """Finds what each column of the training rows holds.

    ``types`` is what the user says of some, ``source`` the file, and ``remedies`` say what mends a column.

    Raises:
        DataError: If a column is of no use as it is: all missing, of mixed types, dates, too many categories. All
            columns that are to be left out are named at once.
    """
    for name, kind in types.items():
        require_columns(frame.columns, [name], source, "data.types")
        if kind not in TYPES:
            raise DataError(f"data.types gives {name!r} the type {kind!r}; there are {', '.join(TYPES)}")
    columns: list[Column] = []
    useless: list[_UselessError] = []
    for name in frame.columns:
        try:
            columns.append(_find(frame[name], types.get(name), f"{source}, column {name!r}", remedies))
        except _UselessError as error:
            useless.append(error)
    if useless:
        drop = remedies.leave_out([error.name for error in useless])
        which = "it" if len(useless) == 1 else "them"
        rest = "".join(error.otherwise for error in useless)
        raise DataError(f"{source}, {'; '.join(map(str, useless))}; leave {which} out: {drop}{rest}")
    return tuple(columns)


def without_marks(frame: pd.DataFrame, marks: Sequence[str]) -> pd.DataFrame:
    """The frame with gaps where a value is a mark of a missing one: a text, or the number that it stands for."""
    numbers = []
    for mark in marks:
        with suppress(ValueError):
            numbers.append(float(mark))
    for name in frame.columns if marks else ():
        is_number = frame[name].dtype.kind in "iuf"
        marked = frame[name] if is_number else frame[name].astype(object)
        frame = frame.assign(**{name: marked.mask(marked.isin(numbers if is_number else marks))})
    return frame


def counts_rows(values: pd.Series[Any]) -> bool:
    """Whether whole numbers only count the rows, as keys do, with gaps where other rows were taken out."""
    if values.dtype.kind not in "iu" or len(values) < FEW_CATEGORIES:
        return False
    counts = values.is_monotonic_increasing and values.is_unique
    return bool(counts and values.iloc[-1] - values.iloc[0] < 2 * len(values))


def require_columns(names: Sequence[str], wanted: Sequence[str], source: str, what: str) -> None:
    """Refuses names that a table does not have.

    Raises:
        DataError: If so, with the nearest names.
    """
    for name in wanted:
        if name not in list(names):
            near = difflib.get_close_matches(name, list(names), 3, 0.5) or list(names)[:8]
            raise DataError(f"{source} has no column {name!r} ({what}); there is {', '.join(map(repr, near))}")


def _find(values: pd.Series[Any], said: str | None, where: str, remedies: Remedies) -> Column:
    import pandas as pd  # takes half a second, which nothing but tables needs

    name, types = str(values.name), pd.api.types
    known = values.dropna()
    if known.empty:
        raise _UselessError(name, f"has {len(values):,} values, which are all missing")
    kind = said or _kind(values, known, where, remedies)
    if kind == "category":
        categories = tuple(sorted(set(map(text_of, known))))
        if said is None and len(categories) > min(MAX_CATEGORIES, max(FEW_CATEGORIES, len(known) // 2)):
            raise _UselessError(
                name,
                f"has {len(categories):,} categories in {len(known):,} values, as names or keys have",
                f"; or say that {name!r} is a category: {remedies.as_category(name)}",
            )
        return Column(name, "category", categories)
    if kind == "boolean":
        return Column(name, "boolean")
    if kind == "integer":
        whole = _whole(values, where, remedies)
        known_whole = whole[whole != np.iinfo(np.int64).min]
        # Strictly inside: the ends stand for a missing value and for everything beyond.
        narrow = known_whole.size == 0 or (
            np.iinfo(np.int32).min + 1 < known_whole.min() and known_whole.max() < np.iinfo(np.int32).max
        )
        return Column(name, "int32" if narrow else "int64")
    if kind == "numeric":
        if types.is_float_dtype(values.dtype) and str(values.dtype).lower() == "float32":
            return Column(name, "float32")
        wide = np.unique(numbers_of(known, where))
        with np.errstate(over="ignore"):
            narrow_count = np.unique(wide.astype(np.float32)).size
        return Column(name, "float32" if narrow_count >= (1 - _MERGED) * wide.size else "float64")
    return Column(name, kind)


def _kind(values: pd.Series[Any], known: pd.Series[Any], where: str, remedies: Remedies) -> str:
    """The type of a column that the user says nothing of."""
    import pandas as pd  # as above

    name, types = values.name, pd.api.types
    if isinstance(values.dtype, pd.CategoricalDtype):
        return "category"
    if types.is_bool_dtype(values.dtype):
        return "boolean"
    if types.is_integer_dtype(values.dtype):
        return "integer"
    if types.is_numeric_dtype(values.dtype) and not types.is_complex_dtype(values.dtype):
        return "numeric"
    if types.is_datetime64_any_dtype(values.dtype) or types.is_timedelta64_dtype(values.dtype):
        raise _date(str(name), known.iloc[0])
    if {type(value) for value in known} <= {bool, np.bool_}:
        return "boolean"
    if any(not isinstance(value, str) for value in known):
        kinds = sorted({type(value).__name__ for value in known})
        if set(kinds) <= {"int", "float", "Decimal", "int64", "float64"}:
            return "numeric"
        raise DataError(f"{where} holds {' and '.join(kinds)}: convert it to one of {', '.join(TYPES)}")
    numbers = pd.to_numeric(known, errors="coerce")
    share = float(numbers.notna().mean())
    if share > 0.5:  # else numbers are names, such as those of categories 1, 2, other
        odd = known[numbers.isna()].unique().tolist()
        if not odd:
            return "numeric"
        shown, as_category = ", ".join(map(repr, odd[:3])), remedies.as_category(str(name))
        raise DataError(
            f"{where} has mixed types: {share:.0%} of its values are numbers, others are {shown}; if these mean "
            f"'missing', {remedies.missing(odd[0])} says so, else {as_category}"
        )
    if share == 0:
        sample = known.iloc[:200]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dates = pd.to_datetime(sample, errors="coerce", format="mixed", utc=True).notna()
        if bool(dates.all()) and sample.str.contains(r"\d").all() and sample.str.contains(r"[-/:.]").all():
            raise _date(str(name), known.iloc[0])
    return "category"


def _date(name: str, example: object) -> _UselessError:
    return _UselessError(
        name,
        f"holds dates ({example}): a net of gates needs what matters of them, such as the hour, the weekday or the "
        "days since a day, as columns of their own",
    )


def text_of(value: object) -> str:
    """The name of a category or class: whole floats as whole numbers."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def make_table_rows(
    columns: Sequence[Column],
    frame: pd.DataFrame,
    source: str,
    gaps: Collection[str] | None = None,
    remedies: Remedies = _OPTIONS,
) -> tuple[Rows, RowNotes]:
    """Rows of a frame, by the names of the columns, whatever their order.

    ``gaps`` are the columns with missing values in training; those of others are noted. ``remedies`` say what mends a
    column.

    Whole numbers beyond a column's type become the largest or smallest of it, which leaves all comparisons as they are.

    Raises:
        DataError: If columns are missing, or hold what cannot be of their type.
    """
    notes = RowNotes()
    names = [column.name for column in columns]
    lacking = [name for name in names if name not in frame.columns]
    if lacking:
        also = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
        near = difflib.get_close_matches(lacking[0], [n for n in frame.columns if n not in names], 1, 0.5)
        renamed = f"; {near[0]!r} is nearest: rename it if it is the same" if near else ""
        raise DataError(f"{source} lacks the column {lacking[0]!r}{also}{renamed}")
    notes.extra = [str(name) for name in frame.columns if name not in names]
    values = [
        _stored(column, frame[column.name], f"{source}, column {column.name!r}", notes, remedies) for column in columns
    ]
    if gaps is not None:
        missing = {c.name: int(c.is_missing(v).sum()) for c, v in zip(columns, values, strict=True)}
        notes.missing = {name: count for name, count in missing.items() if count and name not in gaps}
    return make_rows(columns, values), notes


def _stored(column: Column, values: pd.Series[Any], where: str, notes: RowNotes, remedies: Remedies) -> NDArray[Any]:
    if column.kind == "category":
        missing = values.isna().to_numpy(dtype=bool)
        codes = codes_of(column.categories)
        unique, inverse = np.unique(
            values.astype(object).where(~missing, "").map(text_of).to_numpy(str), return_inverse=True
        )
        found = np.array([codes.get(name, UNSEEN) for name in unique.tolist()], np.int32)[inverse]
        unseen = int(np.sum((found == UNSEEN) & ~missing))
        if unseen:
            notes.unseen[column.name] = unseen
        return np.where(missing, np.int32(column.missing), found).astype(np.int32)
    if column.is_float:
        with np.errstate(over="ignore"):
            return numbers_of(values, where).astype(column.dtype)
    return column.convert(_whole(values, where, remedies, column.kind == "boolean"))


def truths_of(values: pd.Series[Any], where: str) -> NDArray[np.int64]:
    """0 and 1 of true and false; a DataError if there is anything else."""
    return _whole(values, where, _OPTIONS, truths=True)


def numbers_of(values: pd.Series[Any], where: str) -> NDArray[np.float64]:
    """Numbers, NaN where they are missing; a DataError if a value is none."""
    import pandas as pd  # as above

    types = pd.api.types
    if not types.is_numeric_dtype(values.dtype):
        dates = types.is_datetime64_any_dtype(values.dtype) or types.is_timedelta64_dtype(values.dtype)
        # Dates would be counts of nanoseconds.
        numbers = values.isna().map({True: np.nan}) if dates else pd.to_numeric(values, errors="coerce")
        odd = values[numbers.isna() & values.notna()]
        if len(odd):
            raise DataError(f"{where} holds numbers, but row {odd.index[0] + 1} is {_shown(odd.iloc[0])}")
        values = numbers
    return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))


def _shown(value: Any) -> str:
    """A value in a message: a number as Python writes it."""
    return repr(value.item() if isinstance(value, np.generic) else value)


def _whole(values: pd.Series[Any], where: str, remedies: Remedies, truths: bool = False) -> NDArray[np.int64]:
    """Whole numbers, exactly; the smallest int64 stands for a missing one."""
    import pandas as pd  # as above

    missing = values.isna().to_numpy(dtype=bool)
    least = np.iinfo(np.int64).min
    if pd.api.types.is_integer_dtype(values.dtype) or pd.api.types.is_bool_dtype(values.dtype):
        if pd.api.types.is_unsigned_integer_dtype(values.dtype):
            values = values.clip(upper=np.iinfo(np.int64).max)
        whole = values.to_numpy(dtype=np.int64, na_value=0)
        whole = np.maximum(whole, least + 1)
    elif truths and not pd.api.types.is_numeric_dtype(values.dtype):
        mapped = values.where(~missing, "0").map(lambda value: _TRUTHS.get(str(value).strip().lower()))
        odd = values[mapped.isna()]
        if len(odd):
            raise DataError(f"{where} is true or false, but row {odd.index[0] + 1} is {_shown(odd.iloc[0])}")
        whole = mapped.to_numpy(dtype=np.int64)
    else:
        numbers = np.where(missing, 0.0, numbers_of(values, where))
        odd = np.flatnonzero(numbers != np.floor(numbers))  # false for infinities, which are clipped
        if odd.size:
            raise DataError(
                f"{where} holds whole numbers, but row {values.index[odd[0]] + 1} is {_shown(values.iloc[odd[0]])}; "
                f"{remedies.as_numbers(str(values.name))}"
            )
        inside = np.clip(numbers, -(2.0**63 - 1024), 2.0**63 - 1024)
        whole = np.where(numbers >= 2.0**63, np.iinfo(np.int64).max, inside.astype(np.int64))
        whole = np.where(numbers < -(2.0**63 - 1024), least + 1, whole)
    if truths:
        odd = np.flatnonzero((whole != 0) & (whole != 1) & ~missing)
        if odd.size:
            raise DataError(
                f"{where} is true or false, but row {values.index[odd[0]] + 1} is {_shown(values.iloc[int(odd[0])])}"
            )
    return np.where(missing, least, whole).astype(np.int64)

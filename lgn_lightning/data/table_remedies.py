"""What mends a column that is of no use as it is: options of a command line, or a line of pandas for a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from lgn_lightning.base.settings_text import option


class Options:
    """Of ``lgn fit``; ``dropped`` are the columns that are left out already."""

    def __init__(self, dropped: Sequence[str] = ()) -> None:
        self._dropped = dropped

    def leave_out(self, names: Sequence[str]) -> str:
        return option("data.drop", [*self._dropped, *names])

    def as_category(self, name: str) -> str:
        return option("data.types", {name: "category"})

    def as_numbers(self, name: str) -> str:
        """What lets a column of whole numbers hold fractions, too."""
        return f"{option('data.types', {name: 'numeric'})} in training, or floats in a frame, take both"

    def missing(self, value: Any) -> str:
        """Says that a value means that there is none."""
        return option("data.missing", [value])


class FrameMethods:
    """Of a pandas.DataFrame named ``X``, as scikit-learn has it."""

    def leave_out(self, names: Sequence[str]) -> str:
        return f"X.drop(columns={list(names)})"

    def as_category(self, name: str) -> str:
        return f"X.astype({dict.fromkeys([name], 'category')})"

    def as_numbers(self, name: str) -> str:
        return f"fit with X.astype({dict.fromkeys([name], 'float')}) takes both"

    def missing(self, value: Any) -> str:
        return f"X.replace({value!r}, float('nan'))"


Remedies: TypeAlias = Options | FrameMethods

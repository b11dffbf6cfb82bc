"""What mends a column that is of no use as it is: options of a command line, or a line of pandas for a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from lgn_lightning.base.settings_text import option


class Remedies(Protocol):
    """Words for the end of an error."""

    def leave_out(self, names: Sequence[str]) -> str:
        """Leaves these columns out."""

    def take_as(self, name: str, kind: str) -> str:
        """Says what type a column has."""

    def missing(self, value: Any) -> str:
        """Says that a value means that there is none."""


class Options:
    """Of ``lgn fit``; ``dropped`` are the columns that are left out already."""

    def __init__(self, dropped: Sequence[str] = ()) -> None:
        self._dropped = dropped

    def leave_out(self, names: Sequence[str]) -> str:
        return option("data.drop", [*self._dropped, *names])

    def take_as(self, name: str, kind: str) -> str:
        return option("data.types", {name: kind})

    def missing(self, value: Any) -> str:
        return option("data.missing", [value])


class FrameMethods:
    """Of a pandas.DataFrame named ``X``, as scikit-learn has it."""

    def leave_out(self, names: Sequence[str]) -> str:
        return f"X.drop(columns={list(names)!r})"

    def take_as(self, name: str, kind: str) -> str:
        return f"X.astype({ ({name: kind})!r})"

    def missing(self, value: Any) -> str:
        return f"X.replace({value!r}, float('nan'))"

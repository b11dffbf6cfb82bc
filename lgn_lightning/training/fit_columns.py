"""Tells the first layer of a net on tables what the training rows look like, before training."""

from __future__ import annotations

from torch import nn

from lgn_lightning.base.errors import DataError
from lgn_lightning.nn import Columns


def fit_columns(net: nn.Module, data: object) -> None:
    """Fits the `Columns` of a net that have no comparisons yet by those of a data module, alike on all ranks.

    A checkpoint is restored later, so a resumed run keeps its own.

    Raises:
        DataError: If the data are no table, or have other bits.
    """
    for layer in net.modules():
        if isinstance(layer, Columns) and not layer.is_fitted:
            comparisons = getattr(data, "comparisons", None)
            if comparisons is None:
                raise DataError(
                    f"the net is for tables, and the data are {type(data).__name__}: give a Table, or call "
                    "columns.fit(comparisons) before training"
                )
            try:
                layer.fit(comparisons)
            except ValueError as error:
                raise DataError(str(error)) from error

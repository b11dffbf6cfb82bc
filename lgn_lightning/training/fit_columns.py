"""Tells the first layer of a net on tables what the training rows look like, before training."""

from __future__ import annotations

from torch import nn

from lgn_lightning.base.errors import DataError
from lgn_lightning.data.packed_table import PackedTable
from lgn_lightning.data.sequences import Sequences
from lgn_lightning.data.table import Table
from lgn_lightning.nn import Columns


def fit_columns(net: nn.Module, data: object, fits: bool = True) -> None:
    """Fits the `Columns` of a net that have no comparisons yet by those of a data module, alike on all ranks.

    Those that have some must be of the columns of the data, or of the very bits of a `PackedTable`. A checkpoint is
    restored later, so a resumed run keeps its own.

    Args:
        net: The net.
        data: The data module, or None.
        fits: Whether to fit; otherwise comparisons that there are are compared alone.

    Raises:
        DataError: If the data are no table, or have other columns or bits.
    """
    for layer in net.modules():
        if not isinstance(layer, Columns):
            continue
        if layer.is_fitted and isinstance(data, Table | Sequences):
            data.check_columns(layer.fitted().columns)
            if isinstance(data, PackedTable) and layer.fitted() != data.comparisons:
                raise DataError("the net was trained on other thresholds than these bits are of: pack the table anew")
        elif not layer.is_fitted and fits:
            if not isinstance(data, Table | Sequences):
                raise DataError(
                    f"the net is for tables, and the data are {type(data).__name__}: give a Table or Sequences, or "
                    "call columns.fit(comparisons) before training"
                )
            try:
                layer.fit(data.comparisons)
            except ValueError as error:
                raise DataError(str(error)) from error

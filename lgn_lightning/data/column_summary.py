"""What the columns of a table hold and what became of them, to be shown before a training."""

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from lgn_lightning.base.columns import Column, Comparisons, Op, Rows
from lgn_lightning.base.errors import some


def summary_of_columns(columns: Sequence[Column], rows: Rows, comparisons: Comparisons, target: str) -> Table:
    """A line a column; ``target`` says in the title what is predicted."""
    title = f"{len(rows):,} rows, {len(columns)} columns, {len(comparisons)} bits a row; {target}"
    table = Table(title=title, title_justify="left")
    for heading in ("column", "type", "missing", "values", "bits"):
        table.add_column(heading, justify="right" if heading in ("missing", "bits") else "left")
    for number, column in enumerate(columns):
        values = rows[column.name]
        missing = column.is_missing(values)
        known = values[~missing]
        if column.kind == "category":
            shown = f"{len(column.categories)}: {some(column.categories)}"
        else:
            shown = f"{column.show(known.min())} … {column.show(known.max())}" if known.size else ""
        bits = np.flatnonzero(comparisons.column == number)
        ops = {Op(op) for op in comparisons.op[bits].tolist()}
        how = "thresholds" if Op.GREATER in ops else "one-hot" if Op.EQUAL in ops else "code" if ops else "constant"
        share = f"{missing.mean():.1%}" if missing.any() else ""
        asks = Op.MISSING in ops  # whether it is missing: a bit of its own
        how = f"{bits.size - asks} {how}" + ", missing" * asks
        table.add_row(column.name, column.kind, share, shown, how)
    return table

"""`TableMLP`: its widths; that it learns is shown by the recipes' own tests."""

from typing import Any

import pytest

from lgn_lightning.models import TableMLP
from lgn_lightning.nn import logic_layers


def widths(**arguments: Any) -> list[int]:
    net = TableMLP(20, 3, **arguments)
    return [layer.out_dim for layer in logic_layers(net).values()]


def test_layers_have_the_widths_asked_for_and_the_last_fills_all_groups() -> None:
    assert widths(width=40) == [40, 40, 42]
    assert widths(width=30, depth=2) == [30, 30]
    assert widths(width=[60, 31]) == widths(width=[60, 31], depth=2) == [60, 33]


@pytest.mark.parametrize("arguments", [{"width": 40, "depth": 0}, {"width": [60, 30], "depth": 3}, {"width": []}])
def test_widths_and_depths_that_do_not_fit_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="depth="):
        widths(**arguments)

"""Where kernels are applied."""

from __future__ import annotations

import pytest

from lgn_lightning.circuit import CircuitError
from lgn_lightning.circuit.net.kernel import Places


def test_places_of_kernels_and_windows() -> None:
    places = Places((9, 8), (3, 2), (2, 1), (1, 0), (2, 3), (1, 2))
    assert (places.unpooled, places.size, places.pooled) == ((5, 7), (4, 3), True)
    assert not Places((9, 8)).pooled


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(CircuitError, match="larger than the padded image"):
        Places((3, 3), (5, 1))
    with pytest.raises(CircuitError, match="at least 1"):
        Places((3, 3), stride=(0, 1))

"""Callbacks whose state begins anew when they are given another net."""

from __future__ import annotations

import weakref
from typing import Any

import lightning.pytorch as pl
from torch import nn


class NetState(pl.Callback):
    """A callback whose state belongs to the net that it trains.

    A training of another net begins anew; one that goes on with the same net, or from a checkpoint, has the state of
    before.
    """

    _followed: weakref.ref[nn.Module] | None = None

    def begin(self) -> None:
        """Sets the state of a training that begins."""
        raise NotImplementedError

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # Before Lightning restores the state of a checkpoint.
        if stage != "fit":
            return
        net = getattr(pl_module, "net", pl_module)
        if self._followed is not None and self._followed() is not net:
            self.begin()
        self._followed = weakref.ref(net)

    def __getstate__(self) -> dict[str, Any]:
        """Without the reference, which pickle does not know: processes that are spawned get a copy of the net."""
        return {name: value for name, value in self.__dict__.items() if name != "_followed"}

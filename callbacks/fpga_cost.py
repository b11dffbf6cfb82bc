"""Logs what the net would cost on an FPGA while it trains."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from lgn_lightning.circuit import Circuit, CircuitError, estimate, optimize
from lgn_lightning.circuit.native import BuildError
from lgn_lightning.nn import logic_layers


class FpgaCost(pl.Callback):
    """Logs at validations what the hard net would cost on an FPGA, see `lgn_lightning.circuit.estimate`.

    - ``fpga/lut6``: lookup tables of up to six inputs, of encoder, gates, sums and decision together.
    - ``fpga/lut6_sums``: those that sum up the bits of the classes.
    - ``fpga/depth``: tables on the longest path.

    It takes about a second for 50,000 gates. Nothing is logged for a net that is no circuit or has no logic layers, and
    without a C++ compiler, after one warning.

    Args:
        every_n_validations: Measure at each *n*-th validation of a training; ``trainer.validate`` measures always.

    Raises:
        ValueError: If that is below 1.
    """

    def __init__(self, every_n_validations: int = 1) -> None:
        if every_n_validations < 1:
            raise ValueError(f"FpgaCost(every_n_validations={every_n_validations}): must be at least 1")
        self.every_n_validations = every_n_validations
        self._validations, self._possible = 0, True

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._validations, self._possible = 0, True  # before those of a checkpoint

    def state_dict(self) -> dict[str, Any]:
        """The validations so far: a resumed run measures at those of the whole one."""
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them over."""
        self._validations = state_dict["validations"]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        net = getattr(pl_module, "net", pl_module)
        if trainer.sanity_checking or not self._possible or not logic_layers(net):
            return
        self._validations += 1
        if trainer.state.fn == TrainerFn.FITTING and self._validations % self.every_n_validations:
            return
        try:
            cost = estimate(optimize(Circuit.from_module(net)))
        except (CircuitError, BuildError) as error:
            self._possible = False
            rank_zero_warn(f"FpgaCost logs nothing: {error}")
            return
        values = {"lut6": cost.total("lut6"), "lut6_sums": cost.parts["sums"].lut6, "depth": cost.total("levels")}
        # The parameters are equal on all ranks, so every rank logs the same numbers.
        pl_module.log_dict({f"fpga/{name}": float(value) for name, value in values.items()}, sync_dist=False)

"""A price on lookup tables, added to the loss, which a target for the whole design may set."""

from __future__ import annotations

import math
from typing import Any, Final

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lgn_lightning.base.lightning_private import logs_this_step
from lgn_lightning.callbacks.net_state import NetState
from lgn_lightning.callbacks.training_length import begins_step
from lgn_lightning.circuit import Circuit, CircuitError, estimate, optimize
from lgn_lightning.nn import GateLayer, logic_layers
from lgn_lightning.training.module import LogicModule

#: Name among the terms of the module's loss.
_NAME: Final = "hardware"
#: Tables of a gate: two layers of MNIST nets, of twice as many hidden gates as outputs, take one for three.
_SHARE: Final = 1 / 3
#: By how much the price may change at once, and from its first value, as factors.
_STEP, _RANGE = 1.5, 1e4
#: The share of the target that the price aims at: a net at the target itself would be above it every other time.
_AIM: Final = 0.97


class HardwarePrice(NetState):
    """Adds the expected lookup tables of a net to its loss, at a price that follows a target.

    loss + λ · (⅓ · Σ over gates of P(no constant, no wire) + Σ over output gates of P(no constant)) / gates. The
    probabilities are those of the gate that a weight row stands for: of the softmax, or of independent entries. An
    output that is no constant costs a table of the sums, a gate that is neither constant nor wire a third of one, as
    tables hold several gates. This is a surrogate: which gates share a table, or are equal or dead, is not in it.
    (HGQ-LUT, arXiv 2604.22293, prices tables by learned bit widths; here the gates themselves go.)

    With a target λ follows what the whole design would cost, encoder, sums and decision included, by
    `lgn_lightning.circuit.estimate`, which is measured every few steps: above the target λ rises, below it falls.
    ``val/score_within`` is the score of the hard net, less 1 while the design is above the target: what a
    ModelCheckpoint has to monitor (``mode: max``) so that the net it keeps is one that fits.

    Logged: ``hardware_price/weight`` (λ), ``hardware_price/expected`` (tables by the surrogate), ``fpga/lut6``.
    Works with every sampler, soft or straight-through; ``train/loss`` includes the price. λ is part of a checkpoint.

    Args:
        target: LUT6 of the whole design at most; None for a price that stays.
        weight: λ, at first if there is a target.
        every_n_steps: Optimizer steps between two measurements of the design.

    Raises:
        ValueError: If an argument is out of range, or when training starts, if the net has no gates or is no circuit or
            the module is no :class:`~lgn_lightning.LogicModule`.
    """

    def __init__(self, target: int | None = None, weight: float = 0.1, every_n_steps: int = 250) -> None:
        if target is not None and target < 1:
            raise ValueError(f"HardwarePrice(target={target}): give lookup tables, at least 1")
        if not 0 < weight <= torch.finfo(torch.float32).max:
            raise ValueError(f"HardwarePrice(weight={weight}): must be a positive number that float32 holds")
        if every_n_steps < 1:
            raise ValueError(f"HardwarePrice(every_n_steps={every_n_steps}): must be at least 1")
        self.target, self.weight, self.every_n_steps = target, weight, every_n_steps
        self._factor = torch.zeros(())
        self._measured_at, self._lut6 = -1, 0
        self.begin()

    def begin(self) -> None:
        """The price is the one that was given."""
        self._price = self.weight

    @staticmethod
    def expected_tables(layers: list[GateLayer]) -> Tensor:
        """Expected tables of these layers, the last of which gives the outputs: a scalar, differentiable."""
        with torch.autocast(layers[0].weights.device.type, enabled=False):
            total = layers[0].weights.new_zeros(())
            for layer in layers:
                constant, wire = layer.parametrization.idle_probabilities(layer.weights)
                total = total + _SHARE * (1 - constant - wire).sum()
            return total + (1 - constant).sum()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        layers = list(logic_layers(pl_module).values())
        if not layers:
            raise ValueError("HardwarePrice: the net has no layer of gates; leave the callback out")
        if not isinstance(pl_module, LogicModule):
            raise ValueError(
                f"HardwarePrice adds to the loss of a LogicModule, and this is a {type(pl_module).__name__}"
            )
        gates = sum(layer.num_neurons for layer in layers)
        # A tensor, because a CUDA graph would keep the value of a Python number.
        self._factor = torch.tensor(self._price / gates, device=pl_module.device)
        self._gates, self._measured_at = gates, -1
        pl_module.penalties[_NAME] = lambda: self._factor * self.expected_tables(layers)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, LogicModule)
        step = trainer.global_step
        due = step and step % self.every_n_steps == 0 and begins_step(trainer, batch_idx)
        if self.target is not None and due:
            excess = self._measure(trainer, pl_module) / (_AIM * self.target)
            self._price *= min(max(excess**2, 1 / _STEP), _STEP)
            self._price = min(max(self._price, self.weight / _RANGE), self.weight * _RANGE)
            self._factor.fill_(self._price / self._gates)
        if logs_this_step(trainer):
            with torch.no_grad():
                expected = self.expected_tables(list(logic_layers(pl_module).values()))
            pl_module.log("hardware_price/weight", self._price, sync_dist=False)
            pl_module.log("hardware_price/expected", expected, sync_dist=False)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit" or not isinstance(pl_module, LogicModule):
            return
        lut6 = self._measure(trainer, pl_module)
        score = pl_module.validation_score()
        above = self.target is not None and lut6 > self.target
        # All ranks have the same parameters and the same score.
        values = {"fpga/lut6": float(lut6), "val/score_within": score - float(above)}
        pl_module.log_dict(values, sync_dist=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.target is not None and self._lut6 > self.target:
            rank_zero_warn(
                f"HardwarePrice: the last net takes {self._lut6:,} LUT6, more than the target of {self.target:,}: "
                "train longer, or give a higher weight"
            )

    def _measure(self, trainer: pl.Trainer, pl_module: LogicModule) -> int:
        """LUT6 of the hard net at this step."""
        if self._measured_at != trainer.global_step:
            try:
                self._lut6 = estimate(optimize(Circuit.from_module(pl_module.net))).total("lut6")
            except CircuitError as error:
                raise ValueError(f"HardwarePrice: the cost of the net cannot be estimated: {error}") from error
            self._measured_at = trainer.global_step
        return self._lut6

    def state_dict(self) -> dict[str, Any]:
        return {"price": self._price}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        price = float(state_dict["price"])
        self._price = price if math.isfinite(price) and price > 0 else self.weight

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if isinstance(pl_module, LogicModule):
            pl_module.penalties.pop(_NAME, None)

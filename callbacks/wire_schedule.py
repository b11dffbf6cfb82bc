"""Learned connections that choose at some steps only."""

from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch

from lgn_lightning.base.lightning_private import logs_this_step, needs_all_gradients
from lgn_lightning.callbacks.training_length import begins_step, training_steps
from lgn_lightning.nn import GateLayer, LearnedConnections, logic_layers


@dataclass
class _Wires:
    """Learned connections of a layer, and whether the user lets them learn: what they were set to, unless by us."""

    layer: GateLayer
    part: LearnedConnections

    def __post_init__(self) -> None:
        self.free = self.given = self.part.logits.requires_grad

    def choose(self, learns: bool) -> None:
        """Lets them learn or not, unless they are frozen, by themselves or with their layer."""
        logits = self.part.logits
        if logits.requires_grad != self.given:
            self.free = logits.requires_grad
        self.given = learns and self.free and self.layer.weights.requires_grad
        logits.requires_grad_(self.given)
        if not self.given:
            logits.grad = None


class WireSchedule(pl.Callback):
    """Lets learned connections choose their wires at every n-th step only, and towards the end not at all.

    Most of the time of a training step with learned connections goes into the gradients of the candidates. In the steps
    between two choices the logits of the candidates are frozen, each input has the wire with the largest logit (without
    ``choice_noise``), and candidates have no gradient; the gates learn at every step. The optimizer leaves frozen
    logits and their moments as they are. Which steps choose depends on the step alone, so a resumed run is exact.

    Logged as ``wires/moved``: the share, in [0, 1], of the inputs with learned connections whose wire has changed since
    the last row. It shows when wires have settled.

    Args:
        every_n_steps: Optimizer steps from one choice to the next; 1 chooses at every step.
        until: Share of the training, in (0, 1], after which wires stay.

    Raises:
        ValueError: If an argument is out of range; when training starts, if the net has no learned connections, the
            strategy is a DDP that needs the gradients of all parameters, or the step is to be a CUDA graph, which would
            be recorded again and again.
    """

    def __init__(self, every_n_steps: int = 4, until: float = 1.0) -> None:
        if every_n_steps < 1 or not 0 < until <= 1:
            raise ValueError(
                f"WireSchedule(every_n_steps={every_n_steps}, until={until}): at least one step, and a share of the "
                "training in (0, 1]"
            )
        self.every_n_steps = every_n_steps
        self.until = until
        self._steps = 0.0
        self._layers: list[_Wires] = []
        self._logged: list[torch.Tensor] = []
        self._moved = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        layers = logic_layers(pl_module).values()
        self._layers = [
            _Wires(layer, part) for layer in layers for part in layer.modules() if isinstance(part, LearnedConnections)
        ]
        if not self._layers:
            raise ValueError(
                "WireSchedule is for learned connections, and this net has none; choose connections: learned (of "
                "convolutions tree_connections: learned) or leave the callback out"
            )
        if self.every_n_steps > 1 and getattr(pl_module, "cuda_graph", False):
            raise ValueError(
                f"WireSchedule(every_n_steps={self.every_n_steps}) changes the training step again and again, which a "
                "CUDA graph cannot; take every_n_steps=1 or leave cuda_graph out"
            )
        if needs_all_gradients(trainer.strategy):
            option = "--trainer.strategy=ddp_find_unused_parameters_true"
            raise ValueError(f"WireSchedule leaves parameters without gradients: give {option}")
        self._steps = training_steps(trainer, "WireSchedule")
        wires = self._wires()
        fits = [part.shape for part in self._logged] == [part.shape for part in wires]  # those of a checkpoint
        self._logged = [old.to(new) for old, new in zip(self._logged, wires, strict=True)] if fits else wires

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        step = trainer.global_step
        ends = step >= self.until * self._steps
        learns = step % self.every_n_steps == 0 and not ends
        for wires in self._layers:
            wires.part.change_soon = not ends
            wires.choose(learns)
        if logs_this_step(trainer):
            if begins_step(trainer, batch_idx):
                before, self._logged = self._logged, self._wires()
                moved = sum(int((old != new).sum()) for old, new in zip(before, self._logged, strict=True))
                self._moved = moved / sum(map(torch.numel, before))
            pl_module.log("wires/moved", self._moved, sync_dist=False)

    def state_dict(self) -> dict[str, Any]:
        """The wires of the last row: a resumed run counts from there."""
        return {"wires": [wires.cpu() for wires in self._logged]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them over."""
        self._logged = list(state_dict["wires"])

    def _wires(self) -> list[torch.Tensor]:
        return [torch.stack(wires.part.settled()) for wires in self._layers]

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._release()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._release()

    def _release(self) -> None:
        for wires in self._layers:
            wires.choose(True)
            wires.part.change_soon = False
        self._layers, self._logged = [], []

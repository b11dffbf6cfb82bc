"""Logs how a recurrent net uses its state, and how far soft and hard state are apart over the steps."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from lgn_lightning.nn.states import state_entropy, states_of

#: Sequences of a validation that are looked at.
_SEQUENCES = 128


class StateActivity(pl.Callback):
    """Logs, on the first validation batch, what the state of a recurrent net does.

    - ``state/used``: share, in [0, 1], of the state bits that are sometimes 0 and sometimes 1.
    - ``state/changes``: share of the state bits that change in a step.
    - ``state/entropy_first`` and ``state/entropy_last``: mean entropy of a state bit over the sequences after the first
      and the last step, in bits: 0 where it is the same in all of them, 1 where it is one in half.
    - ``gap/state_first`` and ``gap/state_last``: mean distance of soft and hard state after these steps, in [0, 1]: the
      discretization gap over time, 0 for straight-through nets.

    Cells above one another count together. Nothing is logged for nets without state. It costs two unrolled passes over
    up to 128 sequences a validation.
    """

    def __init__(self) -> None:
        self._values: dict[str, float] = {}

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Measures the first batch."""
        if batch_idx == 0 and not trainer.sanity_checking:
            x = (batch if isinstance(batch, Tensor) else batch[0])[:_SEQUENCES]
            self._values = measure(pl_module, x)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs it; every rank takes part."""
        if self._values:
            pl_module.log_dict(self._values, sync_dist=trainer.world_size > 1)
        self._values = {}


@torch.no_grad()
def measure(net: nn.Module, x: Tensor) -> dict[str, float]:
    """The values that are logged, of a net in ``.eval()`` mode on a batch; empty if it has no state."""
    pairs = [(hard, soft) for _, hard, soft in states_of(net, x)]
    if not pairs:
        return {}
    hard, soft = (torch.cat(parts, 2) for parts in zip(*pairs, strict=True))
    entropy = state_entropy(hard)
    changes = (hard[:, 1:] != hard[:, :-1]).float().mean().item() if hard.shape[1] > 1 else 0.0
    overall = hard.flatten(0, 1).mean(0)
    return {
        "state/used": ((overall > 0) & (overall < 1)).float().mean().item(),
        "state/changes": changes,
        "state/entropy_first": entropy[0].item(),
        "state/entropy_last": entropy[-1].item(),
        "gap/state_first": (hard - soft)[:, 0].abs().mean().item(),
        "gap/state_last": (hard - soft)[:, -1].abs().mean().item(),
    }

"""New candidates for learned connections in place of the weakest."""

from __future__ import annotations

import os
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from lgn_lightning.base.lightning_private import logs_this_step
from lgn_lightning.callbacks.training_length import training_steps
from lgn_lightning.nn import LearnedConnections


class RefreshCandidates(pl.Callback):
    """Replaces the weakest candidates of learned connections by new ones, so that a gate sees more inputs than K.

    After the candidate resampling of CompactLogic (Wang et al., arXiv 2602.05830), as its code has it; the paper's text
    was not at hand. Every ``every_n_steps`` steps, of each input of a gate the ``count`` candidates with the smallest
    logits give way to inputs drawn evenly from all that the layer has as candidates (so not from inputs that
    :class:`AvoidConstantInputs` took out). A new one starts with the largest logit less ``handicap`` and with fresh
    moments in the optimizer, so it is drawn now and then while there is noise on the choice.

    The draws depend on seed, step and layer: a resumed run goes on exactly, and all ranks draw the same. Logged as
    ``refreshed/candidates``, the number of them up to now.

    Args:
        every_n_steps: Optimizer steps between two rounds.
        count: Candidates replaced of each input of a gate, fewer than it has.
        handicap: Logit that a new candidate starts below the best.
        until: Share of the training, in (0, 1], after which candidates stay, so that the last ones can learn.
        seed: Of the draws; ``None`` means the one of ``seed_everything``, else 0.

    Raises:
        ValueError: If an argument is out of range, or when training starts, if the net has no learned connections or
            fewer candidates than are to be replaced.
    """

    def __init__(
        self,
        every_n_steps: int = 500,
        count: int = 3,
        handicap: float = 2.0,
        until: float = 0.6,
        seed: int | None = None,
    ) -> None:
        if every_n_steps < 1 or count < 1 or not 0 < until <= 1:
            raise ValueError(
                f"RefreshCandidates(every_n_steps={every_n_steps}, count={count}, until={until}): at least one step "
                "and one candidate, and a share of the training in (0, 1]"
            )
        self.every_n_steps = every_n_steps
        self.count = count
        self.handicap = handicap
        self.until = until
        self.seed = seed
        self._steps = 0.0
        self._replaced = 0

    def state_dict(self) -> dict[str, Any]:
        """Number of candidates replaced."""
        return {"replaced": self._replaced}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the number."""
        self._replaced = state_dict["replaced"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks whether there are candidates to replace."""
        self._steps = training_steps(trainer, "RefreshCandidates")
        layers = _learned(pl_module)
        if not layers:
            raise ValueError(
                "RefreshCandidates replaces candidates of learned connections, and this net has none; choose "
                "connections: learned (of convolutions tree_connections: learned) or leave the callback out"
            )
        fewest = min(layer.candidates.shape[2] for layer in layers)
        if self.count >= fewest:
            raise ValueError(
                f"RefreshCandidates(count={self.count}) would replace all {fewest} candidates of an input; take "
                f"at most {fewest - 1}"
            )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Replaces candidates where it is time to."""
        step = trainer.global_step
        if step and step % self.every_n_steps == 0 and step <= self.until * self._steps:
            seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if self.seed is None else self.seed
            for number, layer in enumerate(_learned(pl_module)):
                rows = refresh(layer, self.count, self.handicap, seeded_generator(seed, step, number))
                for optimizer in trainer.optimizers:
                    forget_moments(optimizer, layer.logits, rows)
                self._replaced += int(rows.sum())
        if logs_this_step(trainer):
            pl_module.log("refreshed/candidates", float(self._replaced), sync_dist=False)


def _learned(module: pl.LightningModule) -> list[LearnedConnections]:
    return [part for part in module.modules() if isinstance(part, LearnedConnections)]


@torch.no_grad()
def refresh(connections: LearnedConnections, count: int, handicap: float, generator: torch.Generator) -> Tensor:
    """Replaces the weakest candidates, in place.

    Args:
        connections: The learned connections of a layer.
        count: Candidates to replace of each input of a gate.
        handicap: Logit that new candidates start below the best.
        generator: On the CPU.

    Returns:
        Which were replaced: bool ``[n, 2, K]``.
    """
    logits, candidates = connections.logits, connections.candidates
    weakest = logits.topk(count, dim=2, largest=False).indices
    rows = torch.zeros_like(logits, dtype=torch.bool).scatter_(2, weakest, True)
    sources = torch.unique(candidates)
    drawn = torch.randint(len(sources), (int(rows.sum()),), generator=generator)
    start = logits.amax(2, keepdim=True).sub(handicap).expand_as(logits)
    logits[rows] = start[rows]
    candidates[rows] = sources[drawn.to(sources.device)]
    return rows


def seeded_generator(*numbers: int) -> torch.Generator:
    """A generator on the CPU whose draws depend on these numbers alone."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1)


def forget_moments(optimizer: torch.optim.Optimizer, parameter: Tensor, rows: Tensor) -> None:
    """Sets the optimizer's state of some rows to 0, as of weights that have had no gradient yet."""
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value[rows] = 0

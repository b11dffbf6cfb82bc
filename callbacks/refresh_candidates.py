"""Replaces the weakest candidates of learned connections."""

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from lgn_lightning.base.lightning_private import callbacks_of, logs_this_step
from lgn_lightning.callbacks.local_candidates import LocalCandidates, Neighbours
from lgn_lightning.callbacks.net_state import NetState
from lgn_lightning.callbacks.redrawing import forget_moments, seed_of_run, seeded_generator
from lgn_lightning.callbacks.training_length import begins_step, training_steps
from lgn_lightning.nn import LearnedConnections
from lgn_lightning.nn.connections import redraw


class RefreshCandidates(NetState):
    """Replaces the weakest candidates of learned connections by new ones, so that a gate sees more inputs than K.

    After the code of CompactLogic (Wang et al., arXiv 2602.05830; the text of the paper was not at hand). Every
    ``every_n_steps`` steps, the ``count`` candidates with the smallest logits of each input of a gate are replaced. The
    new ones are drawn evenly from all inputs that are candidates in the layer, which leaves out those that
    :class:`AvoidConstantInputs` removed, or with :class:`LocalCandidates` from those near the gate; none is a candidate
    of the same input already. A new candidate starts ``handicap`` below the largest logit and with zero moments in the
    optimizer, so noise on the choice still selects it at times.

    The draws depend on seed, step and layer: a resumed run is exact, and all ranks draw the same. Logged as
    ``refreshed/candidates``, the number of candidates replaced so far.

    Args:
        every_n_steps: Optimizer steps between two rounds.
        count: Candidates replaced of each input of a gate, fewer than it has.
        handicap: Logit that a new candidate starts below the best.
        until: Share of the training, in (0, 1], after which candidates stay: the last ones need time to learn.
        seed: Of the draws; ``None`` means the one of ``seed_everything``, else 0.

    Raises:
        ValueError: If an argument is out of range; when training starts, if the net has no learned connections or too
            few candidates.
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
        self.every_n_steps, self.count, self.handicap, self.until = every_n_steps, count, handicap, until
        self.seed = seed
        self._steps = 0.0
        self._near: dict[LearnedConnections, list[Neighbours]] = {}
        self.begin()

    def begin(self) -> None:
        """No candidate has been replaced."""
        self._replaced = 0

    def state_dict(self) -> dict[str, Any]:
        """The number of candidates replaced."""
        return {"replaced": self._replaced}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the number."""
        self._replaced = state_dict["replaced"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._steps = training_steps(trainer, "RefreshCandidates")
        layers = _learned(pl_module)
        if not layers:
            raise ValueError(
                "RefreshCandidates replaces candidates of learned connections, and this net has none; choose "
                "connections: learned (of convolutions tree_connections: learned) or leave the callback out"
            )
        local = [part for part in callbacks_of(trainer) if isinstance(part, LocalCandidates)]
        self._near = dict(pair for part in local for pair in part.neighbours(trainer, pl_module))
        fewest = min(layer.candidates.shape[2] for layer in layers)
        if self.count >= fewest:
            what = f"RefreshCandidates(count={self.count}) would replace all {fewest} candidates of an input"
            raise ValueError(f"{what}; take at most {fewest - 1}")

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        step = trainer.global_step
        due = step and step % self.every_n_steps == 0 and step <= self.until * self._steps
        if due and begins_step(trainer, batch_idx):
            for number, layer in enumerate(_learned(pl_module)):
                generator = seeded_generator(seed_of_run(self.seed), step, number)
                rows = refresh(layer, self.count, self.handicap, generator, self._near.get(layer))
                for optimizer in trainer.optimizers:
                    forget_moments(optimizer, layer.logits, rows)
                self._replaced += int(rows.sum())
        if logs_this_step(trainer):
            pl_module.log("refreshed/candidates", float(self._replaced), sync_dist=False)


def _learned(module: pl.LightningModule) -> list[LearnedConnections]:
    return [part for part in module.modules() if isinstance(part, LearnedConnections)]


@torch.no_grad()
def refresh(
    connections: LearnedConnections,
    count: int,
    handicap: float,
    generator: torch.Generator,
    near: Sequence[Neighbours] | None = None,
) -> Tensor:
    """Replaces the weakest ``count`` candidates of each input of a gate, in place; says which, bool as the logits.

    New ones come from what lies near the gates, else from all candidates of their part of the layer.
    """
    logits, candidates = connections.logits, connections.candidates
    replaced = torch.zeros_like(logits, dtype=torch.bool)
    replaced.scatter_(2, logits.topk(count, dim=2, largest=False).indices, True)
    for gates, sources in near or _parts(connections):
        if len(sources) <= candidates.shape[2]:  # there is nothing that an input does not see
            replaced[gates] = False
            continue
        part = candidates[gates]
        redraw(part.flatten(0, 1), replaced[gates].flatten(0, 1), sources.to(candidates), generator)
        candidates[gates] = part
    start = logits.amax(2, keepdim=True).sub(handicap).expand_as(logits)
    logits[replaced] = start[replaced]
    return replaced


def _parts(connections: LearnedConnections) -> list[Neighbours]:
    gates = torch.arange(len(connections.candidates), device=connections.candidates.device)
    return [(part, torch.unique(connections.candidates[part])) for part in gates.chunk(connections.groups)]

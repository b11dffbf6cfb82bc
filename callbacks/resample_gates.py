"""New wires and weights for gates that do not decide."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from lgn_lightning.callbacks.training_length import logs_this_step, training_steps
from lgn_lightning.nn import LogicLayer, logic_layers


class ResampleGates(pl.Callback):
    """Gives gates that stay undecided new random inputs and initial weights.

    After the row resampler of CompactLogic (Wang et al., arXiv 2602.05830), as its code has it; the paper's text was
    not at hand. That one follows the entropy of each gate's choice and draws candidate inputs anew where it converged.
    A gate with fixed wires has one pair of inputs, so here, every ``every_n_steps`` steps, a gate is drawn anew whose
    entropy is above ``entropy`` bits and fell by less than ``fall`` bits since the last look: two inputs are drawn
    evenly from all of the layer's, weights as at the start, and the optimizer's moments of these weights become 0.

    The draws depend on seed, step and layer, and what was seen last is in the checkpoint: a resumed run goes on
    exactly, and all ranks draw the same. Works with every sampler, ``compile`` and ``cuda_graph`` (wires are buffers
    that both look at). Logged as ``resampled/gates``, the number of draws up to now.

    Args:
        every_n_steps: Optimizer steps between two looks.
        entropy: Bits above which a gate is undecided; a gate has at most 4.
        fall: Bits that its entropy has to fall by between two looks to be left in peace.
        until: Share of the training, in (0, 1], after which gates stay, so that the last ones drawn can learn.
        seed: Of the draws.

    Raises:
        ValueError: If an argument is out of range, or when training starts, if a layer is no ``LogicLayer`` with fixed
            wires.
    """

    def __init__(
        self, every_n_steps: int = 1000, entropy: float = 2.0, fall: float = 0.05, until: float = 0.5, seed: int = 0
    ) -> None:
        if every_n_steps < 1 or entropy < 0 or not 0 < until <= 1:
            raise ValueError(
                f"ResampleGates(every_n_steps={every_n_steps}, entropy={entropy}, until={until}): at least one step, "
                "no negative entropy, and a share of the training in (0, 1]"
            )
        self.every_n_steps = every_n_steps
        self.entropy = entropy
        self.fall = fall
        self.until = until
        self.seed = seed
        self._steps = 0.0
        self._last_step = 0
        self._seen: dict[str, Tensor] = {}
        self._drawn = 0

    def state_dict(self) -> dict[str, Any]:
        """What the next look compares with."""
        return {"last_step": self._last_step, "seen": self._seen, "drawn": self._drawn}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the state."""
        self._last_step, self._seen, self._drawn = (state_dict[name] for name in ("last_step", "seen", "drawn"))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks for layers that cannot be rewired."""
        self._steps = training_steps(trainer, "ResampleGates")
        layers = logic_layers(pl_module)
        others = sorted({type(layer).__name__ for layer in layers.values() if type(layer) is not LogicLayer})
        if others or not layers:
            raise ValueError(
                "ResampleGates draws the wires of LogicLayer anew, and this net has "
                f"{', '.join(others) or 'no layers of gates'}; leave the callback out"
            )
        if any(layer.learned is not None for layer in layers.values()):
            raise ValueError(
                "ResampleGates draws fixed wires anew, and this net learns its own; take RefreshCandidates instead"
            )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Looks at the gates where it is time to."""
        step = trainer.global_step
        if step - self._last_step >= self.every_n_steps and step <= self.until * self._steps:
            self._last_step = step
            drawn = sum(
                self._look(number, name, layer, trainer)
                for number, (name, layer) in enumerate(logic_layers(pl_module).items())
            )
            self._drawn += drawn
            rank_zero_info(f"ResampleGates: {drawn} undecided gates drawn anew at step {step}")
        if logs_this_step(trainer):
            pl_module.log("resampled/gates", float(self._drawn), sync_dist=False)

    @torch.no_grad()
    def _look(self, number: int, name: str, layer: Any, trainer: pl.Trainer) -> int:
        """Draws the undecided gates of a layer anew; gives their number."""
        now = layer.entropy()
        before = self._seen.get(name)
        rows = torch.zeros_like(now, dtype=torch.bool)
        if before is not None and layer.weights.requires_grad:
            rows = undecided(before.to(now.device), now, self.entropy, self.fall)
        count = int(rows.sum())
        if count:
            redraw(layer, rows, seeded_generator(self.seed, self._last_step, number))
            for optimizer in trainer.optimizers:
                forget_moments(optimizer, layer.weights, rows)
            now = layer.entropy()
        self._seen[name] = now.cpu()
        return count


def undecided(before: Tensor, now: Tensor, entropy: float, fall: float) -> Tensor:
    """Which gates have more than ``entropy`` bits and lost less than ``fall`` of them: bool ``[n]``."""
    return (now > entropy) & (before - now < fall)


def redraw(layer: LogicLayer, rows: Tensor, generator: torch.Generator) -> None:
    """Draws inputs and weights of some gates anew, in place.

    Args:
        layer: The layer.
        rows: Which gates, bool ``[out_dim]``.
        generator: On the CPU; two different inputs a gate, where the layer has two, and the weights come from it.
    """
    count = int(rows.sum())
    first = torch.randint(layer.in_dim, (count,), generator=generator, dtype=torch.int32)
    step = torch.randint(1, max(layer.in_dim, 2), (count,), generator=generator, dtype=torch.int32)
    for wires, drawn in zip(layer.indices, (first, (first + step) % layer.in_dim), strict=True):
        wires[rows] = drawn.to(wires.device)
    weights = torch.empty(count, layer.weights.shape[1])
    # Initializations draw from torch's own generator, which is left as it was: other draws of the run stay.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        layer.parametrization.initialize(weights, layer.init)
    layer.weights.data[rows] = weights.to(layer.weights)


def seeded_generator(*numbers: int) -> torch.Generator:
    """A generator on the CPU whose draws are a function of some numbers."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1)


def forget_moments(optimizer: torch.optim.Optimizer, parameter: Tensor, rows: Tensor) -> None:
    """Sets the optimizer's state of some rows to 0, as of weights that have had no gradient yet."""
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value[rows] = 0

"""Temperature and noise of samplers as schedules over the training."""

import math
from collections.abc import Callable

import lightning.pytorch as pl

from lgn_lightning.base.choice import check_choice
from lgn_lightning.base.lightning_private import logs_this_step
from lgn_lightning.callbacks.training_length import progress, training_steps
from lgn_lightning.nn import logic_layers
from lgn_lightning.nn.samplers import Sampler

#: Maps progress in [0, 1] to the share of the way from start to end, and says whether equal shares are equal ratios.
SCHEDULES: dict[str, tuple[Callable[[float], float], bool]] = {
    "linear": (lambda progress: progress, False),
    "cosine": (lambda progress: (1 - math.cos(math.pi * progress)) / 2, False),
    "exponential": (lambda progress: progress, True),
    "step": (math.floor, False),
}


class SamplerSchedule(pl.Callback):
    """Moves a number of the net's samplers from ``start`` to ``end`` while training.

    The value depends on the step and on the length of the training (``max_steps`` or ``max_epochs``), so a resumed run
    is exact. Logged as ``sampler/<parameter>``.

    Args:
        start: Value at the first step.
        end: Value from ``until`` on.
        parameter: Attribute of the samplers: ``"temperature"``, ``"choice_noise"`` of learned connections, or
            ``"noise"`` of ``StraightThrough``.
        schedule: ``"linear"``, ``"cosine"`` (slow at both ends), ``"exponential"`` (equal ratios in equal times) or
            ``"step"`` (``start`` until ``until``).
        until: Share of the training, in (0, 1], after which it stays at ``end``.

    Raises:
        ValueError: If an argument is not possible, or when training starts, if no sampler of the net has the parameter
            or the length of the training is not known.
    """

    def __init__(
        self, start: float, end: float, parameter: str = "temperature", schedule: str = "linear", until: float = 1.0
    ) -> None:
        check_choice("schedule", schedule, SCHEDULES)
        if not 0 < until <= 1:
            raise ValueError(f"SamplerSchedule(until={until}): it is a share of the training, in (0, 1]")
        if schedule == "exponential" and not (start > 0 and end > 0):
            raise ValueError(f"an exponential schedule cannot go from {start} to {end}: both must be positive")
        self.start, self.end, self.parameter, self.schedule = start, end, parameter, schedule
        self.until = until
        self._samplers: list[Sampler] = []
        self._steps = 0.0

    @property
    def state_key(self) -> str:
        """One state for each parameter: a net may have several schedules."""
        return f"SamplerSchedule({self.parameter})"

    def value(self, progress: float) -> float:
        """The scheduled number at a share of the training in [0, 1]."""
        way, geometric = SCHEDULES[self.schedule]
        share = way(min(progress / self.until, 1.0))
        if geometric:
            return self.start * math.pow(self.end / self.start, share)
        return self.start + (self.end - self.start) * share

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        samplers = {id(layer.sampler): layer.sampler for layer in logic_layers(pl_module).values()}
        self._samplers = [sampler for sampler in samplers.values() if hasattr(sampler, self.parameter)]
        if not self._samplers:
            kinds = ", ".join(sorted({type(sampler).__name__ for sampler in samplers.values()})) or "none"
            raise ValueError(
                f"SamplerSchedule(parameter={self.parameter!r}): no sampler of the net has a {self.parameter} (there "
                f"are: {kinds}); choose another sampler or parameter"
            )
        self._steps = training_steps(trainer, "SamplerSchedule")

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
        value = self.value(progress(trainer, self._steps))
        for sampler in self._samplers:
            setattr(sampler, self.parameter, value)
        if logs_this_step(trainer):
            pl_module.log(f"sampler/{self.parameter}", value)

"""Keeps the learning rate's schedule as long as the training: changes both in the settings, warns where they differ."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from lgn_lightning.base.lightning_private import is_rehearsal, training_steps
from lgn_lightning.base.settings_text import read_settings

#: Arguments of schedules that give the length of a whole training.
_LENGTHS: Final = ("T_max", "total_steps")
#: Fewer steps than these train no net, however few the rows.
LEAST_STEPS: Final = 200


def steps_of(passes: float, rows: int, batch_size: int) -> int:
    """Steps of so many passes over the rows, `LEAST_STEPS` or more."""
    return max(LEAST_STEPS, round(passes * rows / batch_size))


def follow_max_steps(recipe: Path, overrides: Sequence[str], config: Any) -> None:
    """Makes the schedule as long as ``trainer.max_steps`` of the command line, if the recipe has both equal.

    The schedule is changed in ``config``, which results from recipe and ``overrides``; not if these give its own
    length.
    """
    content = read_settings(recipe)
    planned, steps = _within(content, "trainer").get("max_steps"), config.trainer.max_steps
    schedule = config.model.lr_scheduler
    arguments = getattr(schedule, "init_args", None)
    if arguments is None or steps == planned or steps < 1 or config.model.scheduler_interval != "step":
        return
    own = _within(content, "model", "lr_scheduler", "init_args")
    for name in _LENGTHS:
        given = re.compile(rf"--model\.lr_scheduler((\.init_args)?\.{name})?(=|$)")
        if own.get(name) == planned == arguments.get(name) and not any(map(given.match, overrides)):
            arguments[name] = steps
            rank_zero_info(
                f"trainer.max_steps is {steps:,} instead of {planned:,}, and the schedule follows: "
                f"model.lr_scheduler.init_args.{name} is {steps:,}, too"
            )


def follow_rows(data: Any, config: Any) -> None:
    """Ends the training after ``most_passes`` of a table over its rows, with schedule and validations as much shorter.

    The last step, or one of the last, is validated: what is kept there is the trained net. Changes ``config``; where
    the data has no such limit, nothing.
    """
    passes, planned = getattr(data, "most_passes", None), config.trainer.max_steps
    if passes is None or planned < 1:
        return
    batches = max(1, config.trainer.accumulate_grad_batches)  # of a step, on each process
    samples = data.batch_size * batches * _processes(config.trainer)
    steps = min(planned, steps_of(passes, data.training_size, samples))
    interval = config.trainer.val_check_interval  # in batches
    if isinstance(interval, int) and not isinstance(interval, bool) and interval > 0:
        validations = math.ceil(planned * batches / interval)
        between = max(1, steps // validations)
        config.trainer.val_check_interval = between * batches
        if steps < planned:
            steps -= steps % between
    if steps == planned:
        return
    config.trainer.max_steps = steps
    arguments = getattr(config.model.lr_scheduler, "init_args", None) or {}
    for name in _LENGTHS:
        if arguments.get(name) == planned:
            arguments[name] = steps
    rank_zero_info(
        f"{data.training_size:,} training rows: {steps:,} steps instead of {planned:,}, with a schedule as long; "
        f"data.most_passes is {passes:g}, and null takes all steps"
    )


def _processes(trainer: Any) -> int:
    """Processes that share the rows, by a trainer's settings; 1 where ``auto`` or -1 leaves them to the machine."""
    devices = trainer.devices
    if isinstance(devices, str) and devices.isdecimal():
        devices = int(devices)
    count = devices if isinstance(devices, int) else len(devices) if isinstance(devices, list) else 1
    return max(1, count) * int(trainer.num_nodes)


def _within(settings: dict[str, Any], *keys: str) -> dict[str, Any]:
    """What stands under keys; empty where there is nothing, or no mapping: the parser says so."""
    for key in keys:
        part = settings.get(key)
        settings = part if isinstance(part, dict) else {}
    return settings


def warn_of_another_length(trainer: pl.Trainer) -> None:
    """Warns of schedules that are shorter or longer than the training that starts, and names the key to set."""
    if is_rehearsal(trainer):
        return
    for config in trainer.lr_scheduler_configs:
        steps = training_steps(trainer) if config.interval == "step" else trainer.max_epochs or math.inf
        for name in _LENGTHS:
            length = getattr(config.scheduler, name, None)
            if length is None or length == steps or not 0 < steps < math.inf:
                continue
            mend = f"set model.lr_scheduler.init_args.{name} to {steps}"
            if trainer.global_step:
                mend = f"it comes from the checkpoint; to change it, start a new run with {name} {steps}"
            rank_zero_warn(
                f"the schedule {type(config.scheduler).__name__} is made for {length:,} {config.interval}s and the "
                f"training has {steps:,}, so the learning rate ends at a wrong value: {mend}"
            )

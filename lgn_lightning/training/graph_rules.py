"""Which fits may train by a CUDA graph, and why the others may not."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden

from lgn_lightning.training.graphed_step import net_reason, optimizer_reason

# Called by Lightning between the parts of a step, which a replay has no room for.
_HOOKS_WITHIN_A_STEP = (
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "configure_gradient_clipping",
)


def reason_against(trainer: pl.Trainer, module: pl.LightningModule) -> str | None:
    """Why a fit cannot train by a CUDA graph.

    Args:
        trainer: The trainer, with its optimizers set up.
        module: The module that is fitted, on its device.

    Returns:
        One reason in words, or None if there is none.
    """
    return (
        _device_reason(module.device)
        or _trainer_reason(trainer)
        or _hook_reason(trainer, module)
        or optimizer_reason(trainer.optimizers)
        or net_reason(module)
    )


def _device_reason(device: torch.device) -> str | None:
    return None if device.type == "cuda" else f"the net is on {device}; a CUDA GPU is needed"


def _trainer_reason(trainer: pl.Trainer) -> str | None:
    if not isinstance(trainer.strategy, SingleDeviceStrategy):
        return f"{type(trainer.strategy).__name__} trains on several devices"
    if trainer.accumulate_grad_batches != 1:
        return f"gradients are accumulated over {trainer.accumulate_grad_batches} batches"
    if any(isinstance(callback, GradientAccumulationScheduler) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        return "GradientAccumulationScheduler accumulates gradients"
    if trainer.gradient_clip_val:
        return f"gradients are clipped (gradient_clip_val={trainer.gradient_clip_val})"
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        return "the loss is scaled (precision 16-mixed), which skips steps; use bf16-mixed"
    if torch.is_anomaly_enabled() or trainer._detect_anomaly:
        return "detect_anomaly looks at every value"
    return None


def _hook_reason(trainer: pl.Trainer, module: pl.LightningModule) -> str | None:
    for hook in _HOOKS_WITHIN_A_STEP:
        if is_overridden(hook, module, pl.LightningModule):
            return f"{type(module).__name__}.{hook} would not be called within a step"
        if hook == "configure_gradient_clipping":
            continue
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if is_overridden(hook, callback, pl.Callback):
                return f"the callback {type(callback).__name__} has {hook}, which is not called within a step"
    return None

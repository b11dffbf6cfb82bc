"""Which fits may train by a CUDA graph, and why the others may not."""

from collections.abc import Sequence

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn
from torch.optim import Optimizer

from lgn_lightning.base.lightning_private import callbacks_of, detects_anomalies
from lgn_lightning.nn.deferred import hooked
from lgn_lightning.nn.logic_layer import LogicLayer

# Hooks that Lightning calls between the parts of a step; a replay has no such place.
_HOOKS_WITHIN_A_STEP = (
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "configure_gradient_clipping",
)


def reason_against(trainer: pl.Trainer, module: pl.LightningModule) -> str | None:
    """The first reason why a fit, its optimizers set up, cannot train by a CUDA graph; None if it can."""
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
    if any(isinstance(callback, GradientAccumulationScheduler) for callback in callbacks_of(trainer)):
        return "GradientAccumulationScheduler accumulates gradients"
    if trainer.gradient_clip_val:
        return f"gradients are clipped (gradient_clip_val={trainer.gradient_clip_val})"
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        return "the loss is scaled (precision 16-mixed), which skips steps; use bf16-mixed"
    if torch.is_anomaly_enabled() or detects_anomalies(trainer):
        return "detect_anomaly looks at every value"
    return None


def _hook_reason(trainer: pl.Trainer, module: pl.LightningModule) -> str | None:
    for hook in _HOOKS_WITHIN_A_STEP:
        if is_overridden(hook, module, pl.LightningModule):
            return f"{type(module).__name__}.{hook} would not be called within a step"
        if hook == "configure_gradient_clipping":
            continue
        for callback in callbacks_of(trainer):
            if is_overridden(hook, callback, pl.Callback):
                return f"the callback {type(callback).__name__} has {hook}, which is not called within a step"
    return None


def optimizer_reason(optimizers: Sequence[Optimizer]) -> str | None:
    """Why the optimizer cannot be recorded; None if it can.

    It must keep its counters on the device (``capturable``) and read a learning rate from there, as PyTorch's Adam
    family does, and SGD with ``fused=True``.
    """
    if len(optimizers) != 1:
        return f"there are {len(optimizers)} optimizers"
    name = type(optimizers[0]).__name__
    for group in optimizers[0].param_groups:
        if not group.get("fused") and "capturable" not in group:
            return f"{name} keeps its state or its learning rate on the host; use Adam, or SGD with fused: true"
        if group.get("differentiable"):
            return f"{name} is differentiable"
        if isinstance(group["lr"], Tensor):
            return f"the learning rate of {name} is a tensor; give a number"
    return None


def net_reason(net: nn.Module) -> str | None:
    """Why a net cannot be recorded; None if no reason is known."""
    for name, module in net.named_modules():
        if hooked(module):
            return f"{name or 'the net'} has hooks, which a replay would not call"
        if isinstance(module, LogicLayer) and module.learned is not None and not module.runs_on_bits:
            return (
                f"{name or 'the net'} chooses other wires at every step, for which only straight-through training has "
                "kernels that a graph can hold"
            )
    devices = {str(tensor.device) for tensor in (*net.parameters(), *net.buffers())}
    if len(devices) != 1:
        return f"the net lies on {', '.join(sorted(devices)) or 'no device'}"
    return None

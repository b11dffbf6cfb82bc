"""Checks the indices that a checkpoint brings: their shape may fit while their values reach beyond the input."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn


def check_indices_when_loaded(module: nn.Module, limits: Mapping[str, Mapping[str, int]]) -> None:
    """Makes ``load_state_dict`` refuse indices that kernels would read beyond the activations with.

    ``limits`` gives, of each buffer by name, what its values count and what they must be below, such as
    ``{"inputs": 400}``; of several, each is for one row of the buffer.
    """
    module.register_load_state_dict_pre_hook(partial(_check, limits))  # type: ignore[no-untyped-call]


def _check(
    limits: Mapping[str, Mapping[str, int]], module: nn.Module, state_dict: dict[str, Any], prefix: str, *others: Any
) -> None:
    error_msgs: list[str] = others[-1]
    for name, kinds in limits.items():
        own, loaded = getattr(module, name), state_dict.get(prefix + name)
        if own is None or loaded is None or loaded.is_meta or not loaded.numel() or loaded.shape != own.shape:
            continue  # torch itself reports another shape
        for kind, part in zip(kinds, loaded if len(kinds) > 1 else (loaded,), strict=True):
            low, high = int(part.min()), int(part.max())
            if low < 0 or high >= kinds[kind]:
                error_msgs.append(
                    f"{prefix}{name} of the checkpoint holds {kind} {low}…{high}, but the layer has {kinds[kind]} "
                    f"{kind}; build the net with the sizes that it was trained with"
                )
                # Dropped, so that nothing unusable is left in a net whose user catches the error.
                state_dict[prefix + name] = own.clone()
                break

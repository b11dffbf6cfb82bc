"""Compares the nets of all ranks, which must have the same wires and weights."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lgn_lightning.base.errors import LgnError


class RankError(LgnError):
    """The processes of a training do not have the same net."""


def check_same_start(module: nn.Module) -> None:
    """Compares parameters and buffers of all ranks; does nothing in a single process.

    Call it on all ranks, before DDP wraps the module: DDP copies the tensors of rank zero to the others, which would
    hide another seed or another recipe. A difference is the same RankError on all ranks.
    """
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return
    ranks: list[dict[str, str]] = [{}] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(ranks, _digests(module))
    for rank, digests in enumerate(ranks):
        names = [name for name in ranks[0] | digests if ranks[0].get(name) != digests.get(name)]
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise RankError(
                f"the net of rank {rank} differs from that of rank 0 in {names[0]}{more}; give all processes the same "
                "recipe and the same --seed_everything, and draw random numbers on all ranks or on none"
            )


def check_same_weights(weights: Mapping[str, Tensor]) -> None:
    """Compares 32-bit weights that every rank updates on its own; a difference is the same RankError on all ranks."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized() or not weights:
        return
    sums = torch.stack([w.detach().view(torch.int32).sum(dtype=torch.int64) for w in weights.values()])
    ranks = [torch.empty_like(sums) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(ranks, sums)
    for rank, others in enumerate(ranks):
        for name, same in zip(weights, (others == ranks[0]).tolist(), strict=True):
            if not same:
                raise RankError(
                    f"the weights of {name} on rank {rank} differ from those on rank 0: a term of the loss uses "
                    "weights directly and differs between the ranks, or the ranks run on different processors; train "
                    "with --trainer.strategy=ddp"
                )


def _digests(module: nn.Module) -> dict[str, str]:
    """A hash of each tensor: its type, shape and bytes."""
    digests = {}
    for name, tensor in module.state_dict().items():
        content = tensor.detach().cpu().contiguous()
        about = f"{content.dtype} {tuple(content.shape)}".encode()
        digests[name] = hashlib.sha1(about + content.flatten().view(torch.uint8).numpy().tobytes()).hexdigest()
    return digests

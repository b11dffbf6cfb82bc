"""Moves wires of the first layer away from pixels that are the same in nearly all images."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from lgn_lightning.callbacks.redrawing import deal, seed_of_run
from lgn_lightning.data.images import ImageDataModule
from lgn_lightning.nn import LogicLayer, LutLayer, logic_layers
from lgn_lightning.nn.connections import redraw_repeated

#: Images that are encoded at once.
_BATCH = 2000


class AvoidConstantInputs(pl.Callback):
    """Moves wires of the first layer away from input bits that are constant over the training images.

    The border of MNIST's 28×28 pixels is black in every image: a gate that reads it computes nothing. Before training
    starts, bits are counted over the training images, without the validation split and before any augmentation. A bit
    counts as constant if it is 1 in less than a share ``rare`` of the images, or in more than 1 − ``rare``. Wires, or
    candidates of learned connections, that read such a bit get one of the other bits, each used equally often. A
    resumed or tested net keeps the wires of its checkpoint.

    Args:
        rare: Share below which a bit counts as constant, in [0, 0.5).
        seed: Of the draws; ``None`` means the one of ``seed_everything``, else 0.

    Raises:
        ValueError: If an argument is out of range; when training starts, if the run has no ``ImageDataModule``, the
            first layer of the net is no ``LogicLayer`` or ``LutLayer`` after an encoder, or its inputs are constant.
    """

    def __init__(self, rare: float = 0.005, seed: int | None = None) -> None:
        if not 0 <= rare < 0.5:
            raise ValueError(f"AvoidConstantInputs(rare={rare}): it is a share in [0, 0.5)")
        self.rare = rare
        self.seed = seed

    @torch.no_grad()
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Rewires the first layer, alike on all ranks; a checkpoint is restored after it."""
        if stage != "fit":
            return
        data, encoder, layer = first_layer_of_images(trainer, pl_module.net, type(self).__name__)
        frequent = bit_frequencies(encoder, data.training_images())
        varying = torch.nonzero((frequent >= self.rare) & (frequent <= 1 - self.rare) & (frequent > 0) & (frequent < 1))
        if not len(varying):
            raise ValueError(
                f"all {len(frequent)} input bits of the net are constant over the training images, or nearly "
                f"(AvoidConstantInputs(rare={self.rare})); choose other thresholds or a smaller share"
            )
        if layer.learned is not None:
            wires: tuple[Tensor, ...] = (layer.learned.candidates,)
        else:
            wires = layer.indices if isinstance(layer, LogicLayer) else (layer.settled_indices(),)
        generator = torch.Generator().manual_seed(seed_of_run(self.seed))
        moved = avoid(wires, varying.squeeze(1), generator)
        if layer.learned is not None:
            redraw_repeated(layer.learned.candidates, varying.squeeze(1).to(layer.learned.candidates), generator)
        rank_zero_info(
            f"AvoidConstantInputs: {len(varying)} of {len(frequent)} input bits vary; {moved} wires of the first layer "
            "read those instead of constant ones"
        )


def first_layer_of_images(
    trainer: pl.Trainer, net: Any, name: str
) -> tuple[ImageDataModule, nn.Module, LogicLayer | LutLayer]:
    """The images, the encoder of a sequential net on them and the layer behind it; a ValueError if there is none."""
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, ImageDataModule):
        raise ValueError(f"{name} takes an ImageDataModule, and got {type(data).__name__}; leave the callback out")
    parts = list(net) if isinstance(net, nn.Sequential) else []
    layer = next(iter(logic_layers(net).values()), None)
    place = next((number for number, part in enumerate(parts) if part is layer), 0)
    if place == 0 or not isinstance(layer, (LogicLayer, LutLayer)):
        raise ValueError(
            f"{name} rewires a LogicLayer or LutLayer behind the encoder of a sequential net; this net starts with "
            f"{', '.join(type(part).__name__ for part in list(net.children())[:2])}; leave the callback out"
        )
    return data, nn.Sequential(*parts[:place]), layer


def bit_frequencies(encoder: nn.Module, images: Tensor) -> Tensor:
    """Share of images, uint8 ``[N, C, H, W]``, in which each bit of an encoder is 1: float64 ``[bits]``."""
    before = encoder.training
    encoder.eval()
    try:
        ones = [encoder(part).double().sum(0).cpu() for part in torch.split(images, _BATCH)]
        return torch.stack(ones).sum(0) / len(images)
    finally:
        encoder.train(before)


def avoid(wires: tuple[Tensor, ...], allowed: Tensor, generator: torch.Generator) -> int:
    """Replaces wires to other than the allowed inputs ``[m]`` by these, in place, equally often; says how many."""
    moved = 0
    for tensor in wires:
        rows = ~torch.isin(tensor.cpu(), allowed)
        count = int(rows.sum())
        tensor[rows.to(tensor.device)] = deal(allowed, count, generator).to(tensor)
        moved += count
    return moved

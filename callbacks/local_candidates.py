"""Puts the gates of a dense net at places of the image, and lets them choose among inputs that lie near."""

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from lgn_lightning.callbacks.avoid_constant_inputs import first_layer_of_images
from lgn_lightning.callbacks.redrawing import seed_of_run, seeded_generator
from lgn_lightning.nn import LearnedConnections, logic_layers


class LocalCandidates(pl.Callback):
    """Lets the gates of a dense net on images choose among inputs that lie near each other.

    Before training starts, every gate gets a place, a pixel, all pixels equally often, and new candidates for its
    inputs: of the first layer bits of pixels within a radius of its place, of the next one gates whose places are
    within a radius, and so on. Nets overfit less so, as strokes and textures are local. Candidates of the first layer
    stay among the bits that it had as candidates, so `AvoidConstantInputs` comes before this callback; a resumed or
    tested net keeps those of its checkpoint. `RefreshCandidates` draws new ones from anywhere.

    Args:
        radius: Of each layer, from the first on, the largest distance along either axis, in pixels; layers beyond keep
            their candidates. Where fewer inputs are near than a gate has candidates, the distance grows.
        seed: Of the draws; ``None`` means the one of ``seed_everything``, else 0.

    Raises:
        ValueError: If an argument is out of range; when training starts, if the run has no ``ImageDataModule``, the
            first layer of the net is no ``LogicLayer`` or ``LutLayer`` after an encoder, or wires are not learned.
    """

    def __init__(self, radius: Sequence[int], seed: int | None = None) -> None:
        self.radius = list(radius)
        if not self.radius or any(not isinstance(pixels, int) or pixels < 0 for pixels in self.radius):
            raise ValueError(f"LocalCandidates(radius={radius}): it is a distance of 0 or more pixels for each layer")
        self.seed = seed

    @torch.no_grad()
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Draws the candidates, alike on all ranks; a checkpoint is restored after it."""
        if stage != "fit":
            return
        net: Any = pl_module.net
        first_layer_of_images(trainer, net, type(self).__name__)
        height, width = trainer.datamodule.image_shape[1:]  # type: ignore[attr-defined]
        layers = list(logic_layers(net).items())
        if len(self.radius) > len(layers):
            raise ValueError(f"LocalCandidates(radius={self.radius}): the net has {len(layers)} layers")
        chosen = [_learned(name, layer) for name, layer in layers[: len(self.radius)]]
        inputs = torch.unique(chosen[0].candidates.cpu()).long()
        places = inputs % (height * width)  # an encoder gives whole images, one a bit
        for number, (radius, learned) in enumerate(zip(self.radius, chosen, strict=True)):
            generator = seeded_generator(seed_of_run(self.seed), number)
            at = _deal(torch.unique(places), len(learned.candidates), generator)
            draw_near(learned, radius, inputs, _points(places, width), _points(at, width), generator)
            inputs, places = torch.arange(len(at)), at
        rank_zero_info(f"LocalCandidates: inputs within {self.radius} pixels are the candidates of the first layers")


def _learned(name: str, layer: nn.Module) -> LearnedConnections:
    learned = getattr(layer, "learned", None)
    if not isinstance(learned, LearnedConnections):
        raise ValueError(
            f"LocalCandidates chooses candidates of learned connections, and layer {name} has none; choose "
            "connections: learned, or give fewer radii"
        )
    return learned


def _deal(places: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """A place for each gate, ``[count]``, each equally often."""
    rounds = -(-count // len(places))
    return torch.cat([places[torch.randperm(len(places), generator=generator)] for _ in range(rounds)])[:count]


def _points(places: Tensor, width: int) -> Tensor:
    """Row and column of pixels, ``[n, 2]``."""
    return torch.stack((places // width, places % width), 1)


def draw_near(
    learned: LearnedConnections,
    radius: int,
    inputs: Tensor,
    input_points: Tensor,
    gate_points: Tensor,
    generator: torch.Generator,
) -> None:
    """Draws candidates from the inputs near each gate, in place, all different at an input of a gate.

    Args:
        learned: The connections.
        radius: Largest distance along either axis.
        inputs: Inputs to choose from, int64 ``[m]``.
        input_points: Row and column of each, int64 ``[m, 2]``.
        gate_points: Row and column of each gate, int64 ``[out_dim, 2]``.
        generator: Of the draws.
    """
    candidates = learned.candidates
    _, arity, count = candidates.shape
    for point in torch.unique(gate_points, dim=0):
        gates = (gate_points == point).all(1).nonzero().squeeze(1)
        distance = (input_points - point).abs().amax(1)
        reach = max(radius, int(distance.kthvalue(count).values))
        near = inputs[distance <= reach]
        drawn = torch.rand(arity * len(gates), len(near), generator=generator).topk(count, dim=1).indices
        candidates[gates.to(candidates.device)] = near[drawn].view(len(gates), arity, count).to(candidates)

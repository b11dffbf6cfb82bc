"""Puts the gates of a dense net at places of the image, and lets them choose among inputs that lie near."""

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from lgn_lightning.callbacks.avoid_constant_inputs import first_layer_of_images
from lgn_lightning.callbacks.redrawing import deal, seed_of_run, seeded_generator
from lgn_lightning.nn import GateLayer, LearnedConnections, logic_layers

#: Gates of one place, int64 ``[n]``, and the inputs near it, int32 ``[m]``.
Neighbours = tuple[Tensor, Tensor]


class LocalCandidates(pl.Callback):
    """Lets the gates of a dense net on images choose among inputs that lie near each other.

    Before training starts, every gate gets a place, a pixel, all pixels equally often, and new candidates for its
    inputs: of the first layer bits of pixels within a radius of its place, of the next one gates whose places are
    within a radius, and so on. What strokes and textures say is local, so a gate finds inputs that belong together
    among fewer. Candidates of the first layer stay among the bits that it had as candidates, so that
    :class:`AvoidConstantInputs` comes before this callback; :class:`RefreshCandidates` draws from what is near, too.
    A resumed or tested net keeps the candidates of its checkpoint.

    Args:
        radius: Of each layer, from the first on, the largest distance along either axis, in pixels; layers beyond keep
            their candidates. Where fewer inputs are near than a gate has candidates, the distance grows.
        seed: Of the draws; ``None`` means the one of ``seed_everything``, else 0.

    Raises:
        ValueError: If an argument is out of range; when training starts, if the run has no ``ImageDataModule``, the
            first layer of the net is no ``LogicLayer`` or ``LutLayer`` after an encoder, wires are not learned, or a
            layer reads other than the layer before it.
    """

    def __init__(self, radius: Sequence[int], seed: int | None = None) -> None:
        self.radius = list(radius)
        if not self.radius or any(not isinstance(pixels, int) or pixels < 0 for pixels in self.radius):
            raise ValueError(f"LocalCandidates(radius={radius}): it is a distance of 0 or more pixels for each layer")
        self.seed = seed
        self._inputs = torch.empty(0, dtype=torch.int64)

    def state_dict(self) -> dict[str, Any]:
        """The bits that the first layer may read."""
        return {"inputs": self._inputs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores them."""
        self._inputs = state_dict["inputs"]

    @torch.no_grad()
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Draws the candidates, alike on all ranks; a checkpoint is restored after it."""
        if stage != "fit":
            return
        _, layers = self._places(trainer, pl_module)
        self._inputs = torch.unique(_learned(*layers[0]).candidates.cpu()).long()
        for number, (learned, near) in enumerate(self.neighbours(trainer, pl_module)):
            draw(learned, near, seeded_generator(seed_of_run(self.seed), number, 1))
        rank_zero_info(f"LocalCandidates: inputs within {self.radius} pixels are the candidates of the first layers")

    def neighbours(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> list[tuple[LearnedConnections, list[Neighbours]]]:
        """Connections of the layers that have a radius, and what lies near their gates, place by place."""
        (height, width), layers = self._places(trainer, pl_module)
        inputs, places = self._inputs, self._inputs % (height * width)  # an encoder gives whole images, one a bit
        found = []
        for number, (radius, layer) in enumerate(zip(self.radius, layers, strict=False)):
            learned = _learned(*layer)
            if number and learned.in_dim != len(inputs):
                raise ValueError(
                    f"LocalCandidates: layer {layer[0]} reads more or less than the {len(inputs):,} gates of the layer "
                    "before; give fewer radii"
                )
            at = deal(torch.unique(places), len(learned.candidates), seeded_generator(seed_of_run(self.seed), number))
            count = learned.candidates.shape[2]
            found.append((learned, find_near(radius, count, inputs, _points(places, width), _points(at, width))))
            inputs, places = torch.arange(len(at)), at
        return found

    def _places(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> tuple[tuple[int, int], list[tuple[str, GateLayer]]]:
        """Height and width of the images, and the layers of the net with their names."""
        net: Any = pl_module.net
        data, _, _ = first_layer_of_images(trainer, net, type(self).__name__)
        layers = list(logic_layers(net).items())
        if len(self.radius) > len(layers):
            raise ValueError(f"LocalCandidates(radius={self.radius}): the net has {len(layers)} layers")
        return (data.image_shape[1], data.image_shape[2]), layers


def _learned(name: str, layer: GateLayer) -> LearnedConnections:
    learned = getattr(layer, "learned", None)
    if not isinstance(learned, LearnedConnections):
        raise ValueError(
            f"LocalCandidates chooses candidates of learned connections, and layer {name} has none; choose "
            "connections: learned, or give fewer radii"
        )
    return learned


def _points(places: Tensor, width: int) -> Tensor:
    """Row and column of pixels, ``[n, 2]``."""
    return torch.stack((places // width, places % width), 1)


def find_near(radius: int, count: int, inputs: Tensor, input_points: Tensor, gate_points: Tensor) -> list[Neighbours]:
    """Gates by their places, with the inputs near each place.

    Args:
        radius: Largest distance along either axis; it grows until ``count`` inputs are near.
        count: Inputs that have to be near, at most all.
        inputs: Inputs to choose from, int64 ``[m]``.
        input_points: Row and column of each, int64 ``[m, 2]``.
        gate_points: Row and column of each gate, int64 ``[n, 2]``.
    """
    found = []
    points, place = torch.unique(gate_points, dim=0, return_inverse=True)
    for number, point in enumerate(points):
        distance = (input_points - point).abs().amax(1)
        reach = max(radius, int(distance.kthvalue(count).values))
        found.append(((place == number).nonzero().squeeze(1), inputs[distance <= reach].int()))
    return found


def draw(learned: LearnedConnections, neighbours: list[Neighbours], generator: torch.Generator) -> None:
    """Draws the candidates of gates from what is near, in place, all different at an input of a gate."""
    candidates = learned.candidates
    _, arity, count = candidates.shape
    for gates, near in neighbours:
        drawn = torch.rand(arity * len(gates), len(near), generator=generator).topk(count, dim=1).indices
        candidates[gates.to(candidates.device)] = near[drawn].view(len(gates), arity, count).to(candidates)

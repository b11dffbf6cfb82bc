"""Dense nets, complete from image to class scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

from torch import nn

from lgn_lightning.base.machine import check_memory
from lgn_lightning.models.arguments import KnowsArguments
from lgn_lightning.models.encoder import image_encoder
from lgn_lightning.models.layers import dense_layers
from lgn_lightning.models.sizes import mlp_widths
from lgn_lightning.nn import GroupSum, Intensity, LogicSequential, recommended_tau
from lgn_lightning.nn.gate_layer import check_layer_memory
from lgn_lightning.nn.parametrizations import Parametrization, make_parametrization
from lgn_lightning.nn.samplers import Sampler, make_sampler


class LogicMLP(KnowsArguments, LogicSequential):
    """A dense logic gate network on thresholded images (Petersen et al., NeurIPS 2022).

    Args:
        in_shape: Shape of an image, ``(channels, height, width)``.
        num_classes: Number of classes.
        width: Gates a layer, divisible by ``num_classes``; one number, or one a layer.
        depth: Number of logic layers, if ``width`` is one number.
        tau: Temperature of the group sum; ``"auto"`` takes :func:`~lgn_lightning.nn.recommended_tau`.
        thresholds: Intensities in [0, 1) that pixels are compared with, one bit each. In a recipe ``"auto"`` stands for
            those that ``lgn fit`` finds in the training images, :func:`~lgn_lightning.data.levels.choose_levels`.
        grey_in_training: Train on numbers between 0 and 1 and evaluate on bits, as the original does on MNIST, see
            :class:`~lgn_lightning.Threshold`.
        connections: ``"random"``, ``"unique"`` or ``"balanced"`` inputs, or ``"learned"`` or ``"mixture"`` ones, or
            ``"slots"``, see :class:`~lgn_lightning.nn.SlotLayer`; one word, or one a layer.
        init: ``"gaussian"`` or ``"residual"``.
        grad_factor: Factor on the gradient between layers.
        implementation: As in :class:`~lgn_lightning.LogicLayer`.
        parametrization: ``"softmax"``, ``"sigmoid"``, ``"walsh"``, ``"warp"``, ``"covjac"`` or an instance, for all.
        sampler: ``"soft"``, ``"gumbel"``, ``"straight_through"``, ``"finite_difference"`` or an instance, shared by
            all layers. With a straight-through one the net trains on bits, whatever ``grey_in_training`` says.
        arity: Inputs of a gate; more than 2 make layers of :class:`~lgn_lightning.LutLayer`, whose parametrization is
            ``"sigmoid"``, ``"walsh"`` or ``"warp"``.
        learnable_thresholds: Train the thresholds with the net, see :class:`~lgn_lightning.Threshold`.
        num_candidates: Inputs that learned connections choose among, or slots.
        edges: Contrasts of :class:`~lgn_lightning.nn.EdgeChannels`, in steps of the thresholds: eight more bits a pixel
            and contrast, which say where the image grows brighter or darker. Not for grey or learnable inputs.

    Shape:
        - Input: uint8 ``[batch, channels, height, width]``, or floats in [0, 1].
        - Output: scores ``[batch, num_classes]``.

    Raises:
        ValueError: If the widths do not fit one another or the number of classes, or arguments exclude one another.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        num_classes: int,
        width: int | list[int],
        depth: int | None = None,
        tau: float | Literal["auto"] = 1.0,
        thresholds: Sequence[float] | Literal["auto"] = (0.5,),
        grey_in_training: bool = False,
        connections: str | list[str] = "unique",
        init: str = "gaussian",
        grad_factor: float = 1.0,
        implementation: str | None = None,
        parametrization: str | Parametrization = "softmax",
        sampler: str | Sampler = "soft",
        arity: int = 2,
        learnable_thresholds: bool = False,
        num_candidates: int = 8,
        edges: list[int] | None = None,
    ) -> None:
        if isinstance(width, int) and depth is not None:
            check_layer_memory(f"LogicMLP of {depth:,} layers of {width:,} gates", max(depth, 0) * max(width, 0), 1)
        given = in_shape, num_classes, width, depth, thresholds, arity, connections
        widths = mlp_widths(*given, edges, num_candidates, grey_in_training, learnable_thresholds)
        parametrization, sampler = make_parametrization(parametrization), make_sampler(sampler)
        grey = grey_in_training and not sampler.hard
        assert not isinstance(thresholds, str)  # the sizes refuse it
        encoder = image_encoder(
            thresholds, in_shape, edges, flatten=True, grey_in_training=grey, learnable=learnable_thresholds
        )
        options: dict[str, Any] = {"init": init, "grad_factor": grad_factor, "implementation": implementation}
        options |= {"parametrization": parametrization, "sampler": sampler}
        layers = dense_layers(widths, connections, num_candidates, arity, **options)
        tau = recommended_tau(widths[-1] // num_classes) if tau == "auto" else tau
        super().__init__(*encoder, *layers, GroupSum(num_classes, tau))


class MLP(KnowsArguments, nn.Sequential):
    """The real-valued baseline of the same paper: fully connected layers with ReLU.

    Args:
        in_shape: Shape of an image, ``(channels, height, width)``.
        num_classes: Number of classes.
        width: Hidden units a layer.
        depth: Number of linear layers, the output layer included.

    Shape:
        - Input: uint8 ``[batch, channels, height, width]``, or floats in [0, 1].
        - Output: logits ``[batch, num_classes]``.

    Raises:
        ValueError: If ``depth`` is less than 2.
    """

    def __init__(self, in_shape: Sequence[int], num_classes: int, width: int, depth: int) -> None:
        if depth < 2:
            raise ValueError(f"depth={depth}: an MLP has at least 2 linear layers")
        weights = math.prod(in_shape) * width + (depth - 2) * width**2 + width * num_classes
        check_memory(4 * weights, f"MLP of {depth:,} layers of {width:,} units")
        dims = [math.prod(in_shape), *[width] * (depth - 1)]
        hidden = [m for i, o in pairwise(dims) for m in (nn.Linear(i, o), nn.ReLU())]
        super().__init__(Intensity(), *hidden, nn.Linear(width, num_classes))
        self.in_shape = tuple(in_shape)

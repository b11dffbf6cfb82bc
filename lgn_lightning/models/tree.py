"""The convolutional logic gate network of Petersen et al. (NeurIPS 2024), complete from image to class scores."""

import math
from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from lgn_lightning.models.arguments import KnowsArguments
from lgn_lightning.models.encoder import image_encoder
from lgn_lightning.models.layers import dense_layers
from lgn_lightning.models.sizes import tree_sizes
from lgn_lightning.nn import (
    GroupSum,
    LogicSequential,
    LogicTreeConv2d,
    OrPool2d,
    recommended_tau,
)
from lgn_lightning.nn.parametrizations import Parametrization, make_parametrization
from lgn_lightning.nn.samplers import Sampler, make_sampler


class LogicTreeNet(KnowsArguments, LogicSequential):
    """Convolutions with trees of gates, each followed by OR pooling, then dense layers (Petersen et al., 2024, sec. 4).

    The paper's nets for CIFAR-10 have, with a factor k for the size, ``channels=[k, 4k, 16k, 32k]`` and
    ``dense=[1280k, 640k, 320k]``; those for MNIST ``channels=[k, 3k, 9k]``, ``kernel_size=[5, 3, 3]``,
    ``padding=[0, 1, 1]`` and the same dense layers. Where its table gives an output layer factor of 2, the last dense
    layer is twice as wide.

    Args:
        in_shape: Shape of an image, ``(channels, height, width)``.
        num_classes: Number of classes.
        channels: Trees of each convolution.
        dense: Gates of each dense layer behind them; the last divisible by ``num_classes``.
        kernel_size: Height and width of the receptive fields; one number, or one a convolution.
        padding: Rows and columns of zeros around the image; one number, or one a convolution.
        tree_depth: Levels of gates in a tree.
        channels_per_tree: Input channels of a tree; a first layer of fewer channels takes those it has.
        pool: Height and width of the windows of the OR pooling.
        tau: Temperature of the group sum; ``"auto"`` takes :func:`~lgn_lightning.nn.recommended_tau`.
        thresholds: Intensities in [0, 1) that pixels are compared with, one bit each; or how many of them. For
            ``"auto"`` see :class:`LogicMLP`.
        spacing: ``"uniform"`` or ``"quantile"``, how a number of thresholds is chosen; for the latter add the callback
            :class:`~lgn_lightning.callbacks.FitThresholds`.
        edges: Contrasts of :class:`~lgn_lightning.nn.EdgeChannels`, in steps of the thresholds; none for bits alone.
        connections: ``"random"``, ``"unique"`` or ``"balanced"`` inputs of the dense layers, or ``"learned"`` or
            ``"mixture"`` ones; one word, or one a layer.
        init: ``"residual"`` or ``"gaussian"``.
        implementation: As in :class:`~lgn_lightning.LogicLayer`.
        parametrization: ``"softmax"``, ``"sigmoid"``, ``"walsh"``, ``"warp"``, ``"covjac"`` or an instance, for all.
        sampler: ``"soft"``, ``"gumbel"``, ``"straight_through"`` or an instance, shared by all layers.
        num_candidates: What each input of a gate, or leaf, chooses among where connections are learned.
        tree_connections: ``"random"`` leaves of the trees, or ``"learned"`` or ``"mixture"`` ones; one word, or one a
            convolution.
        arity: Inputs of a gate, in trees and dense layers; more than 2 make trees of ``arity^tree_depth`` leaves and
            layers of :class:`~lgn_lightning.LutLayer`.
        groups: Groups of channels of the convolutions that stay apart; one number, or one a convolution.
        grad_factor: Factor on the gradient between layers.

    Attributes:
        num_gates: Gates of the net as a circuit before passes, with the gates of convolutions counted at every place
            of the image and the OR gates of pooling: the paper's count. Encoding is not counted.

    Shape:
        - Input: uint8 ``[batch, channels, height, width]``, or floats in [0, 1].
        - Output: scores ``[batch, num_classes]``.

    Raises:
        ValueError: If the sizes do not fit one another; the message names the layer.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        num_classes: int,
        channels: list[int],
        dense: list[int],
        kernel_size: int | list[int] = 3,
        padding: int | list[int] = 1,
        tree_depth: int = 3,
        channels_per_tree: int = 2,
        pool: int = 2,
        tau: float | Literal["auto"] = 1.0,
        thresholds: Sequence[float] | int | Literal["auto"] = (0.5,),
        spacing: str = "uniform",
        edges: list[int] | None = None,
        connections: str | list[str] = "random",
        init: str = "residual",
        implementation: str | None = None,
        parametrization: str | Parametrization = "softmax",
        sampler: str | Sampler = "soft",
        num_candidates: int = 8,
        tree_connections: str | list[str] = "random",
        arity: int = 2,
        groups: int | list[int] = 1,
        grad_factor: float = 1.0,
    ) -> None:
        given = in_shape, num_classes, channels, dense, kernel_size, padding, pool, thresholds
        convolutions, widths = tree_sizes(*given, edges, connections, tree_connections, arity, groups, num_candidates)
        parametrization, sampler = make_parametrization(parametrization), make_sampler(sampler)
        options: dict[str, Any] = {"init": init, "implementation": implementation, "grad_factor": grad_factor}
        options |= {"parametrization": parametrization, "sampler": sampler}
        assert not isinstance(thresholds, str)  # the sizes refuse it
        encoder = image_encoder(thresholds, in_shape, edges, flatten=False, spacing=spacing)
        gates = 0
        blocks: list[LogicTreeConv2d | OrPool2d] = []
        for size in convolutions:
            conv = LogicTreeConv2d(
                size.channels,
                size.trees,
                size.kernel_size,
                tree_depth,
                size.padding,
                channels_per_tree=min(channels_per_tree, size.channels // size.groups),
                connections=size.connections,
                num_candidates=num_candidates,
                arity=arity,
                groups=size.groups,
                **options,
            )
            gates += conv.num_neurons * math.prod(size.places) + size.trees * math.prod(size.pooled) * (pool**2 - 1)
            blocks += [conv, OrPool2d(pool)]
        layers = dense_layers(widths, connections, num_candidates, arity, **options)
        tau = recommended_tau(dense[-1] // num_classes) if tau == "auto" else tau
        super().__init__(*encoder, *blocks, nn.Flatten(), *layers, GroupSum(num_classes, tau))
        self.num_gates = gates + sum(dense)

"""Dense nets with skips: residual blocks, or blocks that keep their input beside their output."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

from torch import nn

from lgn_lightning.models.arguments import KnowsArguments
from lgn_lightning.models.sizes import skip_widths
from lgn_lightning.nn import (
    GroupSum,
    LogicConcat,
    LogicLayer,
    LogicResidual,
    LogicSequential,
    Threshold,
    recommended_tau,
)
from lgn_lightning.nn.parametrizations import Parametrization, make_parametrization
from lgn_lightning.nn.samplers import Sampler, make_sampler


class LogicSkipNet(KnowsArguments, LogicSequential):
    """A dense logic gate network on thresholded images, with a skip around every layer but the first.

    Args:
        in_shape: Shape of an image, ``(channels, height, width)``.
        num_classes: Number of classes.
        width: Gates a layer, divisible by ``num_classes``.
        depth: Number of logic layers.
        skip: ``"concat"`` keeps the input of a layer beside its output (:class:`~lgn_lightning.nn.LogicConcat`), so a
            layer sees all before it; or the gate that joins both (:class:`~lgn_lightning.nn.LogicResidual`), such as
            ``"xor"``, ``"or"`` and ``"and"``.
        tau: Temperature of the group sum; ``"auto"`` takes :func:`~lgn_lightning.nn.recommended_tau`.
        thresholds: Intensities in [0, 1) that pixels are compared with, one bit each. For ``"auto"``
            see :class:`LogicMLP`.
        connections: ``"random"`` or ``"unique"`` input pairs, or ``"learned"`` ones.
        init: ``"gaussian"`` or ``"residual"``.
        parametrization: ``"softmax"``, ``"sigmoid"``, ``"walsh"`` or an instance, for all layers.
        sampler: ``"soft"``, ``"gumbel"``, ``"straight_through"`` or an instance, shared by all layers.

    Attributes:
        num_gates: Gates of the layers, and of the skips that are gates.

    Shape:
        - Input: uint8 ``[batch, channels, height, width]``, or floats in [0, 1].
        - Output: scores ``[batch, num_classes]``.

    Raises:
        ValueError: If the widths do not fit one another or the number of classes.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        num_classes: int,
        width: int,
        depth: int,
        skip: str = "concat",
        tau: float | Literal["auto"] = "auto",
        thresholds: Sequence[float] | Literal["auto"] = (0.5,),
        connections: str = "random",
        init: str = "residual",
        parametrization: str | Parametrization = "sigmoid",
        sampler: str | Sampler = "straight_through",
    ) -> None:
        widths = skip_widths(in_shape, num_classes, width, depth, skip, thresholds, connections)
        options: dict[str, Any] = {"connections": connections, "init": init}
        options |= {"parametrization": make_parametrization(parametrization), "sampler": make_sampler(sampler)}
        first, *layers = [LogicLayer(in_dim, width, **options) for in_dim, _ in pairwise(widths)]
        concat = skip == "concat"
        blocks = [LogicConcat(nn.Identity(), layer) if concat else LogicResidual(layer, skip) for layer in layers]
        tau = recommended_tau(widths[-1] // num_classes) if tau == "auto" else tau
        assert not isinstance(thresholds, str)  # the sizes refuse it
        super().__init__(Threshold(thresholds, in_shape), first, *blocks, GroupSum(num_classes, tau))
        self.num_gates = width * (depth if concat else 2 * depth - 1)

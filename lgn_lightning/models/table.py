"""`TableMLP`: a dense net on the rows of a table."""

from __future__ import annotations

from typing import Final, Literal

from lgn_lightning.models.arguments import KnowsArguments
from lgn_lightning.models.layers import dense_layers
from lgn_lightning.models.sizes import layer_widths
from lgn_lightning.nn import GroupSum, LogicSequential
from lgn_lightning.nn.columns import Columns
from lgn_lightning.nn.parametrizations import Parametrization, make_parametrization
from lgn_lightning.nn.samplers import Sampler, make_sampler

#: Range of the scores where tau is left open.
SCORE_RANGE: Final = 40.0


class TableMLP(KnowsArguments, LogicSequential):
    """A dense logic gate network on rows of a table.

    Args:
        num_bits: Bits of a row, ``Table.num_bits``. ``lgn fit`` fills in what a recipe leaves null, here and below.
        num_classes: Number of classes.
        width: Gates a layer; one number, or one a layer. The last layer gets as many more as make it divide into the
            classes.
        depth: Number of layers, if ``width`` is one number.
        tau: Temperature of the group sum; ``"auto"`` takes gates a class / 40, above
            :func:`~lgn_lightning.nn.recommended_tau` where classes are few: wide nets fit small tables too well.
        connections: ``"random"``, ``"unique"``, ``"balanced"``, ``"learned"``, ``"mixture"`` or ``"slots"``; one word,
            or one a layer.
        num_candidates: Inputs that learned connections choose among, or slots.
        init: ``"gaussian"`` or ``"residual"``.
        grad_factor: Factor on the gradient between layers.
        implementation: As in :class:`~lgn_lightning.LogicLayer`.
        parametrization: ``"softmax"``, ``"sigmoid"``, ``"walsh"``, ``"warp"``, ``"covjac"`` or an instance, for all.
        sampler: ``"soft"``, ``"gumbel"``, ``"straight_through"``, ``"finite_difference"`` or an instance, shared by
            all layers.
        arity: Inputs of a gate.
        noise: Share of the input bits that are flipped in training, see :class:`~lgn_lightning.nn.Columns`.
        learnable_thresholds: Train the thresholds with the net, see :class:`~lgn_lightning.nn.Columns`.

    Shape:
        - Input: rows, see :class:`~lgn_lightning.nn.Columns`.
        - Output: scores ``[batch, num_classes]``.

    Raises:
        ValueError: If a size is missing or none.
    """

    def __init__(
        self,
        num_bits: int | None,
        num_classes: int | None,
        width: int | list[int] = 4000,
        depth: int | None = None,
        tau: float | Literal["auto"] = "auto",
        connections: str | list[str] = "random",
        num_candidates: int = 8,
        init: str = "residual",
        grad_factor: float = 1.0,
        implementation: str | None = None,
        parametrization: str | Parametrization = "sigmoid",
        sampler: str | Sampler = "straight_through",
        arity: int = 2,
        learnable_thresholds: bool = False,
        noise: float = 0.0,
    ) -> None:
        if num_bits is None or num_classes is None:
            raise ValueError("give num_bits and num_classes, those of the Table")
        if num_classes < 1:
            raise ValueError(f"num_classes={num_classes}: a classifier has at least 1 class")
        widths = layer_widths(width, 3 if depth is None and isinstance(width, int) else depth)
        widths[-1] = -(-widths[-1] // num_classes) * num_classes
        layers = dense_layers(
            [num_bits, *widths],
            connections,
            num_candidates,
            arity,
            init=init,
            grad_factor=grad_factor,
            implementation=implementation,
            parametrization=make_parametrization(parametrization),
            sampler=make_sampler(sampler),
        )
        tau = widths[-1] / num_classes / SCORE_RANGE if tau == "auto" else tau
        super().__init__(Columns(num_bits, learnable_thresholds, noise=noise), *layers, GroupSum(num_classes, tau))

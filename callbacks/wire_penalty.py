"""A price on gates that are only wires or constants, added to the loss."""

from __future__ import annotations

from torch import Tensor

from lgn_lightning.callbacks.rising_penalty import RisingPenalty
from lgn_lightning.nn import GateLayer


class WirePenalty(RisingPenalty):
    """Makes gates that ignore an input (wires, constants) use all their inputs, unless the net needs them as they are.

    loss + λ · mean over all neurons of d, where d is how far the logits of a gate that ignores an input are from those
    of the nearest gate that depends on all of them, and 0 for gates that do. For ``sigmoid`` and ``walsh`` d is the
    smallest magnitude of the table's logits: if one entry of such a table flips, its number of ones becomes odd, and an
    odd table depends on every input. For ``softmax`` it is how much the largest logit exceeds that of the likeliest
    gate of two inputs. The gradient touches the entry that is nearest to its flip, and ends with the flip.

    Most wires of a deep net are gates that the loss is indifferent to. Those flip at any price, as Adam scales away how
    small their gradient is, while one that the scores hang on stays where it is. λ is 0 up to ``start`` and rises
    linearly to ``weight`` at ``until``. Meant for ``straight_through``, where gates are hard from the first step on.

    Logged as ``wire_penalty/weight`` (λ) and ``wire_penalty/distance`` (mean d); ``train/loss`` includes λ·d. For the
    rest see :class:`RisingPenalty`.

    Args:
        weight: λ at ``until`` and after, loss a unit of logit.
        start: Share of the training, in [0, 1), up to which wires are free.
        until: Share of the training, in (``start``, 1], from which on λ is ``weight``.
    """

    name = "wire"
    unit = "distance"

    def __init__(self, weight: float = 0.1, start: float = 0.0, until: float = 0.9) -> None:
        super().__init__(weight, start, until)

    @staticmethod
    def of_neurons(layer: GateLayer) -> Tensor:
        """Distance of each neuron's logits from those of a gate that depends on all inputs."""
        return layer.parametrization.distance_to_full(layer.weights)

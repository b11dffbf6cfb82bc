"""A price on undecided gates, added to the loss."""

from __future__ import annotations

from torch import Tensor

from lgn_lightning.callbacks.rising_penalty import RisingPenalty
from lgn_lightning.nn import GateLayer


class EntropyRegularization(RisingPenalty):
    """Adds the mean entropy of the gate distributions to the loss, so that gates decide before they are made hard.

    loss + λ · mean over all neurons of H, in bits: the minimum-entropy regularizer of Grandvalet and Bengio (NeurIPS
    2004, eq. 6), there of class probabilities and here of gates. H is that of the softmax over 16 gates, or the sum of
    the binary entropies of a table's entries for ``sigmoid`` and ``walsh``; samplers' temperature and noise are no part
    of it. λ is 0 up to ``start`` and rises linearly to ``weight`` at ``until``.

    Logged as ``entropy_penalty/weight`` (λ) and ``entropy_penalty/bits`` (mean H); ``train/loss`` includes λ·H. For the
    rest see :class:`RisingPenalty`.

    Args:
        weight: λ at ``until`` and after, loss a bit.
        start: Share of the training, in [0, 1), up to which gates may be undecided for free.
        until: Share of the training, in (``start``, 1], from which on λ is ``weight``.
    """

    name = "entropy"
    unit = "bits"

    def __init__(self, weight: float = 0.05, start: float = 0.0, until: float = 1.0) -> None:
        super().__init__(weight, start, until)

    @staticmethod
    def of_neurons(layer: GateLayer) -> Tensor:
        """Entropy of each neuron's distribution over gates, in bits."""
        return layer.parametrization.entropy(layer.weights)

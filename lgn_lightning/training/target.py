"""What every target of a training has: what a net's sums mean, and how they are trained, measured and decided on."""

import math
from contextlib import suppress
from typing import Any, ClassVar

from torch import Tensor, nn
from torchmetrics import Metric

from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.build.trace import trace_module
from lgn_lightning.circuit.net.netlist import CircuitError, NodeIds
from lgn_lightning.nn import GateLayer, GroupSum


class Target(nn.Module):
    """What a net's sums mean: how they are trained, measured and decided on.

    A net gives scores, its sums of bits over tau. A target makes of them what the loss takes (`outputs`), of the sums
    themselves (*counts*) the decision (`decide`), and says for the circuit how to decide by whole counts (`decoding`).

    Attributes:
        num_classes: Classes, labels, numbers or levels.
        middle: Half of the bits of a sum, which an untrained net gives; 0 if the net sums up no bits.
        whole: Whether the counts of the hard net are whole numbers.
    """

    #: The metric that fits, of which the gap is logged; higher is better.
    main: str
    #: The arguments of the constructor.
    options: dict[str, Any]
    #: `num_classes` where none is given; 0 if it must be.
    usual: ClassVar[int] = 0
    #: Losses that take what `outputs` and `labels` give, and make nothing of it.
    senseless_losses: ClassVar[tuple[type[nn.Module], ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.options = {}

    def prepare(self, num_classes: int | None, net: nn.Module) -> None:
        """Learns, once, what the net's sums are; a ValueError if there cannot be so many classes."""
        self.num_classes = self.usual if num_classes is None else num_classes
        self.whole, self._tau, self.middle = _sums_of(net)
        learned = [module for module in net.modules() if isinstance(module, GroupSum) and module.log_tau is not None]
        self._learned = tuple(learned) if self.whole and len(learned) == 1 else ()
        least = 2 if self.usual else 1
        if self.num_classes < least:
            name = type(self).__name__
            raise ValueError(f"{name}: num_classes={self.num_classes}, but there are {least} or more; {self._hint}")

    _hint: ClassVar[str] = "set num_classes"

    @property
    def tau(self) -> float:
        """What the net divides its sums by, now."""
        return self._learned[0].tau if self._learned else self._tau

    @property
    def num_scores(self) -> int:
        """Scores that the net must give."""
        return self.num_classes

    def chosen_loss(self, given: nn.Module | None, label_smoothing: float = 0.0) -> nn.Module:
        """The loss that was given, else the usual one.

        Raises:
            ValueError: If it is one of those that compute, without an error, what means nothing here.
        """
        if isinstance(given, self.senseless_losses):
            names = type(given).__name__, type(self).__name__, self.usual_loss()
            raise ValueError("{} means nothing for the target {}, whose usual loss is {}".format(*names))
        return self.usual_loss(label_smoothing) if given is None else given

    def usual_loss(self, label_smoothing: float = 0.0) -> nn.Module:
        """The loss where none is given; only that of classes smooths labels."""
        raise NotImplementedError

    def check(self, y: Tensor, ignored: int | None = None) -> None:
        """Refuses, by a DataError, labels that the loss would fail on, or get wrong in silence."""
        raise NotImplementedError

    def fit(self, y: Tensor) -> None:
        """Takes what the target needs to know of all labels of the training, before its first step."""

    @property
    def needs_labels(self) -> bool:
        """Whether `fit` has anything to do."""
        return False

    def outputs(self, scores: Tensor) -> Tensor:
        """What the loss takes of scores ``[batch, num_scores]``."""
        return scores - self.middle / self.tau

    def labels(self, y: Tensor) -> Tensor:
        """What the loss takes of labels."""
        return y

    def counts(self, scores: Tensor, hard: bool) -> Tensor:
        """Sums of the net: whole numbers of a hard net that sums up bits."""
        counts = scores.float() * self.tau
        return counts.round() if hard and self.whole else counts

    def decide(self, counts: Tensor) -> Tensor:
        """Classes or levels int64 ``[batch]``, labels bool ``[batch, num_classes]``, numbers ``[batch(, …)]``."""
        raise NotImplementedError

    def metrics(self) -> dict[str, Metric]:
        """Fresh metrics by name, without the loss."""
        raise NotImplementedError

    def update(self, metrics: Any, counts: Tensor, y: Tensor) -> None:
        """Adds a batch to them."""
        decisions = self.decide(counts)
        for name in self.metrics():
            metrics[name].update(decisions, y)

    def choose(self, metrics: Any) -> None:
        """Chooses the thresholds by the hard net's metrics of a validation."""

    def compute(self, metrics: Any) -> dict[str, Tensor]:
        """Their values by name."""
        return {name: metrics[name].compute() for name in self.metrics()}

    def decoding(self) -> dict[str, Any]:
        """The decision by whole counts as plain data, the arguments of `circuit.Decoding`."""
        raise NotImplementedError

    def listed(self, thresholds: Tensor) -> list[float]:
        """Thresholds as plain data: whole counts where the net sums up bits."""
        return [math.ceil(t) if self.whole else t for t in thresholds.tolist()]


def _sums_of(net: nn.Module) -> tuple[bool, float, float]:
    """Whether a net sums up bits, what it divides the sums by, and half of the bits of a sum."""
    sums = [module for module in net.modules() if isinstance(module, GroupSum)]
    bits = getattr(net, "bits_of_a_sum", None)
    if not sums:
        return False, 1.0, 0.0
    if bits is None and (len(sums) > 1 or not isinstance(net, nn.Sequential)):  # an ensemble, or any forward pass
        with suppress(CircuitError):
            return trace_module(net, NetlistBuilder, _sums_of_circuit)
    layers = [module for module in net.modules() if isinstance(module, GateLayer)]
    usual = layers[-1].num_neurons / sums[-1].k if layers else 0.0
    return True, sums[-1].tau, (usual if bits is None else bits) / 2


def _sums_of_circuit(builder: NetlistBuilder, outputs: NodeIds) -> tuple[bool, float, float]:
    return True, builder.tau, len(outputs) / (builder.num_classes or len(outputs)) / 2

"""Parametrizations: how the weights of a gate give its table, and which gate they settle on.

A gate of k inputs is its table: 2^k numbers in [0, 1], the first input being the most significant digit of an entry's
number. Layers know nothing else, so that every parametrization here trains, and exports, with every layer.

All of them have *logits* that are affine in the weights; a sampler adds noise to the logits or divides them by a
temperature without knowing which parametrization it has (:mod:`lgn_lightning.nn.samplers`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from lgn_lightning import ops
from lgn_lightning.base.choice import check_choice

#: The choices of ``init``.
INITS = ("gaussian", "residual")


class Parametrization(ABC):
    """Maps the weights of gates, ``[n, num_weights(k)]``, to their tables, ``[n, 2^k]``.

    It holds options and no state: the weights belong to the layer, one instance may serve many layers.
    """

    #: Short name, as recipes write it.
    name: ClassVar[str]
    #: What a gate is while it is soft, as a report says it.
    soft_gate: ClassVar[str] = "a table of numbers between 0 and 1"
    #: What :meth:`table_of_logits` is if it is that and nothing else, so that an op may take it on itself: the
    #: "sigmoid" of each entry, or the "softmax" over 16 gates.
    table_form: ClassVar[str | None] = None
    #: Whether real inputs are put into the logits, of which the sigmoid is taken then, and not into the table.
    interpolates_logits: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if {"table_of_logits", "hard_table_of_logits"} & vars(cls).keys() and "table_form" not in vars(cls):
            cls.table_form = None  # a formula of its own

    @abstractmethod
    def num_weights(self, inputs: int = 2) -> int:
        """Weights of a gate with that number of inputs; ValueError if there are no such gates."""

    def initialize(self, weights: Tensor, init: str = "gaussian") -> None:
        """Draws weights ``[n, num_weights(k)]`` in place from a standard normal distribution.

        With ``"residual"`` for ``"gaussian"`` they are those of gates close to "first input"; another word is a
        ValueError.
        """
        check_choice("init", init, INITS)
        with torch.no_grad():
            if init == "residual":
                weights.copy_(self._residual(weights))
            else:
                weights.normal_()

    def _residual(self, like: Tensor) -> Tensor:
        """Weights of a gate close to its first input, ``[num_weights(k)]`` of the dtype and device of ``like``."""
        raise NotImplementedError

    @abstractmethod
    def logits(self, weights: Tensor) -> Tensor:
        """The numbers that are compared to find the hard gate; affine in the weights, differentiable."""

    @abstractmethod
    def table_of_logits(self, logits: Tensor) -> Tensor:
        """Tables ``[n, 2^k]`` in [0, 1] from logits; differentiable, natively where there is a kernel."""

    def formula(self, logits: Tensor) -> Tensor:
        """:meth:`table_of_logits` as a formula in plain torch."""
        return self.table_of_logits(logits)

    @abstractmethod
    def hard_table_of_logits(self, logits: Tensor) -> Tensor:
        """Tables of the gates that the logits settle on: bool ``[n, 2^k]``."""

    @abstractmethod
    def noise_like(self, logits: Tensor) -> Tensor:
        """Draws noise so that the hard gate of ``logits + noise`` is a gate drawn at its probability."""

    @abstractmethod
    def from_table(self, table: Tensor) -> Tensor:
        """Weights ``[n, num_weights(k)]`` whose :meth:`table` is the given one ``[n, 2^k]``, up to rounding.

        Entries of exactly 0 or 1 are taken as the nearest that a finite weight gives.
        """

    @abstractmethod
    def gate_probabilities(self, weights: Tensor) -> Tensor:
        """Probability of each gate when gates are drawn: ``[n, 2^2^k]``, detached; for k = 2 by gate id."""

    @abstractmethod
    def entropy(self, weights: Tensor) -> Tensor:
        """Entropy of each gate's distribution over gates, in bits, from 0 to 2^k: ``[n]``, differentiable."""

    @abstractmethod
    def confidence(self, weights: Tensor) -> Tensor:
        """Probability of each neuron's most likely gate, ``[n]``: from :meth:`least_confidence` up to 1."""

    def least_confidence(self, inputs: int = 2) -> float:
        """The confidence where all gates with that number of inputs are equally likely."""
        return 0.5 ** (1 << inputs)

    @abstractmethod
    def distance_to_full(self, weights: Tensor) -> Tensor:
        """Smallest change of one logit after which the hard gate depends on all of its inputs: ``[n]``, differentiable.

        It is 0 where the gate does already.
        """

    def probabilities_of(self, weights: Tensor, tables: Tensor) -> Tensor:
        """Probability that a gate drawn for each neuron has each of the tables, bool ``[m, 2^k]``: ``[n, m]``.

        Differentiable. Raises ValueError if the parametrization defines no such probabilities.
        """
        raise ValueError(f"{type(self).__name__} has no probabilities of gates: leave HardwarePrice out")

    def idle_probabilities(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities that a drawn gate is a constant, and that it is an input or its complement: ``[n]`` each."""
        entries = self.hard_table(weights[:1]).shape[-1]
        number = torch.arange(entries, device=weights.device)
        inputs = [number >> k & 1 == 1 for k in range(entries.bit_length() - 1)]
        constants = [torch.zeros_like(inputs[0])]
        tables = torch.stack([table ^ flip for table in constants + inputs for flip in (False, True)])
        found = self.probabilities_of(weights, tables)
        return found[:, :2].sum(-1), found[:, 2:].sum(-1)

    def table(self, weights: Tensor) -> Tensor:
        """Soft tables: ``[n, num_weights(k)]`` to ``[n, 2^k]`` in [0, 1]; differentiable."""
        return self.table_of_logits(self.logits(weights))

    def hard_table(self, weights: Tensor) -> Tensor:
        """Tables of the gates that the weights settle on: bool ``[n, 2^k]``."""
        return self.hard_table_of_logits(self.logits(weights.detach()))

    def gates_of_logits(self, logits: Tensor) -> Tensor:
        """Ids of the gates that the logits settle on: uint8 ``[n]``; of more inputs than two int64, ``ops.lut_ids``."""
        if self.table_form == "softmax":
            return ops.gate_ids(logits)
        if self.table_form is None:  # numbers whose signs are the entries, as logits of a sigmoid are
            logits = self.hard_table_of_logits(logits).to(logits.dtype) - 0.5
        return ops.gate_ids(logits) if logits.shape[-1] == 4 else ops.lut_ids(logits)

    def hard_gates(self, weights: Tensor) -> Tensor:
        """Ids of the gates that the weights settle on, as :meth:`gates_of_logits` gives them."""
        return self.gates_of_logits(self.logits(weights.detach()))

    def convert(self, weights: Tensor, other: Parametrization) -> Tensor:
        """Weights of another parametrization that have the same soft tables.

        The hard gates are the same too, except from :class:`Softmax`, whose most likely gate may differ from the
        rounded table: two gates of 0.4 that agree in an entry outvote one of 0.5 there.
        """
        with torch.no_grad():
            return other.from_table(self.table(weights.detach()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value}' for key, value in vars(self).items())})"


def inputs_used(tables: Tensor) -> Tensor:
    """How many inputs each table depends on: bool ``[n, 2^k]`` to int64 ``[n]``."""
    inputs = tables.shape[-1].bit_length() - 1
    digits = tables.view(-1, *[2] * inputs)
    used = [(digits.select(i, 0) != digits.select(i, 1)).flatten(1).any(1) for i in range(1, inputs + 1)]
    return torch.stack(used).sum(0)


def ignores_an_input(tables: Tensor) -> Tensor:
    """Which tables do not depend on all inputs, constants included: bool ``[n, 2^k]`` to ``[n]``."""
    return inputs_used(tables) < tables.shape[-1].bit_length() - 1


def inside(table: Tensor) -> Tensor:
    """A table with entries of 0 and 1 moved to the nearest numbers between."""
    eps = torch.finfo(table.dtype).eps
    return table.clamp(eps, 1 - eps)

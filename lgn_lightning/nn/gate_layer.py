"""What every layer of trainable gates has in common: weights, and how they become gates."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lgn_lightning.base.choice import check_choice
from lgn_lightning.base.finite import surely_without_nan
from lgn_lightning.base.machine import check_memory
from lgn_lightning.gates import NUM_GATES
from lgn_lightning.nn.autocast import autocast_dtype
from lgn_lightning.nn.checked_input import CheckedInput, check_bits, check_range
from lgn_lightning.nn.learned_connections import LearnedConnections
from lgn_lightning.nn.parametrizations import INITS, Parametrization, make_parametrization
from lgn_lightning.nn.samplers import GateSample, Sampler, hard_tables, make_sampler
from lgn_lightning.ops.library import sum_dtype

_IMPLEMENTATIONS = (None, "auto", "python", "cpu", "cuda")
#: What a gate's two wires take while they are drawn.
_WIRING_BYTES = 32
_MEND = "put Threshold before the layers of gates"


class GateLayer(CheckedInput):
    """Base of the layers that are made of gates, in ``.eval()`` mode those that the weights settle on.

    In ``.train()`` mode they are what the sampler makes of the weights. A gate with NaN among its weights gives NaN,
    soft or hard, whatever computes it; in straight-through training on packed bits, which hold no NaN, all outputs of
    the net are NaN. With infinite weights a hard gate is that of the largest logits, a softmax with +∞ is NaN.

    A subclass sets ``out_dim`` and, once its connections are drawn, calls :meth:`reset_parameters`.

    Args:
        num_gates: Number of gates with weights of their own.
        device: As this and what follows in :class:`~lgn_lightning.LogicLayer`; ValueError on another choice.
        implementation: Likewise.
        init: Likewise.
        parametrization: Likewise.
        sampler: Likewise.
        arity: Inputs of a gate.

    Attributes:
        weights: One row a gate: ``[num_gates, 16]`` for the softmax.
        out_dim: Size of the output's dimension 1: neurons or channels.
        learned: The :class:`LearnedConnections`; None if connections are fixed.
    """

    out_dim: int
    learned: LearnedConnections | None
    #: Gives the table to train with in place of the sampler's: how ``LogicDDPStrategy`` gets at its gradient.
    table_hook: Callable[[Tensor], Tensor] | None = None

    def __init__(
        self,
        num_gates: int,
        device: torch.device | str | None,
        implementation: str | None,
        init: str,
        parametrization: str | Parametrization = "softmax",
        sampler: str | Sampler = "soft",
        arity: int = 2,
    ) -> None:
        super().__init__()
        check_choice("implementation", implementation, _IMPLEMENTATIONS)
        check_choice("init", init, INITS)
        self.implementation, self.init, self.arity = implementation, init, arity
        self.learned = None
        self.parametrization = make_parametrization(parametrization)
        self.sampler = make_sampler(sampler)
        each = self.parametrization.num_weights(arity)
        check_layer_memory(f"{type(self).__name__} of {num_gates:,} gates", num_gates, each, device)
        self.weights = nn.Parameter(torch.empty(num_gates, each, device=device))
        if implementation == "cuda" and self.weights.device.type != "cuda":
            raise ValueError(
                f"implementation='cuda' needs device='cuda', but the layer is on {self.weights.device}; "
                "leave implementation out to take the fastest for any device"
            )

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        about = getattr(destination, "_metadata", {}).get(prefix[:-1])
        if about is not None:  # beside the version of the module: no key that others would not know
            about["parametrization"] = self.parametrization.name

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *others: Any
    ) -> None:
        """Refuses weights that mean other gates here, though their shape may be the same."""
        saved, own = local_metadata.get("parametrization"), self.parametrization.name
        if saved in (None, own):
            super()._load_from_state_dict(state_dict, prefix, local_metadata, *others)
            return
        error_msgs: list[str] = others[-1]
        error_msgs.append(
            f"{prefix}weights are of the parametrization {saved!r}, and the layer has {own!r}: build the net with "
            f"{saved!r}, and convert() it then"
        )

    def reset_parameters(self) -> None:
        """Draws the weights anew; the connections, or their candidates, stay."""
        self.parametrization.initialize(self.weights, self.init)
        if self.learned is not None:
            self.learned.reset_parameters()

    @torch.no_grad()
    def convert(self, parametrization: str | Parametrization) -> None:
        """Exchanges the parametrization for another one with the same soft tables, see :meth:`Parametrization.convert`.

        The weights become a new parameter: make the optimizer afterwards. A ValueError if there is no parametrization
        of that name, or it cannot have gates of so many inputs.
        """
        target = make_parametrization(parametrization)
        self.weights = nn.Parameter(self.parametrization.convert(self.weights, target), self.weights.requires_grad)
        self.parametrization = target

    @property
    def plain(self) -> bool:
        """Whether the layer is to be computed by the formulas in plain torch, which have derivatives of any order."""
        return self.implementation == "python"

    @property
    def learns_wires(self) -> bool:
        """Whether the wires of a training step are being learned, and not frozen."""
        return self.training and self.learned is not None and self.learned.logits.requires_grad

    @property
    def reads_mixture(self) -> bool:
        """Whether a training step reads mixtures of candidates."""
        return self.learned is not None and self.learned.mixture

    @property
    def num_neurons(self) -> int:
        """Number of gates with weights of their own."""
        return len(self.weights)

    def gates(self) -> Tensor:
        """The gate that each neuron would be in a circuit, its truth table as a number.

        Uint8 ``[num_gates]``, the gate ids; int64 of more than two inputs, see :func:`~lgn_lightning.ops.lut_ids`.
        """
        return self.parametrization.hard_gates(self.weights)

    def hard_table(self) -> Tensor:
        """Tables of those gates: bool ``[num_gates, 2^arity]``."""
        return self.parametrization.hard_table(self.weights)

    def gate_probabilities(self) -> Tensor:
        """Probability of each of the 16 gates, ``[num_gates, 16]``, detached; of three inputs, of each of 256.

        Gates of more inputs are too many to list: a ValueError.
        """
        return self.parametrization.gate_probabilities(self.weights)

    def gate_counts(self) -> Tensor:
        """How many neurons settle on each of the 16 gates of two inputs: int64 ``[16]`` on the CPU, by gate id."""
        return torch.bincount(self.gates().flatten().long(), minlength=NUM_GATES).cpu()

    def entropy(self) -> Tensor:
        """Entropy of each neuron's distribution over gates, in bits, from 0 to 2^arity: float64 ``[num_gates]``."""
        return self.parametrization.entropy(self.weights.detach().double())

    def hard_values(self, gates: Tensor, dtype: torch.dtype) -> Tensor:
        """Tables ``[num_gates, 2^arity]`` of hard gates: 0 or 1, or NaN of a gate with NaN among its weights."""
        tables = hard_tables(gates, self.arity, dtype)
        if surely_without_nan(self.weights):
            return tables
        return tables.masked_fill(self.weights.detach().isnan().any(1, keepdim=True), math.nan)

    def sample(self) -> GateSample:
        """What the layer computes with: what the sampler makes of the weights, or hard tables in evaluation mode."""
        if self.training:
            sample = self.sampler(self.parametrization, self.weights, plain=self.plain)
            return sample._replace(table=self._hooked(sample.table))
        return GateSample(self.hard_values(self.gates(), table_dtype(self.weights.dtype)))

    def hard_of(self, sample: GateSample) -> Tensor | None:
        """Tables of the hard gates of a sample, as :meth:`hard_values`; None if it has none."""
        return None if sample.gates is None else self.hard_values(sample.gates, table_dtype(self.weights.dtype))

    def sample_for_stack(self) -> GateSample:
        """What an op on stacks of layers computes with, which may be logits in place of the table."""
        if not self.training or (self.table_hook is not None and self.weights.shape[1] > 1 << self.arity):
            return self.sample()  # tables are hard, or their gradient, smaller than that of logits, is wanted
        sample = self.sampler.for_stack(self.parametrization, self.weights)
        return sample._replace(table=self._hooked(sample.table))

    def _hooked(self, table: Tensor) -> Tensor:
        return self.table_hook(table) if self.table_hook is not None and table.requires_grad else table

    def table(self) -> Tensor:
        """The table of each gate, ``[num_gates, 2^arity]``: the sampler's in training mode, else 0 or 1."""
        sample = self.sample()
        return sample.table.sigmoid() if sample.warped else sample.table

    def check_numbers(self, x: Tensor) -> None:
        """Checks inputs that carry no gradient, so data, once a stage: see :class:`CheckedInput`.

        Raises:
            ValueError: If they lie outside [0, 1], or in ``.eval()`` mode are no bits.
            TypeError: If they are complex or uint8.
        """
        check_real(x)
        if x.requires_grad or x.is_meta or not self.looks():
            return
        name = getattr(self, "_name", type(self).__name__)
        (check_range if self.training else check_bits)(x, name, _MEND)

    @property
    def input_text(self) -> str:
        """What it reads, in a word, for tables: the number of its inputs."""
        return f"{getattr(self, 'in_dim', '–'):,}"

    @property
    def wires_text(self) -> str:
        """How its wires are chosen, in a word or three, for tables."""
        wires: str = getattr(self, "connections", "–")
        return wires if self.learned is None else f"{wires}, of {self.learned.candidates.shape[2]}"

    def options_text(self, **defaults: object) -> str:
        """For ``extra_repr``: ``, name=value`` of wires and parametrization, and of what is not its default."""
        options = [(name, getattr(self, name), default) for name, default in defaults.items()]
        common = (
            ("connections", getattr(self, "connections", None), None),
            ("parametrization", self.parametrization.name, None),
            ("sampler", self.sampler.name, "soft"),
            ("implementation", self.implementation, None),
        )
        return "".join(f", {name}={value!r}" for name, value, default in (*options, *common) if value != default)


def check_layer_memory(what: str, gates: int, numbers: int, device: torch.device | str | None = None) -> None:
    """Refuses layers whose weights and wires do not fit into memory.

    Args:
        what: For the message.
        gates: How many.
        numbers: Weights of a gate.
        device: Of the weights.

    Raises:
        ValueError: If so.
    """
    kind = torch.empty(0, device=device)
    if kind.is_cuda:
        check_memory(gates * numbers * kind.element_size(), what, torch.cuda.mem_get_info(kind.device)[0])
    if not kind.is_meta:  # wires are drawn on the CPU: a permutation of all inputs
        own = 0 if kind.is_cuda else numbers * kind.element_size()
        check_memory(gates * (own + _WIRING_BYTES), what)


def check_real(x: Tensor) -> None:
    """Refuses, by a TypeError, complex inputs, of which torch would drop a part, and pixels from 0 to 255 (uint8)."""
    if x.dtype == torch.uint8:
        raise TypeError(f"gates take numbers in [0, 1] or bools, not the pixels of uint8: {_MEND}, or pass x.bool()")
    if x.is_complex():
        raise TypeError(f"gates take real numbers or bools, not {x.dtype}; pass x.real or x.abs()")


def as_activations(x: Tensor, parameters: torch.dtype) -> Tensor:
    """Gives real inputs the dtype to compute in: autocast's, else their own, or that of the parameters for bools."""
    check_real(x)
    dtype = autocast_dtype(x.device.type)
    if dtype is not None:
        return x.to(dtype)
    return x if x.is_floating_point() else x.to(parameters)


def on_rows(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Applies a function of ``[batch, in]`` to an input of any leading dimensions: ``[..., in]`` to ``[..., out]``."""
    if x.ndim == 2:
        return function(x)
    y = function(x.unsqueeze(0) if x.ndim == 1 else x.flatten(0, -2))
    return y.reshape(*x.shape[:-1], y.shape[-1])


def table_dtype(activations: torch.dtype) -> torch.dtype:
    """The dtype of the tables that activations of a dtype are computed with."""
    return sum_dtype(activations)

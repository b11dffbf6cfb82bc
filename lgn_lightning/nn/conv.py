"""Convolution with trees of gates, and the pooling that goes with it (Petersen et al., NeurIPS 2024)."""

import math
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from lgn_lightning import ops
from lgn_lightning.base.choice import check_choice
from lgn_lightning.base.machine import check_memory
from lgn_lightning.base.sizes import LEARNED, MAX_POOL
from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.net.netlist import Netlist, NodeIds
from lgn_lightning.nn.autocast import autocast_dtype
from lgn_lightning.nn.connections import draw_leaves
from lgn_lightning.nn.deferred import defer
from lgn_lightning.nn.dense_layer import is_finite
from lgn_lightning.nn.gate_layer import GateLayer, as_activations, table_dtype
from lgn_lightning.nn.learned_connections import LeafConnections, LearnedLeaves
from lgn_lightning.nn.loaded_indices import check_indices_when_loaded
from lgn_lightning.nn.parametrizations import Parametrization
from lgn_lightning.nn.samplers import GateSample, Sampler
from lgn_lightning.nn.straight_through import round_to_bits
from lgn_lightning.nn.unfolded import evaluate_trees
from lgn_lightning.ops import BitActivations, ConvGeometry, tree
from lgn_lightning.ops.dense_stack import scale_gradient
from lgn_lightning.ops.lut import MAX_INPUTS
from lgn_lightning.ops.tree import decode_places, encode_places

Pair = int | tuple[int, int]
#: Leaves of a tree: more than any image has.
_MAX_LEAVES = 2**20
#: What a place of a kernel takes while leaves are drawn: a number and an index.
_DRAWING_BYTES = 12


class OrPool2d(nn.Module):
    """Maximum over windows: the OR of hard gates (Petersen et al., 2024, sec. 3.2).

    Behind a :class:`LogicTreeConv2d` in a :class:`~lgn_lightning.nn.LogicSequential` it is computed in the same op.

    Args:
        kernel_size: Height and width of a window.
        stride: Steps of the window; ``kernel_size`` if not given.
        padding: Rows and columns on every side that no maximum comes from, at most half a window.

    Shape:
        - Input: ``[batch, channels, H, W]``, floats in [0, 1] or bools.
        - Output: ``[batch, channels, H', W']`` with H' = ⌊(H + 2·padding - kernel) / stride⌋ + 1, as of torch's
          ``MaxPool2d``; batch innermost in memory if the input is. Of equal values the first in the window gets the
          gradient.

    Raises:
        ValueError: If a size is below 1, the padding above half a window or, when called, a window above the input.
    """

    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0) -> None:
        super().__init__()
        self.kernel_size, self.padding = _pair(kernel_size), _pair(padding)
        self.stride = self.kernel_size if stride is None else _pair(stride)
        name = f"OrPool2d({kernel_size}, {stride}, {padding})"
        if min(*self.kernel_size, *self.stride) < 1:
            raise ValueError(f"{name}: window and stride must be at least 1")
        if any(not 0 <= 2 * p <= k for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise ValueError(f"{name}: the padding must be from 0 to half the window")

    @property
    def fusible(self) -> bool:
        """Whether a convolution can apply this pooling in its own op."""
        plain = self.stride == self.kernel_size and self.padding == (0, 0)
        return plain and math.prod(self.kernel_size) <= MAX_POOL

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output for an input of this size; ValueError if that is smaller than a window."""
        if height + 2 * self.padding[0] < self.kernel_size[0] or width + 2 * self.padding[1] < self.kernel_size[1]:
            raise ValueError(
                f"OrPool2d({self.extra_repr()}) is larger than its input of {height}x{width}; change the padding or "
                "kernel of the layer before it, or the pooling"
            )
        return ConvGeometry(self.kernel_size, self.stride, self.padding).output_size((height, width))

    def forward(self, x: Tensor) -> Tensor:
        """Takes the maximum of each window."""
        if type(self) is OrPool2d:
            waiting = defer(self, x, lambda: (*x.shape[:-2], *self.output_size(*x.shape[-2:])), x.dtype)
            if waiting is not None:
                return waiting
        height, width = self.output_size(*x.shape[-2:])
        if any(self.padding):
            (rows, columns), nothing = self.padding, -math.inf if x.is_floating_point() else 0
            padded = nn.functional.pad(x.movedim(0, -1), (0, 0, columns, columns, rows, rows), value=nothing)
            x = padded.movedim(-1, 0)  # so that the batch stays innermost
        best: Tensor | None = None
        for i in range(self.kernel_size[0]):
            for j in range(self.kernel_size[1]):
                lines = slice(i, i + (height - 1) * self.stride[0] + 1, self.stride[0])
                value = x[..., lines, j : j + (width - 1) * self.stride[1] + 1 : self.stride[1]]
                best = value if best is None else torch.where(value > best, value, best)
        return cast(Tensor, best)

    def add_to_circuit(self, builder: NetlistBuilder, wires: NodeIds) -> NodeIds:
        """Adds an OR over each window to a circuit that is being built; ``wires`` are ``[channels, H, W]``."""
        if wires.ndim != 3:
            raise ValueError(f"it takes wires [channels, height, width], got {list(wires.shape)}")
        self.output_size(*wires.shape[1:])
        return builder.or_windows(wires, self.kernel_size, self.stride, self.padding)

    def extra_repr(self) -> str:
        stride = f", stride={self.stride}" if self.stride != self.kernel_size else ""
        return f"{self.kernel_size}{stride}" + (f", padding={self.padding}" if any(self.padding) else "")


class LogicTreeConv2d(GateLayer):
    """Convolution whose kernels are trees of gates (Petersen et al., NeurIPS 2024, sec. 3.1).

    Every output channel is a complete binary tree of ``2^tree_depth - 1`` gates; its leaves are random, distinct
    positions of the receptive field in ``channels_per_tree`` random input channels. The gates are the same at all
    places of the image. In ``.train()`` mode they are soft, in ``.eval()`` mode hard. Trees of gates with more inputs,
    and of what is neither a table nor has slopes of one, are evaluated level by level on the unfolded image, see
    :mod:`lgn_lightning.nn.unfolded`.

    Args:
        in_channels: Channels of the input.
        out_channels: Number of trees.
        kernel_size: Height and width of the receptive field.
        tree_depth: Levels of gates in a tree.
        padding: Rows and columns of zeros on every side.
        stride: Steps of the receptive field.
        channels_per_tree: Input channels that the leaves of one tree are in; by default two, or one where there is one.
        init: ``"residual"``: every gate starts as "A" with a probability of 0.9; or ``"gaussian"`` logits.
        device: Device of the parameters; torch's default device if not given.
        implementation: As in :class:`~lgn_lightning.LogicLayer`.
        parametrization: Likewise.
        sampler: Likewise; a straight-through one evaluates hard gates on bits, inputs rounded, in the forward pass.
        connections: ``"random"`` leaves, or ``"learned"`` or ``"mixture"``: each has candidates, see
            :class:`LearnedLeaves`.
        num_candidates: Places that learned leaves choose among.
        arity: Inputs of a gate, 2 to 6, for parametrizations of as many: trees of lookup tables with
            ``arity^tree_depth`` leaves.
        groups: Equal parts of the input channels, each read by an equal part of the trees alone.
        grad_factor: Factor on the gradient that flows to the inputs.

    Shape:
        - Input: ``[batch, in_channels, H, W]``, floats in [0, 1] or bools.
        - Output: ``[batch, out_channels, H', W']`` with H' = ⌊(H + 2·padding - kernel) / stride⌋ + 1, batch innermost
          in memory, so that ``Flatten`` behind it copies nothing.

    Attributes:
        leaves: int32 ``[3, out_channels, arity^tree_depth]``: channel, row and column in the kernel of each leaf; None
            if they are learned, see :meth:`settled_leaves`.
        learned: The :class:`LearnedLeaves`; None if leaves are fixed.
        weights: One row a gate, ``[out_channels · (2^tree_depth - 1), 16]`` for the softmax; tree by tree, each from
            the leaves to the root: gate ``j`` of a tree has the nodes ``2j`` and ``2j + 1`` as operands (of more
            inputs ``arity · j`` and the next ones), where nodes are first the leaves, then the gates.

    Raises:
        ValueError: If a size or choice is none, or sizes do not fit one another.
    """

    leaves: Tensor | None
    learned: LearnedLeaves | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        tree_depth: int,
        padding: Pair = 0,
        stride: Pair = 1,
        channels_per_tree: int | None = None,
        init: str = "residual",
        device: torch.device | str | None = None,
        implementation: str | None = None,
        parametrization: str | Parametrization = "softmax",
        sampler: str | Sampler = "soft",
        connections: str = "random",
        num_candidates: int = 8,
        arity: int = 2,
        groups: int = 1,
        grad_factor: float = 1.0,
    ) -> None:
        name = f"{type(self).__name__}({in_channels}, {out_channels}, {kernel_size}, {tree_depth})"
        kernel, steps, border = _pair(kernel_size), _pair(stride), _pair(padding)
        if min(in_channels, out_channels, tree_depth, groups, *kernel, *steps) < 1 or min(border) < 0:
            raise ValueError(f"{name}: all sizes must be at least 1, padding={padding} at least 0")
        field = self._field(in_channels, kernel)
        if field[0] % groups or out_channels % groups:
            raise ValueError(f"{name}: groups={groups} do not divide both numbers of channels")
        channels = field[0] // groups
        if channels_per_tree is None:
            channels_per_tree = min(2, channels)
        if not 1 <= channels_per_tree <= channels:
            raise ValueError(
                f"{name}: a tree takes channels_per_tree={channels_per_tree} input channels, but there are "
                f"{channels}{'' if groups == 1 else ' in a group'}; pass channels_per_tree={channels}"
            )
        if not 2 <= arity <= MAX_INPUTS:
            raise ValueError(f"{name}: arity={arity}, but a gate has 2 to {MAX_INPUTS} inputs")
        if arity**tree_depth > _MAX_LEAVES:
            raise ValueError(f"{name}: a tree has at most {_MAX_LEAVES:,} leaves, of gates with 2 inputs 20 levels")
        leaves = arity**tree_depth
        if channels_per_tree > leaves:
            raise ValueError(f"{name}: {leaves} leaves a tree cannot use channels_per_tree={channels_per_tree}")
        if not is_finite(grad_factor):
            raise ValueError(f"{name}: grad_factor={grad_factor!r} is not a finite number")
        check_choice("connections", connections, ("random", *LEARNED))
        gates = (leaves - 1) // (arity - 1)
        super().__init__(out_channels * gates, device, implementation, init, parametrization, sampler, arity)
        self._name = name
        self.in_channels = in_channels
        self.out_channels = self.out_dim = out_channels
        self.kernel_size, self.stride, self.padding = kernel, steps, border
        self.tree_depth, self.channels_per_tree, self.connections = tree_depth, channels_per_tree, connections
        self.groups, self.grad_factor = groups, grad_factor
        numbers = out_channels * channels_per_tree * math.prod(kernel) + out_channels + in_channels
        check_memory(_DRAWING_BYTES * numbers, f"{name}: drawing the leaves")
        drawn = None
        if connections in LEARNED:
            sizes = (field[0], out_channels, field[1:], leaves, channels_per_tree, num_candidates)
            self.learned = LearnedLeaves(*sizes, self.weights.device, arity, connections == "mixture", groups)
            self.learned.kernel_size = kernel
        else:
            part = (channels, out_channels // groups, field[1:], leaves, channels_per_tree)
            first = channels * field[1] * field[2]
            places = [encode_places(draw_leaves(*part), field[1:]) + group * first for group in range(groups)]
            drawn = decode_places(torch.cat(places), kernel).to(self.weights.device)
        self.register_buffer("leaves", drawn)
        limits = {"channels": in_channels, "rows": kernel[0], "columns": kernel[1]}
        check_indices_when_loaded(self, {"leaves": limits})
        self.reset_parameters()

    def _field(self, channels: int, kernel: tuple[int, int]) -> tuple[int, int, int]:
        """Channels, rows and columns of the receptive field that leaves are drawn from."""
        return channels, *kernel

    def settled_leaves(self) -> Tensor:
        """Channel, row and column in the kernel of each leaf, as :attr:`leaves`; learned ones by their logits."""
        return cast(Tensor, self.leaves) if self.learned is None else self.learned.settled_leaves(self.plain)

    def sample_connections(self) -> LeafConnections:
        """What a forward pass reads: if leaves are learned, in ``.train()`` mode what the sampler chooses."""
        if self.learned is not None and self.training:
            return self.learned.sample_leaves(self.sampler.choice_noise, self.plain)
        return LeafConnections(self.settled_leaves())

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output for an input of this size; ValueError if that is smaller than the kernel."""
        return self._geometry((height, width)).output_size((height, width))

    def _geometry(self, size: tuple[int, ...], pool: tuple[int, int] = (1, 1)) -> ConvGeometry:
        """What the ops take, for an image that fits."""
        geometry = ConvGeometry(self.kernel_size, self.stride, self.padding, pool)
        try:
            geometry.check(size)
        except ValueError as error:
            raise ValueError(f"{self._name}: {error}") from None
        return geometry

    @property
    def runs_on_bits(self) -> bool:
        """Whether the layer is in straight-through training that :meth:`forward_bits` can do."""
        native = not self.plain and self.weights.dtype == torch.float32 and self.arity == 2 and not self.reads_mixture
        if self.learned is not None:
            native &= self.weights.device.type == "cpu"  # elsewhere the op of learned leaves has no kernel
        return self.training and native and self.sampler.runs_on_bits(self.parametrization)

    def forward_bits(self, x: BitActivations, pool: OrPool2d | None = None) -> BitActivations:
        """Straight-through training on packed bits, with the values, gradients and errors of :meth:`forward`."""
        geometry = self._check_input(x.edge, pool)
        x = x._replace(edge=scale_gradient(x.edge, self.grad_factor))
        sample = self.sample()
        table, gates = sample.table.float(), cast(Tensor, sample.gates)
        leaves, shares, candidates = self.sample_connections()
        if shares is not None and candidates is not None:
            return ops.learned_bit_tree_conv(x, table, shares, gates, leaves, candidates, geometry)
        return ops.bit_tree_conv(x, table, gates, leaves, geometry)

    def _out_shape(self, x: Tensor) -> tuple[int, ...]:
        size = self._check_input(x, None).output_size(tuple(x.shape[2:]))
        return (x.shape[0], self.out_channels, *size)

    def _check_input(self, x: Tensor, pool: OrPool2d | None) -> ConvGeometry:
        """Refuses an input that does not fit, and gives what the convolution's op does to it."""
        if len(x.shape) != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"{self._name} got an input of shape {list(x.shape)} and takes [batch, {self.in_channels}, height, "
                "width]"
            )
        return self._geometry(tuple(x.shape[2:]), (1, 1) if pool is None or not pool.fusible else pool.kernel_size)

    def forward(self, x: Tensor, pool: OrPool2d | None = None) -> Tensor:
        """Evaluates the trees, ``[batch, in_channels, H, W]`` → ``[batch, out_channels, H', W']``.

        Args:
            x: The input.
            pool: A pooling to apply in the same op, which then stores nothing but the maxima.

        Raises:
            ValueError: If the input has another number of channels or is smaller than the kernel, or the output smaller
                than the pooling.
            TypeError: If the input is no tensor, or complex.
        """
        if pool is None and type(self) is LogicTreeConv2d:
            waiting = defer(self, x, lambda: self._out_shape(x), autocast_dtype(self.weights.device.type))
            if waiting is not None:
                return waiting
        geometry = self._check_input(x, pool)
        if not isinstance(x, Tensor):
            raise TypeError(f"{self._name} takes a tensor, not a {type(x).__name__}; export the net to run packed bits")
        given, x = x, as_activations(x, self.weights.dtype)
        self.check_numbers(given)
        x = scale_gradient(x, self.grad_factor)
        sample = self.sample()
        if self.arity != 2 or sample.warped or sample.slopes is not None or (self.learns_wires and self.reads_mixture):
            y = self._unfolded(x, sample, geometry._replace(pool=(1, 1)))
            return y if pool is None else cast(Tensor, pool(y))
        table, soft_table = sample.table.to(table_dtype(x.dtype)), None
        if sample.gates is not None:
            table, soft_table = self.hard_values(sample.gates, table.dtype), table
            x = round_to_bits(x)
        leaves, shares, candidates = self.sample_connections()
        if self.plain:
            y = tree.logic_tree_conv_reference(x, table, leaves, geometry, soft_table, candidates, shares)
        elif shares is not None and candidates is not None:
            y = ops.learned_tree_conv(x, table, shares, leaves, candidates, geometry, soft_table)
        else:
            y = ops.logic_tree_conv(x, table, leaves, geometry, soft_table)
        return y if pool is None or pool.fusible else cast(Tensor, pool(y))

    def _unfolded(self, x: Tensor, sample: GateSample, geometry: ConvGeometry) -> Tensor:
        read = None
        if self.learned is not None and self.learns_wires:
            read = partial(self.learned.read, noise=self.sampler.choice_noise, plain=self.plain)
        leaves, hard = self.settled_leaves(), self.hard_of(sample)
        return evaluate_trees(x, sample, hard, leaves, geometry, self.arity, self.plain, read)

    def _kernel(self) -> Netlist:
        """The circuit of one place."""
        leaves = self.settled_leaves().cpu()
        tables = self.hard_table().view(self.out_channels, -1, 1 << self.arity).cpu().numpy()
        builder, first = NetlistBuilder(), 0
        nodes = builder.inputs(self.in_channels * math.prod(self.kernel_size))
        nodes = nodes[encode_places(leaves, self.kernel_size).numpy()]
        while (count := nodes.shape[1] // self.arity) > 0:
            level = tables[:, first : first + count].reshape(-1, 1 << self.arity)
            nodes, first = builder.luts(level, nodes.reshape(-1, self.arity)).reshape(-1, count), first + count
        return builder.finish(nodes)

    def add_to_circuit(self, builder: NetlistBuilder, wires: NodeIds) -> NodeIds:
        """Adds the trees at all places of an image to a circuit; ``wires`` are ``[in_channels, H, W]``."""
        if wires.ndim != 3 or wires.shape[0] != self.in_channels:
            raise ValueError(f"it takes wires [{self.in_channels}, height, width], got {list(wires.shape)}")
        self.output_size(*wires.shape[1:])
        return builder.convolve(wires, self._kernel(), self.kernel_size, self.stride, self.padding)

    def extra_repr(self) -> str:
        defaults: dict[str, Any] = {"padding": (0, 0), "stride": (1, 1), "arity": 2, "groups": 1, "grad_factor": 1.0}
        defaults["channels_per_tree"] = min(2, self.in_channels // self.groups)
        options = self.options_text(**defaults, init="residual")
        sizes = f"kernel_size={self.kernel_size}, tree_depth={self.tree_depth}"
        return f"{self.in_channels}, {self.out_channels}, {sizes}{options}"

    @property
    def input_text(self) -> str:
        """Channels, height and width of the receptive field."""
        return f"{self.in_channels:,}×{self.kernel_size[0]}×{self.kernel_size[1]}"


def _pair(value: Pair) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    height, width = value
    return height, width

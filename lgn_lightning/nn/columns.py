"""`Columns`: how the values of a table's row become bits. The first layer of a net on tables."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lgn_lightning.base.arrays import to_array
from lgn_lightning.base.columns import Comparisons, Op, columns_of_text, make_rows
from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.net.netlist import NodeIds

#: Torch's types of a stored value, and the words of its size that rows are taken apart into.
_TYPES = {
    "<f4": (torch.float32, torch.int32),
    "<f8": (torch.float64, torch.int64),
    "<i4": (torch.int32, torch.int32),
    "<i8": (torch.int64, torch.int64),
}


class _Group(NamedTuple):
    """Bits of one operator on columns of one type."""

    op: Op
    dtype: torch.dtype
    words: torch.dtype
    missing: int | None  # of whole numbers
    bits: Tensor  # int64 [n]
    places: Tensor  # int64 [n]: word of a row
    constants: Tensor  # [n, 1], of the type


class Columns(nn.Module):
    """Bits of the rows of a table: each is a named comparison, such as ``age > 37.5`` or ``color = red``.

    Which comparisons, :meth:`fit` is told before training; they are buffers, so checkpoint and export know them. A
    value is compared in its own type, float32, float64, int32 or int64, nothing is rounded. NaN is a missing value: its
    own bit is one, if there is one, and all others of the column are zero. Infinities are larger and smaller than all
    numbers.

    Args:
        num_bits: Number of comparisons, ``Table.num_bits``.
        learnable: Train the thresholds with the net. Bits are those of the current thresholds; their gradient is that
            of a sigmoid of (value − threshold) / (softness · distance of its neighbours), straight through.
        noise: Share of the bits that are flipped in training, drawn anew in every batch: nets on small tables learn
            less by heart.
        softness: Width of that sigmoid, and the unit in which the optimizer moves thresholds.

    Attributes:
        column: Number of the column that a bit reads, int32 ``[num_bits]``.
        op: Its operator, uint8 ``[num_bits]``, see :class:`~lgn_lightning.base.columns.Op`.
        constant: Its constant, int64 ``[num_bits]``; of a float column the bits of a float64.
        about: The columns as JSON, uint8.

    Shape:
        - Input: uint8 ``[batch, bytes]``, rows as C structs, which :class:`~lgn_lightning.data.Table` gives; numbers
          ``[batch, columns]``, float or int32, which become them; bits themselves, bool ``[batch, num_bits]``; or bits
          in words, int64 ``[batch, ceil(num_bits / 64)]``, which :class:`~lgn_lightning.data.PackedTable` gives.
        - Output: float32 0 or 1, ``[batch, num_bits]``, batch innermost in memory.

    Raises:
        ValueError: If there is no bit; when called, if there are no comparisons yet or the rows have another size.
    """

    column: Tensor
    op: Tensor
    constant: Tensor
    about: Tensor

    def __init__(self, num_bits: int, learnable: bool = False, softness: float = 0.5, noise: float = 0.0) -> None:
        super().__init__()
        if num_bits < 1:
            raise ValueError(f"Columns(num_bits={num_bits}): a row has at least 1 bit")
        if not softness > 0:
            raise ValueError(f"softness={softness} must be positive")
        if not 0 <= noise < 0.5:
            raise ValueError(f"noise={noise} must be in [0, 0.5)")
        self.num_bits = num_bits
        self.learnable = learnable
        self.noise = noise
        self.softness = softness
        self.register_buffer("column", torch.zeros(num_bits, dtype=torch.int32))
        self.register_buffer("op", torch.zeros(num_bits, dtype=torch.uint8))
        self.register_buffer("constant", torch.zeros(num_bits, dtype=torch.int64))
        self.register_buffer("about", torch.zeros(0, dtype=torch.uint8))
        if learnable:
            self.weights = nn.Parameter(torch.zeros(num_bits))
        self._kept: tuple[Any, Comparisons, list[_Group]] | None = None
        self._seen: Tensor | None = None  # the weights that it was made of

    @property
    def out_dim(self) -> int:
        """Number of bits of a row."""
        return self.num_bits

    @property
    def is_fitted(self) -> bool:
        """Whether there are comparisons."""
        return bool(self.about.numel())

    @torch.no_grad()
    def fit(self, comparisons: Comparisons) -> None:
        """Takes over the comparisons that were chosen by training rows.

        Raises:
            ValueError: If their number is another.
        """
        if len(comparisons) != self.num_bits:
            raise ValueError(f"the net has {self.num_bits} bits a row, and the table {len(comparisons)}: build it anew")
        for name in ("column", "op", "constant"):
            getattr(self, name).copy_(torch.from_numpy(getattr(comparisons, name).copy()))
        text = comparisons.columns_text().encode()
        self.about = torch.frombuffer(bytearray(text), dtype=torch.uint8).to(self.column.device)

    def fitted(self) -> Comparisons:
        """The comparisons as they were fitted.

        Raises:
            ValueError: If there are none, or what was loaded are none.
        """
        if not self.is_fitted:
            raise ValueError("this net has not seen a table yet: columns.fit(table.comparisons) before its first rows")
        arrays = [getattr(self, name).cpu().numpy() for name in ("column", "op", "constant")]
        return Comparisons(columns_of_text(self.about.cpu().numpy().tobytes()), *arrays)

    @torch.no_grad()
    def comparisons(self) -> Comparisons:
        """The comparisons that bits are made by: those of the current thresholds."""
        fitted = self.fitted()
        if not self.learnable:
            return fitted
        reals = fitted.numbers() + self.softness * _spacing(fitted) * self.weights.double().cpu().numpy()
        return _with_thresholds(fitted, reals)

    def forward(self, x: Tensor) -> Tensor:
        """Encodes a batch of rows."""
        bits = self._encode(x)
        if not self.training or not self.noise:
            return bits
        flips = (torch.rand(bits.t().shape, device=bits.device) < self.noise).t()
        return torch.where(flips, 1 - bits, bits)

    def _encode(self, x: Tensor) -> Tensor:
        learns = self.training and self.learnable
        if x.dtype in (torch.bool, torch.int64):
            return self._ready_bits(x, learns)
        comparisons, groups = self._prepared(x.device)
        rows = x if x.dtype == torch.uint8 else self._rows(comparisons, x)
        size = comparisons.row_dtype.itemsize
        if rows.ndim != 2 or rows.shape[1] != size:
            raise ValueError(
                f"rows are uint8 [batch, {size}] or numbers [batch, {len(comparisons.columns)}] for the columns of "
                f"this net, and not {str(x.dtype).removeprefix('torch.')} {list(x.shape)}"
            )
        rows = rows.contiguous()
        bits = torch.zeros(self.num_bits, len(rows), device=x.device)
        for group in groups:
            words = rows.view(group.words).t()[group.places]
            bits[group.bits] = _compare(words.contiguous().view(group.dtype), group).float()
        return (self._learned(bits, rows, groups) if learns else bits).t()

    def _ready_bits(self, x: Tensor, learns: bool) -> Tensor:
        """Bits that were made before, as floats."""
        width = self.num_bits if x.dtype == torch.bool else -(-self.num_bits // 64)
        if x.ndim != 2 or x.shape[1] != width:
            words = -(-self.num_bits // 64)
            raise ValueError(f"bits of a row are bool [batch, {self.num_bits}], or int64 [batch, {words}]")
        if learns:
            raise ValueError("thresholds are trained on rows, not on their bits: leave learnable out")
        if x.dtype == torch.bool:
            return x.t().float().contiguous().t()
        places = torch.arange(64, device=x.device)[:, None]
        bits = (x.t().contiguous()[:, None, :] >> places) & 1
        return bits.reshape(64 * width, len(x))[: self.num_bits].float().t()

    def _learned(self, bits: Tensor, rows: Tensor, groups: list[_Group]) -> Tensor:
        fitted = self.fitted()
        spacing = torch.from_numpy(_spacing(fitted)).to(bits.device)
        thresholds = torch.from_numpy(fitted.numbers()).to(bits.device) / (self.softness * spacing) + self.weights
        soft = torch.zeros_like(bits)
        for group in groups:
            if group.op == Op.GREATER:
                words = rows.view(group.words).t()[group.places].contiguous().view(group.dtype).double()
                scaled = words / (self.softness * spacing[group.bits])[:, None]
                distance = (scaled - thresholds[group.bits][:, None]).nan_to_num(-100, 100, -100)
                soft = soft.index_put((group.bits,), torch.sigmoid(distance.clamp(-100, 100)).float())
        return bits + (soft - soft.detach())

    def _prepared(self, device: torch.device) -> tuple[Comparisons, list[_Group]]:
        """Comparisons, and what a batch needs of them; made anew when buffers or thresholds changed."""
        key = (device, self.about.data_ptr(), self.constant.data_ptr(), self.constant._version)
        # By value: a fused optimizer step leaves the version of a parameter as it is.
        moved = self.learnable and (self._seen is None or not torch.equal(self.weights.detach(), self._seen))
        if self._kept is None or self._kept[0] != key or moved:
            comparisons = self.comparisons()
            self._kept = key, comparisons, _groups(comparisons, device)
            self._seen = self.weights.detach().clone() if self.learnable else None
        return self._kept[1], self._kept[2]

    @staticmethod
    def _rows(comparisons: Comparisons, x: Tensor) -> Tensor:
        """Rows of a matrix of numbers, as numpy converts them to the types of the columns."""
        columns = comparisons.columns
        if x.ndim != 2 or x.shape[1] != len(columns):
            return x  # the caller says what is wrong
        values = to_array(x)
        rows = make_rows(columns, [column.convert(values[:, i]) for i, column in enumerate(columns)])
        return torch.from_numpy(rows.view(np.uint8).reshape(len(rows), rows.dtype.itemsize)).to(x.device)

    def add_to_circuit(self, builder: NetlistBuilder, wires: NodeIds) -> NodeIds:
        """Declares that the circuit's inputs are these comparisons of a row."""
        return builder.column_inputs(self.comparisons())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        saved = state_dict.get(f"{prefix}about")
        if isinstance(saved, Tensor) and saved.dtype == torch.uint8 and saved.ndim == 1:
            self.about = torch.zeros_like(saved, device=self.about.device)  # as long as what comes
        self._kept = None
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Size, and columns if they are known."""
        learns = f", learnable=True, softness={self.softness}" if self.learnable else ""
        return f"num_bits={self.num_bits}{learns}" + (f", noise={self.noise}" if self.noise else "")


def _groups(comparisons: Comparisons, device: torch.device) -> list[_Group]:
    fields: Any = comparisons.row_dtype.fields
    kinds = np.array([column.dtype.str for column in comparisons.columns])[comparisons.column]
    offsets = np.array([fields[column.name][1] for column in comparisons.columns])[comparisons.column]
    groups = []
    for kind, (dtype, words) in _TYPES.items():
        for op in Op:
            bits = np.flatnonzero((kinds == kind) & (comparisons.op == op))
            if bits.size:
                constants = torch.from_numpy(np.array(comparisons.constants(bits)))[:, None]
                places = offsets[bits] // np.dtype(kind).itemsize
                missing = None if dtype.is_floating_point else int(np.iinfo(kind).min)
                on_device = (torch.from_numpy(bits), torch.from_numpy(places), constants)
                groups.append(_Group(op, dtype, words, missing, *(part.to(device) for part in on_device)))
    return groups


def _compare(values: Tensor, group: _Group) -> Tensor:
    missing = values.isnan() if group.missing is None else values == group.missing
    if group.op == Op.MISSING:
        return missing
    if group.op == Op.GREATER:
        return values > group.constants  # a missing one is the smallest, or NaN
    if group.op == Op.EQUAL:
        return values == group.constants
    code = values ^ (values >> 1) if group.op == Op.GRAY else values
    return ((code >> group.constants) & 1 != 0) & ~missing


def _spacing(comparisons: Comparisons) -> NDArray[np.float64]:
    """Distance of each threshold to its neighbours in the column, halved; where there are none, its size."""
    reals, spacing = comparisons.numbers(), np.ones(len(comparisons))
    for number in range(len(comparisons.columns)):
        own = np.flatnonzero((comparisons.column == number) & (comparisons.op == Op.GREATER))
        if own.size > 1:
            spacing[own] = np.abs(np.gradient(reals[own]))
        elif own.size:
            spacing[own] = abs(reals[own[0]]) / 2
    finite = np.isfinite(spacing) & (spacing > 0)
    return np.where(finite, spacing, 1.0)


def _with_thresholds(comparisons: Comparisons, reals: NDArray[np.float64]) -> Comparisons:
    """The comparisons with other thresholds, in the types of their columns."""
    constant = comparisons.constant.copy()
    for number, column in enumerate(comparisons.columns):
        own = np.flatnonzero((comparisons.column == number) & (comparisons.op == Op.GREATER))
        if column.is_float:
            with np.errstate(over="ignore"):
                constant[own] = reals[own].astype(column.dtype).astype(np.float64).view(np.int64)
        elif own.size and column.kind != "category":
            ends = np.iinfo(column.dtype)
            moved = np.floor(reals[own] - comparisons.constant[own]).astype(np.int64)  # exact where nothing moved
            constant[own] = np.clip(comparisons.constant[own] + moved, ends.min + 1, ends.max - 1)
    return Comparisons(comparisons.columns, comparisons.column, comparisons.op, constant)

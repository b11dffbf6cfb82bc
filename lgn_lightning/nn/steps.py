"""`StepEncoder`: sequences as they are stored to the bits of each step. The first layer of a net on sequences."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lgn_lightning.base.choice import check_choice
from lgn_lightning.base.padding import PADDING
from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.build.sequential import SequentialBuilder
from lgn_lightning.circuit.build.trace import trace_part
from lgn_lightning.circuit.net.netlist import NodeIds
from lgn_lightning.circuit.net.sequential import SCANS
from lgn_lightning.nn.checked_input import free_to_look
from lgn_lightning.nn.columns import Columns
from lgn_lightning.nn.recurrent import Steps


class StepEncoder(nn.Module):
    """Bits of the steps of sequences, by an encoder that is applied to each step.

    Args:
        encoder: Of a step: :class:`~lgn_lightning.nn.Columns` of rows, :class:`~lgn_lightning.Threshold` of the image
            of a step. None where steps are bits.
        scan: How images become steps: their ``"rows"`` or ``"pixels"``, in reading order; None for sequences.
        num_bits: Bits of a step, if there is no encoder.

    Shape:
        - Input: as the encoder takes it, with an axis of steps: rows ``[batch, steps, bytes]``; images
          ``[batch, C, H, W]`` where they are scanned; bits ``[batch, steps, num_bits]``, bool, floats, or uint8. In
          rows and uint8 bits a step all of whose bytes are 255 is padding; it stands at the end. Rows may be numbers
          ``[batch, steps, columns]``: steps at the end in which all are NaN are padding.
        - Output: floats ``[batch, steps, bits]``; :class:`Steps` where there may be padding.

    Raises:
        ValueError: If the arguments do not fit one another; when called, if the sequences do not.
    """

    def __init__(self, encoder: nn.Module | None = None, scan: str | None = None, num_bits: int | None = None) -> None:
        super().__init__()
        check_choice("scan", scan, (None, *SCANS))
        if (encoder is None) == (num_bits is None):
            raise ValueError("give an encoder, or the number of bits of a step")
        self.encoder, self.scan, self.num_bits = encoder, scan, num_bits

    @property
    def out_dim(self) -> int:
        """Bits of a step."""
        width = self.num_bits if self.encoder is None else self.encoder.out_dim
        assert isinstance(width, int)
        return width

    def forward(self, x: Tensor) -> Tensor | Steps:
        """Encodes a batch of sequences."""
        if self.scan is not None:
            x = _scanned(x, self.scan)
        if x.ndim < 3 or not x.shape[1]:
            raise ValueError(f"sequences are [batch, steps, …] of one step or more, got {list(x.shape)}")
        padded = x.dtype == torch.uint8 and (self.encoder is None or isinstance(self.encoder, Columns))
        if padded and self.encoder is None and free_to_look(x):
            _check_bits(x)
        lengths = _lengths(x) if padded else None
        if isinstance(self.encoder, Columns) and x.is_floating_point():
            lengths = _known_lengths(x)
        # Time outermost: the samples of a step then lie side by side.
        ordered = x.transpose(0, 1)
        if self.encoder is None:
            bits = (ordered == 1).float() if x.dtype == torch.uint8 else ordered.float()
        else:
            flat = self.encoder(ordered.flatten(0, 1))
            bits = flat.unflatten(0, ordered.shape[:2])
        bits = bits.transpose(0, 1)
        return bits if lengths is None else Steps(bits, lengths)

    def add_to_circuit(self, builder: NetlistBuilder, wires: NodeIds) -> NodeIds:
        """Declares the inputs of a step."""
        if isinstance(builder, SequentialBuilder):
            builder.scan = self.scan
        if self.encoder is None:
            return builder.inputs(self.out_dim)
        return trace_part(self.encoder, builder, wires)

    def extra_repr(self) -> str:
        return f"scan={self.scan!r}" if self.scan else f"num_bits={self.num_bits}" if self.num_bits else ""


def _scanned(x: Tensor, scan: str) -> Tensor:
    """Images ``[batch, C, H, W]`` as steps ``[batch, steps, C, 1, W or 1]``."""
    if x.ndim != 4:
        raise ValueError(f"images are [batch, channels, rows, columns], got {list(x.shape)}")
    if scan == "rows":
        return x.transpose(1, 2).unsqueeze(3)
    return x.permute(0, 2, 3, 1).flatten(1, 2)[..., None, None]


def _check_bits(x: Tensor) -> None:
    padding = x == PADDING
    if ((x > 1) & ~padding).any() or (padding.flatten(2).any(2) != padding.flatten(2).all(2)).any():
        raise ValueError("bits as uint8 are 0 or 1, and 255 in steps that are padding, in all of their bits")


def _lengths(x: Tensor) -> Tensor:
    """Steps of each sequence that are no padding; a ValueError if padding stands before the end."""
    there = (x != PADDING).flatten(2).any(2)
    lengths = there.sum(1)
    if free_to_look(x):
        wrong = (there != (torch.arange(x.shape[1]) < lengths[:, None])).any(1) | (lengths < 1)
        if wrong.any():
            number = int(wrong.int().argmax())
            what = "a step that is padding (all bytes 255) before its end" if lengths[number] else "no step"
            raise ValueError(f"sequence {number} of the batch has {what}")
    return lengths


def _known_lengths(x: Tensor) -> Tensor:
    """`known_lengths` of numbers for columns; a ValueError if a sequence is NaN throughout."""
    known = ~x.isnan().flatten(2).all(2)
    lengths = (known * torch.arange(1, x.shape[1] + 1, device=x.device)).amax(1)
    if free_to_look(x) and (lengths < 1).any():
        raise ValueError(f"sequence {int((lengths < 1).int().argmax())} of the batch has no step: all of it is NaN")
    return lengths

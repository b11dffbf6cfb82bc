"""The trial that a circuit equals its net: samples, the scores they must get, and the comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lgn_lightning.base.errors import ExportError, LgnError
from lgn_lightning.base.machine import check_memory
from lgn_lightning.circuit import ARGMAX, Decoding, SequentialCircuit
from lgn_lightning.circuit.api import AnyCircuit
from lgn_lightning.deploy.random_rows import random_rows

if TYPE_CHECKING:
    from torch import Tensor, nn

_BLOCK = 256  # samples that go through a net at once
#: Steps of random sequences, a square: pixels of images of as many rows and columns.
_STEPS = 16


@dataclass(frozen=True)
class Trial:
    """Samples, and the scores that everything which is made of a net or circuit must give them.

    Attributes:
        inputs: The samples as `Circuit.scores` takes them: uint8 pixels or bool bits ``[N, …]``.
        scores: Ones in each class, int32 ``[N, classes]``.
        origin: Where the samples are from: ``"validation"``, ``"test"`` or ``"random"``.
        reference: What gave the scores.
        decoding: What the scores say.
    """

    inputs: NDArray[Any]
    scores: NDArray[np.int32]
    origin: str = "random"
    reference: str = "hard net"
    decoding: Decoding = ARGMAX

    @classmethod
    def of_net(
        cls,
        circuit: AnyCircuit,
        net: nn.Module,
        samples: NDArray[Any] | None = None,
        origin: str = "validation",
    ) -> Trial:
        """Evaluates a net, in ``.eval()`` mode, on samples as it was trained on, or on random ones if none are given.

        Its circuit says what samples ``[N, …]`` are, and tau: intensities from 0 to 1 become pixels, numbers above 0.5
        bits that are one. ``origin`` is where they are from.
        """
        inputs = random_samples(circuit) if samples is None else as_inputs(circuit, samples)
        scores = hard_counts(circuit, net, inputs)
        return cls(inputs, scores, "random" if samples is None else origin, decoding=circuit.decoding)

    @classmethod
    def of_circuit(cls, circuit: AnyCircuit, count: int = 256) -> Trial:
        """Simulates a circuit as it was given on random samples."""
        inputs = random_samples(circuit, count)
        reference = "simulated circuit as it was given"
        return cls(inputs, circuit.scores(inputs), reference=reference, decoding=circuit.decoding)

    def differences(self, actual: NDArray[np.int32], decided: NDArray[Any] | None = None) -> NDArray[np.intp]:
        """Indices of the samples to which other scores were given, or of which something else was said."""
        different = (actual != self.scores).any(axis=1)
        if decided is not None:
            wanted = self.decoding.decide(self.scores)
            different |= (decided.reshape(wanted.shape) != wanted).reshape(len(wanted), -1).any(axis=1)
        return np.flatnonzero(different)

    def compare(self, actual: NDArray[np.int32], what: str, decided: NDArray[Any] | None = None) -> str:
        """Makes sure that scores, and what they say, are those of the trial; returns ``what``, for a manifest.

        Else it is an ExportError.
        """
        different = self.differences(actual, decided)
        if different.size:
            first = int(different[0])
            raise ExportError(
                f"the {what} disagrees with the {self.reference} on {different.size} of {len(actual)} {self.origin} "
                f"samples, first on sample {first}: it gives the scores {actual[first].tolist()} and not "
                f"{self.scores[first].tolist()}{_said(decided, first)}. Please report this with the checkpoint"
            )
        return what


def _said(decided: NDArray[Any] | None, sample: int) -> str:
    return "" if decided is None else f", and says {decided[sample].tolist()}"


def random_samples(circuit: AnyCircuit, count: int = 256) -> NDArray[Any]:
    """Random pixels or rows where the circuit has thresholds, random bits otherwise; the same at every call.

    A comparison that is off by one shows only at its threshold, so every second sample consists of the values at and
    right above the thresholds, each of them in turn at every place.

    Raises:
        ValueError: If they do not fit into memory.
    """
    if isinstance(circuit, SequentialCircuit):
        return _random_sequences(circuit, count)
    check_memory(2 * count * circuit.num_inputs, f"{count:,} samples of {circuit.num_inputs:,} bits")
    return _random_samples(circuit, count)


def _random_sequences(circuit: SequentialCircuit, count: int) -> NDArray[Any]:
    """Random samples as steps, or as images that are scanned."""
    check_memory(2 * count * _STEPS * circuit.num_inputs, f"{count:,} sequences of {circuit.num_inputs:,} bits")
    steps = _random_samples(circuit, count * _STEPS)
    if circuit.scan is None:
        return steps.reshape(count, _STEPS, -1)
    steps = steps.reshape(count, _STEPS, *steps.shape[1:])[:, :, :, 0]  # [N, steps, C, columns]
    if circuit.scan == "pixels":
        return steps[..., 0].transpose(0, 2, 1).reshape(count, -1, 4, _STEPS // 4)
    return np.ascontiguousarray(steps.transpose(0, 2, 1, 3))


def _random_samples(circuit: AnyCircuit, count: int) -> NDArray[Any]:
    generator = np.random.default_rng(0)
    if circuit.comparisons is not None:
        return random_rows(circuit.comparisons, count, generator)
    if circuit.image_shape is None or circuit.levels is None:
        return generator.integers(0, 2, (count, circuit.num_inputs), dtype=np.uint8).view(np.bool_)
    pixels = generator.integers(0, 256, (count, *circuit.image_shape), dtype=np.uint8)
    edges = np.unique([circuit.levels, np.minimum(circuit.levels, 254) + 1])
    images = pixels[::2]
    in_turn = np.resize(edges, len(images)).reshape(-1, *(1 for _ in circuit.image_shape))
    images[:] = generator.permuted(np.broadcast_to(in_turn, images.shape), axis=0)
    return pixels


def hard_counts(circuit: AnyCircuit, net: nn.Module, inputs: NDArray[Any]) -> NDArray[np.int32]:
    """Ones in each class by a net in ``.eval()`` mode, int32 ``[N, classes]``; its circuit tells tau."""
    # The net divides the counts by tau: undone, they are whole up to rounding.
    return np.rint(net_scores(net, inputs) * circuit.tau).astype(np.int32)


def net_scores(net: nn.Module, inputs: NDArray[Any]) -> NDArray[np.float64]:
    """Scores of a net in its present mode, on its device, float64 ``[N, classes]``; an LgnError if it gives none.

    Of a net that scores every step these are those of the last, as a circuit gives them.
    """
    scores = net_outputs(net, inputs)
    scores = scores[:, :, -1] if scores.ndim == 3 else scores
    if scores.ndim != 2 or len(scores) != len(inputs):
        raise LgnError(
            f"{type(net).__name__} gives {list(scores.shape)} of {len(inputs)} samples, and no row of scores each"
        )
    return scores


def net_outputs(net: nn.Module, inputs: NDArray[Any]) -> NDArray[np.float64]:
    """What a net gives, in its present mode and on its device, float64; an LgnError if it takes no such samples."""
    import torch  # takes seconds, and a circuit file can be verified without

    from lgn_lightning.circuit.build.inputs import split_inputs  # imports torch

    device = next((parameter.device for parameter in net.parameters()), torch.device("cpu"))
    samples = torch.from_numpy(np.require(inputs, requirements=["C", "W"]))  # torch warns of read-only ones
    try:
        parts = zip(*(torch.split(part, _BLOCK) for part in split_inputs(net, samples)), strict=True)
        with torch.no_grad():
            found = [_joined(net(*(part.to(device) for part in block))).double().cpu() for block in parts]
            scores = torch.cat(found)
    except (RuntimeError, TypeError, AttributeError, IndexError) as error:  # of layers that do not fit one another
        raise LgnError(f"{type(net).__name__} takes no samples {list(inputs.shape)}: {error}") from error
    return scores.numpy()


def _joined(scores: Any) -> Tensor:
    """Several heads one after the other, as the circuit has them."""
    import torch  # as above
    from torch.utils._pytree import tree_leaves

    return scores if isinstance(scores, torch.Tensor) else torch.cat(tree_leaves(scores), 1)


def as_inputs(circuit: AnyCircuit, samples: NDArray[Any]) -> NDArray[Any]:
    """Samples as a data module stores them, as `Circuit.scores` takes them."""
    if circuit.comparisons is not None:
        if samples.dtype != np.int64:
            return samples
        words = np.ascontiguousarray(samples.astype("<i8")).view(np.uint8)  # of a PackedTable
        return np.unpackbits(words, axis=1, count=circuit.num_inputs, bitorder="little").view(np.bool_)
    if circuit.levels is None:
        as_they_are = isinstance(circuit, SequentialCircuit) and samples.dtype == np.uint8  # 255 is padding
        return samples if as_they_are else samples > 0.5
    return ((samples * 255).round() if samples.dtype.kind == "f" else samples).astype(np.uint8)

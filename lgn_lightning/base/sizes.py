"""Sizes that must fit, checked where nets are built, and by the command line before it imports torch."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
#: The words for connections that are learned: a step reads the chosen candidates, or the mixture of all.
LEARNED = ("learned", "mixture")

#: Positions under one pooling window that the index of the winner can tell apart.
MAX_POOL = 256


def check_classes(num_classes: int, last_width: int) -> None:
    """Refuses a last layer that does not divide into the classes, one or more, by a ValueError."""
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes}: a classifier has at least 1 class")
    if last_width % num_classes:
        raise ValueError(
            f"the last layer's width {last_width} does not divide into {num_classes} classes; "
            f"take {max(-(-last_width // num_classes), 1) * num_classes}"
        )


def per_layer(name: str, value: T | Sequence[T], layers: Sequence[object], what: str) -> list[T]:
    """One value a layer, of an argument that is one for all of them or a list; a ValueError on another length."""
    values: list[Any] = list(value) if isinstance(value, (list, tuple)) else [value] * len(layers)
    if len(values) != len(layers):
        raise ValueError(f"{name}={values}: give one value, or one for each of the {len(layers)} {what}")
    return values


def check_widths(name: str, in_dim: int, out_dim: int, arity: int, choices: int = 1) -> None:
    """Refuses a dense layer whose gates cannot use all of its inputs, or without gates or inputs, by a ValueError.

    ``choices`` are the inputs among which each input of a gate is chosen.
    """
    if in_dim < 1 or out_dim < 1:
        raise ValueError(f"{name}: both widths must be at least 1")
    if arity * out_dim * choices < in_dim:
        chosen = f", each one of {choices}," if choices > 1 else ""
        raise ValueError(
            f"{name}: {out_dim} gates have {arity * out_dim} inputs{chosen} and cannot use all {in_dim}; make the "
            f"layer at least {-(-in_dim // (arity * choices))} wide"
        )


def choices_of(connections: str, num_candidates: int) -> int:
    """Inputs among which each input of a gate is chosen; 1 of fixed connections."""
    return num_candidates if connections in (*LEARNED, "slots") else 1


def check_thresholds(thresholds: Sequence[float] | str) -> None:
    """Refuses thresholds that are not increasing intensities, by a ValueError."""
    if isinstance(thresholds, str):
        raise ValueError(
            f"thresholds={thresholds!r}: `lgn fit` finds those of a recipe; elsewhere give numbers, such as "
            "lgn_lightning.data.levels.choose_levels(images, labels).thresholds"
        )
    in_range = all(0 <= t < 1 for t in thresholds)  # false for NaN
    if not thresholds or not in_range or sorted(set(thresholds)) != list(thresholds):
        raise ValueError(f"thresholds must be increasing and in [0, 1), not {list(thresholds)}")


def check_image_shape(in_shape: Sequence[int]) -> None:
    """Refuses what is no shape of an image, by a ValueError."""
    if len(in_shape) != 3 or min(in_shape) < 1:
        raise ValueError(f"in_shape must be (channels, height, width), not {list(in_shape)}")


class ConvGeometry(NamedTuple):
    """Receptive field, steps and border (rows and columns of zeros) of a convolution, height and width each.

    ``pool`` are the windows that the maximum is taken of; rows and columns that fill none are left out.
    """

    kernel_size: Sequence[int]
    stride: Sequence[int] = (1, 1)
    padding: Sequence[int] = (0, 0)
    pool: Sequence[int] = (1, 1)

    @property
    def positions(self) -> int:
        """Places of the convolution under one pooling window."""
        return math.prod(self.pool)

    def places(self, size: Sequence[int]) -> tuple[int, int]:
        """Height and width of the convolution of an image of this size, as far as windows of the pooling reach."""
        sides = zip(size, *map(tuple, self), strict=True)
        height, width = (((n + 2 * p - k) // s + 1) // q * q for n, k, s, p, q in sides)
        return height, width

    def output_size(self, size: Sequence[int]) -> tuple[int, int]:
        """Height and width after the convolution of an image of this size and the pooling."""
        height, width = self.places(size)
        return height // self.pool[0], width // self.pool[1]

    def check(self, size: Sequence[int]) -> None:
        """Refuses a kernel larger than the padded image, or a pooling larger than its input, by a ValueError."""
        kernel_size, stride, padding, pool = map(tuple, self)
        if min(*kernel_size, *stride, *pool) < 1 or min(padding) < 0:
            raise ValueError(f"{kernel_size=}, {stride=} and {pool=} must be at least 1, {padding=} at least 0")
        padded = [n + 2 * p for n, p in zip(size, padding, strict=True)]
        if any(k > n for k, n in zip(kernel_size, padded, strict=True)):
            raise ValueError(
                f"a kernel of {kernel_size[0]}x{kernel_size[1]} does not fit into {padded[0]}x{padded[1]}, an image of "
                f"{size[0]}x{size[1]} with padding {padding}; take a smaller kernel or more padding"
            )
        if self.positions > MAX_POOL:
            raise ValueError(f"pooling {pool[0]}x{pool[1]} has more than {MAX_POOL} positions to tell apart")
        if 0 in self.places(size):
            height, width = self._replace(pool=(1, 1)).places(size)
            raise ValueError(
                f"pooling {pool[0]}x{pool[1]} is larger than the {height}x{width} outputs of the convolution; change "
                "its padding or kernel, or the pooling"
            )

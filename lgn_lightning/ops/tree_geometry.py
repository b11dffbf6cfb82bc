"""Where a convolution is evaluated: the sizes that the ops of both forms of trees share."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from lgn_lightning.ops.library import Reference, op

__all__ = ["ConvGeometry"]

#: Positions under one pooling window that the index of the winner can tell apart.
MAX_POOL = 256


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


def convolution(
    schema: str, tensors: str, record: Callable[..., Any], fake: Callable[..., Any]
) -> Callable[[Reference], Reference]:
    """Defines an op of a convolution, whose arguments the reference and the fake kernel get as one record.

    In the ``schema``, as of :func:`~lgn_lightning.ops.library.op`, ``...`` stands for the ``tensors``, as schemas have
    them, and the geometry; ``record`` is called with the tensors by name and the ``geometry``.
    """
    names = [tensor.split()[-1] for tensor in tensors.split(", ")]
    first = schema[: schema.index("...")].count(",")
    sizes = first + len(names)
    rest = sizes + len(ConvGeometry._fields)

    def with_record(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            fields = dict(zip(names, args[first:sizes], strict=True))
            return function(*args[:first], record(**fields, geometry=ConvGeometry(*args[sizes:rest])), *args[rest:])

        return call

    def of_reference(reference: Reference) -> Reference:
        lists = ", ".join(f"int[] {name}" for name in ConvGeometry._fields)
        op(schema.replace("...", f"{tensors}, {lists}"), with_record(fake))(with_record(reference))
        return reference

    return of_reference

"""Where a convolution is evaluated: the sizes that the ops of both forms of trees share."""

from collections.abc import Callable
from typing import Any

from lgn_lightning.base.sizes import ConvGeometry
from lgn_lightning.ops.library import Reference, op

__all__ = ["ConvGeometry"]


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

"""Compares net, module and data before training: shape of an image, number of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lgn_lightning.base.errors import DataError

if TYPE_CHECKING:
    from torch import nn


def check_sizes(net: nn.Module, num_classes: int, data: object, num_scores: int | None = None) -> None:
    """Compares the inputs and outputs of a net with the data module, where both are known.

    Those of a net are its attributes ``in_shape`` and ``num_classes``, or those of the first and last module of a
    ``Sequential``, or what a `GroupSum` or linear layer at its end gives; it must give ``num_scores`` scores, by
    default as many as there are classes. A difference is a DataError that names all keys to set.
    """
    shape, classes = getattr(data, "image_shape", None), getattr(data, "num_classes", None)
    compare_sizes(_in_shape(net), _num_scores(net), num_classes, type(data).__name__, shape, classes, num_scores)


def compare_sizes(
    takes: Any,
    gives: int | None,
    num_classes: int | None,
    name: str,
    shape: Any,
    classes: int | None,
    num_scores: int | None = None,
) -> None:
    """Compares the sizes themselves; None is one that is not known.

    Args:
        takes: Shape of the images that the net takes.
        gives: Number of its scores.
        num_classes: As in `check_sizes`.
        name: Name of the data module's class.
        shape: Shape of its images.
        classes: Number of its classes.
        num_scores: As in `check_sizes`.

    Raises:
        DataError: As in `check_sizes`.
    """
    takes, shape = _listed(takes), _listed(shape)
    one_score = num_scores not in (None, num_classes)  # whatever the number of classes
    pairs = {
        "model.net.in_shape": (takes, shape),
        "model.net.num_classes": (gives, num_scores if one_score else classes),
        "model.num_classes": (num_classes, gives if classes is None and not one_score else classes),
    }
    wrong = {key: pair for key, pair in pairs.items() if None not in pair and pair[0] != pair[1]}
    if not wrong:
        return
    has = [] if shape is None else [f"images of shape {shape}"]
    has += [] if classes is None else [f"{classes} classes"]
    known = [f"{name} has {' and '.join(has)}"] if has else []
    known += [f"the net gives {gives} scores"] if classes is None else []
    found = ", ".join(f"{key} is {is_now}" for key, (is_now, _) in wrong.items())
    cure = " ".join(f"--{key}={to_be}".replace(" ", "") for key, (_, to_be) in wrong.items())
    raise DataError(f"{', '.join(known)}, but {found}; set {cure}")


def _in_shape(net: nn.Module) -> Any:
    from torch import nn  # takes seconds to import, and the command line compares before it does

    while not hasattr(net, "in_shape") and isinstance(net, nn.Sequential) and len(net):
        net = net[0]
    return getattr(net, "in_shape", None)


def _num_scores(net: nn.Module) -> int | None:
    from torch import nn  # likewise

    from lgn_lightning.nn import GroupSum

    while not hasattr(net, "num_classes") and isinstance(net, nn.Sequential) and len(net):
        net = net[-1]
    if isinstance(net, GroupSum | nn.Linear):
        return net.k if isinstance(net, GroupSum) else net.out_features
    found = getattr(net, "num_classes", None)
    return found if isinstance(found, int) else None


def _listed(shape: Any) -> list[int] | None:
    return list(shape) if isinstance(shape, Sequence) else None

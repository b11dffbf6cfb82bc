"""What importers have in common: layers as arguments and tensors, and the net that is made of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor

from lgn_lightning.gates import NUM_GATES
from lgn_lightning.models.layer_list import LayerList

#: Logit of a gate that is chosen for certain: the others are below the rounding of float32.
_CERTAIN: Final = 20.0


@dataclass(frozen=True)
class Part:
    """A layer of `LayerList`: its arguments, and what its state dict holds."""

    arguments: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Shape:
    """What a state dict does not say of a net.

    Attributes:
        classes: Number of classes, the groups of the sums.
        tau: What the sums are divided by.
        beta: What is added to them.
        in_shape: Shape of an image, ``(channels, height, width)``; None if the net takes a vector of bits.
        inputs: Number of these bits; by default as many as the first layer reads.
        kernels: Height and width of each convolution's receptive field, where they are not its usual ones; one number
            stands for all convolutions, as in the next three.
        paddings: Zeros around each convolution's image, likewise.
        strides: Steps of each convolution.
        pools: Window of the pooling behind each convolution, 0 for none.
        parametrization: The library's own name, where the weights do not show it.
        temperature: What logits are divided by.
    """

    classes: int
    tau: float = 1.0
    beta: float = 0
    in_shape: Sequence[int] | None = None
    inputs: int | None = None
    kernels: Sequence[int] = ()
    paddings: Sequence[int] = ()
    strides: Sequence[int] = ()
    pools: Sequence[int] = ()
    parametrization: str | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise ValueError(f"classes={self.classes}: a net has one at least")
        if self.in_shape is not None and (len(self.in_shape) != 3 or min(self.in_shape) < 1):
            raise ValueError(f"in_shape={list(self.in_shape)}: give channels, height and width")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature={self.temperature}: give a positive number")

    def of(self, name: str, number: int, usual: int) -> int:
        """One of ``kernels``, ``paddings``, ``strides`` and ``pools``, of a convolution."""
        given: Sequence[int] = getattr(self, name)
        if not given:
            return usual
        if len(given) > 1 and number >= len(given):
            raise ValueError(f"{name}={list(given)}: the net has more convolutions; give one number, or one for each")
        return given[0] if len(given) == 1 else given[number]


class Assembly:
    """Collects the layers of a net in turn, and knows what each gives to the next.

    Attributes:
        image: Shape of what the next layer gets; None if it gets a vector.
        bits: Number of its features, None if that is not known.
        convolutions: Number of convolutions so far.
    """

    image: tuple[int, ...] | None

    def __init__(self, shape: Shape) -> None:
        self.shape, self.convolutions = shape, 0
        self.parts: list[Part] = []
        self.image = None if shape.in_shape is None else tuple(shape.in_shape)
        self.bits = shape.inputs if self.image is None else math.prod(self.image)

    def dense(self, wires: Tensor, weights: Tensor, parametrization: str) -> None:
        """Adds a dense layer; ``wires`` ``[inputs of a gate, gates]``, the first the most significant of the table."""
        wires, kind = whole(wires).to(torch.int32), dict[str, Any](layer="LogicLayer")
        if len(wires) == 2:
            tensors = dict(zip(("indices_a", "indices_b"), wires, strict=True))
        else:
            kind, tensors = {"layer": "LutLayer", "arity": len(wires)}, {"indices": wires}
        self._add_dense(kind, wires, weights, parametrization, tensors)

    def learned(self, candidates: Tensor, logits: Tensor, weights: Tensor, parametrization: str) -> None:
        """Adds a dense layer whose gates choose; candidates and logits ``[inputs of a gate, gates, K]``.

        Gates of more than two inputs keep what they have settled on.
        """
        arity, _, count = candidates.shape
        if arity != 2 or count < 2:
            self.bits = _inputs(self.bits, candidates)
            self.dense(candidates.gather(2, logits.argmax(2, keepdim=True)).squeeze(2), weights, parametrization)
            return
        kind = {"layer": "LogicLayer", "connections": "learned", "num_candidates": count}
        tensors = {
            "learned.candidates": whole(candidates).transpose(0, 1).to(torch.int32).contiguous(),
            "learned.logits": logits.transpose(0, 1).float().contiguous(),
        }
        self._add_dense(kind, candidates, weights, parametrization, tensors)

    def _add_dense(
        self, kind: dict[str, Any], read: Tensor, weights: Tensor, parametrization: str, tensors: dict[str, Tensor]
    ) -> None:
        if self.convolutions and self.image is not None:
            self.parts.append(Part({"layer": "Flatten"}))
        sizes = {"in_dim": _inputs(self.bits, read), "out_dim": read.shape[1], "parametrization": parametrization}
        self.parts.append(Part(kind | sizes, {"weights": weights.float(), **tensors}))
        self.image, self.bits = None, read.shape[1]

    def tree(
        self, leaves: Tensor, weights: Tensor, parametrization: str, usual: tuple[int, int, int], arity: int = 2
    ) -> None:
        """Adds a convolution of trees, and the pooling behind it.

        Args:
            leaves: Channel, row and column of each, ``[3, trees, leaves]``.
            weights: ``[trees, gates, weights of a gate]``, from the leaves to the root.
            parametrization: Of ours.
            usual: Kernel, padding and pooling where the shape does not say them.
            arity: Inputs of a gate.
        """
        _, trees, count = leaves.shape
        depth, number = round(math.log(count, arity)), self.convolutions
        if arity**depth != count or weights.shape[:2] != (trees, (count - 1) // (arity - 1)):
            raise ValueError(f"a tree of {count} leaves and {weights.shape[1]} gates has not gates of {arity} inputs")
        if self.image is None:
            raise ValueError("a convolution takes images: give their shape, in_shape")
        names = ("kernels", "paddings", "pools")
        kernel, padding, pool = (self.shape.of(name, number, size) for name, size in zip(names, usual, strict=True))
        stride = self.shape.of("strides", number, 1)
        sides = [(side + 2 * padding - kernel) // stride + 1 for side in self.image[1:]]
        sides = [side // pool for side in sides] if pool else sides
        if min(sides) < 1:
            raise ValueError(f"convolution {number + 1}: a kernel of {kernel} has no output of images {self.image}")
        geometry: dict[str, Any] = {"kernel_size": kernel, "stride": stride, "padding": padding, "tree_depth": depth}
        channels = max(len(row.unique()) for row in leaves[0])
        arguments = {"in_channels": self.image[0], "out_channels": trees, "channels_per_tree": channels, **geometry}
        arguments |= {"arity": arity} if arity != 2 else {}
        tensors = {"weights": weights.flatten(0, 1).float(), "leaves": whole(leaves).to(torch.int32)}
        self.parts.append(Part({"layer": "LogicTreeConv2d", "parametrization": parametrization, **arguments}, tensors))
        self.parts += [Part({"layer": "OrPool2d", "kernel_size": pool})] if pool else []
        self.image, self.convolutions = (trees, *sides), number + 1
        self.bits = math.prod(self.image)

    def net(self) -> LayerList:
        """The net, in ``.eval()`` mode; a ValueError if sizes or values do not fit one another."""
        of_convolutions = ("kernels", "paddings", "strides", "pools")
        if not self.convolutions and (given := [name for name in of_convolutions if getattr(self.shape, name)]):
            raise ValueError(f"the net has no convolution: leave {' and '.join(given)} out")
        if self.bits is not None and self.bits % self.shape.classes:
            raise ValueError(f"{self.bits} outputs of the last layer are no {self.shape.classes} equal groups")
        made = [*self.parts, _group_sum(self.shape)]
        images = made[0].arguments["layer"] == "LogicTreeConv2d" and self.shape.in_shape is not None
        net = LayerList([part.arguments for part in made], list(self.shape.in_shape or ()) if images else None)
        for number, (module, part) in enumerate(zip(net, made, strict=True)):
            try:
                module.load_state_dict(part.tensors)
            except (RuntimeError, ValueError) as error:
                layer = part.arguments["layer"]
                raise ValueError(f"layer {number} ({layer}) of the imported net: {error}") from error
        net.eval()
        return net


def _inputs(known: int | None, read: Tensor) -> int:
    """Number of a layer's inputs, by what it reads where it is not known."""
    return int(read.max()) + 1 if known is None else known


def _group_sum(shape: Shape) -> Part:
    if shape.beta < 0 or not float(shape.beta).is_integer():
        raise ValueError(
            f"beta={shape.beta} is no whole number of at least 0, which a circuit could count: which score is the "
            "highest does not depend on it, so import the net with beta=0"
        )
    beta = {"beta": int(shape.beta)} if shape.beta else {}
    return Part({"layer": "GroupSum", "k": shape.classes, "tau": float(shape.tau), **beta})


def whole(numbers: Tensor) -> Tensor:
    """Numbers of inputs or gates as they are; a ValueError if they are none, or not below 2³¹."""
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
        raise ValueError(f"wires and numbers of gates are whole numbers, and those of the file are {numbers.dtype}")
    if numbers.numel() and not 0 <= int(numbers.min()) <= int(numbers.max()) < 2**31:
        raise ValueError(f"wires and numbers of gates are {int(numbers.min())} to {int(numbers.max())} in the file")
    return numbers


def modules_of(state: Mapping[str, Tensor], ends: Iterable[str]) -> dict[str, dict[str, Tensor]]:
    """Tensors by module, in order: a module is what stands before one of the beginnings of names ``ends``."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        if value.is_complex() or (value.is_floating_point() and not value.isfinite().all()):
            raise ValueError(f"{name} holds {'complex numbers' if value.is_complex() else 'NaN or infinite numbers'}")
        words = name.split(".")
        for cut in range(len(words)):
            own = ".".join(words[cut:])
            if any(own == end or (end[-1] in "._" and own.startswith(end)) for end in ends):
                found.setdefault(".".join(words[:cut]), {})[own] = value
                break
    if not found:
        names = ", ".join(list(state)[:3])
        raise ValueError(f"the state dict has no layer of gates of this library; it begins with {names or 'nothing'}")
    return found


def certain(gates: Tensor) -> Tensor:
    """Weights of the softmax ``[n, 16]`` for gates that are certain, ids ``[n]``."""
    return torch.nn.functional.one_hot(gates.long(), NUM_GATES).float() * _CERTAIN


def flips(entries: int) -> Tensor:
    """(−1) to the number of inputs in each character, ``[entries]``: characters of (−1)^x against those of 2x − 1."""
    return torch.tensor([-1.0 if number.bit_count() % 2 else 1.0 for number in range(entries)])

"""Follows a net's own forward pass: modules with ``add_to_circuit`` write their gates, functions of torch move nodes.

The forward pass runs as it is, on tensors that know nodes and no numbers (`Traced`), through torch's own protocol for
such tensors, which ``torch.fx`` uses, too. Unlike its symbolic pass this one knows all shapes, so code that asks for
them, loops over them or branches on them is followed; ``torch.export`` would take the layers themselves apart.
"""

import inspect
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from lgn_lightning.base.finite import nonsense_in
from lgn_lightning.circuit.build.builder import MoreLevels, NetlistBuilder
from lgn_lightning.circuit.build.functions import apply
from lgn_lightning.circuit.build.lines import line_here, line_of
from lgn_lightning.circuit.build.traced import BATCH, TRUE, Bits, Counts, NeedsBits, Raw, Space, Traced
from lgn_lightning.circuit.net.netlist import CircuitError, NodeIds

T = TypeVar("T")
Builder = TypeVar("Builder", bound=NetlistBuilder)
Shape = tuple[int, ...]


class _Again(BaseException):
    """The pass starts again, as more is known of the inputs; no Exception, which a forward pass may catch."""


@dataclass
class _Input:
    """An argument of the net: its shape without the batch, and what it is; found while it is followed."""

    shape: Shape | None = None
    is_bits: bool = False
    is_image: bool = False


@dataclass
class _Known:
    """What passes find out about the inputs, for the next one: their arguments, and the levels of all encoders."""

    inputs: dict[str, _Input]
    levels: list[int] = field(default_factory=list)


def trace_module(
    net: nn.Module,
    make: Callable[[Sequence[int] | None], Builder],
    finish: Callable[[Builder, NodeIds], T],
    input_shape: Sequence[Any] | None = None,
) -> T:
    """Lets a net's forward pass write into a builder, and finishes with its outputs.

    Args:
        net: The net; it is followed as in ``.eval()`` mode.
        make: Makes a builder for images of a shape (C, H, W), or of one that is not known.
        finish: What is made of the builder and the outputs' nodes.
        input_shape: Shape of a sample, or one for each argument of the net.

    Raises:
        CircuitError: If something cannot become gates: module, line of the forward pass, and what to do are named.
    """
    return _trace(net, make, finish, input_shape)[0]


def input_shapes(net: nn.Module, make: Callable[[Sequence[int] | None], NetlistBuilder]) -> list[Shape]:
    """Shapes of a sample in each argument of a net's forward pass; CircuitErrors as of `trace_module`."""
    _, known = _trace(net, make, lambda *_: None)
    return [spec.shape or () for spec in known.inputs.values()]


def _trace(
    net: nn.Module,
    make: Callable[[Sequence[int] | None], Builder],
    finish: Callable[[Builder, NodeIds], T],
    input_shape: Sequence[Any] | None = None,
) -> tuple[T, _Known]:
    net = getattr(net, "_orig_mod", net)  # of torch.compile
    shapes = _shapes(input_shape)
    image = shapes[0] if len(shapes) == 1 and len(shapes[0]) == 3 else None
    known = _Known({name: _Input() for name in arguments_of(net)})
    for spec, shape in zip(known.inputs.values(), shapes or _own_shapes(net), strict=False):
        spec.shape = shape
    while True:
        builder = make(image)
        builder.more_levels = known.levels
        path = type(net).__name__
        try:
            nodes = _Pass(net, builder, known.inputs).run()
            return finish(builder, nodes), known
        except _Again:
            continue
        except MoreLevels as request:
            known.levels += request.levels.tolist()
        except CircuitError:
            raise
        except ValueError as error:
            raise CircuitError(f"{path}: {error}") from error


def trace_part(part: nn.Module, builder: NetlistBuilder, wires: NodeIds) -> NodeIds:
    """Lets a part of a net write into a builder, on wires that there are, or none; for modules that hold others."""
    inputs = {"input": _Input()}
    while True:
        try:
            return _Pass(part, builder, inputs).run_on(wires)
        except _Again:
            continue


def _shapes(given: Sequence[Any] | None) -> list[Shape]:
    if given is None:
        return []
    many = given if isinstance(given[0], Sequence) else [given]
    return [tuple(int(size) for size in shape) for shape in many]


def _own_shapes(net: nn.Module) -> list[Shape]:
    """What a net of several layers says of its input itself."""
    shape = getattr(net, "in_shape", None) or getattr(net, "in_dim", None)
    if hasattr(net, "add_to_circuit") or not isinstance(shape, (int, Sequence)):
        return []
    return _shapes([shape] if isinstance(shape, int) else shape)


def arguments_of(net: nn.Module) -> list[str]:
    """Names of the inputs that a net's forward pass must be given."""
    if hasattr(net, "add_to_circuit"):
        return ["input"]
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(net.forward).parameters.values()
    names = [part.name for part in parameters if part.kind in kinds and part.default is inspect.Parameter.empty]
    return names or ["input"]


class _Pass:
    """One run of the forward pass."""

    def __init__(self, net: nn.Module, builder: NetlistBuilder, inputs: dict[str, _Input]) -> None:
        self.net, self.builder, self.inputs = net, builder, inputs
        self.space = Space(builder, self.function)
        self.path = [(type(net).__name__, net)]
        self.encoded: dict[tuple[int, str], Traced] = {}

    def run(self) -> NodeIds:
        """Follows the forward pass, and gives the nodes of the outputs, which the builder knows the groups of."""
        return self.outputs(self.follow([self.placeholder(name) for name in self.inputs]))

    def run_on(self, wires: NodeIds) -> NodeIds:
        """Follows it on wires, and gives those of its output."""
        out = self.follow([self.space.of_wires(wires) if wires.size else self.placeholder("input")])
        if not isinstance(out, Traced):
            raise ValueError("it gives no tensor that depends on its input")
        return self.space.wires(out)

    def follow(self, values: list[Traced]) -> Any:
        frame: FrameType | None = sys._getframe()
        with _followed(self.net, self.module), torch.no_grad():
            try:
                return self.net.forward(*values)
            except (_Again, CircuitError):
                raise
            except NeedsBits as request:
                self.needs_bits(request.name)
            except Exception as error:  # of the user's code
                if self.guess():
                    raise _Again from error
                line = line_of(error.__traceback__, frame)
                raise CircuitError(f"{self.where}: {type(error).__name__}: {error}{line}") from error

    def placeholder(self, name: str) -> Traced:
        spec = self.inputs[name]
        if not spec.is_bits or spec.shape is None:
            shape = (1,) if spec.shape is None else spec.shape
            return self.space.make(Raw(name, spec.shape is not None), (BATCH, *shape), torch.uint8)
        if not self.builder.has_inputs:  # all that are bits, one after the other
            sizes = [math.prod(part.shape) for part in self.inputs.values() if part.is_bits and part.shape]
            self.free = self.builder.inputs(sum(sizes))
        count = math.prod(spec.shape)
        wires, self.free = self.free[:count], self.free[count:]
        return self.space.of_wires(wires.reshape(spec.shape))

    def guess(self) -> bool:
        """Gives the only input, of unknown shape, that of the net's encoder; says whether that is news."""
        specs, encoders = list(self.inputs.values()), self.encoders()
        if len(specs) != 1 or specs[0].shape is not None or len(encoders) != 1:
            return False
        (specs[0].shape,) = encoders
        return True

    def encoders(self) -> set[Shape]:
        """What encoders of the net take."""
        parts = [part for part in self.net.modules() if hasattr(part, "add_to_circuit")]
        shapes = [getattr(part, "in_shape", None) for part in parts]
        return {tuple(shape) for shape in shapes if isinstance(shape, Sequence)}

    def needs_bits(self, name: str, shape: Shape | None = None, function: str = "") -> None:
        """Takes an input for bits, of a shape unless it is known, and starts again."""
        spec = self.inputs[name]
        if function and len(self.inputs) == 1 and self.encoders():
            raise CircuitError(
                f"{self.where}: {function} computes with the input {name} before its encoder, which takes pixels as "
                f"they are, or over 255: leave it to the data{self.line}"
            )
        spec.shape = spec.shape or shape
        if spec.shape is None:
            raise CircuitError(f"{self.where}: {NeedsBits(name)}{self.line}")
        spec.is_bits = True
        raise _Again

    @property
    def line(self) -> str:
        return line_here(_Pass.follow.__code__)

    @property
    def where(self) -> str:
        path, module = self.path[-1]
        return f"module {path} ({type(module).__name__})"

    def function(self, _: Space, func: Any, args: Any, kwargs: Any) -> Any:
        try:
            return apply(self.space, func, args, kwargs)
        except NeedsBits as request:
            self.needs_bits(request.name, function=request.function)
        except ValueError as error:
            raise CircuitError(f"{self.where} cannot become gates: {error}{self.line}") from error

    def module(self, path: str, module: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """What a module gives: a layer's gates, else what its forward pass gives."""
        self.path.append((path, module))
        try:
            if hasattr(module, "add_to_circuit"):
                out = self.layer(module, [*args, *kwargs.values()])
            else:
                out = forward(*args, **kwargs)
        except CircuitError:
            raise
        except ValueError as error:
            if not hasattr(module, "add_to_circuit"):
                raise
            raise CircuitError(f"{self.where}: {error}{self.line}") from error
        self.path.pop()
        return out

    def layer(self, module: nn.Module, args: list[Any]) -> Traced:
        values = [part for part in args if isinstance(part, Traced)]
        if any(isinstance(value.value, Counts) for value in values):
            raise CircuitError(f"{self.where} stands behind the GroupSum, which must be last{self.line}")
        for name, number in nonsense_in(module).items():
            path = self.path[-1][0]
            raise CircuitError(
                f"{path}.{name} holds {number}, so {type(module).__name__} settles on no gates: train again"
            )
        raw = [(value, value.value) for value in values if isinstance(value.value, Raw)]
        if raw and not self.takes_bits(module, raw[0][1]):
            out = self.encoder(module, *raw[0])
        else:
            out = self.gates(module, [self.space.wires(value) for value in values])
        for following in args:  # a layer that computes the next one, too
            out = following(out) if isinstance(following, nn.Module) else out
        return out

    def takes_bits(self, module: nn.Module, raw: Raw) -> bool:
        """Whether a layer that gets an input of the net takes bits; else it is an encoder."""
        width = getattr(module, "in_dim", None)
        if isinstance(width, int):
            self.needs_bits(raw.name, (width,))
        if isinstance(getattr(module, "in_channels", None), int):
            if self.inputs[raw.name].shape is None:
                raise ValueError("it takes images whose size is not known: pass input_shape=(C, H, W)")
            self.needs_bits(raw.name)
        return False

    def encoder(self, module: nn.Module, x: Traced, raw: Raw) -> Traced:
        """Bits that an encoder declares, once for an input; images of several inputs are the channels of one."""
        shape, spec = getattr(module, "in_shape", None), self.inputs[raw.name]
        if isinstance(shape, Sequence):
            if spec.shape is None or (spec.shape != tuple(shape) and self.builder.input_shape is None):
                spec.shape = tuple(shape)  # else the encoder compares them
                raise _Again
            if tuple(x.shape[1:]) != spec.shape:
                raise ValueError(f"it takes images {list(shape)}, but gets {list(x.shape[1:])}")
        if not spec.is_image:
            spec.is_image = True
            if self.builder.has_inputs:
                raise _Again
        key = id(module), raw.name
        if key not in self.encoded:
            try:
                self.builder.channels = self.channels(raw.name)
                self.encoded[key] = self.gates(module, [np.zeros(0, np.int32)])
            except ValueError:
                if self.builder.has_inputs or spec.shape is None:
                    raise
                spec.is_image = False
                self.needs_bits(raw.name)  # no encoder, but a layer that does not say how many inputs it has
            finally:
                self.builder.channels = None
        return self.space.make(self.encoded[key].value, self.encoded[key].shape)

    def channels(self, name: str) -> tuple[int, int] | None:
        """First channel of an image in that of all inputs, and the channels of that."""
        if any(spec.is_bits for spec in self.inputs.values()):
            raise ValueError(
                "the net takes an image and bits, and the inputs of a circuit are one or the other: make the bits a "
                "channel of the image, of pixels 0 and 255"
            )
        images = {key: spec.shape for key, spec in self.inputs.items() if spec.is_image and spec.shape is not None}
        if len(images.get(name) or ()) != 3:
            return None
        sizes = [shape[0] for shape in images.values()]
        first = list(images).index(name)
        return sum(sizes[:first]), sum(sizes)

    def gates(self, module: Any, wires: list[NodeIds]) -> Traced:
        builder, width = self.builder, getattr(module, "in_dim", None)
        if isinstance(width, int) and wires and wires[0].ndim < 2 and wires[0].size != width:
            raise ValueError(f"it takes {width} inputs, but the part of the net before it gives {wires[0].size}")
        lead = wires[0].shape[:-1] if len(wires) == 1 else ()
        if lead and wires[0].shape[-1] == width:  # a dense layer does the same for every row
            rows = [module.add_to_circuit(builder, row) for row in wires[0].reshape(-1, width)]
            return self.space.of_wires(np.stack(rows).reshape(*lead, -1))
        out = np.asarray(module.add_to_circuit(builder, *wires), dtype=np.int32)
        if builder.num_classes is None:
            return self.space.of_wires(out)
        (k, tau), builder.num_classes, builder.tau = (builder.num_classes, builder.tau), None, 1.0
        return self.space.of_groups(out.reshape(*lead, k, -1), tau)

    def outputs(self, out: Any) -> NodeIds:
        """Nodes of what the net gives: groups of sums, or single bits; those of several heads one after the other."""
        tensors = [part for part in tree_leaves(out) if isinstance(part, torch.Tensor)]
        heads = [part for part in tensors if isinstance(part, Traced)]
        if not heads or len(heads) < len(tensors):
            raise ValueError("it gives no tensor that depends on its input")
        if any(isinstance(head.value, Raw) for head in heads):
            self.builder.inputs(self.builder.num_inputs)  # says that there are none
        if all(isinstance(head.value, Bits) for head in heads):
            return np.concatenate([self.space.wires(head).reshape(-1) for head in heads])
        counts = [head.value for head in heads if isinstance(head.value, Counts)]
        if len(counts) != len(heads):
            raise ValueError("some of its outputs are sums and others bits: give each a GroupSum")
        alike = self.space.alike(counts)
        offsets = [round(part.offset, 6) for part in alike]
        if any(offset < 0 or offset != int(offset) for offset in offsets):
            raise ValueError(
                f"{min(offsets):g} is added to the sums of bits, which can only be a whole number, 0 or more"
            )
        sums = []
        for part, offset in zip(alike, offsets, strict=True):
            ones = np.repeat(self.space.nodes(np.array([TRUE])) if offset else np.zeros(0, np.int32), int(offset))
            numbers = self.space.sample(part.ids).ravel() // BATCH
            sums += [np.concatenate([self.space.sums[number], ones]) for number in numbers]
        size = max(len(nodes) for nodes in sums)
        zero = [self.builder.constant(False)] if any(len(nodes) < size for nodes in sums) else []
        groups = [np.concatenate([nodes, np.repeat(np.array(zero, np.int32), size - len(nodes))]) for nodes in sums]
        return self.builder.group_sum(np.concatenate(groups), len(groups), alike[0].tau)


@contextmanager
def _followed(net: nn.Module, call: Callable[..., Any]) -> Iterator[None]:
    """Hands the forward pass of every module to ``call``, in ``.eval()`` mode and not compiled, within the block."""
    modules = dict(net.named_modules())
    before = {module: dict(module.__dict__) for module in modules.values()}

    def follow(name: str, module: nn.Module) -> Callable[..., Any]:
        path, forward = f"{type(net).__name__}.{name}".rstrip("."), module.forward
        return lambda *args, **kwargs: call(path, module, forward, args, kwargs)

    try:
        for name, module in modules.items():
            own: dict[str, Any] = {"training": False, "_compiled_call_impl": None}
            if module is not net or hasattr(module, "add_to_circuit"):
                own["forward"] = follow(name, module)
            module.__dict__.update(own)  # past the setters of torch and of layers
        yield
    finally:
        for module, attributes in before.items():
            for name in ("training", "_compiled_call_impl", "forward"):
                module.__dict__.pop(name, None)
                if name in attributes:
                    module.__dict__[name] = attributes[name]

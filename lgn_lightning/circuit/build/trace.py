"""Follows a net's own forward pass: modules with ``add_to_circuit`` write their gates, functions of torch move nodes.

The forward pass runs as it is, on tensors that know nodes and no numbers (`Traced`), through torch's own protocol for
such tensors, which ``torch.fx`` uses, too. Unlike its symbolic pass this one knows all shapes, so code that asks for
them, loops over them or branches on them is followed; ``torch.export`` would take the layers themselves apart.
"""

import inspect
import linecache
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, TypeVar

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from lgn_lightning.base.finite import nonsense_in
from lgn_lightning.circuit.build.builder import NetlistBuilder
from lgn_lightning.circuit.build.functions import apply
from lgn_lightning.circuit.build.traced import BATCH, TRUE, Bits, Counts, NeedsBits, Raw, Space, Traced
from lgn_lightning.circuit.net.netlist import CircuitError, NodeIds

T = TypeVar("T")
Builder = TypeVar("Builder", bound=NetlistBuilder)
Shape = tuple[int, ...]
#: Code whose lines are no user's.
_OWN: Final = (str(Path(__file__).parents[2]), str(Path(torch.__file__).parent))


class _Again(BaseException):
    """The pass starts again, as more is known of the inputs; no Exception, which a forward pass may catch."""


@dataclass
class _Input:
    """An argument of the net: its shape without the batch, and whether it is bits; found while it is followed."""

    shape: Shape | None = None
    is_bits: bool = False


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
    net = getattr(net, "_orig_mod", net)  # of torch.compile
    shapes = _shapes(input_shape)
    image = shapes[0] if shapes and len(shapes[0]) == 3 else None
    inputs = {name: _Input() for name in _arguments(net)}
    for spec, shape in zip(inputs.values(), shapes or _own_shapes(net), strict=False):
        spec.shape = shape
    while True:
        builder = make(image)
        path = type(net).__name__
        try:
            nodes = _Pass(net, builder, inputs).run()
            return finish(builder, nodes)
        except _Again:
            continue
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


def _arguments(net: nn.Module) -> list[str]:
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
                line = _line(error.__traceback__, frame)
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

    def needs_bits(self, name: str, shape: Shape | None = None) -> None:
        """Takes an input for bits, of a shape unless it is known, and starts again."""
        spec = self.inputs[name]
        spec.shape = spec.shape or shape
        if spec.shape is None:
            raise CircuitError(f"{self.where}: {NeedsBits(name)}{_line_here()}")
        spec.is_bits = True
        raise _Again

    @property
    def where(self) -> str:
        path, module = self.path[-1]
        return f"module {path} ({type(module).__name__})"

    def function(self, _: Space, func: Any, args: Any, kwargs: Any) -> Any:
        try:
            return apply(self.space, func, args, kwargs)
        except NeedsBits as request:
            self.needs_bits(request.name)
        except ValueError as error:
            raise CircuitError(f"{self.where} cannot become gates: {error}{_line_here()}") from error

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
            raise CircuitError(f"{self.where}: {error}{_line_here()}") from error
        self.path.pop()
        return out

    def layer(self, module: nn.Module, args: list[Any]) -> Traced:
        values = [part for part in args if isinstance(part, Traced)]
        if any(isinstance(value.value, Counts) for value in values):
            raise CircuitError(f"{self.where} stands behind the GroupSum, which must be last{_line_here()}")
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
        """Bits that an encoder declares, once for an input."""
        shape, spec = getattr(module, "in_shape", None), self.inputs[raw.name]
        if isinstance(shape, Sequence) and self.builder.input_shape is None:  # else the encoder compares them
            if spec.shape != tuple(shape):
                spec.shape = tuple(shape)
                raise _Again
            if tuple(x.shape[1:]) != spec.shape:
                raise ValueError(f"it takes images {list(shape)}, but gets {list(x.shape[1:])}")
        key = id(module), raw.name
        if key not in self.encoded:
            try:
                self.encoded[key] = self.gates(module, [np.zeros(0, np.int32)])
            except ValueError:
                if self.builder.has_inputs or spec.shape is None:
                    raise
                self.needs_bits(raw.name)  # no encoder, but a layer that does not say how many inputs it has
        return self.space.make(self.encoded[key].value, self.encoded[key].shape)

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


def _line_here() -> str:
    """The innermost line of the user's code that runs now."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code is not _Pass.follow.__code__:
        if not frame.f_code.co_filename.startswith(_OWN):
            return _described(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return ""


def _line(trace: TracebackType | None, top: FrameType | None) -> str:
    """The innermost line of the user's code that an error passed through."""
    found = ""
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if not name.startswith(_OWN) and trace.tb_frame is not top:
            found = _described(name, trace.tb_lineno)
        trace = trace.tb_next
    return found


def _described(file: str, number: int) -> str:
    source = linecache.getline(file, number).strip()
    return f" ({Path(file).name}, line {number}{f': {source}' if source else ''})"

"""The functions of torch that a circuit can follow, in one table: what each does to nodes.

Functions that only move values run on the ids of nodes as they are. Functions of single elements run on the truth
tables: ``a + b - a * b`` has the entries 0, 1, 1, 1, so it is an OR.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from lgn_lightning.circuit.build.traced import FALSE, TRUE, Bits, Counts, NeedsBits, Raw, Space, Traced

Handler = Callable[[Space, Callable[..., Any], str, tuple[Any, ...], dict[str, Any]], Any]
#: Bits that one element may depend on before gates are made of it: those of `NetlistBuilder.luts`.
_MOST_OPERANDS: Final = 6
_MEND: Final = (
    "move it in front of the encoder or behind the scores, or give its module add_to_circuit (docs: plug-ins)"
)


def apply(space: Space, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a function of torch gives of values; a ValueError if it is not in the table."""
    name = _name_of(func)
    if name in _ASKED:
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)
    inside = name in _IN_PLACE or (name.endswith("_") and name != "_")
    plain = _IN_PLACE.get(name, name.rstrip("_") if inside else name)
    handler = FUNCTIONS.get(plain)
    if handler is None:
        raise ValueError(f"{name} has no gates: {_ADVICE.get(plain, _MEND)}")
    if inside and not isinstance(args[0], Traced):
        raise ValueError(f"{name} writes activations into a tensor: join them by torch.cat or torch.stack instead")
    result = handler(space, func, plain, args, kwargs)
    if not inside:
        return result
    args[0].value = result.value
    return args[0]


def _name_of(func: Callable[..., Any]) -> str:
    name = str(getattr(func, "__name__", func))
    if name == "__get__":  # a property
        name = str(func.__self__.__name__)  # type: ignore[attr-defined]
    if name in ("boolean_dispatch", "fn"):  # poolings, with and without indices
        name = torch.overrides.resolve_name(func) or name
    if name in ("__bool__", "__float__", "__int__", "__index__", "__complex__"):
        return f"{name.strip('_')}()"
    return name.rpartition(".")[2].removeprefix("__").removesuffix("__")


def _leaves(*parts: Any) -> list[Traced]:
    return [part for part in tree_leaves(parts) if isinstance(part, Traced)]


def _move(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Functions that move values: they run on ids."""
    values = _leaves(args, kwargs)
    kinds = {type(value.value) for value in values}
    if Raw in kinds:
        return _of_raw(space, func, name, args, kwargs)
    if Counts in kinds:
        return _move_counts(space, func, args, kwargs)
    only = values[0].value
    table = torch.tensor([0, 1]).to(values[0].dtype)
    if name == "view":  # ids lie otherwise in memory than activations
        func = Tensor.reshape
    if len(values) == 1 and isinstance(only, Bits) and len(only.operands) == 1:
        table, swapped = only.table, {id(values[0]): only.operands[0].expand(tuple(values[0].shape))}
    else:
        swapped = {id(value): space.ids(value) for value in values}
    return tree_map(lambda out: space.of_ids(out, table), _on_ids(func, swapped, args, kwargs))


def _on_ids(func: Any, swapped: dict[int, Tensor], args: Any, kwargs: Any) -> Any:
    def swap(part: Any) -> Any:
        return swapped.get(id(part), part.cpu()) if isinstance(part, Tensor) else part

    out = func(*tree_map(swap, args), **tree_map(swap, kwargs))
    return list(out) if isinstance(out, (list, tuple)) else out


def _move_counts(space: Space, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    values = _leaves(args, kwargs)
    counts = [value.value for value in values if isinstance(value.value, Counts)]
    if len(counts) != len(values):
        raise ValueError("it joins sums with bits: scores can only be joined with scores")
    alike = space.alike(counts)
    if len({part.offset for part in alike}) > 1:
        raise ValueError("it joins sums with different offsets, which a circuit's scores have not")
    swapped = {id(value): part.ids for value, part in zip(values, alike, strict=True)}

    def wrapped(ids: Tensor) -> Traced:
        return space.make(replace(alike[0], ids=ids), ids.shape)

    return tree_map(wrapped, _on_ids(func, swapped, args, kwargs))


def _join(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Functions of a list of values, of which some may be constants of the net."""

    def known(part: Any) -> Any:
        return space.constants(part) if isinstance(part, Tensor) and not isinstance(part, Traced) else part

    return _move(space, func, name, tree_map(known, args), tree_map(known, kwargs))


def _of_raw(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Functions of an input before its encoder: those that keep its values in order."""
    x, *others = _leaves(args, kwargs)
    assert isinstance(x.value, Raw)
    shape, dtype = torch.Size(x.shape), x.dtype
    if others or not (name in _KEEP or (name in ("div", "truediv") and args[1:] in ((255,), (255.0,)))):
        raise NeedsBits(x.value.name)
    if name not in ("contiguous", "clone", "detach"):
        try:
            with torch._C.DisableTorchFunctionSubclass():
                out = func(*args, **kwargs)
            shape, dtype = out.shape, out.dtype
        except RuntimeError:
            if x.value.known:
                raise
    return space.make(x.value, shape, dtype)


def _each(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Functions of single elements: they run on truth tables."""
    values = _leaves(args, kwargs)
    for value in values:
        if isinstance(value.value, Raw):
            return _of_raw(space, func, name, args, kwargs)
        if isinstance(value.value, Counts):
            return _on_counts(space, name, args, kwargs)

    def known(part: Any) -> Any:
        if not isinstance(part, Tensor) or isinstance(part, Traced):
            return part
        return part.cpu().reshape(()) if part.numel() == 1 else space.constants(part)

    args, kwargs = tree_map(known, args), tree_map(known, kwargs)
    values = _leaves(args, kwargs)
    operands = _operands(values)
    if len(operands) > _MOST_OPERANDS:
        for value in values:
            space.ids(value)
        operands = _operands(values)
    if len(operands) > _MOST_OPERANDS:
        raise ValueError(f"an element depends on {len(operands)} bits at once: use layers of gates, or a GroupSum")
    row = torch.arange(2 ** len(operands))
    bit = {id(part): row >> (len(operands) - 1 - place) & 1 for place, part in enumerate(operands)}

    def table(part: Any) -> Any:
        if not isinstance(part, Traced):
            return part
        assert isinstance(part.value, Bits)
        index = torch.zeros_like(row)
        for operand in part.value.operands:
            index = 2 * index + bit[id(operand)]
        return part.value.table[index]

    given = tree_map(table, (args, kwargs))
    try:
        result = func(*given[0], **given[1])
    except NotImplementedError:  # operators of bools, of an input whose type nothing says
        given = tree_map(lambda part: part.bool() if isinstance(part, Tensor) else part, given)
        result = func(*given[0], **given[1])
    result = result.cpu().expand(row.shape).contiguous()
    shape = torch.broadcast_shapes(*(value.shape for value in values))  # type: ignore[no-untyped-call]
    return space.make(Bits(tuple(operands), result), shape, result.dtype)


def _operands(values: list[Traced]) -> list[Tensor]:
    found: dict[int, Tensor] = {}
    for value in values:
        assert isinstance(value.value, Bits)
        found |= {id(operand): operand for operand in value.value.operands}
    return list(found.values())


def _number(part: Any) -> float | None:
    if isinstance(part, Tensor):
        return float(part) if part.numel() == 1 and not isinstance(part, Traced) else None
    return float(part) if isinstance(part, (int, float)) else None


def _on_counts(space: Space, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
    """Sums of scores, and scores times, over, plus and minus a number."""
    name = name.removeprefix("r") if name in ("radd", "rmul") else name
    if name in _KEEP:
        assert isinstance(args[0].value, Counts)
        return space.make(args[0].value, args[0].shape, args[0].dtype)
    if len(args) == 2 and not kwargs:
        left, right = args if isinstance(args[0], Traced) else args[::-1]
        number = _number(right)
        if isinstance(right, Traced) and isinstance(right.value, Counts) and name == "add":
            one, two = space.alike([left.value, right.value])
            value = Counts(space.combined([one.ids, two.ids]), one.tau, one.offset + two.offset)
            return space.make(value, value.ids.shape)
        if number is not None and math.isfinite(number) and (left is args[0] or name in ("add", "mul")):
            value = left.value
            if name in ("add", "sub"):
                number = number if name == "add" else -number
                return space.make(replace(value, offset=value.offset + number * value.tau), left.shape)
            if name in ("mul", "div", "truediv") and number > 0:
                tau = value.tau / number if name == "mul" else value.tau * number
                return space.make(replace(value, tau=tau), left.shape)
    raise ValueError(
        f"{name} of sums has no gates: scores can be added, and scaled by a positive number; return the scores "
        "themselves, as the loss takes them"
    )


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Traced, Any, bool]:
    """The value, the dimensions and keepdim of a reduction."""
    given = dict(zip(("input", "dim", "keepdim"), args, strict=False)) | kwargs
    given["dim"] = given.pop("axis", given.get("dim"))
    return given["input"], given["dim"], bool(given.get("keepdim", False))


def _rows(ids: Tensor, dim: Any) -> tuple[Tensor, list[int]]:
    """Ids with the reduced dimensions as the last one, and these dimensions."""
    dims = list(range(ids.ndim)) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    dims = [place % ids.ndim for place in dims]
    rest = [place for place in range(ids.ndim) if place not in dims]
    return ids.permute(*rest, *dims).flatten(len(rest)), dims


def _kept(shape: torch.Size, dims: list[int], keep: bool) -> list[int]:
    return [1 if place in dims else size for place, size in enumerate(shape) if keep or place not in dims]


def _sum(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
    """Sums and means: of bits they are scores, of scores those of an ensemble."""
    x, dim, keep = _arguments(args, kwargs)
    counted = isinstance(x.value, Counts)
    rows, dims = _rows(x.value.ids if isinstance(x.value, Counts) else space.ids(x), dim)
    ids = space.combined(rows.unbind(-1)) if counted else space.summed(rows, space.nodes)
    shape, size = _kept(torch.Size(x.shape), dims, keep), rows.shape[-1]
    before = x.value if isinstance(x.value, Counts) else Counts(ids)
    tau = before.tau * (size if name == "mean" else 1)
    return space.make(Counts(ids.reshape(shape), tau, before.offset * size), shape)


def _gate_over(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
    """ANDs and ORs over dimensions, as balanced trees."""
    x, dim, keep = _arguments(args, kwargs)
    rows, dims = _rows(space.ids(x), dim)
    table = torch.tensor([0, 1, 1, 1] if name in ("any", "amax") else [0, 0, 0, 1])
    while rows.shape[-1] > 1:
        half = rows.shape[-1] // 2
        pair = space.make(Bits((rows[..., :half], rows[..., half : 2 * half]), table), rows[..., :half].shape)
        rows = torch.cat([space.ids(pair), rows[..., 2 * half :]], -1)
    dtype = torch.bool if name in ("any", "all") else x.dtype
    return space.of_ids(rows.reshape(_kept(torch.Size(x.shape), dims, keep)), torch.tensor([0, 1]).to(dtype))


def _pick(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
    """``max`` and ``min`` of two tensors."""
    if len(args) == 2 and isinstance(args[1], Tensor):
        return _each(space, func, name, args, kwargs)  # type: ignore[no-any-return]
    raise ValueError(f"{name} over a dimension also gives places, which are no bits: write a{name}")


def _put(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """``x[…] = y``."""
    x, index, y = args
    if not isinstance(x, Traced):
        raise ValueError("it writes activations into a tensor: join them by torch.cat or torch.stack instead")
    y = y if isinstance(y, Traced) else space.constants(torch.as_tensor(y))
    ids = space.ids(x).clone()
    ids[tree_map(lambda part: part.cpu() if isinstance(part, Tensor) else part, index)] = space.ids(y)
    x.value = Bits((ids,), torch.tensor([0, 1]).to(x.dtype))


def _pad(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``F.pad``: a border of zeros or ones, or of values."""
    given = dict(zip(("input", "pad", "mode", "value"), args, strict=False)) | kwargs
    if given.get("mode", "constant") != "constant" or not isinstance(given["input"].value, Bits):
        return _move(space, func, name, args, kwargs)
    value = given.get("value") or 0
    if value not in (0, 1):
        raise ValueError(f"it pads with {value}, and gates take 0 or 1")
    ids = torch.nn.functional.pad(space.ids(given["input"]), given["pad"], value=TRUE if value else FALSE)
    return space.of_ids(ids)


def _dropout(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given = dict(zip(("input", "p", "training"), args, strict=False)) | kwargs
    if given.get("training", name.startswith("alpha") is False):
        raise ValueError(f"{name} with training=True: pass training=self.training, which is False in a circuit")
    return given["input"]


def _max_pool(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
    """``F.max_pool2d`` of bits: the OR of each window."""
    names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    given = dict(zip(names, args, strict=False)) | kwargs
    pairs = [_pair(given.get(part) or default) for part, default in (("kernel_size", 1), ("padding", 0))]
    if given.get("ceil_mode") or given.get("return_indices") or _pair(given.get("dilation", 1)) != (1, 1):
        raise ValueError("max_pool2d with dilation, ceil_mode or return_indices has no gates")
    stride = pairs[0] if not given.get("stride") else _pair(given["stride"])
    return space.of_wires(space.builder.or_windows(space.wires(given["input"]), pairs[0], stride, pairs[1]))


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    one, two = (*value, *value)[:2]
    return int(one), int(two)


def _same(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0]


def _new(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Constants in the shape of a value."""
    with torch._C.DisableTorchFunctionSubclass():
        return space.constants(func(*args, **kwargs))


def _named(names: str, what: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), what)


#: Every function that can be followed, by its name: as a function, a method, an operator or in place alike.
FUNCTIONS: Final[Mapping[str, Handler]] = MappingProxyType(
    _named(
        "view reshape view_as reshape_as flatten unflatten squeeze unsqueeze permute transpose swapaxes swapdims "
        "movedim moveaxis t T mT adjoint expand expand_as broadcast_to repeat tile repeat_interleave getitem narrow "
        "select index_select take_along_dim gather split tensor_split split_with_sizes chunk unbind unfold flip fliplr "
        "flipud roll rot90 diagonal pixel_shuffle pixel_unshuffle channel_shuffle ravel atleast_1d atleast_2d "
        "hsplit vsplit unsafe_chunk unsafe_split",
        _move,
    )
    | _named("cat concat concatenate stack hstack vstack dstack row_stack column_stack", _join)
    | _named(
        "add sub subtract rsub mul multiply div truediv true_divide neg negative pow rpow square and or xor invert "
        "rand ror rxor radd rmul logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor "
        "bitwise_not eq ne gt lt ge le equal not_equal greater less greater_equal less_equal maximum minimum fmax "
        "fmin where abs absolute sign relu relu6 hardtanh clamp clip clamp_min clamp_max round floor ceil lerp "
        "heaviside remainder fmod mod float double half bfloat16 int long short char byte bool to type type_as cpu "
        "cuda contiguous clone detach data requires_grad positive pos",
        _each,
    )
    | _named("sum mean", _sum)
    | _named("any all amax amin prod", _gate_over)
    | _named("max min", _pick)
    | _named("zeros_like ones_like full_like new_zeros new_ones new_full", _new)
    | _named("dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout", _dropout)
    | _named("max_pool2d", _max_pool)
    | {"setitem": _put, "pad": _pad, "identity": _same}
)

#: Functions that keep the values and their order: of inputs before the encoder, and of scores.
_KEEP: Final = _named(
    "view reshape flatten unflatten squeeze unsqueeze contiguous clone detach float double half bfloat16 to type "
    "type_as cpu cuda byte bool",
    True,
)
#: What is known of a value without its numbers.
_ASKED: Final = _named(
    "shape size ndim dim ndimension numel nelement dtype device layout is_cuda is_cpu is_meta is_sparse is_quantized "
    "is_nested is_mps is_xpu is_leaf grad grad_fn requires_grad is_floating_point is_complex is_contiguous is_signed "
    "len stride element_size get_device itemsize nbytes names storage_offset result_type can_cast hash is_same_size "
    "is_inference dir repr format",
    True,
)
_IN_PLACE: Final = {f"i{name}": name for name in ("add", "sub", "mul", "div", "truediv", "and", "or", "xor", "pow")}
_FLOATS: Final = "gates take no weighted sums: use LogicLayer, LutLayer or LogicTreeConv2d"
_LOOKS: Final = "a circuit does the same for all samples: the forward pass may ask for shapes, but not for values"
_SCORES: Final = "return the scores themselves; the loss and `lgn predict` make probabilities of them"
_ADVICE: Final = (
    _named("linear conv1d conv2d conv3d matmul mm bmm einsum bilinear embedding rmatmul", _FLOATS)
    | _named("batch_norm layer_norm group_norm instance_norm", "gates give bits, which need no norm")
    | _named("bool() int() float() index() item tolist numpy array nonzero", _LOOKS)
    | _named("softmax log_softmax argmax topk sort", _SCORES)
)

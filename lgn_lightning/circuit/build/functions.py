"""The functions of torch that a circuit can follow, in one table: what each does to nodes.

Functions that only move values run on the ids of nodes as they are. Functions of single elements run on the truth
tables: ``a + b - a * b`` has the entries 0, 1, 1, 1, so it is an OR.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from lgn_lightning.circuit.build.sums import (
    KEEP,
    MOST_OPERANDS,
    arguments,
    few,
    kept,
    leaves,
    move_counts,
    named,
    of_count,
    on_counts,
    on_ids,
    operands_of,
    rows_over,
    sum_over,
)
from lgn_lightning.circuit.build.traced import (
    FALSE,
    TRUE,
    Bits,
    Correction,
    Counts,
    NeedsBits,
    Raw,
    Space,
    Traced,
)
from lgn_lightning.circuit.build.windows import adaptive_pool, on_floats, pool, unfold

Handler = Callable[[Space, Callable[..., Any], str, tuple[Any, ...], dict[str, Any]], Any]
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
    if inside:
        args[0].write(result.value)
        return args[0]
    if plain in _VIEWS or (plain == "getitem" and _is_basic(args[1])):
        base = leaves(args, kwargs)[0]
        for view in leaves(result, {}):
            if view is not base and view.dtype == base.dtype:  # another type is a copy
                view.share(base)
                view.place = (base, args[1], base.seen) if plain == "getitem" else None
    return result


def _is_basic(index: Any) -> bool:
    """Whether an index gives a view: numbers, slices, ``...`` and ``None``."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is ... or isinstance(part, (int, slice)) for part in parts)


def _name_of(func: Callable[..., Any]) -> str:
    name = str(getattr(func, "__name__", func))
    if name == "__get__":  # a property
        name = str(func.__self__.__name__)  # type: ignore[attr-defined]
    if name in ("boolean_dispatch", "fn"):  # poolings, with and without indices
        name = torch.overrides.resolve_name(func) or name
    if name in ("__bool__", "__float__", "__int__", "__index__", "__complex__"):
        return f"{name.strip('_')}()"
    return name.rpartition(".")[2].removeprefix("__").removesuffix("__")


def _move(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Functions that move values: they run on ids."""
    values = leaves(args, kwargs)
    kinds = {type(value.value) for value in values}
    if Raw in kinds:
        return _of_raw(space, func, name, args, kwargs)
    if Counts in kinds:
        return move_counts(space, func, args, kwargs)
    only = values[0].value
    table = torch.tensor([0, 1]).to(values[0].dtype)
    if name == "view":  # ids lie otherwise in memory than activations
        func = Tensor.reshape
    if len(values) == 1 and isinstance(only, Bits) and len(only.operands) == 1:
        table, swapped = only.table, {id(values[0]): only.operands[0].expand(tuple(values[0].shape))}
    else:
        swapped = {id(value): space.ids(value) for value in values}
    return tree_map(lambda out: space.of_ids(out, table), on_ids(func, swapped, args, kwargs))


def _join(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Functions of a list of values, of which some may be constants of the net."""

    def known(part: Any) -> Any:
        return space.constants(part) if isinstance(part, Tensor) and not isinstance(part, Traced) else part

    return _move(space, func, name, tree_map(known, args), tree_map(known, kwargs))


def _of_raw(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Functions of an input before its encoder: those that keep its values in order."""
    x, *others = sorted(leaves(args, kwargs), key=lambda value: not isinstance(value.value, Raw))
    assert isinstance(x.value, Raw)
    shape, dtype = torch.Size(x.shape), x.dtype
    if others or not (name in KEEP or (name in ("div", "truediv") and args[1:] in ((255,), (255.0,)))):
        raise NeedsBits(x.value.name, name)
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
    values = leaves(args, kwargs)
    if any(isinstance(value.value, Raw) for value in values):
        return _of_raw(space, func, name, args, kwargs)
    if any(isinstance(value.value, (Counts, Correction)) for value in values):
        out = on_counts(space, name, args, kwargs)
        if out is not None:
            return out
        numbers = few(space, args, kwargs)
        if numbers is None:
            return of_count(space, func, name, args, kwargs)
        args, kwargs = numbers
        values = leaves(args, kwargs)

    def known(part: Any) -> Any:
        if not isinstance(part, Tensor) or isinstance(part, Traced):
            return part
        return part.cpu().reshape(()) if part.numel() == 1 else space.constants(part)

    args, kwargs = tree_map(known, args), tree_map(known, kwargs)
    values = leaves(args, kwargs)
    operands = operands_of(values)
    if len(operands) > MOST_OPERANDS:
        for value in values:
            space.ids(value)
        operands = operands_of(values)
    if len(operands) > MOST_OPERANDS:
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


def _gate_over(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
    """ANDs and ORs over dimensions, as balanced trees."""
    x, dim, keep = arguments(args, kwargs)
    rows, dims = rows_over(space.ids(x), dim)
    table = torch.tensor([0, 1, 1, 1] if name in ("any", "amax") else [0, 0, 0, 1])
    while rows.shape[-1] > 1:
        half = rows.shape[-1] // 2
        pair = space.make(Bits((rows[..., :half], rows[..., half : 2 * half]), table), rows[..., :half].shape)
        rows = torch.cat([space.ids(pair), rows[..., 2 * half :]], -1)
    dtype = torch.bool if name in ("any", "all") else x.dtype
    return space.of_ids(rows.reshape(kept(torch.Size(x.shape), dims, keep)), torch.tensor([0, 1]).to(dtype))


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
    if y.place is not None and y.place[0] is x and y.place[1:] == (index, x.seen):
        x.share(y)  # x[…] &= z: y is this place of x, which alone was written
    put = space.ids(y)
    ids = space.ids(x).clone()
    ids[tree_map(lambda part: part.cpu() if isinstance(part, Tensor) else part, index)] = put
    x.write(Bits((ids,), torch.tensor([0, 1]).to(x.dtype)))


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


def _fill(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``masked_fill``: a choice."""
    given = dict(zip(("input", "mask", "value"), args, strict=False)) | kwargs
    return _each(space, torch.where, "where", (given["mask"], given["value"], given["input"]), {})


def _same(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0]


def _new(space: Space, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Constants in the shape of a value."""
    with torch._C.DisableTorchFunctionSubclass():
        return space.constants(func(*args, **kwargs))


#: Every function that can be followed, by its name: as a function, a method, an operator or in place alike.
FUNCTIONS: Final[Mapping[str, Handler]] = MappingProxyType(
    named(
        "view reshape view_as reshape_as flatten unflatten squeeze unsqueeze permute transpose swapaxes swapdims "
        "movedim moveaxis t T mT adjoint expand expand_as broadcast_to repeat tile repeat_interleave getitem narrow "
        "select index_select take_along_dim gather split tensor_split split_with_sizes chunk unbind flip fliplr "
        "flipud roll rot90 diagonal pixel_shuffle pixel_unshuffle channel_shuffle ravel atleast_1d atleast_2d "
        "hsplit vsplit unsafe_chunk unsafe_split",
        _move,
    )
    | named("cat concat concatenate stack hstack vstack dstack row_stack column_stack", _join)
    | named(
        "add sub subtract rsub mul multiply div truediv true_divide neg negative pow rpow square and or xor invert "
        "rand ror rxor radd rmul logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor "
        "bitwise_not eq ne gt lt ge le equal not_equal greater less greater_equal less_equal maximum minimum fmax "
        "fmin where abs absolute sign relu relu6 hardtanh clamp clip clamp_min clamp_max round floor ceil lerp "
        "heaviside remainder fmod mod float double half bfloat16 int long short char byte bool to type type_as cpu "
        "cuda contiguous clone detach data requires_grad positive pos",
        _each,
    )
    | named("sum mean", sum_over)
    | named("any all amax amin prod", _gate_over)
    | named("max min", _pick)
    | named("zeros_like ones_like full_like new_zeros new_ones new_full", _new)
    | named("dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout", _dropout)
    | named("max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d", pool)
    | named(
        "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
        "adaptive_avg_pool3d",
        adaptive_pool,
    )
    | named("interpolate upsample", on_floats)
    | {"setitem": _put, "pad": _pad, "identity": _same, "unfold": unfold(_move), "masked_fill": _fill}
)

#: What is known of a value without its numbers.
_ASKED: Final = named(
    "shape size ndim dim ndimension numel nelement dtype device layout is_cuda is_cpu is_meta is_sparse is_quantized "
    "is_nested is_mps is_xpu is_leaf grad grad_fn requires_grad is_floating_point is_complex is_contiguous is_signed "
    "len stride element_size get_device itemsize nbytes names storage_offset result_type can_cast hash is_same_size "
    "is_inference dir repr format",
    True,
)
#: Functions whose results share memory with their first argument, or may.
_VIEWS: Final = named(
    "view reshape view_as reshape_as flatten unflatten squeeze unsqueeze permute transpose swapaxes swapdims movedim "
    "moveaxis t T mT adjoint expand expand_as broadcast_to narrow select split tensor_split split_with_sizes chunk "
    "unbind diagonal ravel atleast_1d atleast_2d hsplit vsplit unsafe_chunk unsafe_split unfold float double half "
    "bfloat16 int long short char byte bool to type type_as cpu cuda contiguous detach data requires_grad positive pos",
    True,
)
_IN_PLACE: Final = {f"i{name}": name for name in ("add", "sub", "mul", "div", "truediv", "and", "or", "xor", "pow")}
_FLOATS: Final = "gates take no weighted sums: use LogicLayer, LutLayer or LogicTreeConv2d, for scores GroupSum"
_LOOKS: Final = "a circuit does the same for all samples: the forward pass may ask for shapes, but not for values"
_SCORES: Final = "return the scores themselves; the loss and `lgn predict` make probabilities of them"
_ADVICE: Final = (
    named("linear conv1d conv2d conv3d matmul mm bmm einsum bilinear embedding rmatmul", _FLOATS)
    | named("batch_norm layer_norm group_norm instance_norm normalize", "gates give bits, which need no norm")
    | named(
        "sigmoid tanh gelu silu softplus elu selu leaky_relu hardsigmoid hardswish mish prelu",
        "gates give bits, which need no activation function: leave it out",
    )
    | named("lstm gru rnn_tanh rnn_relu", "use LogicRecurrent, a layer of gates with state")
    | named("scaled_dot_product_attention multi_head_attention_forward", _FLOATS)
    | named("cumsum cumprod cummax cummin", "sum over a dimension, .sum(dim), and compare with a number")
    | named("bool() int() float() index() item tolist numpy array nonzero", _LOOKS)
    | named("softmax log_softmax argmax topk sort", _SCORES)
)

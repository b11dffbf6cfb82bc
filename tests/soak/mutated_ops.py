"""Every op of ``torch.ops.lgn`` with arguments that do not fit: an exception of Python, or the reference's result.

Arguments are those of real nets, one or two of them changed. All lie at the end of a page behind which nothing may be
read, so that an op that reads past an argument dies; the sanitizers' drivers (``tests/ext/sanitize.sh``) run the same
kernels without torch, whose libraries are not built for them.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import math
import mmap
import random
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lgn_lightning import GroupSum, LogicLayer, LogicTreeConv2d, LutLayer, OrPool2d, ops
from lgn_lightning.models import LogicRNN
from lgn_lightning.nn import LogicSequential, PackBitsTensor
from tests.soak.workers import Outcome, Tally, Worker, out_folder

_DTYPES: Final = (
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64),
)
_INTEGERS: Final = (0, 1, 2, 3, -1, -2, 7, 64, 2**31 - 1, 2**31, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63))
_FLOATS: Final = (0.0, -0.0, 1.0, -1.0, 1e-40, 3e3, math.inf, -math.inf, math.nan)
#: Where NaN and infinity must give what the reference gives.
_OF_LOGITS: Final = ("choose", "gate_ids", "lut_ids", "softmax_table", "softmax_table_backward")
#: What ``logic_stack`` keeps for its backward pass, and what that is made of.
_OF_KEPT: Final = {"kept", "x", "given", "a", "b", "of_logits", "warped"}
#: Relative and absolute difference from the reference, by dtype of the result.
_TOLERANCE: Final = {torch.float64: 1e-9, torch.float32: 2e-4, torch.bfloat16: 3e-2, torch.float16: 1e-2}


# --- what nets call the ops with -------------------------------------------------------------------------------------
class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, list[tuple[Any, ...]]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "lgn":
            name = func._schema.name.removeprefix("lgn::")
            self.calls.setdefault(name, []).append(_map(args, _copy))
        return func(*args, **(kwargs or {}))


def _map(value: Any, change: Callable[[Tensor], Any]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_map(part, change) for part in value)
    return value


def _copy(x: Tensor) -> Tensor:
    """The same values at the same strides, in memory of its own with the same padding."""
    whole = torch.empty(0, dtype=x.dtype).set_(x.detach().untyped_storage().clone())
    return whole.as_strided(x.shape, x.stride(), x.storage_offset())


def op_names() -> list[str]:
    """All ops of the schema."""
    names = torch._C._dispatch_get_all_op_names()
    return sorted({name.removeprefix("lgn::").split(".")[0] for name in names if name.startswith("lgn::")})


def _nets() -> Iterator[tuple[nn.Module, Tensor]]:
    for sampler in ("soft", "straight_through"):
        for wiring in ("random", "learned"):
            for parametrization in ("softmax", "sigmoid"):
                options: dict[str, Any] = {
                    "sampler": sampler,
                    "connections": wiring,
                    "parametrization": parametrization,
                    "device": "cpu",
                }
                layers = [LogicLayer(9, 40, **options), LogicLayer(40, 30, **options), GroupSum(3, 2.0)]
                yield LogicSequential(*layers), torch.rand(70, 9)
                yield LogicLayer(9, 40, **options), torch.rand(5, 9)
                conv = LogicTreeConv2d(2, 4, (3, 2), 2, padding=(1, 0), **options)
                yield conv, torch.rand(5, 2, 4, 6)
                pooled = LogicSequential(LogicTreeConv2d(2, 4, 3, 2, padding=1, **options), OrPool2d(2))
                yield pooled, torch.rand(70, 2, 4, 6)
                after = LogicSequential(
                    pooled,
                    LogicTreeConv2d(4, 3, 2, 1, **{**options, "channels_per_tree": 2}),
                    nn.Flatten(),
                    LogicLayer(6, 12, **options),
                    GroupSum(3),
                )
                yield after, torch.rand(9, 2, 4, 6)
        for parametrization in ("sigmoid", "walsh"):
            yield LutLayer(9, 30, 4, parametrization=parametrization, sampler=sampler), torch.rand(70, 9)
    for memory in ("gates", "multiplexer", "delay"):
        for readout in ("last", "sum", "every"):
            sizes: dict[str, Any] = {"in_bits": 5, "state": 15, "width": 18, "out": 9}
            yield LogicRNN(3, memory=memory, readout=readout, **sizes), torch.rand(70, 4, 5)


def record(path: str) -> list[str]:
    """Writes the arguments of the ops' calls; returns the ops that were not called, of which there should be none."""
    torch.manual_seed(0)
    recorder = _Recorder()
    with warnings.catch_warnings(), recorder:
        warnings.simplefilter("ignore")
        for net, x in _nets():
            for dtype in (torch.float32, torch.bfloat16):
                x = x.to(dtype).requires_grad_()
                net.train()
                y = net(x)
                if y.requires_grad:
                    (y.float() * torch.rand(y.shape)).sum().backward()
                net.eval()(x.detach().round())
            if isinstance(net, LogicSequential) and x.ndim == 2:
                PackBitsTensor(torch.rand(70, 9) < 0.5)
        for bits in (8, 32):
            words = ops.pack_bits(torch.rand(70, 9) < 0.5, bits)
            ops.unpack_bits(words, 70)
            gates, (a, b) = torch.randint(16, (12,), dtype=torch.uint8), torch.randint(9, (2, 12), dtype=torch.int32)
            ops.group_sum_packed(ops.logic_packed(words, gates, a, b), 3, 70)
            tables, indices = torch.randint(1 << 16, (12,)), torch.randint(9, (4, 12), dtype=torch.int32)
            ops.lut_packed(words, tables, indices)
        x, table = torch.rand(70, 9, dtype=torch.float64), torch.rand(12, 4, dtype=torch.float64, requires_grad=True)
        ops.group_sum(ops.logic(x, table, a, b), 3, 2.0).sum().backward()
        ops.logic_group_sum(x, table, a, b, 3, 2.0).sum().backward()
        ops.softmax_table(torch.randn(12, 16, requires_grad=True)).sum().backward()
        ops.lut_ids(torch.randn(12, 16))
        ops.gate_ids(torch.randn(12, 16))
        ops.gate_ids(torch.randn(12, 4))
        ops.pack_activations(torch.rand(70, 2, 3, 3))
    torch.save({name: calls[:: max(1, len(calls) // 12)] for name, calls in recorder.calls.items()}, path)
    return sorted(set(op_names()) - set(recorder.calls))


@cache
def _samples(path: str) -> dict[str, list[tuple[Any, ...]]]:
    return torch.load(path, weights_only=True)  # type: ignore[no-any-return]


# --- changes ---------------------------------------------------------------------------------------------------------
def _narrow(x: Tensor, chance: random.Random) -> Tensor:
    if x.ndim == 0:
        return x
    dim = chance.randrange(x.ndim)
    return x.narrow(dim, 0, min(x.shape[dim], chance.choice((0, 0, 1, max(0, x.shape[dim] - 1)))))


def _longer(x: Tensor, chance: random.Random) -> Tensor:
    return x if x.ndim == 0 else torch.cat([x, x], dim=chance.randrange(x.ndim))


def _rank(x: Tensor, chance: random.Random) -> Tensor:
    if chance.random() < 0.5 or x.numel() == 0:
        return x.unsqueeze(chance.randrange(x.ndim + 1))
    return x.flatten() if chance.random() < 0.5 or x.ndim == 0 else x.select(chance.randrange(x.ndim), 0)


def _turned(x: Tensor, chance: random.Random) -> Tensor:
    return x.permute(chance.sample(range(x.ndim), x.ndim))


def _other_dtype(x: Tensor, chance: random.Random) -> Tensor:
    return x.to(chance.choice(_DTYPES))


def _strided(x: Tensor, chance: random.Random) -> Tensor:
    """The same values, at other strides."""
    if x.ndim == 0 or x.numel() == 0:
        return x
    dim = chance.randrange(x.ndim)
    kind = chance.randrange(3)
    if kind == 0:
        wide = torch.stack((x, x), dim=dim + 1).flatten(dim, dim + 1)
        return wide[(slice(None),) * dim + (slice(None, None, 2),)]
    if kind == 1:
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    return torch.cat([x.flatten()[:1], x.flatten()])[1:].view(x.shape)


def _expanded(x: Tensor, chance: random.Random) -> Tensor:
    if x.ndim == 0 or x.numel() == 0:
        return x
    dim = chance.randrange(x.ndim)
    return x.narrow(dim, 0, 1).expand(x.shape)


def _values(x: Tensor, chance: random.Random) -> Tensor:
    """Other values at one or a few places."""
    if x.numel() == 0:
        return x
    flat = x.flatten().clone()
    for _ in range(chance.choice((1, 1, 4))):
        place = chance.randrange(flat.numel())
        if x.dtype == torch.bool:
            flat[place] = not flat[place]
        elif x.is_floating_point():
            flat[place] = chance.choice(_FLOATS)
        elif not x.is_complex():
            limits = torch.iinfo(x.dtype)
            wanted = chance.choice([-1, 16, 255, limits.min, limits.max, int(x.long().max()) + 1, 1 << 20])
            flat[place] = min(max(wanted, limits.min), limits.max)
    return flat.view(x.shape)


def _other_tensor(x: Tensor, chance: random.Random) -> Any:
    return chance.choice(
        [
            lambda: None,
            lambda: 3,
            lambda: "x",
            lambda: [x],
            lambda: torch.empty(0, dtype=x.dtype),
            lambda: torch.zeros((), dtype=x.dtype),
            lambda: torch.empty(x.shape, dtype=x.dtype, device="meta"),
            lambda: x.to_sparse(),
            lambda: torch.empty_strided(x.shape, [0] * x.ndim, dtype=x.dtype).zero_(),
        ]
    )()


_TENSOR_CHANGES: Final = (
    *(_narrow, _narrow, _narrow, _longer, _rank, _turned, _other_dtype, _other_dtype, _strided),
    *(_expanded, _values, _values, _values, _other_tensor),
)


def _changed(value: Any, chance: random.Random, told: list[str]) -> Any:
    changed = _changed_quietly(value, chance, told)
    if not isinstance(value, (Tensor, list, tuple)):
        told.append(f"{value!r} → {'a tensor' if isinstance(changed, Tensor) else repr(changed)}")
    return changed


def _changed_quietly(value: Any, chance: random.Random, told: list[str]) -> Any:
    if isinstance(value, Tensor):
        change = chance.choice(_TENSOR_CHANGES)
        told.append(change.__name__.strip("_"))
        return change(value, chance)
    if isinstance(value, bool):
        return chance.choice([not value, None, 2])
    if isinstance(value, int):
        return chance.choice([*_INTEGERS, value + 1, value - 1, None, 0.5, "x"])
    if isinstance(value, float):
        return chance.choice([*_FLOATS, None, "x", 2])
    if isinstance(value, (list, tuple)):
        parts = list(value)
        kind = chance.randrange(6)
        told.append(f"list {kind}" if kind < 3 else "in a list")
        if kind == 0 or not parts:
            return [*parts, *parts[:1]]
        if kind == 1:
            return parts[:-1]
        if kind == 2:
            return []
        place = chance.randrange(len(parts))
        parts[place] = _changed(parts[place], chance, told)
        return parts
    return chance.choice([torch.zeros(0), torch.zeros(3, 4), 1, value])


def make(seed: int, path: str, told: list[str] | None = None) -> tuple[str, list[Any]]:
    """Name of the op and arguments of a case; ``told`` is given what was changed."""
    chance = random.Random(seed)
    torch.manual_seed(seed)
    samples = _samples(path)
    name = sorted(samples)[seed % len(samples)]  # all ops alike often
    arguments = list(_map(chance.choice(samples[name]), _copy))
    for _ in range(chance.choice((0, 1, 1, 1, 1, 2, 2))):
        place = chance.randrange(len(arguments))
        what: list[str] = []
        with contextlib.suppress(RuntimeError, IndexError):  # what cannot be done to a tensor that was changed before
            arguments[place] = _changed(arguments[place], chance, what)
        if told is not None:
            parameter = getattr(torch.ops.lgn, name).default._schema.arguments[place].name
            told.append(f"{parameter}: {' '.join(what)}")
    return name, _map(arguments, lambda x: _guarded(x, chance.random() < 0.7))


_libc = ctypes.CDLL(None, use_errno=True)
_PAGE: Final = mmap.PAGESIZE


def _guarded(x: Tensor, guard: bool) -> Tensor:
    """The same tensor, whose last byte is the last one before memory that must not be read."""
    if not guard or x.is_meta or x.layout != torch.strided or x.numel() == 0:
        return x
    first = x.storage_offset()
    span = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    values = x.as_strided((span,), (1,), first)
    length = span * x.element_size()
    pages = -(-length // _PAGE)
    memory = mmap.mmap(-1, (pages + 1) * _PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if _libc.mprotect(ctypes.c_void_p(address + pages * _PAGE), ctypes.c_size_t(_PAGE), 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    flat = torch.frombuffer(memory, dtype=torch.uint8, count=length, offset=pages * _PAGE - length)
    flat.copy_(_bytes_of(values))
    # Offset a multiple of the element's size, as the end of a page is.
    return flat.view(x.dtype).as_strided(x.shape, x.stride(), 0)


def _bytes_of(x: Tensor) -> Tensor:
    """The values as bytes: equal ones for equal values, NaN among them."""
    return torch.empty(x.numel(), dtype=x.dtype).copy_(x.reshape(-1)).view(torch.uint8)


# --- the call --------------------------------------------------------------------------------------------------------
def call(seed: int, path: str, differentiate: bool = False) -> tuple[str, Any]:
    """Calls the op.

    Returns:
        ``("result", the results as bytes)``, ``("half", …)`` if an argument had 16 bits, ``("not finite", …)`` if one
        had a NaN or an infinity, ``("error", the exception in words)`` or ``("wrong", what)``.
    """
    name, arguments = make(seed, path)
    torch.manual_seed(seed)
    before = [x.clone() for x in _plain_tensors(arguments)]
    try:
        result = getattr(torch.ops.lgn, name)(*arguments)
    except Exception as error:  # any is good: Python goes on
        return "error", f"{type(error).__name__}: {error}"
    if any(x.is_meta for x in _tensors(arguments)) and not all(x.is_meta for x in _tensors(result)):
        return "wrong", "an argument on the meta device gives a result of memory that nobody wrote"
    parts = [x.detach().clone() if not x.is_meta else None for x in _tensors(result)]
    for x, old in zip(_plain_tensors(arguments), before, strict=True):
        if not torch.equal(_bytes_of(x), _bytes_of(old)):
            return "wrong", f"{name} changes an argument"
    file = io.BytesIO()
    torch.save(parts, file)
    if differentiate:
        _differentiate(name, arguments)
    half = any(x.dtype in (torch.bfloat16, torch.float16) for x in _tensors(arguments))
    finite = all(bool(torch.isfinite(x).all()) for x in _plain_tensors(arguments))
    # By a tau of 0 or a huge factor, too, results are NaN or infinite, and which of them goes by the order of the sum.
    finite &= all(1e-30 < abs(number) < 1e12 for number in _numbers(arguments) if number != 0 or type(number) is float)
    return ("half" if half else "result") if finite else "not finite", file.getvalue()


def _differentiate(name: str, arguments: list[Any]) -> None:
    leaves = _map(arguments, lambda x: x.detach().requires_grad_() if x.is_floating_point() and not x.is_sparse else x)
    try:
        result = getattr(torch.ops.lgn, name)(*leaves)
        for x in _tensors(result):
            if x.requires_grad:
                x.float().sum().backward(retain_graph=True)
    except Exception:  # as above
        pass


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [x for part in value for x in _tensors(part)] if isinstance(value, (list, tuple)) else []


def _numbers(value: Any) -> list[float]:
    if isinstance(value, (float, int)):
        return [value]
    return [x for part in value for x in _numbers(part)] if isinstance(value, (list, tuple)) else []


def _plain_tensors(value: Any) -> list[Tensor]:
    return [x for x in _tensors(value) if not x.is_meta and x.layout == torch.strided and x.ndim > 0]


def _compare(name: str, native: bytes, reference: bytes, kind: str) -> Outcome:
    ours, theirs = (torch.load(io.BytesIO(data), weights_only=True) for data in (native, reference))
    if name == "lgn::logic_stack":  # what it keeps is for the kernels' own backward pass
        ours, theirs = ours[:1], theirs[:1]
    if len(ours) != len(theirs):
        return Outcome("wrong", "another number of results than the reference", name)
    for x, y in zip(ours, theirs, strict=True):
        if x is None or y is None:
            continue
        if x.shape != y.shape:
            return Outcome("wrong", f"a result of {list(x.shape)}, the reference's is {list(y.shape)}", name)
        if x.dtype != y.dtype:
            return Outcome("wrong", f"a result in {x.dtype}, the reference's is in {y.dtype}".replace("int", "i"), name)
        # Kernels select by bits where the reference multiplies, and sum in another order: a NaN reaches others.
        if kind == "not finite" and name.removeprefix("lgn::") not in _OF_LOGITS:
            continue
        if not x.is_floating_point():
            if not torch.equal(x, y):
                return Outcome("wrong", f"{x.dtype} values differ from the reference's", name)
            continue
        finite = torch.isfinite(y)
        if not torch.equal(finite, torch.isfinite(x)):
            return Outcome("wrong", "NaN or infinite where the reference is not, or the other way round", name)
        scale = max(1.0, float(y[finite].abs().max()) if finite.any() else 1.0)
        tolerance = _TOLERANCE[
            torch.bfloat16 if kind == "half" else x.dtype
        ]  # sums of halves differ by the order of the sum
        if not torch.allclose(x[finite].double() / scale, y[finite].double() / scale, atol=tolerance, rtol=0):
            return Outcome("wrong", "values differ from the reference's", name)
    return Outcome("valid")


class _Comparison:
    """Calls a case in both kinds of worker."""

    def __init__(self, native: Worker, reference: Worker, path: str) -> None:
        self._native, self._reference, self._path = native, reference, path
        self._names = sorted(_samples(path))

    def __call__(self, seed: int) -> Outcome:
        name = self._names[seed % len(self._names)]
        ours = self._native(seed, self._path, seed % 5 == 0)
        if isinstance(ours, Outcome):
            return Outcome(ours.kind, ours.what, f"lgn::{name}")
        kind, content = ours
        if kind not in ("result", "half", "not finite"):
            return Outcome("refused" if kind == "error" else "wrong", content, f"lgn::{name}")
        theirs = self._reference(seed, self._path)
        if isinstance(theirs, Outcome):
            return Outcome("valid", f"the reference: {theirs.what}")
        if theirs[0] == "error":
            # Of an index, and not of a dimension of shares, which may be empty in any shape.
            out_of_range = any(words in theirs[1] for words in (" out of range", " out of bounds"))
            out_of_range &= "Dimension out of range" not in theirs[1]
            # Kernels compare winners with the places of a window, no address is made of them: others win nowhere.
            out_of_range = out_of_range and "winner" not in _changed_parameters(seed, self._path)
            return Outcome(
                "wrong" if out_of_range else "valid", f"accepted; the reference: {theirs[1]}", f"lgn::{name}"
            )
        if name == "logic_stack_backward" and _OF_KEPT & _changed_parameters(seed, self._path):
            kind = "not finite"  # kernels read what was kept, the reference makes it anew of what it is given
        return _compare(f"lgn::{name}", content, theirs[1], kind)


def check(seed: int) -> Any:
    """One case in this process, natively."""
    path = out_folder() / "op-arguments.pt"
    if not path.is_file():
        record(str(path))
    told: list[str] = []
    name, arguments = make(seed, str(path), told)
    print(", ".join(told))
    shown = _map(arguments, lambda x: f"{list(x.shape)} {x.dtype} strides {x.stride()}")
    print(f"torch.ops.lgn.{name}", *shown, sep="\n  ", flush=True)
    return getattr(torch.ops.lgn, name)(*arguments)


def _told(seed: int, path: str) -> str:
    told: list[str] = []
    make(seed, path, told)
    return "; ".join(told)


def _changed_parameters(seed: int, path: str) -> set[str]:
    """Names of the arguments that were changed."""
    return {change.partition(":")[0] for change in _told(seed, path).split("; ")}


def run(count: int, first: int = 0) -> Tally:
    """Calls the ops so often, all of them equally often."""
    path = str(out_folder() / "op-arguments.pt")
    tally = Tally("mutated op calls", "refused with an exception", "as the reference")
    with Worker(record, 300) as recorder:
        missing = recorder(path)
    assert missing == [], f"no net calls these ops: {missing}"
    # The first call on the meta device takes seconds: torch imports what it knows of meta kernels.
    with Worker(call, 120) as native, Worker(call, 120, {"LGN_BACKEND": "torch"}) as reference:
        compare = _Comparison(native, reference, path)
        for seed in range(first, first + count):
            outcome = compare(seed)
            tally.add(f"seed {seed}", outcome, lambda seed=seed: _told(seed, path))  # type: ignore[misc]
    return tally

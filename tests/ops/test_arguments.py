"""Calls of ``torch.ops.lgn`` with tensors that do not fit; thousands more are in ``tests/soak/mutated_ops.py``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lgn_lightning.ops import arguments
from lgn_lightning.ops.dense import group_sum_backward_reference
from tests.soak.mutated_ops import op_names

lgn = torch.ops.lgn


def operands() -> dict[str, Tensor]:
    a, b = torch.randint(9, (2, 12), dtype=torch.int32)
    return {"x": torch.rand(70, 9), "table": torch.rand(12, 4), "a": a, "b": b}


def call(op: str, *args: Any, native: bool) -> Any:
    """The op, or its reference behind the checks that it has where no kernel is loaded."""
    if native:
        return getattr(lgn, op)(*args)
    schema = getattr(lgn, op).default._schema
    names = [argument.name for argument in schema.arguments]
    arguments.check(op, *(args[names.index(name.rstrip("?*"))] for name, _, _ in arguments._lines()[op]))
    return None


def test_every_op_has_a_line_with_its_tensors() -> None:
    for op in op_names():
        named = [name.rstrip("?*") for name, _, _ in arguments._lines()[op]]
        of_schema = getattr(lgn, op).default._schema.arguments
        assert named == [a.name for a in of_schema if str(a.type) in ("Tensor", "Optional[Tensor]")], op
    parts = {"bit_logic_layer", "bit_logic_backward_layer", "logic_stack_layer"}  # what lists of tensors hold
    assert set(arguments._lines()) - parts == set(op_names())


CHANGES: dict[str, tuple[Callable[[Tensor], Tensor], type[Exception], str]] = {
    "none of it": (lambda t: t[:0], ValueError, "has shape"),
    "one of it": (lambda t: t[:1], ValueError, "has shape"),
    "more of it": (lambda t: torch.cat([t, t]), ValueError, "has shape"),
    "another rank": (lambda t: t[None], ValueError, "has shape"),
    "another dtype": (lambda t: t.to(torch.int16), TypeError, "is (Short|torch.int16), but must be"),
    "sparse": (lambda t: t.to_sparse(), TypeError, "no dense tensor"),
    "without memory": (lambda t: t.to("meta"), RuntimeError, "move the module and its input to one device"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["table", "a", "b", "grad"])
@pytest.mark.parametrize("native", [True, False], ids=["native", "reference"])
def test_a_tensor_that_does_not_fit(native: bool, name: str, change: str, native_cpu: None) -> None:
    changed, error, words = CHANGES[change]
    given = {"grad": torch.rand(70, 12), **operands()}
    given[name] = changed(given[name])
    with pytest.raises(error, match=rf"^logic_backward: .*{words}"):
        call("logic_backward", *given.values(), True, native=native)


def test_messages_name_the_sizes(native_cpu: None) -> None:
    x, table, a, b = operands().values()
    for native in (True, False):
        with pytest.raises(ValueError, match=re.escape("b has shape [0], but must be [n], n = 12")):
            call("logic", x, table, a, b[:0], native=native)


def test_lists_of_layers(native_cpu: None) -> None:
    given = operands()
    gates, none = torch.zeros(12, dtype=torch.uint8), torch.zeros(0, dtype=torch.int32)
    good = [given["x"], [gates], [given["a"]], [given["b"]], [none], 3, 1.0]
    scores, words = lgn.bit_logic(*good)
    for place, bad in (
        (1, [gates[:3]]),
        (3, [given["b"][:1]]),
        (3, []),
        (4, [none.view(0, 2, 1).expand(0, 2, 1), none]),
    ):
        with pytest.raises(ValueError, match=r"bit_logic_layer: \w+ has shape|one entry a layer"):
            lgn.bit_logic(*good[:place], bad, *good[place + 1 :])
    upper = [torch.rand_like(scores), words, [given["table"]], *good[2:4], [none.float()], [none], [False], 1.0, [1.0]]
    lgn.bit_logic_backward(*upper, True)
    for place, bad in (
        (0, upper[0][:3]),
        (1, [words[0][:, :3]]),
        (2, [given["table"][:3]]),
        (5, [torch.rand(12, 2, 2)]),
    ):
        with pytest.raises((ValueError, IndexError)):
            lgn.bit_logic_backward(*upper[:place], bad, *upper[place + 1 :], True)


def test_what_is_no_size_is_checked_too(native_cpu: None) -> None:
    given = operands()
    words = lgn.pack_bits(given["x"] > 0.5, 32)
    for batch in (-1, 64, 97, 2**63 - 1):
        with pytest.raises(ValueError, match="3 rows of 32-bit words do not hold a batch"):
            lgn.unpack_bits(words, batch)
    for k in (0, -3, 5):
        with pytest.raises(ValueError, match="do not divide into k"):
            lgn.logic_group_sum(*given.values(), k, 1.0)
    leaves = torch.zeros(3, 2, 4, dtype=torch.int32)
    image, table = torch.rand(5, 2, 4, 6), torch.rand(6, 4)
    geometry = [[3, 3], [1, 1], [1, 1], [2, 2]]
    lgn.logic_tree_conv(image, table, None, leaves, *geometry)
    for place, bad in ((0, [7, 3]), (1, [0, 1]), (2, [2**40, 1]), (2, [2**28, 2**28]), (3, [32, 16]), (0, [3])):
        with pytest.raises(ValueError, match=r"kernel|pool|indices hold"):
            lgn.logic_tree_conv(image, table, None, leaves, *geometry[:place], bad, *geometry[place + 1 :])


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, 2**63 - 1], ids=str)
def test_a_gradient_in_a_dtype_that_has_none(dtype: Any, native_cpu: None) -> None:
    """A number stands for a dtype where the op is called by name; one that none has was read as memory."""
    with pytest.raises(TypeError, match="dtype must be one of floating point"):
        lgn.group_sum_backward(torch.rand(5, 3), 12, 1.0, dtype)
    if isinstance(dtype, torch.dtype):
        with pytest.raises(TypeError, match="dtype must be one of floating point"):
            group_sum_backward_reference(torch.rand(5, 3), 12, 1.0, dtype)

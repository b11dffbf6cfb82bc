"""What the CUDA ops keep of wirings, on tensors of the host and with stand-ins for what it asks of the device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lgn_lightning.ops.cpu_build import torch_includes
from tests.cuda_host import build


@pytest.fixture(scope="module")
def wiring() -> Any:
    sources = ["cpu/dense_plan.cpp", *(f"cuda/{family}_plan.cpp" for family in ("dense", "lut", "tree"))]
    torch_lib = Path(torch.__path__[0]) / "lib"
    links = [f"-L{torch_lib}", "-ltorch_cpu", "-lc10"]
    library = build("wiring_driver.cpp", *sources, options=["-O0", *torch_includes()], links=links)
    torch.ops.load_library(library)
    return torch.ops.lgn_wiring


@pytest.fixture(autouse=True)
def _nothing_is_captured(wiring: Any) -> Iterator[None]:
    yield
    wiring.capture(False)


def wires(inputs: int = 30, gates: int = 40) -> tuple[Tensor, Tensor]:
    a, b = torch.randint(inputs, (2, gates), dtype=torch.int32)
    return a.clone(), b.clone()


def test_a_wiring_is_looked_at_once(wiring: Any) -> None:
    a, b = wires()
    first, visits = wiring.walk(a, b, 30)
    waits = wiring.waits()
    again, same = wiring.walk(a, b, 30)
    assert first == again
    assert torch.equal(visits, same)
    assert wiring.waits() == waits


def test_writing_the_same_indices_makes_nothing(wiring: Any) -> None:
    """As DDP does to all buffers before every step."""
    a, b = wires()
    first, _ = wiring.walk(a, b, 30)
    kept = wiring.kept()
    for _ in range(5):
        a.copy_(a.clone())
        b.copy_(b.clone())
        assert wiring.walk(a, b, 30)[0] == first
    assert wiring.kept() == kept
    waits = wiring.waits()
    wiring.walk(a, b, 30)  # of the version that it was last seen at
    assert wiring.waits() == waits


def test_a_change_replaces_what_was_made(wiring: Any) -> None:
    a, b = wires()
    wiring.walk(a, b, 30)
    kept = wiring.kept()
    for _ in range(5):
        a.copy_((a + 1) % 30)
        _, visits = wiring.walk(a, b, 30)
        assert torch.equal(visits, wiring.walk(a.clone(), b.clone(), 30)[1])
        assert wiring.kept() <= kept + 1


def test_what_a_graph_reads_stays_as_long_as_the_indices(wiring: Any) -> None:
    a, b = wires()
    wiring.walk(a, b, 30)
    kept = wiring.kept()
    wiring.capture(True)
    wiring.walk(a, b, 30)
    a.copy_((a + 1) % 30)
    with pytest.raises(RuntimeError, match="run the step once before the capture"):
        wiring.walk(a, b, 30)
    wiring.capture(False)
    wiring.walk(a, b, 30)
    assert wiring.kept() == kept + 1
    del a
    other = wires()
    wiring.walk(*other, 30)
    assert wiring.kept() == kept


def test_memory_that_another_tensor_has_now_is_not_taken_for_the_old_one(wiring: Any) -> None:
    memory = bytearray(2 * 40 * 4)
    for seed in range(3):
        torch.manual_seed(seed)
        a, b = torch.frombuffer(memory, dtype=torch.int32).view(2, 40)  # of version 0 each time
        a.numpy()[:], b.numpy()[:] = torch.randint(30, (40,)), torch.randint(30, (40,))
        _, visits = wiring.walk(a, b, 30)
        assert torch.equal(visits, wiring.walk(a.clone(), b.clone(), 30)[1])
        del a, b


def test_candidates_are_looked_at_anew_when_they_change(wiring: Any) -> None:
    candidates = torch.randint(30, (40, 2, 8), dtype=torch.int32)
    wiring.check_candidates(candidates, 30)
    candidates[7, 1, 3] = 30
    with pytest.raises(IndexError, match="input 30 is a candidate of gate 7"):
        wiring.check_candidates(candidates, 30)

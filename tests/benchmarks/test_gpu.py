"""The GPU benchmark at sizes that a CPU takes, with a stand-in for its timer and for CUDA graphs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import lgn_lightning.data
from lgn_lightning.nn import GroupSum, LogicLayer, LogicTreeConv2d, PackBitsTensor
from tests.benchmarks.script import load
from tests.synthetic import SyntheticImages
from tests.training.graph_toy import StandIn

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
CPU = torch.device("cpu")
MS = 2.0


gpu = load("gpu")


class Clock:
    """Calls as often as the real timer, at least once past a recording, and says that it took 2 ms."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, call: Callable[[], object], repeats: int) -> float:
        for _ in range(5 + repeats):
            call()
            self.calls += 1
        return MS


def small() -> Any:
    nets = {"S": (20, 40, 2), "L": (20, 60, 3)}
    return gpu.Sizes(
        nets, batch=2, trees={"S": (1, 3)}, tree_batch=3, layer_gates=50, layer_batches=(4, 9), packed_batch=33,
        copy_bytes=500, fit_steps=7, repeats=2,
    )  # fmt: skip


@pytest.fixture
def bench() -> Any:
    return gpu.Bench(CPU, Clock(), small(), StandIn())


def test_every_measurement_runs(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bench.run(gpu.parts(bench, ("S", "L"), None, gpu.ORIGINAL))
    told = capsys.readouterr().err
    assert told.count("ImportError: difflogic has no CUDA module here") == 2 + 2 + 1
    rows = {(row["what"], row["precision"]): row for row in bench.rows}
    steps = [(f"step {net}, {mode}", p) for net in "SL" for p in ("fp32", "bf16") for mode in ("eager", "graph")]
    layers = [(f"layer, batch {batch}", p) for batch in (4, 9) for p in ("fp32", "bf16")]
    modules = [(f"layer as a module, batch {batch}", "fp32") for batch in (4, 9)]
    steps += [(f"straight-through step {net}, {mode}", "fp32") for net in "SL" for mode in ("eager", "graph")]
    steps += [
        (f"step {net}, gates of 4 inputs, {mode}", p)
        for net in "SL"
        for p in ("fp32", "bf16")
        for mode in ("eager", "graph")
    ]
    steps += [
        (f"{kind} leaves, {mode}", precision)
        for kind, precision in (
            ("CIFAR-10 S step, random", "fp32"),
            ("CIFAR-10 S step, random", "bf16"),
            ("straight-through CIFAR-10 S step, random", "fp32"),
            ("CIFAR-10 S step, learned", "fp32"),
        )
        for mode in ("eager", "graph")
    ]
    assert set(rows) == {*steps, *layers, *modules, ("packed L, batch 33", "bits"), ("copy", f"{500 / 2**30:g} GiB")}
    assert rows["layer, batch 4", "fp32"]["ms"] == 2 * MS
    assert rows["packed L, batch 33", "bits"]["million_samples_per_second"] == pytest.approx(33 / 2e-3 / 1e6)
    copy = next(row for row in bench.rows if row["what"] == "copy")
    assert copy["gigabytes_per_second"] == pytest.approx(1000 / 2e-3 / 1e9)
    # 50 gates, batch 4, 4 bytes: 80 + 80 bytes of numbers a gate in 4 ms, against 1000 bytes in 2 ms.
    assert rows["layer, batch 4", "fp32"]["share"] == pytest.approx(50 * 160 / 4e-3 / (1000 / 2e-3))
    assert rows["layer, batch 4", "fp32"]["conservative_share"] == pytest.approx(50 * 80 / 4e-3 / (1000 / 2e-3))
    assert rows["CIFAR-10 S step, random leaves, eager", "fp32"]["epoch_seconds"] == pytest.approx(15_000 * MS / 1e3)
    assert bench.recorder.recorded == 4 + 2 + 4 + 4


def test_bytes_of_a_layer_by_hand() -> None:
    assert gpu.layer_bytes(1, 100, 4) == (5 * 400 + 32 + 32 + 16, 2000)
    assert gpu.layer_bytes(1_024_000, 1024, 2) == (1_024_000 * (5 * 2048 + 80), 1_024_000 * 5 * 2048)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_check_passes_and_can_fail(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < gpu.check(CPU, dtype, 10, 30, 50) < 1e-2
    right = gpu.ops.logic
    monkeypatch.setattr(gpu.ops, "logic", lambda x, table, a, b: right(x, table, b, a))
    with pytest.raises(SystemExit, match="differs from the reference"):
        gpu.check(CPU, dtype, 10, 30, 50)


def test_the_check_of_packed_bits_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    right = gpu.ops.logic_packed
    monkeypatch.setattr(gpu.ops, "logic_packed", lambda x, gates, a, b: right(x, 15 - gates, a, b))
    with pytest.raises(SystemExit, match="packed evaluation differs"):
        gpu.check(CPU, torch.float32, 10, 30, 50)


def test_the_check_of_convolutions_on_bits_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = gpu.check.__globals__["bit_tree"]
    right = checked.forward_reference
    monkeypatch.setattr(checked, "forward_reference", lambda conv: right(conv._replace(gates=15 - conv.gates)))
    with pytest.raises(SystemExit, match="convolutions on packed bits differ"):
        gpu.check(CPU, torch.float32, 10, 30, 50)


def test_a_step_that_was_not_recorded_is_no_graph_row(bench: Any) -> None:
    bench.recorder = StandIn(error="no")
    with pytest.warns(UserWarning, match="without a CUDA graph"), pytest.raises(SystemExit, match="was not recorded"):
        gpu.time_steps(bench, "S", gpu.OURS, "fp32")
    assert [row["what"] for row in bench.rows] == ["step S, eager"]


def test_peers_are_timed_where_they_are(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = ModuleType("difflogic")
    peer.LogicLayer = lambda i, o, device, implementation: LogicLayer(i, o)  # type: ignore[attr-defined]
    peer.GroupSum, peer.PackBitsTensor = GroupSum, PackBitsTensor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "difflogic", peer)
    find = gpu.importlib.util.find_spec
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: name == "difflogic_cuda" or find(name))
    gpu.time_steps(bench, "S", gpu.ORIGINAL, "fp32")
    gpu.time_module(bench, 4, gpu.ORIGINAL)
    assert [row["what"] for row in bench.rows] == ["step S, eager", "layer as a module, batch 4"]


def test_convlogic_is_timed_on_the_net_of_the_same_sizes(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def conv(in_channels: int, out_channels: int, **options: Any) -> torch.nn.Module:
        made.append((in_channels, out_channels, options["implementation"]))
        return torch.nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)

    def dense(inputs: int, width: int, **options: Any) -> torch.nn.Module:
        made.append((inputs, width, options["implementation"]))
        return torch.nn.Linear(inputs, width)

    convlogic, difflogic = ModuleType("convlogic"), ModuleType("difflogic")
    convlogic.ConvLogicLayer = conv  # type: ignore[attr-defined]
    difflogic.LogicLayer = dense  # type: ignore[attr-defined]
    difflogic.GroupSum = GroupSum  # type: ignore[attr-defined]
    for module in (convlogic, difflogic):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    name = f"CIFAR-10 S step, {gpu.CONVLOGIC}, fp32, random, soft"
    assert name not in gpu.parts(bench, ("S",), None, gpu.ORIGINAL)
    step = gpu.parts(bench, ("S",), None, gpu.CONVLOGIC)[name]
    with pytest.raises(ImportError, match="convlogic has no CUDA module"):
        step()
    find = gpu.importlib.util.find_spec
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: name == "convlogic_cuda" or find(name))
    step()
    gpu.time_trees(bench, "S", gpu.OURS, "fp32", "random", "soft")
    assert [row["what"] for row in bench.rows[:2]] == ["CIFAR-10 S step, random leaves, eager"] * 2
    ours = gpu.time_trees.__globals__["our_trees"](*bench.sizes.trees["S"], "random", "soft")
    convolutions = [layer for layer in ours if isinstance(layer, LogicTreeConv2d)]
    dense_layers = [layer for layer in ours if isinstance(layer, LogicLayer)]
    sizes = [(layer.in_channels, layer.out_channels) for layer in convolutions]
    sizes += [(layer.in_dim, layer.out_dim) for layer in dense_layers]
    assert made == [(*size, "cuda") for size in sizes]


def test_table_has_the_ratio_of_the_same_measurement() -> None:
    rows = [
        {"what": "step L, eager", "library": gpu.OURS, "precision": "fp32", "ms": 2.0},
        {"what": "step L, graph", "library": gpu.OURS, "precision": "fp32", "ms": 1.0},
        {"what": "step S, graph", "library": gpu.OURS, "precision": "fp32", "ms": 1.0},
        {"what": "step L, eager", "library": gpu.ORIGINAL, "precision": "fp32", "ms": 10.0},
        {"what": "lgn fit mnist", "library": gpu.OURS, "precision": "fp32", "ms": 1.25, "share": 0.8},
        {"what": "layer, batch 100", "library": gpu.OURS, "precision": "fp32", "ms": 3.0, "share": 0.75},
    ]
    lines = gpu.table(rows, gpu.OURS).splitlines()[2:]
    assert [line.split(" | ")[4] for line in lines] == ["5.0", "10.0", "", "", "", ""]
    assert "share of bare step 80.0%" in lines[4]
    assert "share of copy bandwidth 75.0%" in lines[5]


def test_what_does_not_fit_is_left_out(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def full() -> None:
        raise torch.OutOfMemoryError("out of memory\nand more")

    bench.attempt("layer", full)
    assert capsys.readouterr().err == "skipped layer: OutOfMemoryError: out of memory\n"


def wrong() -> None:
    raise RuntimeError("an illegal memory access\nand more")


def exits() -> None:
    raise SystemExit("differs from the reference")


def test_a_part_fails_by_itself_and_what_is_known_is_in_the_file(bench: Any, tmp_path: Path) -> None:
    bench.file, bench.known = tmp_path / "gpu.json", {"gpu": "none"}
    seen = []

    def measured() -> None:
        seen.append(json.loads(bench.file.read_text())["parts"]["good"])
        bench.add("step", gpu.OURS, "fp32", MS)

    bench.run({"bad": wrong, "check": exits, "good": measured})
    assert seen == ["running"]
    written = json.loads(bench.file.read_text())
    assert written["gpu"] == "none"
    assert written["parts"] == {
        "bad": "failed: RuntimeError: an illegal memory access",
        "check": "failed: SystemExit: differs from the reference",
        "good": "done",
    }
    assert [row["what"] for row in written["results"]] == ["step"]
    assert list(bench.failures) == ["bad", "check"]


def test_a_lost_gpu_ends_the_parts_of_a_process_and_the_next_goes_on(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.file, bench.device = tmp_path / "gpu.json", torch.device("cuda")
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 << 20)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    parts = {"first": lambda: bench.add("step", gpu.OURS, "fp32", MS), "second": lambda: None, "third": lambda: None}
    bench.attempt("first", parts["first"])
    monkeypatch.setattr(torch.cuda, "synchronize", wrong)
    bench.run(parts)
    assert bench.lost
    assert bench.parts == {"first": "done", "second": "failed: RuntimeError: an illegal memory access"}
    assert [row["peak_mib"] for row in bench.rows] == [3]
    following = gpu.Bench(CPU, bench.timer, bench.sizes, file=bench.file, known={"gpu": "another"})
    following.resume()
    following.run(parts)
    assert following.parts == {**bench.parts, "third": "done"}
    assert following.rows == bench.rows
    assert following.known["gpu"] == "another"


def test_a_part_that_did_not_end_is_not_tried_again(bench: Any, tmp_path: Path) -> None:
    bench.file = tmp_path / "gpu.json"
    bench.resume()
    assert bench.parts == {}
    bench.file.write_text(json.dumps({"build_s": 9, "parts": {"hangs": "running"}, "results": []}))
    bench.resume()
    bench.run({"hangs": wrong})
    assert bench.failures == {"hangs": "failed: it did not end"}
    assert bench.known["build_s"] == 9


def test_facts() -> None:
    assert set(gpu.facts(CPU)) == {"gpu", "driver", "torch", "cuda", "python", "command"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_without_a_gpu_one_line_and_an_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "gpu.json"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--json", str(target)])
    assert gpu.main() == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert "no GPU is visible to torch" in told.err
    assert not target.exists()


def test_the_loop_is_held_against_the_bare_step(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lgn_lightning.data, "MNIST", lambda root: SyntheticImages([1, 28, 28], root=root))
    asked = []

    def lightning_fit(root: str, steps: int, recipe: str, overrides: list[str]) -> float:
        asked.append((root, steps, recipe, *overrides))
        return 400.0

    fit_loop = ModuleType("fit_loop")
    fit_loop.lightning_fit = lightning_fit  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fit_loop", fit_loop)
    bench.sizes.nets["L"] = (784, 400, 2)
    here = Path.cwd()
    gpu.time_fit(bench, str(tmp_path))
    assert Path.cwd() == here
    assert asked == [(str(tmp_path), 7, "mnist", "--model.cuda_graph=true", "--data.resident=true")]
    bare, fit = bench.rows
    assert bare["steps_per_second"] == pytest.approx(500)
    assert fit["ms"] == pytest.approx(2.5)
    assert fit["share"] == pytest.approx(0.8)


@pytest.mark.cuda
def test_the_real_timer_and_the_real_graphs() -> None:
    bench = gpu.Bench(torch.device("cuda:0"), gpu.Timer(), small())
    bench.run(gpu.parts(bench, ("S", "L"), None, gpu.ORIGINAL))
    assert all(row["ms"] > 0 for row in bench.rows)
    assert {"step S, graph", "step L, graph", "layer, batch 9", "packed L, batch 33"} <= {r["what"] for r in bench.rows}

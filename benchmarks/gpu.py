"""Builds, checks and times the CUDA kernels, beside the original's where `difflogic` has its CUDA module.

    python benchmarks/gpu.py --root data --json gpu.json

Nets are dense, batch 100: S = 400→6×8,000→10 and L = 784→6×64,000→10 of Petersen et al. (2022), and XL =
95,232→5×1,024,000→10. A step is forward, cross entropy, backward and Adam(fused=True), launched from Python (eager) and
replayed as a CUDA graph; the same straight-through on packed bits, and with gates of four inputs. Nets of tree
convolutions are S, M and L of Petersen et al. (2024) for CIFAR-10, batch 128, soft and straight-through on packed bits;
an epoch of them is 45,000 images. With the data at hand, `lgn fit mnist` with `cuda_graph` and `resident` is held
against its bare step. Packed evaluation is from bools to class sums. A layer of 1,024,000 gates is held against the
bandwidth of a copy, its bytes counted in `layer_bytes`. Medians of CUDA event times, with the memory that a part takes
at most; needs a GPU.

Each part fails by itself, and the file of `--json` is written after each. Where a kernel has left the GPU unusable for
the process, a new one continues; `--resume` continues with a file, past the part that did not end. The exit status is 1
if a part failed: then, above all if a check did, look at the reasons before the times. `--part-seconds` ends the
process with SIGALRM where a part takes longer. `--dry-run` shows that all of it runs, on the CPU and at sizes that mean
nothing. `first_gpu.sh` makes use of all this.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_bench import Bench, Sizes, Timer, facts, stand_ins, table  # type: ignore[import-not-found]  # beside this file
from gpu_check import check  # type: ignore[import-not-found]  # the same
from gpu_steps import (  # type: ignore[import-not-found]  # the same
    CLASSES,
    CONVLOGIC,
    ORIGINAL,
    OURS,
    our_net,
    their_net,
    time_luts,
    time_steps,
    time_straight_through,
    time_trees,
)
from torch import nn

from lgn_lightning import ops
from lgn_lightning.nn import LogicLayer, PackBitsTensor
from lgn_lightning.ops import loader
from lgn_lightning.training.graphed_step import GraphedStep

# A layer against the copy bandwidth.


def layer_bytes(gates: int, batch: int, itemsize: int) -> tuple[int, int]:
    """Bytes that forward and backward of a layer move whose inputs are as many as its gates, two gates each.

    Rows are `batch` values of one feature. Forward: a row of x and a row of y a gate; backward: a row of x, of the
    gradient and of the gradient of x. Both read 16 bytes of the walk and 16 of the table (4 floats) a gate, and the
    backward pass writes 16 bytes of the table's gradient.

    Returns:
        That count, and a conservative one of the rows alone, which no wiring and no layout can do without. Neither
        counts padding, rows that are read twice, or partial sums of inputs with several stops.
    """
    rows = 5 * batch * itemsize * gates
    walk, table, gradient = 2 * 16, 2 * 16, 16
    return rows + (walk + table + gradient) * gates, rows


def time_copy(bench: Bench) -> None:
    """Times a copy within the GPU's memory, reads and writes counted."""
    source = torch.zeros(bench.sizes.copy_bytes, dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    ms = bench.timer(lambda: target.copy_(source), bench.sizes.repeats)
    rate = 2 * source.numel() / ms / 1e6
    bench.add("copy", "torch", f"{source.numel() / 2**30:g} GiB", ms, gigabytes_per_second=rate)


def time_layer(bench: Bench, batch: int, precision: str) -> None:
    """Times forward and backward of a wide layer, as a share of the bandwidth of the copy, if that was timed."""
    gates = bench.sizes.layer_gates
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    layer = LogicLayer(gates, gates).to(bench.device)
    a, b = layer.indices
    table = torch.rand(gates, 4, device=bench.device)
    # Feature-major, as a layer before would leave it.
    x = ops.logic(torch.rand(batch, 8, device=bench.device, dtype=dtype), table, a % 8, b % 8)
    grad = ops.logic(torch.rand(batch, 8, device=bench.device, dtype=dtype), table, b % 8, a % 8)
    ms = {
        "forward": bench.timer(lambda: ops.logic(x, table, a, b), bench.sizes.repeats),
        "backward": bench.timer(lambda: torch.ops.lgn.logic_backward(grad, x, table, a, b, True), bench.sizes.repeats),
    }
    total = sum(ms.values())
    more = {f"{name}_ms": value for name, value in ms.items()}
    for rate in [row["gigabytes_per_second"] for row in bench.rows if row["what"] == "copy"]:
        moved, rows = (count / total / 1e6 / rate for count in layer_bytes(gates, batch, dtype.itemsize))
        more |= {"share": moved, "conservative_share": rows}
    bench.add(f"layer, batch {batch}", OURS, precision, total, **more)


def time_module(bench: Bench, batch: int, library: str) -> None:
    """Times forward and backward of the same layer as a module, the softmax of its gates included."""
    gates = bench.sizes.layer_gates
    layer = LogicLayer(gates, gates) if library == OURS else their_net(gates, gates, 1)[0]
    layer.to(bench.device)
    x = torch.rand(batch, gates, device=bench.device, requires_grad=True)
    grad = torch.randn(batch, gates, device=bench.device)

    def both() -> None:
        x.grad = layer.weights.grad = None
        layer(x).backward(grad)

    bench.add(f"layer as a module, batch {batch}", library, "fp32", bench.timer(both, bench.sizes.repeats))


# Packed evaluation.


def time_packed(bench: Bench, library: str) -> None:
    """Times a hard net from bools to class sums."""
    sizes = bench.sizes
    shape = sizes.nets[sizes.packed_net]
    model = (our_net if library == OURS else their_net)(*shape).to(bench.device).eval()
    pack: Callable[..., Any] = PackBitsTensor
    if library == ORIGINAL:
        pack = importlib.import_module("difflogic").PackBitsTensor
    x = torch.rand(sizes.packed_batch, shape[0], device=bench.device) > 0.5

    @torch.no_grad()
    def evaluate() -> object:
        return model(pack(x))

    ms = bench.timer(evaluate, sizes.repeats)
    rate = sizes.packed_batch / ms / 1e3
    what = f"packed {sizes.packed_net}, batch {sizes.packed_batch}"
    bench.add(what, library, "bits", ms, million_samples_per_second=rate)


# The loop around the step.


def time_fit(bench: Bench, root: str) -> None:
    """Times `lgn fit mnist` and the bare graph-replayed step of its net on its images."""
    from fit_loop import lightning_fit  # type: ignore[import-not-found]  # beside this file

    from lgn_lightning.data import MNIST
    from lgn_lightning.models import LogicMLP

    data = MNIST(root=root)
    data.setup("fit")
    x, y = (part.to(bench.device) for part in next(iter(data.train_dataloader())))
    net = LogicMLP((1, 28, 28), CLASSES, *bench.sizes.nets["L"][1:], tau=30, grey_in_training=True).to(bench.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, fused=True)
    step = GraphedStep(net, lambda x, y: nn.functional.cross_entropy(net(x), y), optimizer, bench.recorder)
    bare = bench.timer(lambda: step(x, y), bench.sizes.repeats)
    bench.add("bare step of lgn fit mnist", OURS, "fp32", bare, steps_per_second=1e3 / bare)
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # where the run's files go
        try:
            rate = lightning_fit(
                root, bench.sizes.fit_steps, "mnist", ["--model.cuda_graph=true", "--data.resident=true"]
            )
        finally:
            os.chdir(here)
    bench.add("lgn fit mnist", OURS, "fp32", 1e3 / rate, steps_per_second=rate, share=rate * bare / 1e3)


def parts(bench: Bench, nets: Iterable[str], root: str | None, peer: str) -> dict[str, Callable[[], object]]:
    """All that can be measured, by name, in the order of value."""
    dense = [OURS, ORIGINAL] if peer == ORIGINAL else [OURS]
    made: dict[str, Callable[[], object]] = {}
    for net in nets:
        for library, precision in [(OURS, "fp32"), *((library, "fp32") for library in dense[1:]), (OURS, "bf16")]:
            made[f"step {net}, {library}, {precision}"] = partial(time_steps, bench, net, library, precision)
    if root is not None:
        made["lgn fit mnist"] = partial(time_fit, bench, root)
    for size in bench.sizes.trees:
        kinds = [(OURS, precision, "random", "soft") for precision in ("fp32", "bf16")]
        kinds += [(CONVLOGIC, "fp32", "random", "soft")] if peer == CONVLOGIC else []
        kinds += [(OURS, "fp32", "random", "straight_through"), (OURS, "fp32", "learned", "soft")]
        for kind in kinds:
            made[f"CIFAR-10 {size} step, {', '.join(kind)}"] = partial(time_trees, bench, size, *kind)
    for library in dense:
        made[f"packed, {library}"] = partial(time_packed, bench, library)
    made["copy"] = partial(time_copy, bench)
    for batch in bench.sizes.layer_batches:
        for precision in ("fp32", "bf16"):
            made[f"layer, batch {batch}, {precision}"] = partial(time_layer, bench, batch, precision)
        for library in dense:
            made[f"layer as a module, batch {batch}, {library}"] = partial(time_module, bench, batch, library)
    for net in nets:
        made[f"straight-through step {net}"] = partial(time_straight_through, bench, net)
        for precision in ("fp32", "bf16"):
            made[f"lookup tables step {net}, {precision}"] = partial(time_luts, bench, net, precision)
    return made


def note_check(bench: Bench, dtype: torch.dtype) -> None:
    """Compares the kernels with the reference, and notes the greatest error."""
    bench.known.setdefault("check", {})[str(dtype)] = check(bench.device, dtype)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="folder that holds MNIST, to time `lgn fit mnist`")
    parser.add_argument("--repeats", type=int, default=Sizes.repeats, help="timed calls of each")
    parser.add_argument("--net", action="append", choices=tuple(Sizes().nets), help="only this net's step")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--resume", action="store_true", help="continue with the file of --json")
    parser.add_argument(
        "--peer", choices=(ORIGINAL, CONVLOGIC), default=ORIGINAL, help="whose CUDA kernels are timed, too"
    )
    parser.add_argument("--part-seconds", type=int, default=0, help="end with SIGALRM where a part takes longer")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, tiny, without meaning")
    options = parser.parse_args()
    if not options.dry_run and not torch.cuda.is_available():
        print(f"no GPU is visible to torch {torch.__version__}: nothing can be measured", file=sys.stderr)
        return 2
    file = (options.json or Path(tempfile.mkdtemp()) / "gpu.json").absolute()
    if options.dry_run:
        device, measures = torch.device("cpu"), stand_ins()
    else:
        device = torch.device("cuda", torch.cuda.current_device())
        measures = {"timer": Timer(), "sizes": Sizes(repeats=options.repeats)}
    bench = Bench(device, **measures, file=file, known=facts(device), part_seconds=options.part_seconds)
    if options.resume:
        bench.resume()
    start = time.perf_counter()
    loader.require(device.type)
    bench.known.setdefault("build_s", time.perf_counter() - start)
    checks = {f"check {dtype}": partial(note_check, bench, dtype) for dtype in (torch.float32, torch.bfloat16)}
    root = str(Path(options.root).absolute()) if options.root else None
    bench.run({**checks, **parts(bench, options.net or bench.sizes.nets, root, options.peer)})
    if bench.lost:
        print("this process has lost the GPU; a new one continues", file=sys.stderr, flush=True)
        again = [*sys.argv, *([] if options.resume else ["--resume"]), *([] if options.json else ["--json", str(file)])]
        os.execv(sys.executable, [sys.executable, *again])
    print("; ".join(f"{name} {value}" for name, value in bench.known.items()))
    print(table(bench.rows, OURS))
    for what, outcome in bench.failures.items():
        print(f"{what} {outcome}")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""The training steps that `gpu.py` times: our nets, and those of the libraries that are held against them."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import math
from typing import Any

import torch
from gpu_bench import Bench  # type: ignore[import-not-found]  # beside this file
from torch import Tensor, nn

from lgn_lightning.models.tree import LogicTreeNet
from lgn_lightning.nn import GroupSum, LogicLayer, LogicSequential, LutLayer
from lgn_lightning.nn.gate_order import order_gates
from lgn_lightning.training.graphed_step import GraphedStep

CLASSES, TAU = 10, 10.0
OURS, ORIGINAL, CONVLOGIC = "lgn-lightning", "difflogic", "convlogic"


def our_net(inputs: int, width: int, depth: int, sampler: str = "soft") -> nn.Module:
    layers = [LogicLayer(width if i else inputs, width, sampler=sampler) for i in range(depth)]
    order_gates(layers)  # as LogicMLP does
    return LogicSequential(*layers, GroupSum(CLASSES, TAU))


def their_net(inputs: int, width: int, depth: int) -> Any:
    """The original's, with its CUDA kernels; ImportError if it was built without them."""
    if importlib.util.find_spec("difflogic_cuda") is None:
        raise ImportError("difflogic has no CUDA module here")
    difflogic = importlib.import_module("difflogic")
    layers = [
        difflogic.LogicLayer(width if i else inputs, width, device="cuda", implementation="cuda") for i in range(depth)
    ]
    return nn.Sequential(*layers, difflogic.GroupSum(CLASSES, TAU))


def time_steps(bench: Bench, net: str, library: str, precision: str) -> None:
    """Times the training step of a dense net, eager, and ours replayed too."""
    shape = bench.sizes.nets[net]
    model = (our_net if library == OURS else their_net)(*shape).to(bench.device)
    x = torch.rand(bench.sizes.batch, shape[0], device=bench.device).round()
    time_training(bench, f"step {net}", library, precision, model, x)


def time_straight_through(bench: Bench, net: str) -> None:
    """Times the step of a dense net that trains straight-through on packed bits."""
    shape = bench.sizes.nets[net]
    model = our_net(*shape, sampler="straight_through").to(bench.device)
    x = torch.rand(bench.sizes.batch, shape[0], device=bench.device).round()
    time_training(bench, f"straight-through step {net}", OURS, "fp32", model, x)


def time_trees(bench: Bench, size: str, library: str, precision: str, leaves: str, sampler: str) -> None:
    """Times the step of a net of the convolutional paper for CIFAR-10, and gives that of an epoch of its recipe."""
    sizes = bench.sizes
    k, thresholds = sizes.trees[size]
    shape = (sizes.tree_batch, 3, 32, 32)
    x = torch.randint(256, shape, device=bench.device, dtype=torch.uint8)
    if library == OURS:
        model: nn.Module = our_trees(k, thresholds, leaves, sampler)
    else:
        model, x = their_trees(k, thresholds), x.float().round().repeat(1, thresholds, 1, 1) % 2
    what = f"{'' if sampler == 'soft' else 'straight-through '}CIFAR-10 {size} step, {leaves} leaves"
    steps = math.ceil(sizes.epoch / sizes.tree_batch)
    time_training(bench, what, library, precision, model.to(bench.device), x, steps_per_epoch=steps)


def our_trees(k: int, thresholds: int, leaves: str, sampler: str) -> nn.Module:
    widths = [k, 4 * k, 16 * k, 32 * k], [1280 * k, 640 * k, 320 * k * output_factor(k)]
    return LogicTreeNet(
        (3, 32, 32), CLASSES, *widths, tau=TAU, thresholds=thresholds, tree_connections=leaves, sampler=sampler
    )


def output_factor(k: int) -> int:
    """How many times as wide the last layer of the paper's larger nets is."""
    return 2 if k >= 1024 else 1


def their_trees(k: int, thresholds: int) -> nn.Module:
    """The same of convlogic, whose `difflogic` must be the one that is found; ImportError if it has no CUDA modules."""
    if importlib.util.find_spec("convlogic_cuda") is None:
        raise ImportError("convlogic has no CUDA module here")
    convlogic, difflogic = importlib.import_module("convlogic"), importlib.import_module("difflogic")
    channels = [3 * thresholds, k, 4 * k, 16 * k, 32 * k]
    layers: list[nn.Module] = [
        convlogic.ConvLogicLayer(
            in_channels=i, out_channels=o, padding=1, groups=1, residual_init=True, complete=True, implementation="cuda"
        )
        for i, o in itertools.pairwise(channels)
    ]
    widths = [128 * k, 1280 * k, 640 * k, 320 * k * output_factor(k)]
    layers.append(nn.Flatten())
    layers += [
        difflogic.LogicLayer(i, o, grad_factor=1, residual_init=True, implementation="cuda")
        for i, o in itertools.pairwise(widths)
    ]
    return nn.Sequential(*layers, difflogic.GroupSum(k=CLASSES, tau=TAU))


def time_luts(bench: Bench, net: str, precision: str) -> None:
    """Times the step of a dense net whose gates have more than two inputs."""
    inputs, width, depth = bench.sizes.nets[net]
    arity = bench.sizes.lut_inputs
    layers = [LutLayer(width if i else inputs, width, arity) for i in range(depth)]
    model = LogicSequential(*layers, GroupSum(CLASSES, TAU)).to(bench.device)
    x = torch.rand(bench.sizes.batch, inputs, device=bench.device).round()
    time_training(bench, f"step {net}, gates of {arity} inputs", OURS, precision, model, x)


def time_training(
    bench: Bench, what: str, library: str, precision: str, model: nn.Module, x: Tensor, steps_per_epoch: int = 0
) -> None:
    """Times the training step of a net on a batch, eager, and ours replayed too."""
    y = torch.randint(CLASSES, (len(x),), device=bench.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast(bench.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            return nn.functional.cross_entropy(model(x), y)

    def step() -> None:
        optimizer.zero_grad()
        loss(x, y).backward()
        optimizer.step()

    def note(mode: str, ms: float) -> None:
        epoch = {"epoch_seconds": ms * steps_per_epoch / 1e3} if steps_per_epoch else {}
        bench.add(f"{what}, {mode}", library, precision, ms, **epoch)

    repeats = bench.sizes.repeats
    note("eager", bench.timer(step, repeats))
    if library == OURS:
        replay = GraphedStep(model, loss, optimizer, bench.recorder)
        ms = bench.timer(lambda: replay(x, y), repeats)
        if not replay.recorded:
            raise SystemExit(f"the {what} was not recorded, so {ms:.4f} ms is that of an eager one")
        note("graph", ms)

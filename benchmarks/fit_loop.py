"""What the Lightning loop costs: steps per second of `lgn fit mnist20x20` against a bare training loop.

    taskset -c 0 python benchmarks/fit_loop.py --root data

Both train the recipe's net on its batches with its optimizer, in one process and in turn; the fit runs
with the recipe's callbacks, progress bar and logger. Validation is left out of both. Prints medians and writes JSON.
With a tiny net the step is hardly more than the loop itself, whose cost then stands out of the noise:

    taskset -c 0 python benchmarks/fit_loop.py --root data --width 200 --depth 1 --steps 2000
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lgn_lightning.base.files import atomic_write_text
from lgn_lightning.cli.training_cli import TrainingCLI
from lgn_lightning.data import MNIST
from lgn_lightning.models import LogicMLP
from lgn_lightning.runs.recipes import find_recipe

WARM_UP = 50


class StepClock(Callback):
    """Notes when steps WARM_UP and the last one end."""

    def __init__(self, steps: int) -> None:
        self.last = WARM_UP + steps
        self.times: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Notes the time."""
        if trainer.global_step in (WARM_UP, self.last):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.times.append(time.perf_counter())


def bare_loop(root: str, steps: int, width: int, depth: int) -> float:
    """Steps per second of a plain loop over the batches of the recipe."""
    data = MNIST(root=root, size=20)
    data.setup("fit")
    net = LogicMLP((1, 20, 20), 10, width, depth, tau=10, grey_in_training=True)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, fused=True)
    loader, done, start = data.train_dataloader(), 0, 0.0
    while done < WARM_UP + steps:
        for x, y in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
            done += 1
            if done == WARM_UP:
                start = time.perf_counter()
            if done == WARM_UP + steps:
                break
    return steps / (time.perf_counter() - start)


def lightning_fit(root: str, steps: int, recipe: str = "mnist20x20", overrides: Sequence[str] = ()) -> float:
    """Steps per second of a recipe."""
    clock = StepClock(steps)

    class TimedCLI(TrainingCLI):
        def after_fit(self) -> None:
            """Nothing is tested: only the loop is of interest."""

        def instantiate_trainer(self, **options: Any) -> Trainer:
            trainer = super().instantiate_trainer(**options)
            trainer.callbacks.append(clock)  # type: ignore[attr-defined]
            return trainer

    limits = [f"--trainer.max_steps={clock.last}", "--trainer.limit_val_batches=0"]
    TimedCLI("fit", find_recipe(recipe), [f"--data.root={root}", *limits, *overrides])
    return steps / (clock.times[1] - clock.times[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default=os.environ.get("LGN_DATA_ROOT", "data"), help="folder that holds MNIST")
    parser.add_argument("--steps", type=int, default=400, help="timed steps a run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--width", type=int, default=8000, help="gates of a layer, 8,000 in the recipe")
    parser.add_argument("--depth", type=int, default=6, help="layers, 6 in the recipe")
    parser.add_argument("--json", type=Path, default=None, help="file to write the result to")
    arguments = parser.parse_args()
    root = str(Path(arguments.root).absolute())
    size = arguments.width, arguments.depth
    net = [f"--model.net.width={size[0]}", f"--model.net.depth={size[1]}"]
    runs: dict[str, list[float]] = {"bare": [], "fit": []}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for _ in range(arguments.repeats):
            runs["bare"].append(bare_loop(root, arguments.steps, *size))
            runs["fit"].append(lightning_fit(root, arguments.steps, overrides=net))
    bare, fit = median(runs["bare"]), median(runs["fit"])
    share = median(f / b for f, b in zip(runs["fit"], runs["bare"], strict=True))
    more = median(1 / f - 1 / b for f, b in zip(runs["fit"], runs["bare"], strict=True))
    threads = torch.get_num_threads()
    print(f"bare loop {bare:.1f} steps/s, lgn fit {fit:.1f} steps/s, share {share:.1%}, {threads} threads")
    print(f"one step of lgn fit costs {1e6 * more:.0f} µs more")
    if arguments.json:
        atomic_write_text(arguments.json, json.dumps({"runs": runs, "share": share}, indent=2) + "\n")


if __name__ == "__main__":
    main()

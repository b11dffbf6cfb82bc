"""How far a net's decisions hold: pixels that change a little, and bits of the sums that are left out.

    python benchmarks/decisions.py robust mnist-8k --data mnist-8k-learned-aug --radii 5,10 --images 100
    python benchmarks/decisions.py approximate mnist-8k --data mnist-8k-learned-aug --shares 0,0.001

A net is what ``lgn verify`` takes, and ``--data`` the recipe whose data it decides on. ``robust`` counts for how many
of the first test images no change of each pixel by a radius changes the class (``lgn verify --robust``).
``approximate`` says how many bits of the sums go (``lgn export --approximate --may-change``), LUT6 by the estimate,
and accuracy on the validation split.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from lgn_lightning.base.settings_text import read_settings
from lgn_lightning.circuit import Circuit, estimate, optimize_for_export
from lgn_lightning.circuit.check.region import pixel_region
from lgn_lightning.circuit.check.robust import decides_alike
from lgn_lightning.circuit.passes.approximate import leave_out_bits
from lgn_lightning.data.base import SampleDataModule
from lgn_lightning.data.from_settings import data_module
from lgn_lightning.deploy.source import read_source
from lgn_lightning.deploy.trial import as_inputs
from lgn_lightning.runs.recipes import find_recipe


def robust(circuit: Circuit, data: SampleDataModule, arguments: argparse.Namespace) -> None:
    images = as_inputs(circuit, data.test_samples()[0][: arguments.images].numpy())
    for radius in map(int, arguments.radii.split(",")):
        start = time.perf_counter()
        answers = [decides_alike(circuit, pixel_region(circuit, image, radius), arguments.timeout) for image in images]
        found = Counter({True: "proven", False: "refuted", None: "undecided"}[answer.holds] for answer in answers)
        say(arguments, radius=radius, images=len(images), **found, seconds=round(time.perf_counter() - start, 1))


def approximate(circuit: Circuit, data: SampleDataModule, arguments: argparse.Namespace) -> None:
    samples = as_inputs(circuit, data.training_samples()[0].numpy())
    batches = data.val_dataloader()
    held = [[part.numpy() for part in batch] for batch in batches]
    inputs, labels = (np.concatenate(parts) for parts in zip(*held, strict=True))
    inputs = as_inputs(circuit, inputs)
    for share in [None, *map(float, arguments.shares.split(","))]:
        net, gone, changed = (circuit, 0, 0) if share is None else leave_out_bits(circuit, samples, share)
        accuracy = float((net.decoding.decide(net.scores(inputs)) == labels).mean())
        lut6 = estimate(optimize_for_export(net)[0]).total("lut6")
        row = {"bits_left_out": gone, "bits": int(circuit.outputs.size), "training_samples_changed": changed}
        say(arguments, may_change=share, **row, lut6=lut6, validation=round(accuracy, 5))


def say(arguments: argparse.Namespace, **row: Any) -> None:
    print(json.dumps({"net": str(arguments.net), **row}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for run in (robust, approximate):
        own = commands.add_parser(run.__name__)
        own.add_argument("net", type=Path)
        own.add_argument("--data", required=True, help="a recipe")
        own.add_argument("--root", type=Path, help="data folder, in place of the recipe's")
        own.set_defaults(run=run)
        if run is robust:
            own.add_argument("--radii", default="5,10", help="grey levels, with commas")
            own.add_argument("--images", type=int, default=100)
            own.add_argument("--timeout", type=float, default=60, help="seconds an image")
        else:
            own.add_argument("--shares", default="0,0.001", help="of the training samples that may change, with commas")
    arguments = parser.parse_args()
    circuit = read_source(arguments.net).flat
    data = data_module(read_settings(find_recipe(arguments.data)), arguments.root)
    data.prepare_data()
    arguments.run(circuit, data, arguments)


if __name__ == "__main__":
    main()

r"""Accuracy against lookup tables: nets trained by `HardwarePrice` to several targets, and their plot.

    python benchmarks/hardware_price.py train mnist-fpga-small --targets none,1500,1000,700 --steps 4000 \
        --set model.net.init_args.arity=2 --set 'model.net.init_args.width=[4000,2000,1000]' \
        --set model.net.init_args.init=residual --title 'MNIST, trees of seven gates' \
        --out docs/images/hardware_price.jsonl
    python benchmarks/hardware_price.py plot docs/images/hardware_price.jsonl docs/images/hardware_price.svg

``train`` trains a recipe once for each target, in a process of its own, and adds a line a run: LUT6 of the whole design
by the estimate and accuracy on the validation split, of the best net within the target. ``plot`` draws all lines.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from lgn_lightning.circuit import estimate, optimize_for_export
from lgn_lightning.deploy.source import read_source
from lgn_lightning.runs.recipes import find_recipe

#: Width of a panel of the plot.
_PANEL = 380
_PRICE = "lgn_lightning.callbacks.HardwarePrice"


def put(settings: dict[str, Any], key: str, value: Any) -> None:
    """Sets a dotted key."""
    *path, last = key.split(".")
    for part in path:
        settings = settings.setdefault(part, {})
    settings[last] = value


def recipe_for(recipe: str, target: int | None, steps: int, changes: list[str]) -> dict[str, Any]:
    """A recipe of so many steps with a price that follows a target, or without one."""
    settings: dict[str, Any] = yaml.safe_load(find_recipe(recipe).read_text(encoding="utf-8"))
    settings["model"]["lr_scheduler"]["init_args"]["T_max"] = steps
    settings["trainer"] |= {"max_steps": steps, "val_check_interval": max(1, steps // 20)}
    for change in changes:
        key, _, value = change.partition("=")
        put(settings, key, yaml.safe_load(value))
    kept = [own for own in settings["trainer"]["callbacks"] if "ModelCheckpoint" in own["class_path"]]
    kept[0]["init_args"] |= {"monitor": "val/score_within", "mode": "max"}
    others = [own for own in settings["trainer"]["callbacks"] if own["class_path"].endswith("AvoidConstantInputs")]
    # Without a target the price is there for its metrics, and next to nothing.
    options = {"weight": 1e-9} if target is None else {"target": target, "every_n_steps": max(1, steps // 60)}
    settings["trainer"]["callbacks"] = [*kept, *others, {"class_path": _PRICE, "init_args": options}]
    return settings


def train(arguments: argparse.Namespace) -> None:
    for word in arguments.targets.split(","):
        target = None if word == "none" else int(word)
        settings = recipe_for(arguments.recipe, target, arguments.steps, arguments.set)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{arguments.recipe}.yaml"
            path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
            command = [sys.executable, "-m", "lgn_lightning", "fit", str(path), "--trainer.enable_progress_bar=false"]
            subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr)
            result = json.loads(next(Path(folder).rglob("result.json")).read_text(encoding="utf-8"))
            run = next(Path(folder).rglob("result.json")).parent
            cost = estimate(optimize_for_export(read_source(run).flat)[0])
        name = arguments.title or arguments.recipe
        row = {"recipe": name, "changes": arguments.set, "steps": arguments.steps, "target": target}
        row |= {"lut6": cost.total("lut6"), "levels": cost.total("levels")}
        row |= {f"lut6_{name}": part.lut6 for name, part in cost.parts.items()}
        row |= {"validation": round(result["validation"], 5), "seconds": round(result["train_seconds"], 1)}
        with arguments.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def plot(lines: Path, out: Path) -> None:
    """Draws accuracy over LUT6, a panel a recipe."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "docs" / "images"))
    from drawing import Picture  # lies beside the pictures

    rows = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    recipes = list(dict.fromkeys(row["recipe"] for row in rows))
    picture = Picture(_PANEL * len(recipes), 250, "Accuracy on validation over lookup tables of the whole design")
    for index, recipe in enumerate(recipes):
        own = [row for row in rows if row["recipe"] == recipe and row["validation"] > 0]
        draw(picture, _PANEL * index + 64, recipe, sorted(own, key=lambda row: int(row["lut6"])))
    picture.save(out)


def draw(picture: Any, left: float, title: str, rows: list[dict[str, Any]]) -> None:
    """Draws the panel of a recipe."""
    top, width, height = 40, _PANEL - 80, 150
    most = max(row["lut6"] for row in rows) * 1.08
    values = [row["validation"] for row in rows]
    low, high = min(values) - 0.002, max(values) + 0.002
    points = [
        (left + width * row["lut6"] / most, top + height * (high - row["validation"]) / (high - low)) for row in rows
    ]
    picture.box(left, top, width, height, edge="line", radius=0)
    picture.text(left + width / 2, 22, title, "strong")
    picture.text(left + width / 2, top + height + 42, "LUT6 of the whole design; open: no price", "muted small")
    picture.text(left - 6, top + 10, f"{100 * high:.1f} %", "muted small", "end")
    picture.text(left - 6, top + height, f"{100 * low:.1f} %", "muted small", "end")
    picture.line(points, "line")
    for row, (x, y) in zip(rows, points, strict=True):
        picture.dot(x, y, 4, "paper" if row["target"] is None else "hard", "hard")
        picture.text(x, y - 9, f"{100 * row['validation']:.1f}", "small")
        picture.text(x, top + height + 16, f"{row['lut6']:,}", "muted small")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    own = commands.add_parser("train")
    own.add_argument("recipe")
    own.add_argument("--targets", default="none,3000,2000,1000", help="LUT6, with commas; none for no price")
    own.add_argument("--steps", type=int, default=3000)
    own.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a key of the recipe")
    own.add_argument("--title", help="of the panel, in place of the recipe's name")
    own.add_argument("--out", type=Path, default=Path("hardware_price.jsonl"))
    own.set_defaults(run=train)
    drawn = commands.add_parser("plot")
    drawn.add_argument("lines", type=Path)
    drawn.add_argument("out", type=Path)
    drawn.set_defaults(run=lambda arguments: plot(arguments.lines, arguments.out))
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()

"""``lgn reproduce``: trains recipes with several seeds and sets the result beside the paper's figure."""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lgn_lightning.base.errors import RecipeError, RunError
from lgn_lightning.base.plain_values import filled
from lgn_lightning.base.programs import raised_stop_signals
from lgn_lightning.base.settings_text import arguments_of, read_settings
from lgn_lightning.cli.results import RESULTS, Result, SeedResult, append_result, print_results
from lgn_lightning.data.known import OF_ROOT, data_root, root_is_data
from lgn_lightning.runs.data_fingerprint import fingerprint
from lgn_lightning.runs.folder import RUNS, RunFolder
from lgn_lightning.runs.recipes import PaperResult, find_recipe

#: Settings that change where and how a recipe runs, and not what it trains: no new result, and not shown.
_PLACE: Final = re.compile(
    r"--(data\.(init_args\.)?(root|download|resident)|logger|model\.cuda_graph"
    r"|trainer\.(accelerator|enable_progress_bar|enable_model_summary))(=.*)?"
)
_ROOT: Final = re.compile(r"--data\.(?:init_args\.)?root=(.*)")
_DATA: Final = re.compile(r"--data(?:\.class_path)?=([\w.]+)")
#: Numbers of a recipe that count steps or epochs of the whole training, which a budget shrinks.
_LENGTHS: Final = ("max_steps", "max_epochs", "T_max", "T_0", "total_steps", "total_iters", "step_size", "milestones")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Trains each recipe once a seed, or resumes what was trained before, tests the checkpoint that validation "
        "chose, sets the result beside the paper's figure, and adds it to results/<recipe>.json."
    )
    if not parser.add_help:  # also after a recipe, whose keys are those of `lgn fit`
        parser.add_argument("-h", "--help", action="help", help="show this help message and exit")
    parser.add_argument("--seeds", type=_seeds, default=[0, 1, 2], help="as in 0,1,2 (the default) or 0-9")
    text = "cross-validate: a training a fold of the training samples, tested on that fold and verified"
    parser.add_argument("--folds", type=_folds, default=0, help=text)
    text = "share of the recipe's steps to train, as in 0.1; marks the row"
    parser.add_argument("--budget", type=_budget, default=1.0, help=text)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result files (default: results)")


def run(arguments: argparse.Namespace) -> int:
    """Trains and collects; a RunError if a training fails: the same command resumes it."""
    if not arguments.words:
        raise RecipeError("`lgn reproduce` needs a recipe first: lgn reproduce <recipe…>; `lgn ls` lists the recipes")
    overrides = _joined(arguments.keys)
    jobs = [
        Reproduction.of(find_recipe(name), arguments.budget, overrides, arguments.folds) for name in arguments.words
    ]
    results = []
    for job in jobs:
        result = job.run(arguments.seeds)
        append_result(result, arguments.results)
        results.append(result)
    print_results(results)
    return 0


@dataclass(frozen=True)
class Reproduction:
    """A recipe with settings of its own, to be trained with one seed after the other.

    Args:
        recipe: The recipe's YAML file.
        paper: The figures it aims at.
        budget: Share of the recipe's steps to train.
        overrides: Further arguments of ``lgn fit``, ``--key=value`` each.
        shrunk: Arguments of ``lgn fit`` that the budget amounts to.
        settings: Hash of all that decides the result but the seed.
        data: Name of the file or folder of the user's own data, if one was given by ``--data.root``.
        folds: Parts of the training samples, on each of which a net is tested that was trained on the others; 0 for
            the data's own test split.
    """

    recipe: Path
    paper: PaperResult
    budget: float
    overrides: list[str]
    shrunk: list[str]
    settings: str
    folds: int = 0
    data: str = ""

    @classmethod
    def of(cls, recipe: Path, budget: float = 1.0, overrides: Sequence[str] = (), folds: int = 0) -> Reproduction:
        """Reads a recipe; a RecipeError if it is none, or an override is the command's own business."""
        for text in overrides:
            if re.match(r"--(seed_everything|run_name|ckpt_path|data\.(init_args\.)?folds?)\b", text):
                raise RecipeError(f"`lgn reproduce` cannot take {text}: it names runs itself, see --seeds and --folds")
        content = read_settings(recipe)
        try:
            paper = filled(PaperResult, content.pop("paper", {}))
        except ValueError as error:
            raise RecipeError(f"{recipe}: paper: {error}; `lgn cp` copies a recipe to start from") from error
        content.pop("seed_everything", None)
        shrunk = [] if budget == 1 else list(_shrink(content, budget, recipe))
        both = {_key(text) for text in shrunk} & {_key(text) for text in overrides}
        if both:
            raise RecipeError(f"--budget shrinks {', '.join(sorted(both))}: give the number or the budget, not both")
        changes = sorted(text for text in overrides if not _PLACE.fullmatch(text))
        data = _own_data(content, overrides)
        # The same data are the same, wherever they lie.
        more = [*([folds] if folds else []), *([fingerprint(data)] if data else [])]
        described = json.dumps([content, changes, shrunk, *more], sort_keys=True)
        settings = hashlib.sha256(described.encode()).hexdigest()[:8]
        return cls(recipe, paper, budget, list(overrides), shrunk, settings, folds, data.name if data else "")

    @property
    def changes(self) -> list[str]:
        """What differs from the recipe, as a row shows it: ``model.net.tau=8``."""
        own = [f"data.root={self.data}"] if self.data else []
        return [text.removeprefix("--") for text in self.overrides if not _PLACE.fullmatch(text)] + own

    def folder(self, seed: int, fold: int | None = None) -> RunFolder:
        """Where the run of a seed and a fold lies: other settings, other folder."""
        part = "" if fold is None else f"-fold-{fold}"
        return RunFolder(RUNS / self.recipe.stem / f"{self.settings}-seed-{seed}{part}")

    def run(self, seeds: Sequence[int], fit: Callable[[list[str]], int] | None = None) -> Result:
        """Trains what is not trained yet, by ``lgn`` in a process of its own, and collects the results."""
        folds = range(self.folds) if self.folds else (None,)
        runs = [self._seed_result(seed, fold, fit or _lgn) for seed in sorted(set(seeds)) for fold in folds]
        newest = max(self.folder(run.seed, run.fold).result_file.stat().st_mtime for run in runs)
        date = datetime.datetime.fromtimestamp(newest, datetime.timezone.utc).date().isoformat()
        about = self.settings, runs, self.budget, self.changes, self.folds
        return Result(self.recipe.stem, self.paper, date, *about)

    def _seed_result(self, seed: int, fold: int | None, fit: Callable[[list[str]], int]) -> SeedResult:
        folder = self.folder(seed, fold)
        which = f"{self.recipe.stem}, seed {seed}" + ("" if fold is None else f", fold {fold + 1} of {self.folds}")
        split = [] if fold is None else [f"--data.folds={self.folds}", f"--data.fold={fold}"]
        if folder.result is not None:
            print(f"{which}: trained already, {folder.path}", flush=True)
        else:
            # A run that was killed before it wrote its settings starts anew.
            resuming = folder.config.is_file()
            start = ["--resume", str(folder.path)] if resuming else [f"--run_name={folder.path.name}"]
            place = [text for text in self.overrides if _PLACE.fullmatch(text)]
            given = place if resuming else [f"--seed_everything={seed}", *self.shrunk, *split, *self.overrides]
            print(f"{which}: {'resuming' if resuming else 'training'}", flush=True)
            code = fit(["fit", str(self.recipe), *start, *given])
            if code == 130 or (code and folder.result is None):
                raise RunError(
                    f"the training of {which.replace(',', ' with', 1)} stopped with exit code {code}; its own "
                    "message is above, and the same `lgn reproduce` resumes it"
                )
        values = folder.result
        if values is None:
            stopped = "its training was stopped; the same `lgn reproduce` resumes it"
            raise RunError(f"{folder.path} has no result.json: {stopped}")
        if values.get("c_differs"):
            raise RunError(f"{folder.path} has compiled C that is not its net: {values['c_differs']}")
        names = ("accuracy_hard", "accuracy_soft", "gates", "gates_exported", "steps", "train_seconds", "hardware")
        if fold is not None and values.get("gates") and fit(["verify", str(folder.path), "--no-proof"]):
            raise RunError(f"{folder.path} has a circuit that was not verified; the message is above")
        known = {"seed": seed, "commit": "unknown", "fold": fold}
        about = {name: values[name] for name in (*names, "metric", "commit") if name in values}
        try:
            return filled(SeedResult, known | about)
        except ValueError as error:
            raise RunError(
                f"{folder.result_file} is no result of `lgn fit` ({error}); remove it to train again"
            ) from error


def _key(override: str) -> str:
    """The setting that an override is for, as it is said without ``init_args``."""
    return override.removeprefix("--").partition("=")[0].replace(".init_args.", ".")


def _own_data(content: dict[str, Any], overrides: Sequence[str]) -> Path | None:
    """What ``--data.root`` or the environment names, if it is a data set and not the place of one."""
    data, said = content.get("data"), {_key(text) for text in overrides}
    given = [str(data.get("class_path", "")) if isinstance(data, dict) else ""]
    given += [found[1] for text in overrides if (found := _DATA.fullmatch(text))]
    roots = [found[1] for text in overrides if (found := _ROOT.fullmatch(text))]
    own = arguments_of(data)
    if not roots and given[-1].rpartition(".")[2] in OF_ROOT and "data.path" not in said and not own.get("path"):
        roots = [own.get("root")]
    root = data_root(roots[-1]) if roots else None
    return root.absolute() if root is not None and root_is_data(given[-1], root) else None


def _shrink(content: dict[str, Any], budget: float, recipe: Path) -> Iterator[str]:
    """Arguments that train a share of a recipe's steps, with schedules that are as much shorter.

    Validations keep their distance, so a shrunk recipe chooses among fewer checkpoints.
    """
    trainer = content.get("trainer")
    given = trainer if isinstance(trainer, dict) else {}
    steps, epochs = (value if isinstance(value := given.get(name), int) else -1 for name in ("max_steps", "max_epochs"))
    if max(steps, epochs) <= 0:
        raise RecipeError(f"{recipe} says neither trainer.max_steps nor trainer.max_epochs: there is nothing to shrink")
    interval = given.get("val_check_interval")
    if steps > 0 and isinstance(interval, int) and interval > round(steps * budget):
        yield f"--trainer.val_check_interval={max(1, round(steps * budget))}"
    for path, value in _numbers(content):
        if path[-1] in _LENGTHS and path[0] in ("trainer", "model"):
            if isinstance(value, list):
                yield f"--{'.'.join(path)}={json.dumps([max(1, round(v * budget)) for v in value])}"
            elif value > 0:
                yield f"--{'.'.join(path)}={max(1, round(value * budget))}"


def _numbers(content: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Numbers and lists of numbers of nested settings, with their keys."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _numbers(value, (*path, str(key)))
        elif isinstance(value, int) or (isinstance(value, list) and all(isinstance(v, int) for v in value)):
            yield (*path, str(key)), value


def _joined(overrides: list[str]) -> list[str]:
    """``--key value`` as ``--key=value``."""
    joined: list[str] = []
    for text in overrides:
        if text.startswith("--") or not joined or "=" in joined[-1]:
            joined.append(text)
        else:
            joined[-1] += f"={text}"
    if joined and not joined[0].startswith("--"):
        raise RecipeError(f"`lgn reproduce` does not understand {joined[0]!r}: recipes come first, then --key value")
    return joined


def _lgn(arguments: list[str]) -> int:
    """Runs ``lgn`` in a process of its own: every seed starts from the same state, on any number of devices.

    A training that is stopped has the time to save where it stands.
    """
    with raised_stop_signals(), subprocess.Popen([sys.executable, "-m", "lgn_lightning", *arguments]) as process:
        try:
            return process.wait()
        except SystemExit:
            process.terminate()
            raise
        except KeyboardInterrupt:
            process.wait()  # it got Ctrl-C from the terminal, too
            raise


def _seeds(text: str) -> list[int]:
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    if not seeds:
        raise ValueError
    return seeds


def _folds(text: str) -> int:
    if (folds := int(text)) < 2:
        raise argparse.ArgumentTypeError(f"{text} folds: a cross-validation has 2 or more")
    return folds


def _budget(text: str) -> float:
    budget = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
    if not 0 < budget <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share in (0, 1]")
    return budget

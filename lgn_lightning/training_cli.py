"""``lgn fit|validate|test|predict``: a LightningCLI around :class:`LogicClassifier`."""

from __future__ import annotations

import csv
import io
import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_warn

from lgn_lightning.callbacks import ResumableInterrupt
from lgn_lightning.checkpoint import read_checkpoint
from lgn_lightning.data.base import ImageDataModule
from lgn_lightning.errors import CheckpointError
from lgn_lightning.files import atomic_write_text
from lgn_lightning.module import LogicClassifier
from lgn_lightning.recipe_index import PaperResult
from lgn_lightning.summary import print_summary, summarize

RUNS = Path("runs")

# Lightning's own use of a torch API that is about to change: nothing that a user could act on.
warnings.filterwarnings("ignore", message=r".*treespec, LeafSpec.*")


class TrainingCLI(LightningCLI):
    """Runs a recipe.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        recipe: The recipe's YAML file.
        overrides: Further arguments of the command line.
    """

    def __init__(self, command: str, recipe: Path, overrides: list[str]) -> None:
        self.recipe_name = recipe.stem
        super().__init__(
            LogicClassifier,
            ImageDataModule,
            subclass_mode_data=True,
            args=[command, "--config", str(recipe), *overrides],
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={
                "logger": {
                    "class_path": "lightning.pytorch.loggers.CSVLogger",
                    "init_args": {"save_dir": str(RUNS), "name": self.recipe_name},
                },
                "callbacks": [ResumableInterrupt(self.recipe_name)],
            },
            auto_configure_optimizers=False,  # the module takes its optimizer as an argument
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds what a recipe says about the paper."""
        parser.add_argument("--paper", type=PaperResult, default=PaperResult(), help="figures that the recipe aims at")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the given arguments; the base class would warn that they are not ``sys.argv``."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Does nothing: the base class would take arguments of the model from the checkpoint."""

    def before_instantiate_classes(self) -> None:
        """Checks the checkpoint before minutes are spent on data and nets."""
        path = self.config[self.subcommand].get("ckpt_path")
        if path is None and self.subcommand != "fit":
            raise CheckpointError(
                f"`lgn {self.subcommand}` needs a trained net: give --ckpt_path{self._newest_checkpoint()}"
            )
        if path is not None and path not in ("best", "last", "hpc"):
            read_checkpoint(path)

    @property
    def _dry_run(self) -> bool:
        return bool(self.config[self.subcommand].trainer.fast_dev_run)

    def _newest_checkpoint(self) -> str:
        found = sorted(RUNS.glob(f"{self.recipe_name}/*/checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime)
        return f" {found[-1]}" if found else f" <file>; `lgn fit {self.recipe_name}` writes one"

    def instantiate_classes(self) -> None:
        """Builds trainer, module and data, and tells the module its recipe."""
        super().instantiate_classes()
        config = self.config[self.subcommand]
        self.model.recipe = self._parser(self.subcommand).dump(config, skip_none=False)

    def _run_subcommand(self, subcommand: str) -> None:
        # Checkpoints hold tensors and plain values: nothing else is ever unpickled.
        self.config_init[subcommand]["weights_only"] = True
        super()._run_subcommand(subcommand)

    def after_fit(self) -> None:
        """Tests the checkpoint that validation chose, once, and prints the result."""
        trainer, model = self.trainer, self.model
        if self._dry_run or trainer.interrupted:
            return
        chosen = trainer.checkpoint_callback
        path = chosen.best_model_path if isinstance(chosen, ModelCheckpoint) else ""
        if path and not Path(path).is_file():  # a resumed run knows the best one by the path it had in the first run
            rank_zero_warn(f"the best checkpoint {path} is not there any more: the last weights are tested instead")
            path = ""
        trainer.test(model, datamodule=self.datamodule, ckpt_path=path or None, verbose=False, weights_only=True)
        if trainer.is_global_zero:
            print_summary(summarize(trainer, model, self.datamodule, Path(path) if path else None))

    def after_predict(self) -> None:
        """Writes the predictions as a CSV file."""
        if not self.trainer.is_global_zero or self._dry_run:
            return
        target = Path(self.trainer.log_dir or self.trainer.default_root_dir) / "predictions.csv"
        names = list(self.datamodule.class_names)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("index", "class", "name"))
        classes = [int(c) for batch in self.trainer.predict_loop.predictions for c in batch]
        writer.writerows((index, c, names[c]) for index, c in enumerate(classes))
        atomic_write_text(target, text.getvalue())
        print(f"{len(classes)} predictions written to {target}")


def run(command: str, recipe: Path, overrides: list[str]) -> Any:
    """Runs a recipe; see :class:`TrainingCLI`."""
    return TrainingCLI(command, recipe, overrides)

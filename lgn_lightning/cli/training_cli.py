"""What ``lgn fit``, ``validate`` and ``test`` run: a LightningCLI around :class:`LogicModule`."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from jsonargparse import Namespace
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lgn_lightning.base.errors import CheckpointError, LgnError, UsageError
from lgn_lightning.base.files import atomic_write_text
from lgn_lightning.base.lightning_private import callbacks_of
from lgn_lightning.base.programs import hangup_like_sigterm
from lgn_lightning.base.public_names import public_names
from lgn_lightning.base.settings_text import parse_settings, read_text
from lgn_lightning.callbacks import LayerSummary, ResumePoint, StepProgressBar, ThresholdHint
from lgn_lightning.cli.data_sizes import fill_in_sizes
from lgn_lightning.cli.preflight import check_form
from lgn_lightning.cli.quiet import hush
from lgn_lightning.cli.recipe_keys import RUN_KEYS
from lgn_lightning.cli.setting_errors import SettingsParser, named_errors
from lgn_lightning.cli.summary import Summary, hardware, print_summary, summarize, with_compiled
from lgn_lightning.cli.trained import TrainedNet
from lgn_lightning.data import *  # noqa: F403 - --data=MNIST finds the classes that are imported
from lgn_lightning.data.base import SampleDataModule
from lgn_lightning.models import *  # noqa: F403 - likewise
from lgn_lightning.runs.checkpoints import read_checkpoint
from lgn_lightning.runs.folder import RUNS, RunFolder
from lgn_lightning.runs.loggers import make_loggers, split_names
from lgn_lightning.runs.provenance import source_version
from lgn_lightning.runs.recipes import PaperResult
from lgn_lightning.runs.run_logger import RunLogger
from lgn_lightning.runs.wandb_logger import RunWandbLogger
from lgn_lightning.training import ddp as strategies  # noqa: F401 - recipes name its strategy
from lgn_lightning.training.checkpoint import load_weights
from lgn_lightning.training.checkpoint_io import AtomicCheckpointIO
from lgn_lightning.training.module import LogicModule
from lgn_lightning.training.schedule_length import follow_max_steps, follow_rows
from lgn_lightning.training.threads import spare_threads

#: Steps between two drawings of the progress bar, each of which takes about as long as a step of a small net.
REFRESH_RATE = 20


class SaveConfig(SaveConfigCallback):
    """Leaves the settings in the run's folder, ``config.yaml`` for ``fit``, and tells the loggers."""

    _lock: FileLock | None = None
    _folder = Path()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Asks for the folder on all ranks: rank zero alone would wait forever for the others."""
        self._folder = Path(trainer.log_dir or trainer.default_root_dir)
        run = RunFolder(self._folder)
        if stage == "fit" and not self.overwrite and trainer.strategy.broadcast(run.config.is_file()):
            run.check_new()
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes the file, atomically: a run that is killed here resumes with its whole settings or not at all."""
        folder = self._folder
        if stage == "fit":
            run = RunFolder(folder)
            if not self.overwrite:  # of a resumed run, the command line has locked it
                self._lock = run.lock()
            run.remove_leftovers()
        name = "config" if stage == "fit" else TrainerFn(stage).value
        atomic_write_text(folder / f"{name}.yaml", str(pl_module.recipe))
        for logger in trainer.loggers[1:]:  # metrics.csv has no place for settings
            logger.log_hyperparams(self.config.as_dict())

    def release(self) -> None:
        """Unlocks the folder."""
        if self._lock is not None:
            self._lock.release()


class TrainingCLI(LightningCLI):
    """Runs a recipe.

    Args:
        command: ``fit``, ``validate`` or ``test``.
        recipe: The recipe's YAML file.
        overrides: Further arguments of the command line.
        resume: The run to resume, by its own settings and not by the recipe's.
        trained: What the other commands measure, by the settings of its checkpoint if it has some.
    """

    def __init__(
        self,
        command: str,
        recipe: Path,
        overrides: list[str],
        resume: RunFolder | None = None,
        trained: TrainedNet | None = None,
    ) -> None:
        hush()
        self.recipe_name = recipe.stem
        self.source = source_version()  # now: the working tree may change while it trains
        self.resume = resume
        if resume is not None:
            checkpoint = str(resume.resume_point) if resume.resume_point.is_file() else "null"
            recipe, overrides = resume.config, [*overrides, f"--ckpt_path={checkpoint}"]
        self.trained, settings = trained, None if trained is None else trained.settings
        if settings is None:
            settings = read_text(recipe)
            check_form(parse_settings(settings, recipe), recipe)  # before a reader of less patience
        if trained is not None:
            # Not where the training logged, unless asked for.
            overrides = ["--logger=csv", *overrides, f"--ckpt_path={trained.chosen.path}"]
        overrides = [public_names(text) for text in overrides]
        self._recipe, self._overrides = recipe, overrides
        self._run: RunLogger | None = None
        self._lock: FileLock | None = None
        # The parsers of the other commands take as long to build as a short training.
        asked = {command: LightningCLI.subcommands()[command]}
        self.subcommands = lambda: asked  # type: ignore[method-assign]
        super().__init__(
            LogicModule,
            SampleDataModule,
            subclass_mode_data=True,
            args=[command, "--config", public_names(settings), *overrides],
            seed_everything_default=0,
            save_config_callback=SaveConfig,
            save_config_kwargs={"save_to_log_dir": False, "overwrite": resume is not None},
            parser_class=SettingsParser,
            auto_configure_optimizers=False,  # the module takes its optimizer as an argument
            load_from_checkpoint_support=False,  # the module has its own, by its recipe
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds what a recipe says about the paper, and where a run leaves and logs its results."""
        parser.add_argument("--paper", type=PaperResult, default=PaperResult(), help="figures that the recipe aims at")
        parser.add_argument(
            "--logger",
            type=str | list[str],
            default="csv",
            help=RUN_KEYS["logger"].help,
        )
        parser.add_argument(
            "--run_name",
            type=str | None,
            default=None,
            help=RUN_KEYS["run_name"].help,
        )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Builds the trainer with the run's loggers, and with checkpoints that a kill cannot damage."""
        config = self.config[self.subcommand]
        if self._makes_run:
            self._run = self._run_logger(config)
            if config.trainer.logger is False:
                kwargs["default_root_dir"] = self._run.log_dir
            else:
                kwargs["logger"] = make_loggers(split_names(config.logger), self._run)
        given = [c.class_path.rsplit(".", 1)[-1] for c in config.trainer.callbacks or ()]
        defaults: list[Callback] = [kind() for kind in (ResumePoint, ThresholdHint) if kind.__name__ not in given]
        if config.trainer.enable_progress_bar is not False and not any(name.endswith("ProgressBar") for name in given):
            defaults.append(StepProgressBar(refresh_rate=REFRESH_RATE))
        if config.trainer.enable_model_summary is not False and not any(name.endswith("Summary") for name in given):
            defaults.append(LayerSummary())
        self.trainer_defaults["callbacks"] = defaults
        trainer = super().instantiate_trainer(**kwargs)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        return trainer

    def _run_logger(self, config: Any) -> RunLogger:
        if self.trained is not None:
            folder = self.trained.folder if len(self.trained.folder.parts) > 1 else self.trained.folder.resolve()
            return RunLogger(folder.parent.parent, folder.parent.name, folder.name, file=f"{self.subcommand}.csv")
        if self.resume is None:
            return RunLogger(RUNS, self.recipe_name, config.run_name)
        folder = self.resume.path
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            self._lock = self.resume.lock()  # before the logger cuts what will be logged again
        step = read_checkpoint(config.ckpt_path)["global_step"] if config.ckpt_path else 0
        return RunLogger(folder.parent.parent, folder.parent.name, folder.name, resume_at=step)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the given arguments; the base class would warn that they are not ``sys.argv``."""
        self.config = parser.parse_args(args)
        config = self.config[self.config.subcommand]
        if self.config.subcommand == "fit" and config.ckpt_path is None:  # a checkpoint holds its schedule
            follow_max_steps(self._recipe, self._overrides, config)

    def _parse_ckpt_path(self) -> None:
        """Does nothing: the base class would take arguments of the model from the checkpoint."""

    def before_instantiate_classes(self) -> None:
        """Checks folder and checkpoint before minutes are spent on data and nets."""
        if self.subcommand != "fit":
            if self.trained is None:
                raise CheckpointError(
                    f"`lgn {self.subcommand}` needs a trained net: lgn {self.subcommand} {self._newest_run()}"
                )
            return
        path = self.config[self.subcommand].get("ckpt_path")
        name = self.config[self.subcommand].run_name
        if name is not None and (name in ("", ".", "..") or Path(name).name != name):
            raise UsageError(
                f"--run_name {name!r}: give a name for a folder below {RUNS / self.recipe_name}, without slashes"
            )
        if name is not None and self.resume is None and self._makes_run:
            # On all ranks, before any of them writes.
            RunFolder(RUNS / self.recipe_name / name).check_new()
        if path is not None and path not in ("best", "last", "hpc"):
            read_checkpoint(path)

    @property
    def _makes_run(self) -> bool:
        """Whether files go to ``runs/<recipe>/``, and not where a logger or a root folder of the user's own says."""
        trainer = self.config[self.subcommand].trainer
        elsewhere = trainer.default_root_dir if trainer.logger is False else trainer.logger not in (None, True)
        return not elsewhere and not self._dry_run

    @property
    def _dry_run(self) -> bool:
        return bool(self.config[self.subcommand].trainer.fast_dev_run)

    def _newest_run(self) -> str:
        found = sorted(RUNS.glob(f"{self.recipe_name}/*/checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime)
        if found:
            return str(found[-1].parent.parent)
        return f"<run folder or checkpoint>; `lgn fit {self.recipe_name}` leaves one"

    def instantiate_classes(self) -> None:
        """Builds trainer, module and data, and tells the module its recipe."""
        config = self.config[self.subcommand]
        if isinstance(config.trainer.callbacks, Namespace):  # one alone, as Lightning takes it, too
            config.trainer.callbacks = [config.trainer.callbacks]
        try:
            with named_errors(config):
                data = fill_in_sizes(config)
                if self.subcommand == "fit" and config.ckpt_path is None:
                    follow_rows(data, config)
                super().instantiate_classes()
        except Exception as error:
            self._check_trained(error)
            raise
        if data is not None:  # it has been read
            self.datamodule = data
        self.model.recipe = public_names(self._parser(self.subcommand).dump(config, skip_unset=False))

    def _run_subcommand(self, subcommand: str) -> None:
        # Checkpoints hold tensors and plain values: nothing else is ever unpickled.
        self.config_init[subcommand]["weights_only"] = True
        if self.trained is not None:  # its weights are all that is read of a checkpoint
            content = {"state_dict": self.trained.weights}
            self.model.on_load_checkpoint(content)
            load_weights(self.model, content["state_dict"], self.trained.chosen.path)
            self.config_init[subcommand]["ckpt_path"] = None
        try:
            with named_errors(self.config[subcommand]), hangup_like_sigterm():
                super()._run_subcommand(subcommand)
        except BaseException as error:
            self._close(failed=True)
            # A run that Ctrl-C or SIGTERM stopped can be resumed.
            if subcommand == "fit" and isinstance(error, Exception):
                self._discard_untrained()
            # Lightning ends after Ctrl-C with exit code 1.
            if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
                raise error.__context__ from None
            if isinstance(error, SIGTERMException):  # Lightning's own exit code would be 0
                raise SystemExit(128 + signal.SIGTERM) from None
            self._check_trained(error)
            raise
        self._close(self.trainer.interrupted)

    def _check_trained(self, error: BaseException) -> None:
        """Makes one error of whatever a net of a file raises: nobody can have trained it."""
        if self.trained is not None and isinstance(error, Exception) and not isinstance(error, LgnError):
            raise CheckpointError(f"{self.trained.chosen.path} cannot be measured: {error}") from error

    def _close(self, failed: bool) -> None:
        """Ends the run's loggers and unlocks its folder."""
        for logger in self.trainer.loggers:
            if isinstance(logger, RunWandbLogger):
                logger.finish(int(failed))
        for callback in callbacks_of(self.trainer):
            if isinstance(callback, SaveConfig):
                callback.release()
        if self._lock is not None:
            self._lock.release()

    def _discard_untrained(self) -> None:
        """Removes the folder of a run that failed before its first step, so that its name is free."""
        trainer = self.trainer
        if trainer.global_step or self.resume is not None or not trainer.is_global_zero:
            return
        if self._run is not None and self._run.folder is not None:
            RunFolder(self._run.folder).discard()

    def before_fit(self) -> None:
        """Chooses the threads, and finds out before training whether there is a test split."""
        spare_threads(self.trainer, self.model.net, self.datamodule.batch_size)
        if not self._dry_run and not self.datamodule.has_test:
            self.datamodule.setup("test")  # says what is missing

    def after_fit(self) -> None:
        """Tests the checkpoint that validation chose, once, and prints the result."""
        trainer, model = self.trainer, self.model
        if self._dry_run or trainer.interrupted:
            return
        chosen = trainer.checkpoint_callback
        # Without validation there is no best one, and the last one is the end of the training.
        path = (chosen.best_model_path or chosen.last_model_path) if isinstance(chosen, ModelCheckpoint) else ""
        if path and not Path(path).is_file():  # it was that of the run that this one continues
            rank_zero_warn(f"the best checkpoint {path} is not there any more: the last weights are tested")
            path = ""
        trainer.test(model, datamodule=self.datamodule, ckpt_path=path or None, verbose=False, weights_only=True)
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # asked on all ranks: rank zero broadcasts it
        if "test/score_hard" not in trainer.callback_metrics:
            rank_zero_warn("limit_test_batches=0 leaves no image to test on: there is no result")
        elif trainer.is_global_zero:
            summary, run = summarize(trainer, model, self.datamodule, Path(path) if path else None), RunFolder(folder)
            run.finish(self._result(summary, folder))  # first: what may fail below must not take it along
            summary = with_compiled(summary, model, self.datamodule)
            run.finish(self._result(summary, folder))
            print_summary(summary)

    def _result(self, summary: Summary, folder: Path) -> dict[str, Any]:
        """The contents of ``result.json``: how the run was trained, and its summary; paths relative to the folder."""
        values = {
            name: os.path.relpath(value, folder) if isinstance(value, Path) else value
            for name, value in dataclasses.asdict(summary).items()
        }
        clock = next((c for c in callbacks_of(self.trainer) if isinstance(c, ResumePoint)), None)
        chosen = self.trainer.checkpoint_callback
        score = chosen.best_model_score if isinstance(chosen, ModelCheckpoint) else None
        about = {
            "recipe": self.recipe_name,
            "seed": self.config[self.subcommand].seed_everything,
            "steps": self.trainer.global_step,
            "train_seconds": None if clock is None else round(clock.seconds, 1),
            "train_cpu_seconds": None if clock is None else round(clock.cpu_seconds, 1),
            # What the checkpoint was chosen by: never the test split.
            "monitor": chosen.monitor if isinstance(chosen, ModelCheckpoint) else None,
            "validation": None if score is None else float(score),
            "hardware": hardware(self.trainer),
            "torch": torch.__version__,
            "commit": self.source,
        }
        return about | values
